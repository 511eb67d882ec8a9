//! How a batch ends when it does not end well, with everything that it had done until then.

use std::error::Error;
use std::fmt;

use crate::error::ItemError;
use crate::result::{BatchItem, BatchResult, Summary};

/// Why a batch stopped before all of its items had run.
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
    /// As many items failed as `stop_after_failures` allows.
    TooManyFailures {
        /// The number given to `stop_after_failures`.
        limit: usize,
    },
    /// A [`CancelToken`](crate::CancelToken) of the batch was cancelled before everything had run.
    Cancelled,
    /// The batch's deadline or timeout passed before everything had run.
    DeadlineExceeded,
    /// The batch has a journal that could not be written, or does not belong to its items; only with feature `journal`.
    /// What was wrong says [`BatchResult::journal_error`].
    Journal,
    /// There was no memory for the items and their outcomes. Nothing was started; the items are dropped.
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
            StopReason::Journal => f.write_str("the journal cannot go on"),
            StopReason::OutOfMemory => f.write_str("there is no memory for so many items"),
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

/// A batch that did not run to its end.
///
/// Nothing is lost: `partial` holds every item, those that finished with their outcome, the others as
/// [`Skipped`](crate::ItemError::Skipped). (Except where there was no memory for that: [`StopReason::OutOfMemory`].)
///
/// It is an [`Error`] whenever `E` has a text; nothing is asked of items and values, and the text of the first failure
/// is part of its own, so there is no `source`. Where items borrow from the caller, `?` out of the borrow's scope needs
/// [`without_items`](BatchError::without_items).
///
/// ```
/// use batch_executor::{BatchExecutor, BatchError, StopReason};
///
/// let error = BatchExecutor::new()
///     .run(["1", "2", "three", "4"], |text| text.parse::<u32>())
///     .unwrap_err();
/// assert!(matches!(error, BatchError::Stopped { reason: StopReason::ItemFailed { index: 2 }, .. }));
/// assert_eq!(error.first_failure().unwrap().id, "three");
/// assert!(error.to_string().starts_with("item 2 failed: invalid digit found in string (2 of 4 succeeded, "));
///
/// let partial = error.into_partial().unwrap();
/// assert_eq!(partial.values().copied().collect::<Vec<_>>(), [1, 2]);
/// assert_eq!(partial.skipped(), 1);
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum BatchError<I, T, E> {
    /// `run_tasks` was given a different number of tasks than of item ids. Nothing has run.
    LengthMismatch {
        /// How many tasks there were.
        tasks: usize,
        /// How many item ids there were.
        item_ids: usize,
    },
    /// The batch stopped early.
    Stopped {
        /// Why.
        reason: StopReason,
        /// Everything that finished, and which items never started.
        partial: Box<BatchResult<I, T, E>>,
    },
}

impl<I, T, E> BatchError<I, T, E> {
    pub(crate) fn stopped(reason: StopReason, partial: BatchResult<I, T, E>) -> Self {
        BatchError::Stopped { reason, partial: Box::new(partial) }
    }

    /// Nothing was done, for want of memory.
    pub(crate) fn out_of_memory() -> Self {
        BatchError::stopped(StopReason::OutOfMemory, BatchResult::new(Vec::new(), Summary::default()))
    }

    /// What had been done when the batch stopped.
    #[must_use]
    pub fn partial(&self) -> Option<&BatchResult<I, T, E>> {
        match self {
            BatchError::Stopped { partial, .. } => Some(partial),
            BatchError::LengthMismatch { .. } => None,
        }
    }

    /// What had been done when the batch stopped, by value.
    #[must_use]
    pub fn into_partial(self) -> Option<BatchResult<I, T, E>> {
        match self {
            BatchError::Stopped { partial, .. } => Some(*partial),
            BatchError::LengthMismatch { .. } => None,
        }
    }

    /// The failed item with the lowest index.
    #[must_use]
    pub fn first_failure(&self) -> Option<&BatchItem<I, T, E>> {
        self.partial()?.failures().next()
    }

    fn first_error(&self) -> Option<&ItemError<E>> {
        self.first_failure()?.error()
    }

    /// The same error without items and values: each item becomes its index. For `?` where items borrow, since an error
    /// that leaves a function must not borrow from inside of it.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// fn total(lines: &str) -> Result<u32, Box<dyn std::error::Error>> {
    ///     let numbers = BatchExecutor::new()
    ///         .run(lines.lines(), |line| line.parse::<u32>())      // items borrow from `lines`
    ///         .map_err(|error| error.without_items())?;
    ///     Ok(numbers.values().sum())
    /// }
    /// assert_eq!(total("1\n2").unwrap(), 3);
    /// assert!(total("1\nx").unwrap_err().to_string().starts_with("item 1 failed: invalid digit"));
    /// ```
    #[must_use]
    pub fn without_items(self) -> BatchError<usize, (), E> {
        match self {
            BatchError::Stopped { reason, partial } => BatchError::stopped(reason, partial.without_items()),
            BatchError::LengthMismatch { tasks, item_ids } => BatchError::LengthMismatch { tasks, item_ids },
        }
    }
}

impl<I, T, E: fmt::Display> fmt::Display for BatchError<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::LengthMismatch { tasks, item_ids } => {
                write!(f, "{tasks} tasks but {item_ids} item ids; nothing was run")
            }
            BatchError::Stopped { reason, partial } => {
                match partial.journal_error() {
                    Some(words) => f.write_str(words)?,
                    None => reason.fmt(f)?,
                }
                if let Some(error) = self.first_error() {
                    write!(f, "{}: {error}", reason.leads_over_by())?;
                }
                write!(f, " ({partial})")
            }
        }
    }
}

impl<I, T, E: fmt::Debug> fmt::Debug for BatchError<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::LengthMismatch { tasks, item_ids } => {
                f.debug_struct("LengthMismatch").field("tasks", tasks).field("item_ids", item_ids).finish()
            }
            BatchError::Stopped { reason, partial } => f
                .debug_struct("Stopped")
                .field("reason", reason)
                .field("first_failure", &self.first_error())
                .field("partial", partial)
                .finish(),
        }
    }
}

impl<I, T, E: fmt::Debug + fmt::Display> Error for BatchError<I, T, E> {}
