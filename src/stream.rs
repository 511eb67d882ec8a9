//! Outcomes as an iterator, and the summary of a stream that ended.

use std::fmt;
use std::iter::FusedIterator;

use crate::batch_error::{BatchError, StopReason};
use crate::counts::Counts;
use crate::error::Outcome;
use crate::result::{BatchItem, Summary};
use crate::timeline::Timeline;

/// The outcomes of a stream: an ordinary iterator of [`BatchItem`]s, which waits for the workers.
/// [`Batch::stream`](crate::Batch::stream) lends it to the closure that consumes it, on the calling thread.
///
/// Items come in input order, unless the stream is [`unordered`](crate::Batch::unordered). The iterator ends when the
/// input does, or when the stream stops; it never yields an item that was skipped or interrupted. An item counts as soon
/// as the consumer has it; its place in the [`window`](crate::Batch::window) is free when the consumer asks for the next.
///
/// ```
/// use batch_executor::{BatchExecutor, Results};
///
/// /// A consumer that is a function.
/// fn first_words(results: &mut Results<'_, String, String, std::io::Error>) -> Vec<String> {
///     results.filter_map(|item| item.outcome.ok()).take(2).collect()
/// }
///
/// let lines = ["one line", "another line", "a third"].map(String::from);
/// let first_word = |line: &String| Ok(line.split(' ').next().unwrap_or_default().to_owned());
/// let streamed = BatchExecutor::new().batch(lines).stream(first_word, first_words);
/// assert_eq!(streamed.output, ["one", "another"]);
/// ```
pub struct Results<'r, I, T, E> {
    feed: &'r mut dyn Feed<I, T, E>,
    drawn: Drawn,
}

/// What a consumer has drawn.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Drawn {
    /// Of the items that were handed on.
    pub(crate) counts: Counts,
    /// The lowest index of an item that failed.
    pub(crate) first_failure: Option<usize>,
    /// Whether there was no more.
    pub(crate) is_over: bool,
}

impl Drawn {
    /// The consumer gets this one.
    pub(crate) fn add<T, E>(&mut self, index: usize, outcome: &Outcome<T, E>) {
        match outcome {
            Ok(_) => self.counts.succeeded += 1,
            Err(error) => {
                debug_assert!(error.is_failure(), "items that are undecided are not handed on");
                self.counts.failed += 1;
                self.first_failure = Some(self.first_failure.map_or(index, |first| first.min(index)));
            }
        }
    }
}

/// Where outcomes come from.
pub(crate) trait Feed<I, T, E> {
    /// Waits for the next; none when there are no more. The consumer is done with the one before.
    fn next(&mut self) -> Option<BatchItem<I, Outcome<T, E>>>;
}

impl<'r, I, T, E> Results<'r, I, T, E> {
    pub(crate) fn new(feed: &'r mut dyn Feed<I, T, E>) -> Self {
        Results { feed, drawn: Drawn::default() }
    }

    pub(crate) fn drawn(&self) -> Drawn {
        self.drawn
    }
}

impl<I, T, E> Iterator for Results<'_, I, T, E> {
    type Item = BatchItem<I, Outcome<T, E>>;

    fn next(&mut self) -> Option<Self::Item> {
        let Results { feed, drawn } = self;
        let next = if drawn.is_over { None } else { feed.next() };
        let Some(item) = next else {
            drawn.is_over = true;
            return None;
        };
        drawn.add(item.index, &item.outcome);
        Some(item)
    }
}

impl<I, T, E> FusedIterator for Results<'_, I, T, E> {}

impl<I, T, E> fmt::Debug for Results<'_, I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results")
            .field("succeeded", &self.drawn.counts.succeeded)
            .field("failed", &self.drawn.counts.failed)
            .field("is_over", &self.drawn.is_over)
            .finish_non_exhaustive()
    }
}

/// How a stream ended: what the consumer returned, and why the stream stopped, if it did.
///
/// The counts are those of the items that the consumer got, the last one included. So they are the same for any number of
/// workers.
///
/// ```
/// use batch_executor::{BatchExecutor, StopReason};
///
/// let texts = ["1", "2", "three", "4"];
/// let streamed = BatchExecutor::new()
///     .batch(texts)
///     .stream(|text| text.parse::<u32>(), |results| results.filter_map(|item| item.outcome.ok()).sum::<u32>());
/// assert_eq!(streamed.output, 3);
/// assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: 2 }));
/// assert_eq!((streamed.succeeded, streamed.failed), (2, 1));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[must_use = "a stream that stopped early says so here and nowhere else"]
#[non_exhaustive]
pub struct Streamed<O> {
    /// What the consumer returned.
    pub output: O,
    /// Why the stream stopped, if it did. `None` if the input ended without a failure that stops the stream, or if the consumer
    /// had returned before.
    pub stopped: Option<StopReason>,
    /// Items handed on that had a value.
    pub succeeded: usize,
    /// Items handed on that failed, panicked, timed out or got no permit, or had failed in an earlier run and did not run again.
    pub failed: usize,
    /// The lowest index of those.
    #[cfg_attr(feature = "serde", serde(skip))]
    first_failure: Option<usize>,
    #[cfg_attr(feature = "serde", serde(skip))]
    timeline: Option<Box<Timeline>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    journal_error: Option<String>,
}

impl<O> Streamed<O> {
    pub(crate) fn new(output: O, first_failure: Option<usize>, summary: Summary) -> Self {
        let Summary { counts: Counts { succeeded, failed, .. }, stopped, timeline, journal_error, .. } =
            summary;
        Streamed { output, stopped, succeeded, failed, first_failure, timeline, journal_error }
    }

    /// The output, if the stream ran until its input ended or the consumer returned: for `?`.
    ///
    /// # Errors
    ///
    /// [`BatchError`], if the stream [stopped](Streamed::stopped) early. The output is dropped then. Since the consumer
    /// has the errors of the items, the `BatchError` knows the index of the first failed one, and has no
    /// [`source`](std::error::Error::source).
    ///
    /// ```
    /// use batch_executor::{BatchError, BatchExecutor};
    ///
    /// fn sum(lines: &str) -> Result<u32, BatchError> {
    ///     BatchExecutor::new()
    ///         .batch(lines.lines())
    ///         .stream(|line| line.parse::<u32>(), |results| results.filter_map(|item| item.outcome.ok()).sum())
    ///         .into_result()
    /// }
    ///
    /// assert_eq!(sum("1\n2").unwrap(), 3);
    /// assert_eq!(sum("1\nx").unwrap_err().to_string(), "item 1 failed (1 of 2 succeeded, 1 failed)");
    /// ```
    pub fn into_result(self) -> Result<O, BatchError> {
        let Streamed { output, stopped, succeeded, failed, first_failure, journal_error, .. } = self;
        if stopped.is_none() {
            return Ok(output);
        }
        Err(BatchError::of_stream(
            stopped,
            first_failure,
            Counts { succeeded, failed, recorded: 0 },
            journal_error,
        ))
    }

    /// The error of the journal, if the stream stopped for it: [`StopReason::Journal`].
    ///
    /// ```
    /// # #[cfg(feature = "journal")] {
    /// use batch_executor::{BatchExecutor, Journal, Plan, StopReason};
    ///
    /// # let path = std::env::temp_dir().join(format!("stream-doc-{}.jsonl", std::process::id()));
    /// let journal = Journal::open(&path, Plan::of(["a", "b"])?)?;
    /// let streamed = BatchExecutor::new()
    ///     .batch(["a", "x"])
    ///     .journal(&journal)
    ///     .stream(|word| Ok::<_, String>(word.len()), |results| results.count());
    /// assert_eq!((streamed.output, streamed.stopped), (1, Some(StopReason::Journal)));
    /// assert!(streamed.journal_error().unwrap().ends_with(r#"item 1 is "x", which the plan does not have there"#));
    /// # std::fs::remove_file(path)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn journal_error(&self) -> Option<&str> {
        self.journal_error.as_deref()
    }

    /// The timeline, if the stream had the step [`record_timeline`](crate::Batch::record_timeline): every attempt at every
    /// item, also at items that were not handed on.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let streamed = BatchExecutor::new()
    ///     .batch(0..10)
    ///     .record_timeline()
    ///     .stream(|n| Ok::<_, String>(n * 2), |results| results.count());
    /// assert_eq!((streamed.output, streamed.timeline().unwrap().attempts()), (10, 10));
    /// ```
    #[must_use]
    pub fn timeline(&self) -> Option<&Timeline> {
        self.timeline.as_deref()
    }
}

/// Without the timeline, which is long.
impl<O: fmt::Debug> fmt::Debug for Streamed<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streamed")
            .field("output", &self.output)
            .field("stopped", &self.stopped)
            .field("succeeded", &self.succeeded)
            .field("failed", &self.failed)
            .field("journal_error", &self.journal_error)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::error::ItemError;

    #[test]
    fn the_first_failure_is_the_lowest_however_they_come() {
        let mut drawn = Drawn::default();
        for index in [4, 2, 7] {
            drawn.add::<(), _>(index, &Err(ItemError::Failed("no")));
        }
        assert_eq!((drawn.first_failure, drawn.counts.failed), (Some(2), 3));
    }
}
