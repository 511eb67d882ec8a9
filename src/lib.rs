//! Runs many operations. It limits how many run at the same time and how many start in a second, reports progress, and returns
//! every outcome in input order.
//!
//! ```
//! use batch_executor::{BatchExecutor, RateLimit, Workers};
//!
//! let executor = BatchExecutor::builder()
//!     .workers(Workers::auto())                   // Sequential (default), a number, auto() or adaptive()
//!     .stop_on_error(false)                       // default true
//!     .rate_limiter(RateLimit::per_second(500))
//!     .build()?;
//!
//! let result = executor
//!     .batch(["10", "20", "thirty"])
//!     .on_progress(|p| eprintln!("{}/{}", p.completed, p.total))
//!     .run(|text| text.parse::<u32>());           // |&I| -> Result<T, E>
//!
//! println!("{result}");                           // 2 of 3 succeeded, 1 failed in 4.1 ms
//! for failure in result.failures() {
//!     eprintln!("{}: {}", failure.item, failure.error);
//! }
//! # assert_eq!(result.succeeded(), 2);
//! # Ok::<(), batch_executor::ConfigError>(())
//! ```
//!
//! # Where to look
//!
//! | what you want | it is |
//! |---|---|
//! | settings for many batches | [`BatchExecutor`] and its [builder](BatchExecutorBuilder): [`Workers`], how many at a time; [`RateLimit`] and [`RateLimiter`], how fast |
//! | to run a batch | [`Batch`]: [`run`](Batch::run), [`run_with`](Batch::run_with), [`run_tasks`](Batch::run_tasks) |
//! | items that make more items | [`run_growing`](Batch::run_growing): [`More`] |
//! | to run a batch in async code | `run_async`, `run_async_with`, `stream_async`: `guide::asynchronous` (feature `tokio`) |
//! | endless input, outcomes one by one | [`stream`](Batch::stream), [`stream_with`](Batch::stream_with): [`Results`], [`Streamed`] |
//! | to see its progress | [`on_progress`](Batch::on_progress), [`on_tick`](Batch::on_tick): [`Progress`] |
//! | to stop it | [`cancel_on`](Batch::cancel_on) a [`CancelToken`], [`timeout`](Batch::timeout), [`deadline`](Batch::deadline) |
//! | to pause it, change its workers, see what runs | [`control`](Batch::control): [`Control`], [`Snapshot`] |
//! | limits for tokens, hosts, memory | [`limit`](Batch::limit): [`Limit`], [`Concurrency`] |
//! | an end for operations that hang | [`item_timeout`](Batch::item_timeout) |
//! | to try items again | [`retry`](Batch::retry): [`Retry`], [`RetryDecision`] |
//! | a connection or a buffer for each worker | [`run_init`](Batch::run_init), [`try_run_init`](Batch::try_run_init), [`stream_init`](Batch::stream_init): [`ItemContext`] |
//! | the outcomes | [`BatchResult`], [`Outcome`], [`Failure`], [`ItemError`]; why it stopped: [`StopReason`]; for `?`: [`BatchError`] |
//! | to see where the time went | [`record_timeline`](Batch::record_timeline): [`Timeline`] |
//! | to resume a run that died | `journal`: `Journal`, `Plan` (feature `journal`) |
//! | many machines | [`Shard`], [`RateLimit::split`] |
//!
//! The [guide] is a short book, a page for each topic: [choosing a verb](guide::choosing), [workers](guide::workers),
//! [errors and stopping](guide::errors), [retries](guide::retries), [limits](guide::limits), `guide::asynchronous`,
//! [streams](guide::streams), [growing work](guide::growing), [progress and control](guide::progress),
//! [timelines](guide::timelines), `guide::resuming`, [many machines](guide::machines), [testing](guide::testing),
//! [recipes](guide::recipes), [costs](guide::costs), [platforms](guide::platforms), [promises](guide::promises),
//! [design](guide::design), [coming from elsewhere](guide::migration).
//!
//! # What holds
//!
//! Outcome k belongs to item k. Any number of workers returns what one returns; for a stopped batch, that is the failure with the
//! lowest index and everything below it. A panic is the outcome of its item. An operation may run another batch, on the same
//! executor, at any depth. When the system refuses a thread, the batch runs on the threads that it has. `run` returns when none of
//! its operations runs any more, so items, operation and values may borrow from the caller.
//!
//! These end the process, and the outcomes are lost: an item that overflows its stack, an allocation that fails, a panic in a
//! destructor during a panic, any panic in a program built with `panic = "abort"`.
//!
//! [What else it promises, and how that is tested](guide::promises).
//!
//! # Features
//!
//! None is on by default.
//!
//! - `cpu-time`: CPU times of threads, for [`AdaptiveWorkers`]. Switch it on if you use those on macOS or Windows, where they
//!   have no CPU times otherwise. [More about it](guide::workers).
//! - `indicatif`: `.progress_bar()`, a step that draws a progress bar, and `.progress_bar_on(bar)`
//!   for one of your own.
//! - `serde`: `Serialize` for [`BatchResult`] and everything in it, [`BatchError`], [`StopReason`], [`Progress`], [`Streamed`],
//!   [`TimelineStats`], [`Span`] and [`Interval`].
//! - `journal`: `Journal`, a record of the outcome of each item. A run that starts again resumes from it.
//! - `tokio`: batches in async code.
//! - `tracing`: a span for each batch, an event for each failure and retry. [More about it](guide::timelines).
//!
//! # What it is not for
//!
//! CPU-bound loops over slices (rayon's adaptors), and operations that block and must be killed: the batch waits for one that
//! runs. A process that was forked while another thread used an executor
//! should not use that executor.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod adaptive;
mod batch;
mod batch_error;
mod cancel;
mod clock;
mod context;
mod control;
mod counts;
#[cfg(doctest)]
mod doctests;
mod engine;
mod error;
mod executor;
#[cfg(any(doc, doctest))]
pub mod guide;
mod home;
#[cfg(feature = "journal")]
mod journal;
mod journal_hook;
mod limit;
mod listeners;
#[cfg(all(test, any(loom, shuttle)))]
mod models;
mod panic;
mod pool;
mod progress;
#[cfg(feature = "indicatif")]
mod progress_bar;
mod rate_limit;
mod result;
mod retry;
#[cfg(feature = "serde")]
mod seconds;
mod shard;
mod slots;
mod stream;
mod sync;
mod thread_meter;
mod timeline;
mod trace;
mod workers;

pub use batch::Batch;
pub use batch_error::{BatchError, StopReason};
pub use cancel::{CancelToken, DropGuard};
pub use clock::TestClock;
pub use context::ItemContext;
pub use control::{Control, Running, Snapshot};
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use engine::AsyncResults;
pub use engine::More;
pub use error::{ConfigError, ItemError, LimiterError, Outcome};
pub use executor::{BatchExecutor, BatchExecutorBuilder};
#[cfg(feature = "journal")]
#[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
pub use journal::{Journal, JournalError, Merged, Plan};
pub use limit::{Concurrency, Limit};
pub use panic::Panic;
pub use progress::Progress;
#[cfg(feature = "indicatif")]
#[cfg_attr(docsrs, doc(cfg(feature = "indicatif")))]
pub use progress_bar::{progress_bar, progress_bar_on};
pub use rate_limit::{RateLimit, RateLimiter, limiter_fn};
pub use result::{BatchIntoIter, BatchItem, BatchIter, BatchResult, Failure};
pub use retry::{Retry, RetryDecision};
pub use shard::Shard;
pub use stream::{Results, Streamed};
pub use timeline::{Ending, Interval, Quantiles, Span, Timeline, TimelineStats};
pub use workers::{AdaptiveWorkers, AutoWorkers, MAX_WORKERS, Workers};
