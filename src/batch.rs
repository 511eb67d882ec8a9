//! One batch: its steps, and the verbs that run it.

#[cfg(feature = "tokio")]
mod in_a_task;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

#[cfg(feature = "journal")]
use serde::{Serialize, de::DeserializeOwned};

use crate::batch_error::StopReason;
use crate::cancel::CancelToken;
use crate::clock;
use crate::context::ItemContext;
use crate::control::Control;
use crate::engine::{Engine, Kinds, More, OnFailure, Operation, Order, Settings, Steps, Tick, collect};
use crate::error::ConfigError;
use crate::home::AtHome;
#[cfg(feature = "journal")]
use crate::journal::{Journal, Journaled, Serialized};
use crate::limit::Limit;
use crate::panic::{self, Panic};
use crate::progress::Progress;
#[cfg(feature = "indicatif")]
use crate::progress_bar::{DRAW_EVERY, shown_on, shown_on_stderr};
use crate::result::BatchResult;
use crate::retry::Retry;
use crate::stream::{Results, Streamed};
use crate::sync::{Instant, Mutex};
use crate::timeline::span::debug_name;
use crate::workers::{MAX_WORKERS, Workers};

/// Items about to be run. Made by [`BatchExecutor::batch`](crate::BatchExecutor::batch); nothing happens before one of the
/// verbs: [`run`](Batch::run), [`run_with`](Batch::run_with), [`run_init`](Batch::run_init),
/// [`try_run_init`](Batch::try_run_init), [`run_tasks`](Batch::run_tasks), [`run_growing`](Batch::run_growing),
/// [`stream`](Batch::stream), [`stream_with`](Batch::stream_with), [`stream_init`](Batch::stream_init); with feature `tokio`
/// also `run_async`, `run_async_with` and `stream_async`.
///
/// Items, operation and values may borrow from the caller: the batch is over when the verb returns.
///
/// Steps may come in any order, also under an `if`: none of them changes the type. `T` and `E` are the value and the
/// error of the operation; the compiler infers them from it.
///
/// ```
/// use batch_executor::{BatchExecutor, Retry};
/// use std::time::Duration;
///
/// let (executor, is_patient) = (BatchExecutor::new(), true);
/// let mut batch = executor.batch(["7", "8"]).workers(4);
/// if is_patient {
///     batch = batch.retry(Retry::exponential(Duration::from_millis(1), Duration::from_secs(1), 3));
/// }
/// assert_eq!(batch.run(|text| text.parse::<u32>()).into_values()?, [7, 8]);
/// # Ok::<(), batch_executor::BatchError>(())
/// ```
#[must_use = "a batch does nothing until it is run"]
pub struct Batch<'a, It: Iterator, T, E> {
    engine: &'a Engine,
    items: It,
    settings: Settings<'a, It::Item, T, E>,
}

impl<'a, It: Iterator, T, E> Batch<'a, It, T, E> {
    pub(crate) fn new(engine: &'a Engine, items: It) -> Self {
        Batch { engine, items, settings: Settings::new(engine) }
    }
}

/// Steps.
impl<'a, It: Iterator, T, E> Batch<'a, It, T, E> {
    /// How many items of this batch run at the same time, instead of the executor's [`workers`]: a number, or one of [`Workers`].
    /// The last call wins.
    ///
    /// May be more than the executor has: the executor's pool then gets as many threads as it needs, up to 4,096 (see
    /// [`MAX_WORKERS`]).
    ///
    /// [`workers`]: crate::BatchExecutorBuilder::workers
    ///
    /// # Panics
    ///
    /// If the executor's builder would refuse them, with the text of the [`ConfigError`]: for 0 workers, or more than
    /// [`MAX_WORKERS`].
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let executor = BatchExecutor::new();                     // one worker
    /// let result = executor.batch(0..8).workers(8).run(|n| {
    ///     std::thread::sleep(std::time::Duration::from_millis(20));
    ///     Ok::<_, String>(n * 2)
    /// });
    /// println!("{} workers, {:?}", result.workers(), result.elapsed());     // 8 workers, 20.9ms
    /// # assert!(result.is_success());
    /// ```
    pub fn workers(mut self, workers: impl Into<Workers>) -> Self {
        match workers.into().validated() {
            Ok(workers) => {
                self.engine.pool.allow(workers.threads());
                self.settings.workers = workers;
            }
            Err(error) => panic!("{error}"),
        }
        self
    }

    /// Whether the first failure stops this batch, instead of what the
    /// [executor](crate::BatchExecutorBuilder::stop_on_error) says. Sets the same thing as
    /// [`stop_after_failures`](Batch::stop_after_failures); the last call wins.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let executor = BatchExecutor::new();                     // stops on the first error
    /// let result = executor.batch(["x", "7"]).stop_on_error(false).run(|text| text.parse::<u32>());
    /// assert_eq!((result.failed(), result.succeeded(), result.stopped()), (1, 1, None));
    /// ```
    pub fn stop_on_error(mut self, stop: bool) -> Self {
        self.settings.on_failure = if stop { OnFailure::Stop } else { OnFailure::GoOn };
        self
    }

    /// Stops this batch when `failures` items have failed, instead of what the
    /// [executor](crate::BatchExecutorBuilder::stop_after_failures) says. Sets the same thing as
    /// [`stop_on_error`](Batch::stop_on_error); the last call wins.
    ///
    /// # Panics
    ///
    /// If `failures` is 0, with the text of [`ConfigError::ZeroFailures`]: the batch would stop before its first item.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, StopReason};
    ///
    /// let result = BatchExecutor::new().batch(0..10).stop_after_failures(2).run(|n| Err::<(), _>(*n));
    /// assert_eq!(result.stopped(), Some(StopReason::TooManyFailures { limit: 2 }));
    /// assert_eq!((result.failed(), result.skipped()), (2, 8));
    /// ```
    pub fn stop_after_failures(mut self, failures: usize) -> Self {
        assert!(failures > 0, "{}", ConfigError::ZeroFailures);
        self.settings.on_failure = OnFailure::StopAfter(failures);
        self
    }

    /// Calls `callback` after every item that was run or refused by the rate limiter; with a journal, also for items that
    /// are recorded there. Not for items that are undecided when the batch stops.
    ///
    /// The calls come on the calling thread, one at a time, with [`completed`](Progress::completed) rising by one. With
    /// several workers, the calling thread only reports while there are others to work, so a slow callback slows no
    /// item; calls for quick items come a few at a time, with one time for all. If the system gives no other thread, or none
    /// comes within some ten seconds, the calling thread works and reports by turns. The last call of this method wins.
    /// For calls while no item is decided, there is [`on_tick`](Batch::on_tick).
    ///
    /// # Panics
    ///
    /// A panic of the callback stops the batch: no further call comes, no further item starts, and the panic unwinds out
    /// of `run` when running operations have ended. An async batch drops those that are in flight.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Workers};
    ///
    /// let mut bar = String::new();
    /// BatchExecutor::builder().workers(Workers::auto()).build()?
    ///     .batch(0..20)
    ///     .on_progress(|p| bar.push(if p.failed == 0 { '.' } else { '!' }))
    ///     .run(|n| Ok::<_, String>(n + 1))
    ///     .into_result()?;
    /// assert_eq!(bar, ".".repeat(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_progress(mut self, callback: impl FnMut(&Progress) + 'a) -> Self {
        self.settings.on_progress = Some(AtHome::new(Box::new(callback)));
        self
    }

    /// Calls `callback` once in every `every`, also while no item is decided. The callback gets the
    /// progress of the batch, how many items [run](Progress::running) and [wait](Progress::waiting),
    /// and the rest of a [pause](Progress::paused_for). The last call of this method wins.
    ///
    /// The calls come on the calling thread, one at a time and never during one of
    /// [`on_progress`](Batch::on_progress). The first comes when `every` has passed; in a batch
    /// that ends before, there is none. If a call takes longer than `every`, the next follows as
    /// soon as the calling thread has done its other work. An `every` below a millisecond counts
    /// as one.
    ///
    /// With several workers the calling thread leaves the work to the others, so calls come on time
    /// whatever the items do. Two cases are different:
    ///
    /// - **One worker** ([`Workers::Sequential`], `Fixed(1)`, or no other thread can be had) is the
    ///   calling thread. Calls come between two items, and while all items wait: for another
    ///   attempt, for a limit, for the end of a pause. They do not come while an item runs.
    /// - **In a [stream](Batch::stream)** the calling thread is in the consumer: calls come while
    ///   that waits for the next item.
    ///
    /// # Panics
    ///
    /// A panic of the callback stops the batch, as one of `on_progress` does.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::{thread, time::Duration};
    ///
    /// let (executor, mut seen) = (BatchExecutor::builder().workers(2).build()?, Vec::new());
    /// let result = executor
    ///     .batch(0..2)
    ///     .on_tick(Duration::from_millis(10), |p| seen.push((p.running, p.completed)))
    ///     .run(|_| Ok::<_, String>(thread::sleep(Duration::from_millis(200))));
    /// assert!(result.is_success());
    /// assert!(seen.contains(&(2, 0)));                        // both run, and none has ended
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn on_tick(mut self, every: Duration, callback: impl FnMut(&Progress) + 'a) -> Self {
        self.settings.on_tick = Some(Tick::new(every, AtHome::new(Box::new(callback))));
        self
    }

    /// Draws a progress bar on stderr. [`on_progress`](Batch::on_progress) and
    /// [`on_tick`](Batch::on_tick) may be set, too.
    ///
    /// The bar shows how many items are done, of how many, how many failed, the
    /// [rate](Progress::rate) and the [remaining time](Progress::eta); also how many items wait to
    /// be retried, and the length of a pause. It is there from the start, and remains as it was
    /// when the batch ends, stops, or unwinds. Where the number of items is not known, as in some
    /// [streams](Batch::stream), there is a count and no bar. On a narrow terminal, the words that
    /// do not fit are missing.
    /// [`guide::progress_bar`](crate::guide::progress_bar) has pictures.
    ///
    /// ```text
    /// 4213/10000 [==========================>                                    ] 3 failed, 240/s, 24 s left
    /// ```
    ///
    /// Where stderr is no terminal, or one that cannot redraw a line, there is a line every five
    /// seconds, and one at the end:
    ///
    /// ```text
    /// 1200 of 10000, 3 failed, 240/s, 37 s left
    /// ```
    ///
    /// Other output to the terminal ends up in the bar. To print beside a bar, use
    /// [`progress_bar_on`](Batch::progress_bar_on) and the `println` of its bar.
    ///
    /// The calling thread draws it at most ten times a second, whatever the number of items. While
    /// that thread is busy, with an item of its only worker or in the consumer of a stream, a
    /// thread of the bar's own draws the passing time. With several workers an item costs nothing
    /// more; with one, some ten nanoseconds.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let result = BatchExecutor::new().batch(0..100).progress_bar().run(|n| Ok::<_, String>(n * 2));
    /// assert!(result.is_success());
    /// ```
    #[cfg(feature = "indicatif")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indicatif")))]
    pub fn progress_bar(mut self) -> Self {
        self.settings.bar = Some(Tick::of_bar(DRAW_EVERY, AtHome::new(Box::new(shown_on_stderr()))));
        self
    }

    /// Like [`progress_bar`](Batch::progress_bar), with a bar of your own, which has its own style
    /// and draws where you say, such as in a [`MultiProgress`](indicatif::MultiProgress). A hidden
    /// bar writes nothing. The last call of the two wins.
    ///
    /// The batch sets its position, and its length where the number of items is known; when it is
    /// over it [abandons](indicatif::ProgressBar::abandon) the bar, which leaves it visible: keep a
    /// clone to clear it, or to write a message. The style gets more keys:
    ///
    /// | key | for example | |
    /// |---|---|---|
    /// | `{failed}` | `3 failed` | empty if none did |
    /// | `{paused}` | `paused for 2 s` | empty outside of pauses |
    /// | `{waiting}` | `2 waiting to be retried` | empty if none does |
    /// | `{rate}` | `240/s`, `7.5/min` | since the batch began; `{per_sec}` is that of the last seconds |
    /// | `{left}` | `37 s left` | empty while it is unknown; at the end the time that the batch took, `in 42 s` |
    /// | `{batch}` | `3 failed, 240/s, 37 s left` | those of them that say something; in a pause without the last two |
    ///
    /// A clone of the bar prints beside it: [`println`](indicatif::ProgressBar::println) puts a
    /// line above it, where it is drawn, and [`suspend`](indicatif::ProgressBar::suspend) takes it
    /// away while something else prints.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
    ///
    /// let bars = MultiProgress::new();
    /// let style = ProgressStyle::with_template("{prefix} {bar:30} {percent} % {failed}")?;
    /// let bar = bars.add(ProgressBar::no_length().with_style(style).with_prefix("tenants"));
    ///
    /// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
    /// let result = executor.batch(0..100).progress_bar_on(bar.clone()).run(|&n| {
    ///     if n == 13 {
    ///         bar.println("13 is unlucky");                   // not `eprintln!`
    ///         return Err("unlucky");
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!(result.failed(), 1);
    /// assert_eq!((bar.position(), bar.length()), (100, Some(100)));
    /// bar.finish_and_clear();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "indicatif")]
    #[cfg_attr(docsrs, doc(cfg(feature = "indicatif")))]
    pub fn progress_bar_on(mut self, bar: indicatif::ProgressBar) -> Self {
        self.settings.bar = Some(Tick::of_bar(DRAW_EVERY, AtHome::new(Box::new(shown_on(bar)))));
        self
    }

    /// Stops the batch when the token is cancelled: no more items start. On threads, `run` returns when running operations have
    /// ended; an async batch cuts off items in flight. A batch may have several tokens, and each of them stops it.
    ///
    /// All waits end immediately: at a limit, for the next attempt, for a thread. An item that never started is
    /// [`Skipped`](crate::ItemError::Skipped), one that waited for its next attempt is
    /// [`Interrupted`](crate::ItemError::Interrupted) and keeps its last error, and the reason is
    /// [`StopReason::Cancelled`]. On threads, a cancel has no effect when no item is left to start.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, CancelToken, RateLimit, StopReason};
    /// use std::time::Duration;
    ///
    /// let executor = BatchExecutor::builder().rate_limiter(RateLimit::every(Duration::from_secs(3600))).build()?;
    /// let token = CancelToken::new();
    /// let result = std::thread::scope(|scope| {
    ///     scope.spawn(|| token.cancel());
    ///     executor.batch(0..10_000).cancel_on(&token).run(|n| Ok::<_, String>(*n))
    /// });
    /// assert_eq!(result.stopped(), Some(StopReason::Cancelled));
    /// println!("{result}");                       // 1 of 10000 succeeded, 9999 skipped in 0.2 ms
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    ///
    /// For Ctrl-C there is an example, `interrupt`, with crate `ctrlc`:
    ///
    /// ```no_run
    /// # use batch_executor::CancelToken;
    /// let token = CancelToken::new();
    /// let on_ctrl_c = token.clone();
    /// ctrlc::set_handler(move || {
    ///     if on_ctrl_c.is_cancelled() {
    ///         std::process::exit(130);        // pressed again: immediately
    ///     }
    ///     on_ctrl_c.cancel();                 // what runs is waited for, and `run` returns what there is
    /// })?;
    /// # Ok::<(), ctrlc::Error>(())
    /// ```
    pub fn cancel_on(mut self, token: &CancelToken) -> Self {
        self.settings.tokens.push(token.clone());
        self
    }

    /// Stops the batch at this time, like a cancel, with [`StopReason::DeadlineExceeded`]. The batch waits for operations
    /// that run on threads; they may look at [`ItemContext::deadline`]. If there is a [`timeout`](Batch::timeout) too, the
    /// earlier of the two holds. The last call of this method wins.
    ///
    /// Costs one clock reading an item.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::time::{Duration, Instant};
    ///
    /// let end_of_visit = Instant::now() + Duration::from_millis(50);      // for several batches, one after another
    /// let work = |_: &u32| Ok::<_, String>(std::thread::sleep(Duration::from_millis(1)));
    /// let result = BatchExecutor::new().batch(0..10_000).deadline(end_of_visit).run(work);
    /// println!("{result}");                   // 46 of 10000 succeeded, 9954 skipped in 50.1 ms
    /// assert!(result.skipped() > 0);
    /// ```
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// Stops the batch when `timeout` has passed since the call of `run`, like a [`deadline`](Batch::deadline); of an async batch,
    /// since its future was polled first. The last call wins. A timeout that overflows the clock means no timeout.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, StopReason};
    /// use std::time::Duration;
    ///
    /// let result = BatchExecutor::new()
    ///     .batch(0..1_000)
    ///     .timeout(Duration::from_millis(20))
    ///     .run(|_| Ok::<_, String>(std::thread::sleep(Duration::from_millis(3))));
    /// assert_eq!(result.stopped(), Some(StopReason::DeadlineExceeded));
    /// assert!(result.skipped() > 900);
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How long one attempt at an item may take.
    ///
    /// **In an async batch** an attempt that takes longer is cut off: its future is dropped, also where it hangs, and the item is
    /// [`ItemError::TimedOut`](crate::ItemError::TimedOut). With [retries](Batch::retry) it is tried again after the next delay; the
    /// function of [`Retry::when`](crate::Retry::when) is not called, as there is no error.
    ///
    /// **On threads** nothing can end an operation from outside. There the step gives each attempt its
    /// [deadline](crate::ItemContext::deadline), and [`is_cancelled`](crate::ItemContext::is_cancelled) is true from then on. The
    /// operation has to check, or to pass the remaining time to the functions that it calls. The batch waits for it, and its result
    /// counts.
    ///
    /// The time begins when the operation is called: earlier waits, for a limit or another attempt, do not count. The last call
    /// wins.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::time::{Duration, Instant};
    ///
    /// let result = BatchExecutor::new().batch(["a", "b"]).item_timeout(Duration::from_secs(5)).run_with(|name, cx| {
    ///     let left = cx.deadline().unwrap().saturating_duration_since(Instant::now());
    ///     Ok::<_, String>(format!("{name}: at most {} s", left.as_secs_f64().ceil()))    // a timeout of a client
    /// });
    /// assert_eq!(result.into_values()?, ["a: at most 5 s", "b: at most 5 s"]);
    /// # Ok::<(), batch_executor::BatchError>(())
    /// ```
    pub fn item_timeout(mut self, time: Duration) -> Self {
        self.settings.item_timeout = Some(time);
        self
    }

    /// Tries failed items again, as the [`Retry`] says. The last call wins.
    ///
    /// An item that waits for its next attempt holds no worker: it stands in a queue until it is due, and workers run
    /// other items. Every attempt takes a permit of its own from the rate limiter. The batch does not end before this queue
    /// is empty.
    ///
    /// A retried item counts once, by its last attempt: in the result, in progress, and for `stop_on_error`, where the
    /// reason is the lowest index whose *last* attempt failed: items below it are tried until they are decided. Items
    /// that wait for another attempt when the batch stops are [`Interrupted`](crate::ItemError::Interrupted): they keep
    /// their last error, and do not count as failed. [`BatchResult::attempts`] says how often each item was tried.
    ///
    /// A worker takes one item at a time then. [`costs`](crate::guide::costs#steps) says what that costs.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Retry};
    /// use std::time::Duration;
    ///
    /// let retry = Retry::exponential(Duration::from_millis(5), Duration::from_secs(1), 4);
    /// let executor = BatchExecutor::builder().workers(8).build()?;
    /// let result = executor
    ///     .batch(0..100)
    ///     .retry(retry)
    ///     .run_with(|n, cx| if cx.attempt() == 1 { Err("busy") } else { Ok(n * 2) });
    /// assert!(result.is_success());
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn retry(mut self, retry: Retry<'a, E>) -> Self {
        self.settings.retry = Some(retry);
        self
    }

    /// Lets `control` pause, resume and cancel the batch, change its number of workers, and see what runs. See [`Control`]. A
    /// batch may have several: it is paused as long as one of them is.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Control};
    ///
    /// let control = Control::new();
    /// control.cancel();
    /// let result = BatchExecutor::new().batch(0..3).control(&control).run(|n| Ok::<_, String>(*n));
    /// assert_eq!(result.skipped(), 3);
    /// ```
    pub fn control(mut self, control: &Control) -> Self {
        self.engine.pool.allow(Workers::Fixed(MAX_WORKERS).threads());
        if !self.settings.controls.iter().any(|other| other.is_same(control)) {
            self.settings.controls.push(control.clone());
        }
        self
    }

    /// Limits a rate, or a number of slots, that items need before they start: see [`Limit`]. Several limits hold together.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Limit, RateLimit};
    ///
    /// let executor = BatchExecutor::builder().workers(16).build()?;
    /// let result = executor
    ///     .batch(["https://a.example/1", "https://b.example/1"])
    ///     .limit(Limit::rate(RateLimit::per_second(1_000)))
    ///     .limit(Limit::per_key(|url: &&str| url.split('/').nth(2), |_| Limit::at_once(2)))
    ///     .run(|url| Ok::<_, String>(url.len()));
    /// assert!(result.is_success());
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn limit<'l: 'a>(mut self, limit: Limit<'l, It::Item>) -> Self
    where
        It::Item: 'a,
    {
        self.settings.limits.push(limit.shortened());
        self
    }

    /// Records the outcome of each item in a [`Journal`], and runs only items that are not recorded there as done. The
    /// result has all items in order, old and new. The last call wins.
    ///
    /// A recorded item does not run, asks for no permit, and counts as completed without a wait. The batch reads its value
    /// from the file; its [`attempts`](BatchResult::attempts) are those of the run in which it was decided. The journal does
    /// not record skipped or interrupted items, nor a panic before the operation was called, such as one of `init` or of the
    /// limiter.
    ///
    /// Items and values are [`Serialize`], values are also `DeserializeOwned` (so they borrow nothing), and errors have a
    /// text. Before any item runs, the batch compares all items with the plan, as far as
    /// [it knows them](crate::Plan::named), and refuses two items with the same id; in a stream, it checks each item as it
    /// comes. If the journal cannot be written, the batch stops with [`StopReason::Journal`], and
    /// [`journal_error`](BatchResult::journal_error) says why; the result has all outcomes, also those that the file lacks.
    ///
    /// Of a [shard](crate::Shard), the batch gets the items without their indices:
    /// `shard.select(items).map(|(_, item)| item)`. One batch at a time may use a journal.
    ///
    /// Costs a line written and read again for each item (2 to 4 µs), and [now and then](crate::Journal) a sync.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Journal, Plan};
    ///
    /// # let path = std::env::temp_dir().join(format!("journal-step-{}.jsonl", std::process::id()));
    /// let rows = ["a", "b", "c", "d"];
    /// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
    /// let mut done = Vec::new();
    /// for power in ["fails", "is back"] {
    ///     let journal = Journal::open(&path, Plan::of(rows)?)?;
    ///     let result = executor.batch(rows).journal(&journal).run(|row| {
    ///         if power == "fails" && *row > "b" { Err("no power") } else { Ok(format!("{row} while power {power}")) }
    ///     });
    ///     done = result.values().cloned().collect();
    /// }
    /// let (old, new) = ("while power fails", "while power is back");
    /// assert_eq!(done, [format!("a {old}"), format!("b {old}"), format!("c {new}"), format!("d {new}")]);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "journal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
    pub fn journal(mut self, journal: &'a Journal) -> Self
    where
        It::Item: Serialize,
        T: Serialize + DeserializeOwned,
        E: fmt::Display,
    {
        self.settings.journal = Some(Box::new(Journaled::new(journal, Serialized)));
        self
    }

    /// Uses a [journal](Batch::journal) in which the text that `id` returns names an item: for items that cannot be written
    /// as JSON, or are too large for that. Make the plan of the same texts.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Journal, Plan};
    ///
    /// # let path = std::env::temp_dir().join(format!("journal-as-{}.jsonl", std::process::id()));
    /// struct Upload { name: String, bytes: Vec<u8> }
    /// let uploads = [Upload { name: "a.png".into(), bytes: vec![0; 100] }];
    ///
    /// let journal = Journal::open(&path, Plan::of(uploads.iter().map(|upload| &upload.name))?)?;
    /// let result = BatchExecutor::new()
    ///     .batch(uploads)
    ///     .journal_as(&journal, |upload| upload.name.clone())
    ///     .run(|upload| Ok::<_, String>(upload.bytes.len()));
    /// assert!(result.is_success());
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "journal")]
    #[cfg_attr(docsrs, doc(cfg(feature = "journal")))]
    pub fn journal_as(
        mut self,
        journal: &'a Journal,
        id: impl Fn(&It::Item) -> String + Send + Sync + 'a,
    ) -> Self
    where
        T: Serialize + DeserializeOwned,
        E: fmt::Display,
    {
        self.settings.journal = Some(Box::new(Journaled::new(journal, id)));
        self
    }

    /// Records when each attempt at each item was queued, waited for a permit, started and ended, on which worker, and how: for
    /// [`BatchResult::timeline`], [`Streamed::timeline`](crate::Streamed::timeline). Items are
    /// labelled by their `Debug` text, without the quotation marks of a string, up to 200 bytes of it;
    /// [`record_timeline_as`](Batch::record_timeline_as) takes another label.
    ///
    /// Costs a reading of the clock an item, one more where it may have to wait for a permit and where it is kept, and about 100
    /// bytes and the id for each attempt that is [kept](Batch::timeline_spans). A batch without this step pays nothing.
    /// [`costs`](crate::guide::costs#steps) has the numbers.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, RateLimit};
    ///
    /// let executor = BatchExecutor::builder().workers(4).rate_limiter(RateLimit::per_second(1_000)).build()?;
    /// let result = executor.batch(0..50).record_timeline().run(|n| Ok::<_, String>(n * n));
    ///
    /// let timeline = result.timeline().unwrap();
    /// println!("{}", timeline.stats());                          // a table for the terminal
    /// # let file = std::io::sink();
    /// timeline.write_html(file)?;                                // a page to look at
    /// let waited = timeline.spans().iter().filter(|span| span.limiter_wait() > span.run_time()).count();
    /// println!("{waited} items waited for the limiter longer than they ran");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record_timeline(self) -> Self
    where
        It::Item: fmt::Debug + 'a,
    {
        self.record_timeline_as(debug_name)
    }

    /// Records a [timeline](Batch::record_timeline) in which items are labelled by the text that `id` returns, up to 200 bytes of
    /// it. Workers call `id` for the attempts that are kept, when they have ended. If it panics, the panic's message is the label.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// struct Upload { name: String, bytes: Vec<u8> }
    /// let uploads = vec![Upload { name: "a.png".into(), bytes: vec![0; 100] }];
    ///
    /// let result = BatchExecutor::new()
    ///     .batch(uploads)
    ///     .record_timeline_as(|upload| upload.name.clone())
    ///     .run(|upload| Ok::<_, String>(upload.bytes.len()));
    /// assert_eq!(result.timeline().unwrap().spans()[0].id(), "a.png");
    /// ```
    pub fn record_timeline_as(mut self, id: impl Fn(&It::Item) -> String + Send + Sync + 'a) -> Self {
        self.settings.name_of = Some(Box::new(id));
        self
    }

    /// How many attempts a recorded timeline may keep. Default 100,000, which take about 10 MB and as long a page. While the batch
    /// runs, each worker keeps its 100 slowest and first 100 failures beside that (a quarter of `spans` each, if that is less). If
    /// there are more attempts, a [sample](crate::Timeline) remains, and counts stay exact. The last call wins. This step alone
    /// records no timeline.
    ///
    /// # Panics
    ///
    /// If `spans` is 0.
    ///
    /// ```
    /// # let executor = batch_executor::BatchExecutor::new();
    /// let result = executor.batch(0..10_000).record_timeline().timeline_spans(1_000).run(|n| Ok::<_, String>(*n));
    /// let timeline = result.timeline().unwrap();
    /// assert!(!timeline.is_complete() && timeline.spans().len() <= 1_000);
    /// assert_eq!(timeline.stats().attempts, 10_000);
    /// ```
    pub fn timeline_spans(mut self, spans: usize) -> Self {
        assert!(spans > 0, "a timeline of 0 spans would show nothing");
        self.settings.spans = spans;
        self
    }

    /// The largest number of items that a [`stream`](Batch::stream) has under way: pulled out of the iterator, and not yet
    /// handed on to the consumer. The last call wins. Without this step it is 4 for each possible worker, and grows up to
    /// 4,096 while items are quick. It is never more than 1,048,576.
    ///
    /// The window bounds the memory of a stream, and how many items can finish behind a slow one: while that item is the
    /// next to be handed on, only the rest of the window runs beside it. Items that take less than a few microseconds need a
    /// window of some hundreds or thousands, so that workers can take several at a time. No more workers run than the
    /// window has room for.
    ///
    /// [`run`](Batch::run) and the other verbs that return a [`BatchResult`] ignore it.
    ///
    /// # Panics
    ///
    /// If `items` is 0: no item could ever start.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let pulled = AtomicUsize::new(0);
    /// let endless = (0..).inspect(|_| _ = pulled.fetch_add(1, Ordering::Relaxed));
    /// let executor = BatchExecutor::builder().workers(4).build()?;
    /// let streamed = executor.batch(endless).window(10).stream(|n| Ok::<_, String>(n * n), |results| {
    ///     for (handed_on, item) in results.take(100).enumerate() {
    ///         assert_eq!(item.outcome.unwrap(), handed_on * handed_on);
    ///         assert!(pulled.load(Ordering::Relaxed) <= handed_on + 10);
    ///     }
    /// });
    /// assert_eq!(streamed.succeeded, 100);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn window(mut self, items: usize) -> Self {
        assert!(items > 0, "a window of 0 items would never let anything start");
        self.settings.flow.window = Some(items);
        self
    }

    /// Lets a [`stream`](Batch::stream) hand on outcomes as they come, instead of in input order. A slow item then blocks only
    /// its own place in the [`window`](Batch::window).
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::{thread, time::Duration};
    ///
    /// let executor = BatchExecutor::builder().workers(2).build()?;
    /// let millis = [200, 1, 1, 1];
    /// let streamed = executor.batch(millis).unordered().stream(
    ///     |&n| Ok::<_, String>(thread::sleep(Duration::from_millis(n))),
    ///     |results| results.map(|item| item.item).collect::<Vec<_>>(),
    /// );
    /// println!("{:?}", streamed.output);                  // [1, 1, 1, 200]
    /// # let mut ids = streamed.output; ids.sort(); assert_eq!(ids, [1, 1, 1, 200]);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn unordered(mut self) -> Self {
        self.settings.flow.order = Order::Completion;
        self
    }
}

/// Verbs.
impl<I, It, T, E> Batch<'_, It, T, E>
where
    It: Iterator<Item = I>,
    I: Send,
    T: Send,
    E: Send,
{
    /// Runs `op` on every item, waits for all of them, and returns their outcomes.
    ///
    /// First the calling thread takes all items out of the iterator. Outcomes come back in input order. Each of the first
    /// items, up to the number of workers, starts immediately, on a worker of its own. Later items must not wait for one
    /// another, since a worker may hold several.
    ///
    /// `run` always returns the result, with everything that finished; [`stopped`](BatchResult::stopped) says what stopped
    /// the batch. For `?` there are [`into_values`](BatchResult::into_values) and
    /// [`into_result`](BatchResult::into_result).
    ///
    /// A panic in `op` is that item's outcome, [`ItemError::Panicked`](crate::ItemError::Panicked); the panic hook prints
    /// its message first, as for any panic. `op` may start other batches, on this executor too: they never wait for a
    /// thread, and have a worker limit of their own.
    ///
    /// Items, values and errors are `Send`, whatever the worker count. For errors of several kinds, use
    /// `Box<dyn Error + Send + Sync>`. `op` gets a reference to the item, so pass a function of `&str` as
    /// `|text| function(text)`. The items of a slice `&[T]` are references already, so `op` gets `&&T`; for small items,
    /// `slice.iter().copied()` makes that `&T`.
    ///
    /// Costs a few nanoseconds an item besides the time of `op`, and the memory of one [`Outcome`](crate::Outcome) each.
    /// Values larger than some hundred bytes are better boxed: outcomes are moved into their place.
    ///
    /// # Panics
    ///
    /// If the iterator, the progress callback, or a destructor of a value that the batch drops panics. The batch first waits
    /// for running operations.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, ItemError};
    ///
    /// let executor = BatchExecutor::builder().workers(2).stop_on_error(false).build()?;
    /// let result = executor.batch(["3", "4", "x"]).run(|word| word.parse::<i32>());
    /// assert_eq!(result.values().copied().collect::<Vec<_>>(), [3, 4]);
    /// assert!(matches!(result.outcomes()[2], Err(ItemError::Failed(_))));
    ///
    /// let numbers: &[u64] = &[3, 4];
    /// let squares = executor.batch(numbers.iter().copied()).run(|n| Ok::<_, String>(n * n)).into_values()?;
    /// assert_eq!(squares, [9, 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(self, op: impl Fn(&I) -> Result<T, E> + Sync) -> BatchResult<I, T, E> {
        let op = move |item: &I, _: &mut ItemContext<'_>| op(item);
        self.go(false, Steps { op, init: || Ok(()), types: PhantomData })
    }

    /// Runs `op` on every item, with an [`ItemContext`]: index, attempt and worker, and whether the batch has stopped.
    /// Like [`run`](Batch::run) in everything else.
    ///
    /// # Panics
    ///
    /// As [`run`](Batch::run) does.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let labels = BatchExecutor::new()
    ///     .batch(["a", "b"])
    ///     .run_with(|id, cx| Ok::<_, String>(format!("{}: {id}", cx.index())))
    ///     .into_values()?;
    /// assert_eq!(labels, ["0: a", "1: b"]);
    /// # Ok::<(), batch_executor::BatchError>(())
    /// ```
    pub fn run_with(
        self,
        op: impl Fn(&I, &mut ItemContext<'_>) -> Result<T, E> + Sync,
    ) -> BatchResult<I, T, E> {
        self.go(true, Steps { op, init: || Ok(()), types: PhantomData })
    }

    /// Runs `op` on every item, and gives each worker a state of its own, such as a connection or a buffer:
    /// [`ItemContext::state`]. Like [`run_with`](Batch::run_with) in everything else.
    ///
    /// A worker calls `init` before its first item. The state is used and dropped on that thread, so it need not be
    /// `Send`. Each worker that the batch has at a time calls `init` at most once, and not at all if it
    /// finds no items. If `init` panics, the panic is the outcome of the worker's item, and the worker calls it again for
    /// its next item.
    ///
    /// # Panics
    ///
    /// As [`run`](Batch::run) does, and if the destructor of a worker's state panics.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let connections = AtomicUsize::new(0);
    /// let executor = BatchExecutor::builder().workers(3).build()?;
    /// let result = executor.batch(0..100).run_init(
    ///     || connections.fetch_add(1, Ordering::Relaxed),
    ///     |n, cx| Ok::<_, String>((*n, *cx.state)),
    /// );
    /// assert!(result.is_success());
    /// assert!(connections.into_inner() <= 3);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn run_init<S>(
        self,
        init: impl Fn() -> S + Sync,
        op: impl Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
    ) -> BatchResult<I, T, E> {
        self.go(true, Steps { op, init: move || Ok(init()), types: PhantomData })
    }

    /// Like [`run_init`](Batch::run_init), with an `init` that may fail, such as one that opens a connection.
    ///
    /// An error of `init` is the outcome of the worker's item, [`ItemError::Failed`](crate::ItemError::Failed). It counts as
    /// an attempt at that item, which a [`retry`](Batch::retry) may follow with another; so does a panic of `init`, which no
    /// retry follows. The worker calls `init` again for its next item.
    ///
    /// # Panics
    ///
    /// As [`run`](Batch::run) does, and if the destructor of a worker's state panics.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let calls = AtomicUsize::new(0);
    /// let connect = || if calls.fetch_add(1, Ordering::Relaxed) == 0 { Err("refused") } else { Ok("connection") };
    /// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
    /// let result = executor.batch(["a", "b", "c"]).try_run_init(connect, |row, cx| Ok(format!("{row} by {}", cx.state)));
    /// assert_eq!(result.failures().next().unwrap().to_string(), "item 0: refused");
    /// assert_eq!(result.values().collect::<Vec<_>>(), ["b by connection", "c by connection"]);
    /// assert_eq!(calls.into_inner(), 2);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn try_run_init<S>(
        self,
        init: impl Fn() -> Result<S, E> + Sync,
        op: impl Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
    ) -> BatchResult<I, T, E> {
        self.go(true, Steps { op, init, types: PhantomData })
    }

    /// Runs one task for each item. The items serve as ids: outcomes come back beside them.
    ///
    /// Like [`run`](Batch::run) in everything else. Tasks that never start are dropped on the calling thread, when the
    /// batch is over. If there are more tasks than items, or fewer, nothing runs: all items are
    /// [`Skipped`](crate::ItemError::Skipped), and the reason is
    /// [`StopReason::LengthMismatch`].
    ///
    /// # Panics
    ///
    /// As [`run`](Batch::run) does, and if the batch has a [`retry`](Batch::retry): a task can run only once.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, StopReason};
    ///
    /// let greet = |name: &'static str| move || Ok::<_, String>(format!("hello {name}"));
    /// let executor = BatchExecutor::new();
    /// let result = executor.batch(["id-1", "id-2"]).run_tasks([greet("Ada"), greet("Bob")]);
    /// assert_eq!(result.items()[1], "id-2");
    /// assert_eq!(result.into_values()?, ["hello Ada", "hello Bob"]);
    ///
    /// let result = executor.batch(["id-1", "id-2"]).run_tasks([greet("Ada")]);
    /// assert_eq!(result.stopped(), Some(StopReason::LengthMismatch { tasks: 1, items: 2 }));
    /// # Ok::<(), batch_executor::BatchError>(())
    /// ```
    pub fn run_tasks<F>(self, tasks: impl IntoIterator<Item = F>) -> BatchResult<I, T, E>
    where
        F: FnOnce() -> Result<T, E> + Send,
    {
        assert!(
            self.settings.retry.is_none(),
            "a task can run only once, so a batch of tasks cannot have a retry"
        );
        let _clock = clock::enter(self.engine.clock.as_ref());
        let since = clock::now();
        let Batch { engine, items, settings } = self;
        let ids = match collect(items) {
            Ok(ids) => ids,
            Err(ids) => return BatchResult::out_of_memory(ids),
        };
        let Ok(tasks) = collect(tasks.into_iter().map(Some).map(Mutex::new)) else {
            return BatchResult::out_of_memory(ids);
        };
        if tasks.len() != ids.len() {
            return refuse(tasks, ids);
        }
        let batch = Batch { engine, items: ids.into_iter(), settings };
        let op = |_: &I, context: &mut ItemContext<'_>| take(&tasks[context.index()])();
        let ended = batch.try_go(since, false, Steps { op, init: || Ok(()), types: PhantomData });
        let unstarted = panic::drop_each(tasks);
        match (ended, unstarted) {
            (Ok(result), Ok(())) => result,
            (Ok(result), Err(panic)) => discard(result, panic),
            (Err(panic), _) => panic.resume(),
        }
    }

    /// Runs `op` on every item, and on every item that `op` adds: for work that makes more
    /// work, such as the links of a page, the folders in a folder, the parts of a problem. The batch
    /// is over when no item is left and no operation runs.
    ///
    /// `op` adds items with [`More::push`]. A pushed item may start immediately, on any worker. The
    /// result has all items in the order of a plain queue, for any number of workers and however long
    /// each item takes: first the items of the batch, then all that item 0 pushed, in the order in
    /// which it pushed them, then all that item 1 pushed, and so on. So this loop and `run_growing`
    /// give the same items in the same order:
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, More};
    /// use std::collections::VecDeque;
    ///
    /// let links = |page: &u32| (1..=3).map(|n| page * 3 + n).filter(|page| *page < 40).collect::<Vec<_>>();
    ///
    /// let (mut queue, mut seen) = (VecDeque::from([0]), Vec::new());
    /// while let Some(page) = queue.pop_front() {
    ///     queue.extend(links(&page));
    ///     seen.push(page);
    /// }
    ///
    /// let executor = BatchExecutor::builder().workers(8).build()?;
    /// let result = executor.batch([0]).run_growing(|page, _, more| {
    ///     links(page).into_iter().for_each(|link| more.push(link));
    ///     Ok::<_, String>(())
    /// });
    /// assert_eq!(result.items(), seen);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    ///
    /// The batch does not compare items. To visit each page once, keep a set of the pages that were
    /// pushed, behind a lock. Then timing decides which of two pages pushes a third, and so the order
    /// of the result: sort what you print. [`guide::growing`](crate::guide::growing) has an example.
    ///
    /// All steps hold as in [`run`](Batch::run), except for the journal:
    ///
    /// - **Failures.** Items that were pushed before their item failed or panicked run, as with a plain queue.
    ///   With `stop_on_error`, the failure that counts is the one that a plain queue meets first, for
    ///   any number of workers, and all items before it are decided. Items behind it are decided only
    ///   if they had started. The others are [`Skipped`](crate::ItemError::Skipped), and so are
    ///   the items that they pushed.
    /// - **Retries.** Only the pushes of the last attempt count. So in a batch with a
    ///   [`retry`](Batch::retry), pushed items start only when the attempt has ended.
    /// - **Limits, cancels and pauses** hold for pushed items as for all others. Items that are
    ///   pushed after a cancel are `Skipped`.
    /// - **Numbers.** While the batch runs, items are numbered as they come. [`ItemContext::index`],
    ///   [`Running::index`](crate::Running::index) and the events of `tracing` say that number. With
    ///   one worker it is the place in the result, unless items are retried or wait for a limit. The
    ///   result itself speaks of places only: in its indices, its timeline and
    ///   [`StopReason::ItemFailed`].
    /// - **Progress.** [`total`](Progress::total) grows, and [`total_hint`](Progress::total_hint) is
    ///   `None` until no running item can push more.
    ///
    /// Nothing bounds the number of items. Besides item and outcome, each takes 16 bytes while the
    /// batch runs. At the end items and outcomes are moved once, so that for a moment both are there
    /// twice, and each takes some 32 bytes more.
    ///
    /// All workers start with the batch, however few items there are, and those without an item sleep. Each
    /// item is claimed by itself, which costs some tenths of a microsecond.
    ///
    /// # Errors
    ///
    /// Where there is no memory for a pushed item, that item is dropped and the batch stops with
    /// [`StopReason::OutOfMemory`].
    ///
    /// # Panics
    ///
    /// As [`run`](Batch::run) does, and if the batch has a journal: its plan names all items before
    /// they run, and a run that resumes would not know what the recorded items had pushed.
    pub fn run_growing(
        self,
        op: impl Fn(&I, &mut ItemContext<'_>, &More<I>) -> Result<T, E> + Sync,
    ) -> BatchResult<I, T, E> {
        assert!(
            self.settings.journal.is_none(),
            "a journal knows all items before they run, so a batch that grows cannot have one"
        );
        let _clock = clock::enter(self.engine.clock.as_ref());
        let Batch { engine, items, settings } = self;
        engine.grow(clock::now(), items, settings, op).unwrap_or_else(|panic| panic.resume())
    }

    /// Runs `op` on items as they are pulled out of the iterator, and hands each on as soon as it and all before it are
    /// done: for input that is endless, or larger than memory, and for results that you need before the batch ends.
    ///
    /// `consume` is called once, on this thread, with [`Results`], an ordinary iterator of [`BatchItem`](crate::BatchItem)s
    /// in input order. Its return value is the [`output`](Streamed::output). Meanwhile workers pull items, one thread at a
    /// time and no further than the [`window`](Batch::window) allows, and run them. So memory does not grow with the
    /// input, and a slow first item never makes the window larger. With one worker, or if the system gives no thread, an item
    /// is pulled and run when the consumer asks for it.
    ///
    /// The iterator may wait in `next`, for a channel or for stdin: pulled items run and are handed on meanwhile, even
    /// if the iterator waits for something that the consumer makes of them. It is not called again after its end. It
    /// goes to other threads, so it is `Send`: `BufReader::new(io::stdin())` is, `stdin().lock()` is not.
    ///
    /// Everything else is as in [`run`](Batch::run): rate limits, retries, cancels, panics as outcomes. Progress is
    /// reported on this thread, while the consumer asks for the next item. An item that backs off keeps its place in the
    /// window.
    ///
    /// # Stopping
    ///
    /// - When the batch stops on a failure, `Results` ends behind that item, the lowest that failed, whatever the number of
    ///   workers.
    /// - After a cancel or a deadline, it ends before the first item that is undecided: skipped, or interrupted before its
    ///   next attempt. An [`unordered`](Batch::unordered) stream hands on all items that are decided.
    /// - When `consume` returns early, or panics, no more items start.
    ///
    /// In each case the call waits for running operations, and for an iterator that is in its `next`. It drops pulled items
    /// that it did not hand on, up to a window of them.
    ///
    /// # A consumer that feeds its own stream
    ///
    /// Where items make more items, [`run_growing`](Batch::run_growing) is simpler, and knows when it is over.
    ///
    /// Nothing can interrupt an iterator that waits in `next`. So a stream over a channel ends only if the channel does.
    /// If the consumer itself sends into that channel, it must own the sender. Then the sender is dropped when the consumer
    /// returns, also by `?`; the worker in `recv` sees the end of the channel, and the stream returns:
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::sync::mpsc;
    ///
    /// let (to_do, input) = mpsc::channel();
    /// to_do.send(3).unwrap();
    /// let executor = BatchExecutor::builder().workers(2).build()?;
    /// let streamed = executor.batch(input).stream(
    ///     |n: &u32| n.checked_sub(1).ok_or("below zero"),
    ///     move |results| {                                // `move`: the consumer owns `to_do`
    ///         for item in results {
    ///             match item.outcome.unwrap() {
    ///                 0 => return Err("no more"),          // drops `to_do`: ends
    ///                 n => to_do.send(n).unwrap(),
    ///             }
    ///         }
    ///         Ok(())
    ///     },
    /// );
    /// assert_eq!(streamed.output, Err("no more"));
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    ///
    /// The same without `move` hangs: `to_do` outlives the call, which waits for a worker that waits in `recv` for ever.
    ///
    /// ```no_run
    /// # use batch_executor::BatchExecutor;
    /// # use std::sync::mpsc;
    /// # let (to_do, input) = mpsc::channel();
    /// # to_do.send(3).unwrap();
    /// # let executor = BatchExecutor::builder().workers(2).build()?;
    /// let streamed = executor.batch(input).stream(
    ///     |n: &u32| n.checked_sub(1).ok_or("below zero"),
    ///     |results| {                                     // borrows `to_do`
    ///         for item in results {
    ///             match item.outcome.unwrap() {
    ///                 0 => return Err("no more"),          // `to_do` is still there: hangs
    ///                 n => to_do.send(n).unwrap(),
    ///             }
    ///         }
    ///         Ok(())
    ///     },
    /// );
    /// # assert_eq!(streamed.output, Err("no more"));
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `consume`, the iterator, the progress callback or a destructor of a value that the stream drops panics. The stream
    /// first waits for running operations.
    ///
    /// # Example
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Workers};
    /// use std::io::{BufRead, Cursor};
    ///
    /// let input = Cursor::new("3\n1\nfour\n5\n");                  // or BufReader::new(io::stdin()), or a file
    /// let executor = BatchExecutor::builder().workers(Workers::auto()).stop_on_error(false).build()?;
    /// let streamed = executor.batch(input.lines().map_while(Result::ok)).stream(
    ///     |line| line.parse::<u32>(),
    ///     |results| {
    ///         let mut sum = 0;
    ///         for item in results {                                 // in the order of the lines
    ///             match item.outcome {
    ///                 Ok(number) => sum += number,
    ///                 Err(error) => println!("{}: {error}", item.item), // four: invalid digit found in string
    ///             }
    ///         }
    ///         sum
    ///     },
    /// );
    /// assert_eq!((streamed.output, streamed.succeeded, streamed.failed), (9, 3, 1));
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn stream<O>(
        self,
        op: impl Fn(&I) -> Result<T, E> + Sync,
        consume: impl FnOnce(&mut Results<'_, I, T, E>) -> O,
    ) -> Streamed<O>
    where
        It: Send,
    {
        let op = move |item: &I, _: &mut ItemContext<'_>| op(item);
        self.flow(false, Steps { op, init: || Ok(()), types: PhantomData }, consume)
    }

    /// Like [`stream`](Batch::stream), with an [`ItemContext`] for the operation, as in
    /// [`run_with`](Batch::run_with).
    ///
    /// # Panics
    ///
    /// As [`stream`](Batch::stream) does.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let streamed = BatchExecutor::new().batch(["a", "b", "c"]).stream_with(
    ///     |letter, cx| Ok::<_, String>(format!("{letter}{}", cx.index())),
    ///     |results| results.map(|item| item.outcome.unwrap()).collect::<Vec<_>>(),
    /// );
    /// assert_eq!(streamed.output, ["a0", "b1", "c2"]);
    /// ```
    pub fn stream_with<O>(
        self,
        op: impl Fn(&I, &mut ItemContext<'_>) -> Result<T, E> + Sync,
        consume: impl FnOnce(&mut Results<'_, I, T, E>) -> O,
    ) -> Streamed<O>
    where
        It: Send,
    {
        self.flow(true, Steps { op, init: || Ok(()), types: PhantomData }, consume)
    }

    /// Like [`stream_with`](Batch::stream_with), with something of its own for each worker, as in
    /// [`run_init`](Batch::run_init).
    ///
    /// # Panics
    ///
    /// As [`stream`](Batch::stream) does, and if the destructor of a worker's state panics.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let executor = BatchExecutor::builder().workers(2).build()?;
    /// let streamed = executor.batch(["a", "b", "c"]).stream_init(
    ///     String::new,
    ///     |letter, cx| {
    ///         cx.state.push_str(letter);                          // this worker's own
    ///         Ok::<_, String>(cx.index())
    ///     },
    ///     |results| results.map(|item| item.outcome.unwrap()).collect::<Vec<_>>(),
    /// );
    /// assert_eq!(streamed.output, [0, 1, 2]);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn stream_init<S, O>(
        mut self,
        init: impl Fn() -> S + Sync,
        op: impl Fn(&I, &mut ItemContext<'_, S>) -> Result<T, E> + Sync,
        consume: impl FnOnce(&mut Results<'_, I, T, E>) -> O,
    ) -> Streamed<O>
    where
        It: Send,
    {
        self.settings.has_state = true;
        self.flow(true, Steps { op, init: move || Ok(init()), types: PhantomData }, consume)
    }

    fn flow<O, R>(
        self,
        numbered: bool,
        operation: O,
        consume: impl FnOnce(&mut Results<'_, I, T, E>) -> R,
    ) -> Streamed<R>
    where
        It: Send,
        O: Operation<Kinds: Kinds<Item = I, Value = T, Error = E>>,
    {
        let Batch { engine, items, mut settings } = self;
        settings.numbered = numbered;
        let _clock = clock::enter(engine.clock.as_ref());
        engine
            .stream(clock::now(), items, settings, operation, consume)
            .unwrap_or_else(|panic| panic.resume())
    }

    fn go<O>(self, numbered: bool, operation: O) -> BatchResult<I, T, E>
    where
        O: Operation<Kinds: Kinds<Item = I, Value = T, Error = E>>,
    {
        let _clock = clock::enter(self.engine.clock.as_ref());
        self.try_go(clock::now(), numbered, operation).unwrap_or_else(|panic| panic.resume())
    }

    /// A panic that is no item's is handed back.
    fn try_go<O>(self, since: Instant, numbered: bool, operation: O) -> Result<BatchResult<I, T, E>, Panic>
    where
        O: Operation<Kinds: Kinds<Item = I, Value = T, Error = E>>,
    {
        let Batch { engine, items, mut settings } = self;
        settings.numbered = numbered;
        engine.run(since, items, settings, operation)
    }
}

/// Drops tasks that do not match the ids, whatever their destructors do, all of them.
fn refuse<F, I, T, E>(tasks: Vec<F>, ids: Vec<I>) -> BatchResult<I, T, E> {
    let reason = StopReason::LengthMismatch { tasks: tasks.len(), items: ids.len() };
    match panic::drop_each(tasks) {
        Ok(()) => BatchResult::skipped_all(ids, reason),
        Err(panic) => discard(BatchResult::<_, T, E>::skipped_all(ids, reason), panic),
    }
}

/// Drops what a batch came to, and lets a panic go on.
fn discard<I, T, E>(result: BatchResult<I, T, E>, panic: Panic) -> ! {
    let (items, outcomes) = result.into_parts();
    let _ = panic::drop_each(items).and(panic::drop_each(outcomes));
    panic.resume()
}

/// The task of one item. Every item is run once, so it is there.
fn take<F>(slot: &Mutex<Option<F>>) -> F {
    let task = slot.lock().take();
    task.unwrap_or_else(|| unreachable!("an item was run twice"))
}

impl<It: Iterator, T, E> fmt::Debug for Batch<'_, It, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("reports_progress", &self.settings.on_progress.is_some())
            .field("records_timeline", &self.settings.name_of.is_some())
            .field("retries", &self.settings.retry.is_some())
            .field("has_journal", &self.settings.journal.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::executor::BatchExecutor;

    #[test]
    fn a_control_allows_no_more_threads_than_an_executor_may_have() {
        let executor = BatchExecutor::new();
        let batch = executor.batch(0..1).control(&Control::new());
        assert_eq!(batch.engine.pool.allowed(), 4_096);
        assert!(batch.run(|n| Ok::<_, String>(*n)).is_success());
    }
}
