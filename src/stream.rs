//! Outcomes as an iterator, and what is left to say when it is over.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::mem;

use crate::batch_error::StopReason;
use crate::result::{BatchItem, Counts, Summary};
use crate::timeline::Timeline;

/// The outcomes of a stream: an ordinary iterator, which waits for what is still being worked on. Lent by
/// [`Batch::stream`](crate::Batch::stream) to the closure that consumes it, on the calling thread.
///
/// In input order, unless the stream is [`unordered`](crate::Batch::unordered). It ends when the input does, or when the
/// stream stops. An item that the consumer has got is counted; its place in the [`window`](crate::Batch::window) is free
/// when the next one is asked for.
///
/// ```
/// use batch_executor::{BatchExecutor, Results};
///
/// /// What a consumer looks like that is a function.
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
    /// What is handed on next.
    ready: VecDeque<BatchItem<I, T, E>>,
    /// Whether the consumer has an item that it has not asked beyond.
    lends_one: bool,
    is_over: bool,
    counts: Counts,
}

/// Where outcomes come from.
pub(crate) trait Feed<I, T, E> {
    /// Waits for the next ones; none when there are no more. Gets the vector back that was emptied last.
    fn next(&mut self, spent: Vec<BatchItem<I, T, E>>) -> Option<Vec<BatchItem<I, T, E>>>;

    /// The consumer is done with one item.
    fn handed_on(&mut self);
}

impl<'r, I, T, E> Results<'r, I, T, E> {
    pub(crate) fn new(feed: &'r mut dyn Feed<I, T, E>) -> Self {
        Results { feed, ready: VecDeque::new(), lends_one: false, is_over: false, counts: Counts::default() }
    }

    /// What was handed on, whether there was no more, and what is ready and was not asked for.
    pub(crate) fn end(self) -> (Counts, bool, VecDeque<BatchItem<I, T, E>>) {
        (self.counts, self.is_over, self.ready)
    }

    fn refill(&mut self) -> Option<BatchItem<I, T, E>> {
        if !self.is_over {
            let spent = mem::take(&mut self.ready);
            match self.feed.next(spent.into()) {
                Some(items) => self.ready = items.into(),
                None => self.is_over = true,
            }
        }
        self.ready.pop_front()
    }
}

impl<I, T, E> Iterator for Results<'_, I, T, E> {
    type Item = BatchItem<I, T, E>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.lends_one {
            self.lends_one = false;
            self.feed.handed_on();
        }
        let item = self.ready.pop_front().or_else(|| self.refill())?;
        self.lends_one = true;
        match item.outcome {
            Ok(_) => self.counts.succeeded += 1,
            Err(_) => self.counts.failed += 1,
        }
        Some(item)
    }
}

impl<I, T, E> FusedIterator for Results<'_, I, T, E> {}

impl<I, T, E> fmt::Debug for Results<'_, I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results")
            .field("succeeded", &self.counts.succeeded)
            .field("failed", &self.counts.failed)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}

/// How a stream ended.
///
/// Counts are those of the items that the consumer has got, also the last, whatever it did with it, so that they are the same for any
/// number of workers.
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
    /// Why the stream stopped before its input ended. `None` if it ended, or if the consumer wanted no more.
    pub stopped: Option<StopReason>,
    /// Items handed on that had a value.
    pub succeeded: usize,
    /// Items handed on that failed, panicked, or were refused by the rate limiter.
    pub failed: usize,
    #[cfg_attr(feature = "serde", serde(skip))]
    timeline: Option<Box<Timeline>>,
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    journal_error: Option<String>,
}

impl<O> Streamed<O> {
    pub(crate) fn new(output: O, stopped: Option<StopReason>, summary: Summary) -> Self {
        let Summary { counts: Counts { succeeded, failed }, timeline, journal_error, .. } = summary;
        Streamed { output, stopped, succeeded, failed, timeline, journal_error }
    }

    /// What was wrong with the journal, where the stream stopped for that: [`StopReason::Journal`].
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
    /// assert_eq!((streamed.output, streamed.stopped.clone()), (1, Some(StopReason::Journal)));
    /// assert!(streamed.journal_error().unwrap().ends_with(r#"item 1 is "x", which the plan does not have there"#));
    /// # std::fs::remove_file(path)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn journal_error(&self) -> Option<&str> {
        self.journal_error.as_deref()
    }

    /// What the stream did over time, if it was to [`record_timeline`](crate::Batch::record_timeline): of all items that were tried,
    /// whether they were handed on or not. One that still waited for another attempt when the stream ended counts as failed there.
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
