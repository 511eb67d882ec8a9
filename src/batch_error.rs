//! Why a batch stopped, and the error that says so to the caller.

use std::error::Error;
use std::fmt;

use crate::counts::{Counts, CountsLine};
use crate::error::{Chain, ItemError, LimiterError, TIMED_OUT};

/// Why a batch stopped.
///
/// ```
/// use batch_executor::StopReason;
///
/// assert_eq!(StopReason::ItemFailed { index: 3 }.to_string(), "item 3 failed");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum StopReason {
    /// An item failed, and the executor stops on the first error.
    ItemFailed {
        /// The lowest index of all items that failed. The first item has index 0.
        index: usize,
    },
    /// The number of failed items reached `stop_after_failures`.
    TooManyFailures {
        /// The number given to `stop_after_failures`.
        limit: usize,
    },
    /// A [`CancelToken`](crate::CancelToken) of the batch was cancelled before everything had run.
    Cancelled,
    /// The batch's deadline or timeout passed before everything had run.
    DeadlineExceeded,
    /// [`run_tasks`](crate::Batch::run_tasks) got more tasks than items, or fewer. Nothing ran.
    LengthMismatch {
        /// How many tasks there were.
        tasks: usize,
        /// How many items there were.
        items: usize,
    },
    /// The batch has a journal that could not be written, or does not belong to its items; only with feature `journal`.
    /// [`BatchResult::journal_error`](crate::BatchResult::journal_error) says what was wrong.
    Journal,
    /// There was no memory for the items and their outcomes. Nothing ran; the result has the items that were collected
    /// until then, and no outcomes. If [`run_growing`](crate::Batch::run_growing) had no memory for a pushed item, the
    /// result has all other items with their outcomes.
    OutOfMemory,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::ItemFailed { index } => write!(f, "item {index} failed"),
            StopReason::TooManyFailures { limit: 1 } => f.write_str("stopped after 1 failure"),
            StopReason::TooManyFailures { limit } => write!(f, "stopped after {limit} failures"),
            StopReason::Cancelled => f.write_str("cancelled"),
            StopReason::DeadlineExceeded => f.write_str("the deadline has passed"),
            StopReason::LengthMismatch { tasks, items } => {
                write!(f, "{tasks} tasks but {items} item ids; nothing was run")
            }
            StopReason::Journal => f.write_str("the journal cannot go on"),
            StopReason::OutOfMemory => f.write_str("there is no memory for this number of items"),
        }
    }
}

impl StopReason {
    /// What leads over from the reason to the first failure.
    fn leads_over_by(self) -> &'static str {
        match self {
            StopReason::ItemFailed { .. } => "",
            StopReason::TooManyFailures { .. } => ", the first",
            _ => ", the first failure",
        }
    }
}

/// The error of a batch that stopped early, or had items without a value: [`BatchResult::into_result`] and
/// [`BatchResult::into_values`] return it for `?`.
///
/// It has no type parameters and borrows nothing, so it can leave any function. Its [`source`](Error::source) is the
/// error of the failed item with the lowest index, with the chain of causes behind it. Its text has them all, for programs
/// that print nothing else: `item 3 failed: row 3: connection reset (..)`. A panic, a timeout or a failure of an earlier run
/// has only its text, and no source. Of a stream, the consumer has the error.
///
/// [`BatchResult::into_result`]: crate::BatchResult::into_result
/// [`BatchResult::into_values`]: crate::BatchResult::into_values
///
/// ```
/// use batch_executor::{BatchExecutor, StopReason};
/// use std::{error::Error, num::ParseIntError};
///
/// let result = BatchExecutor::new().run(["1", "2", "three", "4"], |text| text.parse::<u32>());
/// let error = result.into_values().unwrap_err();
/// assert_eq!(error.stopped(), Some(StopReason::ItemFailed { index: 2 }));
/// assert_eq!((error.index(), error.total(), error.succeeded(), error.failed(), error.skipped()), (Some(2), 4, 2, 1, 1));
/// assert!(error.to_string().starts_with("item 2 failed: invalid digit found in string (2 of 4 succeeded, "));
/// assert!(error.source().unwrap().is::<ParseIntError>());
/// ```
pub struct BatchError(Box<Inner>);

/// Boxed, so that a `Result` with it stays small.
struct Inner {
    stopped: Option<StopReason>,
    first: Option<First>,
    line: CountsLine,
    journal_error: Option<String>,
}

/// The failed item with the lowest index.
struct First {
    index: usize,
    cause: Cause,
}

enum Cause {
    Error(Box<dyn Error + Send + Sync>),
    Limiter(LimiterError),
    /// All there is of it is a text.
    Text(String),
    /// The consumer of a stream has it.
    Elsewhere,
}

impl BatchError {
    /// Of a batch that stopped for this reason or none, whose first failure was this.
    pub(crate) fn new<E: Into<Box<dyn Error + Send + Sync>>>(
        stopped: Option<StopReason>,
        first: Option<(usize, ItemError<E>)>,
        line: CountsLine,
        journal_error: Option<String>,
    ) -> Self {
        let first = first.map(|(index, error)| First { index, cause: Cause::of(error) });
        BatchError(Box::new(Inner { stopped, first, line, journal_error }))
    }

    /// Of a stream, whose consumer has the error of the item with this index.
    pub(crate) fn of_stream(
        stopped: Option<StopReason>,
        first: Option<usize>,
        counts: Counts,
        journal_error: Option<String>,
    ) -> Self {
        let first = first.map(|index| First { index, cause: Cause::Elsewhere });
        let line = CountsLine { total: counts.decided(), counts, elapsed: None };
        BatchError(Box::new(Inner { stopped, first, line, journal_error }))
    }

    /// Why the batch stopped. `None` if it ran to its end, and [`into_values`](crate::BatchResult::into_values) found
    /// items without a value.
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        self.0.stopped
    }

    /// The lowest index of all items that failed. `None` if no item failed.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.0.first.as_ref().map(|first| first.index)
    }

    /// The number of items; for a stream, the number that the consumer got.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.line.total
    }

    /// How many items had a value.
    #[must_use]
    pub fn succeeded(&self) -> usize {
        self.0.line.counts.succeeded
    }

    /// How many items failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.0.line.counts.failed
    }

    /// How many items were undecided when the batch stopped. Always 0 for a stream.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.0.line.skipped()
    }
}

impl Cause {
    fn of<E: Into<Box<dyn Error + Send + Sync>>>(error: ItemError<E>) -> Self {
        match error {
            ItemError::Failed(error) | ItemError::Interrupted(Some(error)) => Cause::Error(error.into()),
            ItemError::RateLimiter(error) => Cause::Limiter(error),
            ItemError::Panicked(panic) => Cause::Text(ItemError::<String>::Panicked(panic).to_string()),
            ItemError::TimedOut => Cause::Text(TIMED_OUT.to_owned()),
            ItemError::FailedEarlier(text) => Cause::Text(text),
            ItemError::Skipped | ItemError::Interrupted(None) => Cause::Elsewhere,
        }
    }

    /// `None` if it is told elsewhere.
    fn text(&self) -> Option<String> {
        match self {
            Cause::Error(error) => Some(Chain(&**error).to_string()),
            Cause::Limiter(error) => Some(format!("no permit from the rate limiter: {}", Chain(error))),
            Cause::Text(text) => Some(text.clone()),
            Cause::Elsewhere => None,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { stopped, first, line, journal_error } = &*self.0;
        match (journal_error, stopped, first) {
            (Some(words), ..) => f.write_str(words)?,
            (None, Some(reason), _) => reason.fmt(f)?,
            (None, None, Some(First { index, .. })) => StopReason::ItemFailed { index: *index }.fmt(f)?,
            (None, None, None) => f.write_str("items have no value")?,
        }
        if let Some(text) = first.as_ref().and_then(|first| first.cause.text()) {
            write!(f, "{}: {text}", stopped.map_or("", StopReason::leads_over_by))?;
        }
        write!(f, " ({line})")
    }
}

impl fmt::Debug for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0.first.as_ref();
        let mut debug = f.debug_struct("BatchError");
        debug.field("stopped", &self.stopped());
        if let Some(journal_error) = &self.0.journal_error {
            debug.field("journal_error", journal_error);
        }
        debug
            .field("index", &self.index())
            .field("error", &first.and_then(|first| first.cause.text()))
            .field("total", &self.total())
            .field("succeeded", &self.succeeded())
            .field("failed", &self.failed())
            .field("skipped", &self.skipped())
            .finish()
    }
}

impl Error for BatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.first.as_ref()?.cause {
            Cause::Error(error) => Some(&**error),
            Cause::Limiter(error) => Some(error),
            Cause::Text(_) | Cause::Elsewhere => None,
        }
    }
}

/// Its text as `message`, and what the accessors say, each by its name.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let error = BatchExecutor::new().run(["1", "x"], |text| text.parse::<u32>()).into_result().unwrap_err();
/// let json = serde_json::to_value(&error)?;
/// assert_eq!(json["stopped"]["ItemFailed"]["index"], 1);
/// assert_eq!((json["index"].as_u64(), json["failed"].as_u64()), (Some(1), Some(1)));
/// assert!(json["message"].as_str().unwrap().starts_with("item 1 failed: invalid digit found in string"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[cfg(feature = "serde")]
impl serde::Serialize for BatchError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let mut fields = serializer.serialize_struct("BatchError", 7)?;
        fields.serialize_field("message", &self.to_string())?;
        fields.serialize_field("stopped", &self.stopped())?;
        fields.serialize_field("index", &self.index())?;
        fields.serialize_field("total", &self.total())?;
        fields.serialize_field("succeeded", &self.succeeded())?;
        fields.serialize_field("failed", &self.failed())?;
        fields.serialize_field("skipped", &self.skipped())?;
        fields.end()
    }
}
