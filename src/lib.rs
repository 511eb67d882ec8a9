//! Runs many blocking operations: not more than so many at once, not faster than so many a second, with progress, and
//! with every outcome in input order.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod adaptive;
mod batch;
mod batch_error;
mod engine;
mod error;
mod executor;
mod panic;
mod pool;
mod progress;
mod rate_limit;
mod result;
mod sync;
mod workers;

pub use batch::Batch;
pub use batch_error::{BatchError, StopReason};
pub use error::{ConfigError, ItemError, LimiterError};
pub use executor::{BatchExecutor, BatchExecutorBuilder};
pub use panic::Panic;
pub use progress::Progress;
pub use rate_limit::{RateLimit, RateLimiter, limiter_fn};
pub use result::{BatchItem, BatchResult};
pub use workers::{AdaptiveWorkers, AutoWorkers, MAX_WORKERS, Workers};
