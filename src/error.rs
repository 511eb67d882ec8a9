//! What can be wrong before a batch runs, and what can become of one item of it.

use std::error::Error;
use std::fmt;
use std::iter;

use crate::panic::Panic;

/// A setting that cannot be used. Returned when an executor or a limiter is built, before anything runs.
///
/// ```
/// use batch_executor::{BatchExecutor, ConfigError};
///
/// let error = BatchExecutor::builder().workers(0).build().unwrap_err();
/// assert_eq!(error, ConfigError::ZeroWorkers);
/// assert_eq!(error.to_string(), "the worker count is 0; a batch needs at least 1 worker");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `Fixed(0)`.
    #[error("the worker count is 0; a batch needs at least 1 worker")]
    ZeroWorkers,
    /// A number from which a worker count is computed, or by which it is bounded, is 0.
    #[error("{setting} is 0; the worker count would be 0")]
    ZeroSetting {
        /// The type and its setter, such as `AutoWorkers::cap`.
        setting: &'static str,
    },
    /// More workers than [`MAX_WORKERS`](crate::MAX_WORKERS).
    #[error("{requested} workers are too many; the most is {most}")]
    TooManyWorkers {
        /// The number that was asked for.
        requested: usize,
        /// The largest that is accepted.
        most: usize,
    },
    /// [`AdaptiveWorkers`](crate::AdaptiveWorkers) with a `min` above its `max`.
    #[error("AdaptiveWorkers::min({min}) is above max({max})")]
    EmptyWorkerRange {
        /// The least number of workers that was asked for.
        min: usize,
        /// The greatest number of workers that was asked for.
        max: usize,
    },
    /// `stop_after_failures(0)`: the batch would stop before its first item.
    #[error("stop_after_failures is 0; a batch can stop after 1 failure at the earliest")]
    ZeroFailures,
    /// `stack_size(0)`.
    #[error("the stack size is 0 bytes; leave it unset for the platform's default")]
    ZeroStackSize,
    /// A thread name with a NUL byte in it, which no platform accepts.
    #[error("the thread name {name:?} contains a NUL byte")]
    ThreadName {
        /// The name as it was given.
        name: String,
    },
    /// A rate of 0 permits.
    #[error("a rate limit of 0 permits would never let anything start")]
    ZeroPermits,
    /// A rate per period of no length.
    #[error("the period of the rate limit is 0; it must be longer")]
    ZeroPeriod,
    /// `Shard::new(_, 0)`.
    #[error("the shard count is 0; there is at least 1 shard")]
    ZeroShards,
    /// A shard whose index is not less than their count.
    #[error("there is no shard {index}/{count}; shards are counted from 0, the last is {}/{count}", .count - 1)]
    NoSuchShard {
        /// The index that was asked for.
        index: usize,
        /// How many shards there are.
        count: usize,
    },
    /// A text that does not name a [`Shard`](crate::Shard).
    #[error(
        "{text:?} is no shard; it is INDEX/COUNT, such as 0/64 for the first and 63/64 for the last of 64"
    )]
    ShardText {
        /// The text as it was given.
        text: String,
    },
    /// An environment variable that does not name a [`Shard`](crate::Shard).
    #[error("the environment variable {variable} {problem}")]
    ShardVariable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it, and where that helps, what to do.
        problem: String,
    },
}

/// Why a rate limiter gave no permit: any error, boxed.
///
/// Its text is that of the error inside, which [`source`](Error::source) returns for a downcast.
///
/// ```
/// use batch_executor::LimiterError;
/// use std::error::Error;
///
/// let error = LimiterError::new("the quota server is down");
/// assert_eq!(error.to_string(), "the quota server is down");
///
/// let io = std::io::Error::other("connection refused");
/// let error = LimiterError::new(io);
/// assert!(error.source().unwrap().is::<std::io::Error>());
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LimiterError(#[source] Box<dyn Error + Send + Sync>);

impl LimiterError {
    /// Wraps any error, or a text.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        LimiterError(cause.into())
    }
}

impl From<Box<dyn Error + Send + Sync>> for LimiterError {
    fn from(cause: Box<dyn Error + Send + Sync>) -> Self {
        LimiterError(cause)
    }
}

/// Its text.
#[cfg(feature = "serde")]
impl serde::Serialize for LimiterError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An error with its causes: `row 3: connection reset`. Causes that the text has at its end already are not told again.
pub(crate) struct Chain<'e>(pub(crate) &'e (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        for cause in iter::successors(self.0.source(), |cause| (**cause).source()) {
            let cause = cause.to_string();
            if !text.ends_with(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        f.write_str(&text)
    }
}

/// The outcome of an item: its value, or why it has none.
///
/// ```
/// use batch_executor::{BatchExecutor, Outcome};
/// use std::num::ParseIntError;
///
/// fn tell(outcome: &Outcome<u32, ParseIntError>) -> String {
///     match outcome {
///         Ok(number) => number.to_string(),
///         Err(error) => error.to_string(),
///     }
/// }
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor.run(["7", "x"], |text| text.parse::<u32>());
/// assert_eq!(tell(&result.outcomes()[0]), "7");
/// assert_eq!(tell(&result.outcomes()[1]), "invalid digit found in string");
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
pub type Outcome<T, E> = Result<T, ItemError<E>>;

/// Why an item has no value.
///
/// `Skipped` and `Interrupted` items are undecided: the batch stopped before they were. All other variants count as
/// failures. With retries, the error is that of the last attempt.
///
/// The text of a failure is its error formatted with `{:#}`. Errors of crates such as `anyhow` and `eyre` then include their
/// causes, `item 401: HTTP 404`; other errors give only their own text. The text of a [`BatchError`](crate::BatchError)
/// includes all causes of the first failure, whatever its type.
///
/// ```
/// use batch_executor::{BatchExecutor, ItemError};
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor.run([2, 1, 0], |n| match n {
///     0 => panic!("zero"),
///     1 => Err("one is odd"),
///     n => Ok(n / 2),
/// });
/// let texts: Vec<String> = result.failures().map(|failure| failure.error.to_string()).collect();
/// assert_eq!(texts, ["one is odd", "panicked: zero"]);
/// assert!(matches!(result.outcomes()[1], Err(ItemError::Failed("one is odd"))));
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum ItemError<E> {
    /// The operation returned this error, or the `init` of [`try_run_init`](crate::Batch::try_run_init) did.
    Failed(E),
    /// The operation panicked, or what the item needs before it: the `init` of the worker's state, the rate limiter, or a
    /// function of [`Limit::cost`](crate::Limit::cost) or [`Limit::per_key`](crate::Limit::per_key).
    Panicked(Panic),
    /// The rate limiter gave no permit; the operation was not called, or not again.
    RateLimiter(LimiterError),
    /// The batch stopped before this item started.
    Skipped,
    /// The attempt took longer than the [item timeout](crate::Batch::item_timeout) of an async batch, which cut it off; with
    /// [retries](crate::Batch::retry), so did each of them or the last one.
    TimedOut,
    /// The batch stopped while this item waited for its next attempt, or cut the item off. Holds the error of the last
    /// attempt, if there was one.
    Interrupted(Option<E>),
    /// The item failed in an earlier run and was not run again. Holds the text that the journal has of the error. Only
    /// with feature `journal`.
    FailedEarlier(String),
}

impl<E> ItemError<E> {
    /// Whether the item counts as failed: `true` for every variant except [`Skipped`](ItemError::Skipped) and
    /// [`Interrupted`](ItemError::Interrupted).
    ///
    /// ```
    /// use batch_executor::ItemError;
    ///
    /// assert!(ItemError::Failed("no").is_failure());
    /// assert!(!ItemError::Interrupted(Some("busy")).is_failure());
    /// assert!(!ItemError::<&str>::Skipped.is_failure());
    /// ```
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, ItemError::Skipped | ItemError::Interrupted(_))
    }
}

/// The text of an attempt that was cut off.
pub(crate) const TIMED_OUT: &str = "timed out: the attempt took longer than the item timeout";

impl<E: fmt::Display> fmt::Display for ItemError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ItemError::Failed(error) => write!(f, "{error:#}"),
            ItemError::Panicked(panic) => write!(f, "panicked: {panic}"),
            ItemError::RateLimiter(error) => write!(f, "no permit from the rate limiter: {}", Chain(error)),
            ItemError::TimedOut => f.write_str(TIMED_OUT),
            ItemError::Skipped => f.write_str("skipped: the batch stopped before this item started"),
            ItemError::Interrupted(None) => {
                f.write_str("interrupted: the batch stopped before this item was done")
            }
            ItemError::Interrupted(Some(error)) => {
                write!(
                    f,
                    "interrupted: the batch stopped before the next attempt; the last one failed: {error:#}"
                )
            }
            ItemError::FailedEarlier(text) => f.write_str(text),
        }
    }
}

/// The text says everything, so there is no `source`, and `E` needs nothing but a text.
impl<E: fmt::Debug + fmt::Display> Error for ItemError<E> {}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn a_cause_that_the_text_ends_with_is_told_once_and_any_other_is_told() {
        let told = |text, cause| {
            let cause = Told { text: cause, source: None };
            Chain(&Told { text, source: Some(Box::new(cause)) }).to_string()
        };
        assert_eq!(told("line 3: reset", "reset"), "line 3: reset");
        assert_eq!(told("a reset of line 3", "reset"), "a reset of line 3: reset");
    }
}
