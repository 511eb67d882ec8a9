//! What a batch leaves behind: every item with its outcome, in input order, and the counts.

use std::fmt;
use std::slice;
use std::time::Duration;
use std::vec;

use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::timeline::Timeline;

/// One item and what became of it.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor.run(["7", "x"], |text| text.parse::<u32>())?;
/// let [good, bad] = result.items() else { unreachable!() };
/// assert_eq!((good.id, good.outcome.as_ref().ok()), ("7", Some(&7)));
/// assert_eq!((bad.id, bad.error().unwrap().to_string().as_str()), ("x", "invalid digit found in string"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BatchItem<I, T, E> {
    /// The item itself, as it came in.
    pub id: I,
    /// Its value, or why it has none.
    pub outcome: Result<T, ItemError<E>>,
}

impl<I, T, E> BatchItem<I, T, E> {
    pub(crate) fn skipped(id: I) -> Self {
        BatchItem { id, outcome: Err(ItemError::Skipped) }
    }

    /// Why the item has no value, if it has none.
    pub fn error(&self) -> Option<&ItemError<E>> {
        self.outcome.as_ref().err()
    }

    fn is_failure(&self) -> bool {
        self.error().is_some_and(ItemError::is_failure)
    }

    fn indexed(self, index: usize) -> BatchItem<usize, (), E> {
        BatchItem { id: index, outcome: self.outcome.map(drop) }
    }
}

/// Drops items and outcomes one by one, all of them, whatever their destructors do. The first panic comes back as a value.
pub(crate) fn discard_each<I, T, E>(
    items: impl IntoIterator<Item = BatchItem<I, T, E>>,
) -> Result<(), Panic> {
    let mut ended = Ok(());
    for BatchItem { id, outcome } in items {
        ended = ended.and(panic::catch(|| drop(id))).and(panic::catch(|| drop(outcome)));
    }
    ended
}

/// How many items were decided, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
}

impl Counts {
    pub(crate) const SUCCEEDED: Counts = Counts { succeeded: 1, failed: 0 };
    pub(crate) const FAILED: Counts = Counts { succeeded: 0, failed: 1 };

    pub(crate) fn decided(self) -> usize {
        self.succeeded + self.failed
    }

    pub(crate) fn add(&mut self, more: Counts) {
        self.succeeded += more.succeeded;
        self.failed += more.failed;
    }
}

/// All items of a batch with their outcomes, in input order.
///
/// `total() == successful() + failed() + skipped()`, always. Its text is one line for people.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let executor = BatchExecutor::builder().workers(4).stop_on_error(false).build()?;
/// let result = executor.run(0..10, |n| if n % 5 == 3 { Err("three") } else { Ok(n * n) })?;
/// assert_eq!((result.total(), result.successful(), result.failed(), result.skipped()), (10, 8, 2, 0));
/// assert!(!result.is_success());
/// assert_eq!(result.failures().map(|item| item.id).collect::<Vec<_>>(), [3, 8]);
/// assert_eq!(result.values().sum::<i32>(), 285 - 9 - 64);
/// assert!(result.to_string().starts_with("8 of 10 succeeded, 2 failed in "));
/// assert!(result.workers() <= 4);                       // at once, at the most
/// assert!(result.iter().all(|item| item.id < 10));
/// println!("{:?}", result.elapsed());
/// let last = result.into_items().pop().unwrap();        // or `for item in result`
/// assert_eq!((last.id, last.outcome.unwrap()), (9, 81));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a batch that collects errors reports them here and nowhere else"]
pub struct BatchResult<I, T, E> {
    items: Vec<BatchItem<I, T, E>>,
    summary: Summary,
}

/// What there is to tell of a batch beside its items.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) counts: Counts,
    pub(crate) elapsed: Duration,
    /// The most that ran at once.
    pub(crate) workers: usize,
    /// Of some items, in their order.
    pub(crate) trials: Vec<Trials>,
    /// If it was to be recorded.
    pub(crate) timeline: Option<Box<Timeline>>,
    /// Why the journal could not go on, if it could not.
    pub(crate) journal_error: Option<String>,
}

/// What there is to tell of an item beside its outcome, where it was tried more than once.
#[derive(Debug)]
pub(crate) struct Trials {
    pub(crate) index: usize,
    pub(crate) attempts: usize,
    /// Of the retry, when it was asked whether there should be another.
    pub(crate) panic: Option<Panic>,
}

impl<I, T, E> BatchResult<I, T, E> {
    pub(crate) fn new(items: Vec<BatchItem<I, T, E>>, summary: Summary) -> Self {
        BatchResult { items, summary }
    }

    /// How many items there were.
    #[must_use]
    pub fn total(&self) -> usize {
        self.items.len()
    }

    /// How many items have a value.
    #[must_use]
    pub fn successful(&self) -> usize {
        self.summary.counts.succeeded
    }

    /// How many items failed, panicked, or were refused by the rate limiter.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.summary.counts.failed
    }

    /// How many items were never started, because the batch stopped before.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.total() - self.summary.counts.decided()
    }

    /// Whether every item has a value.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.summary.counts.succeeded == self.total()
    }

    /// How long the batch took: from the first item taken out of the iterator until the last worker was done.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.summary.elapsed
    }

    /// The most workers that were there at once, those that waited for a permit among them. 0 for an empty batch.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.summary.workers
    }

    /// How often the item at this index was tried: 0 if it never started, more than 1 only with
    /// [`retry`](crate::Batch::retry). An index beyond the last item has 0, too.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Retry};
    /// use std::time::Duration;
    ///
    /// let retry = Retry::exponential(Duration::from_millis(1), Duration::from_millis(9), 3);
    /// let result = BatchExecutor::new()
    ///     .batch(["smooth", "bumpy"])
    ///     .retry(retry)
    ///     .run_with(|id, cx| if *id == "bumpy" && cx.attempt() < 3 { Err("busy") } else { Ok(()) })?;
    /// assert_eq!([result.attempts(0), result.attempts(1)], [1, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn attempts(&self, index: usize) -> usize {
        if let Some(trials) = self.trials_of(index) {
            return trials.attempts;
        }
        match self.items.get(index).map(|item| &item.outcome) {
            None | Some(Err(ItemError::Skipped | ItemError::RateLimiter(_))) => 0,
            Some(_) => 1,
        }
    }

    /// The panic of a [`Retry`](crate::Retry) that was asked whether the item at this index should be tried again. The
    /// item was not; its outcome is the error that the question was about.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, ItemError, Retry};
    /// use std::time::Duration;
    ///
    /// let retry = Retry::new(|| [Duration::ZERO; 9].into_iter()).when(|_: &&str| panic!("never thought of that"));
    /// let error = BatchExecutor::new().batch([1]).retry(retry).run(|_| Err::<(), _>("odd")).unwrap_err();
    /// let partial = error.into_partial().unwrap();
    /// assert!(matches!(partial.items()[0].error(), Some(ItemError::Failed("odd"))));
    /// assert_eq!(partial.retry_panic(0).unwrap().message(), "never thought of that");
    /// ```
    #[must_use]
    pub fn retry_panic(&self, index: usize) -> Option<&Panic> {
        self.trials_of(index)?.panic.as_ref()
    }

    /// What the batch did over time, if it was to [`record_timeline`](crate::Batch::record_timeline).
    ///
    /// ```
    /// # let executor = batch_executor::BatchExecutor::new();
    /// let result = executor.batch(0..10).record_timeline().run(|n| Ok::<_, String>(n * 2))?;
    /// assert_eq!(result.timeline().unwrap().stats().succeeded, 10);
    /// assert!(executor.run(0..10, |n| Ok::<_, String>(n * 2))?.timeline().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timeline(&self) -> Option<&Timeline> {
        self.summary.timeline.as_deref()
    }

    /// What was wrong with the journal, where the batch stopped for that:
    /// [`StopReason::Journal`](crate::StopReason::Journal). The text of the [`BatchError`](crate::BatchError) says it, too.
    ///
    /// ```
    /// # #[cfg(feature = "journal")] {
    /// use batch_executor::{BatchExecutor, Journal, Plan};
    ///
    /// # let path = std::env::temp_dir().join(format!("journal-error-doc-{}.jsonl", std::process::id()));
    /// let journal = Journal::open(&path, Plan::named("letters"))?;
    /// let stopped = BatchExecutor::new().batch(["a", "b", "a"]).journal(&journal).run(|_| Ok::<_, String>(()));
    /// let partial = stopped.unwrap_err().into_partial().unwrap();
    /// let expected = "items 0 and 2 have the same id \"a\"; a journal needs one of its own for each";
    /// assert!(partial.journal_error().unwrap().ends_with(expected));
    /// # std::fs::remove_file(path)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn journal_error(&self) -> Option<&str> {
        self.summary.journal_error.as_deref()
    }

    /// The [timeline](BatchResult::timeline) with the errors of failed items as [notes](crate::Span::note), so that a
    /// page shows them. A copy of it, for as long as the spans are. Errors of attempts that were followed by another are not kept.
    ///
    /// ```
    /// # let executor = batch_executor::BatchExecutor::builder().stop_on_error(false).build()?;
    /// let result = executor.batch(["7", "x"]).record_timeline().run(|text| text.parse::<u32>())?;
    /// let timeline = result.timeline_with_errors().unwrap();
    /// assert_eq!(timeline.failures().next().unwrap().note(), Some("invalid digit found in string"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timeline_with_errors(&self) -> Option<Timeline>
    where
        E: fmt::Display,
    {
        let error = |index: usize| match self.items.get(index)?.error()? {
            ItemError::Failed(error) => Some(error.to_string()),
            _ => None,
        };
        Some(self.timeline()?.clone().with_notes(error))
    }

    fn trials_of(&self, index: usize) -> Option<&Trials> {
        let found = self.summary.trials.binary_search_by_key(&index, |trials| trials.index).ok()?;
        self.summary.trials.get(found)
    }

    /// All items, in input order.
    #[must_use]
    pub fn items(&self) -> &[BatchItem<I, T, E>] {
        &self.items
    }

    /// All items, in input order.
    pub fn iter(&self) -> slice::Iter<'_, BatchItem<I, T, E>> {
        self.items.iter()
    }

    /// All items, in input order, by value.
    #[must_use]
    pub fn into_items(self) -> Vec<BatchItem<I, T, E>> {
        self.items
    }

    /// The failed items, in input order; skipped ones are not among them. Looks at every item.
    pub fn failures(&self) -> impl Iterator<Item = &BatchItem<I, T, E>> {
        self.items.iter().filter(|item| item.is_failure())
    }

    /// The values there are, in input order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().filter_map(|item| item.outcome.as_ref().ok())
    }

    /// The values of all items, in input order.
    ///
    /// # Errors
    ///
    /// The whole result is handed back if any item has no value.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let squares = BatchExecutor::new().run(1..=4, |n| Ok::<_, String>(n * n))?;
    /// assert_eq!(squares.into_values().unwrap(), [1, 4, 9, 16]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_values(self) -> Result<Vec<T>, Self> {
        if self.is_success() {
            Ok(self.items.into_iter().filter_map(|item| item.outcome.ok()).collect())
        } else {
            Err(self)
        }
    }

    /// The same outcomes without items and values: each item becomes its index.
    pub(crate) fn without_items(self) -> BatchResult<usize, (), E> {
        let BatchResult { items, summary } = self;
        let items = items.into_iter().enumerate().map(|(index, item)| item.indexed(index)).collect();
        BatchResult::new(items, summary)
    }
}

impl<I, T, E> IntoIterator for BatchResult<I, T, E> {
    type Item = BatchItem<I, T, E>;
    type IntoIter = vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'r, I, T, E> IntoIterator for &'r BatchResult<I, T, E> {
    type Item = &'r BatchItem<I, T, E>;
    type IntoIter = slice::Iter<'r, BatchItem<I, T, E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<I, T, E> fmt::Display for BatchResult<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} succeeded", self.successful(), self.total())?;
        if self.failed() > 0 {
            write!(f, ", {} failed", self.failed())?;
        }
        if self.skipped() > 0 {
            write!(f, ", {} skipped", self.skipped())?;
        }
        let (time, unit) = readable(self.summary.elapsed);
        write!(f, " in {time:.1} {unit}")
    }
}

/// A duration in the unit that a person would give it in.
fn readable(time: Duration) -> (f64, &'static str) {
    let seconds = time.as_secs_f64();
    match seconds {
        1.0.. => (seconds, "s"),
        0.001.. => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    }
}

/// The counts, not the items: a batch may have a million of them, of types that have no text.
impl<I, T, E> fmt::Debug for BatchResult<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("BatchResult");
        fields.field("total", &self.total());
        fields.field("successful", &self.successful());
        fields.field("failed", &self.failed());
        fields.field("skipped", &self.skipped());
        fields.field("elapsed", &self.elapsed());
        fields.field("workers", &self.workers());
        if let Some(error) = self.journal_error() {
            fields.field("journal_error", &error);
        }
        fields.finish_non_exhaustive()
    }
}

/// What the accessors say, each by its name, times in seconds; and the items, with their attempts.
///
/// Every result has the same fields, whether anything was retried or not: an item that was tried once says so, and one
/// that never started has 0. Of items, values and errors nothing is asked but [`Serialize`](serde::Serialize); an error
/// that is no data can be its text: `.map_err(|error| error.to_string())`. [`retry_panic`](BatchResult::retry_panic) is
/// left out, and [`journal_error`](BatchResult::journal_error) is there if there was one.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor.run(["7", "x", "0"], |text| match text.parse::<u32>() {
///     Ok(0) => panic!("nothing"),
///     parsed => parsed.map_err(|error| error.to_string()),
/// })?;
/// println!("{}", serde_json::to_string_pretty(&result)?);
/// # let json = serde_json::to_value(&result)?;
/// # assert_eq!(json["items"][1]["outcome"]["Err"]["Failed"], "invalid digit found in string");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// prints, but for the line breaks,
///
/// ```json
/// {
///   "total": 3,
///   "successful": 1,
///   "failed": 2,
///   "skipped": 0,
///   "elapsed_seconds": 0.109392163,
///   "workers": 1,
///   "items": [
///     { "id": "7", "outcome": { "Ok": 7 }, "attempts": 1 },
///     { "id": "x", "outcome": { "Err": { "Failed": "invalid digit found in string" } }, "attempts": 1 },
///     { "id": "0", "outcome": { "Err": { "Panicked": "nothing" } }, "attempts": 1 }
///   ]
/// }
/// ```
///
/// A panic is its message, a [`LimiterError`](crate::LimiterError) its text, and whatever was skipped
/// `{ "Err": "Skipped" }`. A batch that stopped is
/// `{ "Stopped": { "reason": { "ItemFailed": { "index": 1 } }, "partial": .. } }` with such a result.
/// A [`BatchItem`] by itself, as a stream hands it on, does not know its attempts.
#[cfg(feature = "serde")]
impl<I, T, E> serde::Serialize for BatchResult<I, T, E>
where
    I: serde::Serialize,
    T: serde::Serialize,
    E: serde::Serialize,
{
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let extra = usize::from(self.journal_error().is_some());
        let mut fields = serializer.serialize_struct("BatchResult", 7 + extra)?;
        fields.serialize_field("total", &self.total())?;
        fields.serialize_field("successful", &self.successful())?;
        fields.serialize_field("failed", &self.failed())?;
        fields.serialize_field("skipped", &self.skipped())?;
        fields.serialize_field("elapsed_seconds", &self.elapsed().as_secs_f64())?;
        fields.serialize_field("workers", &self.workers())?;
        fields.serialize_field("items", &Rows(self))?;
        match self.journal_error() {
            Some(error) => fields.serialize_field("journal_error", error)?,
            None => fields.skip_field("journal_error")?,
        }
        fields.end()
    }
}

/// The items as they are serialized.
#[cfg(feature = "serde")]
struct Rows<'r, I, T, E>(&'r BatchResult<I, T, E>);

#[cfg(feature = "serde")]
impl<I: serde::Serialize, T: serde::Serialize, E: serde::Serialize> serde::Serialize for Rows<'_, I, T, E> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Row<'r, I, T, E> {
            id: &'r I,
            outcome: &'r Result<T, ItemError<E>>,
            attempts: usize,
        }

        serializer.collect_seq(self.0.iter().enumerate().map(|(index, BatchItem { id, outcome })| {
            let attempts = self.0.attempts(index);
            Row { id, outcome, attempts }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_the_unit_that_suits_it() {
        let told = |time| {
            let summary = Summary { elapsed: time, ..Summary::default() };
            BatchResult::<(), (), ()>::new(vec![], summary).to_string()
        };
        assert_eq!(told(Duration::from_millis(1900)), "0 of 0 succeeded in 1.9 s");
        assert_eq!(told(Duration::from_micros(2500)), "0 of 0 succeeded in 2.5 ms");
        assert_eq!(told(Duration::from_nanos(300)), "0 of 0 succeeded in 0.3 µs");
    }
}
