//! What a batch leaves behind: its items, what each of them came to, both in input order, and the counts.

mod iter;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::batch_error::{BatchError, StopReason};
use crate::counts::{Counts, CountsLine};
use crate::error::{ItemError, Outcome};
use crate::panic::Panic;
use crate::slots::Outcomes;
use crate::timeline::Timeline;

pub use iter::{BatchIntoIter, BatchIter};

/// One item and its outcome, from a [`BatchResult`] or a stream. `I` and `O` may be references; from
/// [`into_first_failure`](BatchResult::into_first_failure), `O` is the error.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor.run(["7", "x"], |text| text.parse::<u32>());
/// for item in &result {
///     match item.outcome {
///         Ok(number) => println!("item {}: {} is {number}", item.index, item.item),
///         Err(error) => println!("item {}: {} is no number: {error}", item.index, item.item),
///     }
/// }
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BatchItem<I, O> {
    /// The position of the item in the batch. The first item has index 0.
    pub index: usize,
    /// The item, or a reference to it.
    pub item: I,
    /// The outcome of the item.
    pub outcome: O,
}

/// A failed item, and its error: an entry of [`BatchResult::failures`]. Its text reads like `item 3: not found`.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor.run(["7", "x"], |text| text.parse::<u32>());
/// let failure = result.failures().next().unwrap();
/// assert_eq!((failure.index, *failure.item, failure.attempts), (1, "x", 1));
/// assert_eq!(failure.to_string(), "item 1: invalid digit found in string");
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure<'r, I, E> {
    /// The position of the item in the batch. The first item has index 0.
    pub index: usize,
    /// The item itself.
    pub item: &'r I,
    /// Why it has no value.
    pub error: &'r ItemError<E>,
    /// How often it was tried: 0 if the rate limiter refused its first attempt.
    pub attempts: usize,
}

impl<I, E> Clone for Failure<'_, I, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I, E> Copy for Failure<'_, I, E> {}

impl<I, E: fmt::Display> fmt::Display for Failure<'_, I, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {}: {}", self.index, self.error)
    }
}

/// The result of a batch: its items, an [`Outcome`] for each, in input order, and why it stopped, if it did.
///
/// A batch always returns a result, with everything that finished.
/// `total() == succeeded() + failed() + skipped()`, always. Its text is one line for people.
///
/// For `?` there are [`into_values`](BatchResult::into_values), if every item must have a value, and
/// [`into_result`](BatchResult::into_result), if failures are data and only a batch that stopped early is an error.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let executor = BatchExecutor::builder().workers(4).stop_on_error(false).build()?;
/// let result = executor.run(0..10, |n| if n % 5 == 3 { Err("three") } else { Ok(n * n) });
/// assert_eq!((result.total(), result.succeeded(), result.failed(), result.skipped()), (10, 8, 2, 0));
/// assert!(!result.is_success());
/// assert_eq!(result.failures().map(|failure| *failure.item).collect::<Vec<_>>(), [3, 8]);
/// assert_eq!(result.values().sum::<i32>(), 285 - 9 - 64);
/// assert!(result.to_string().starts_with("8 of 10 succeeded, 2 failed in "));
/// assert!(result.workers() <= 4);                       // the largest number at a time
/// assert!(result.iter().all(|item| *item.item < 10));
/// println!("{:?}", result.elapsed());
/// let last = result.into_iter().next_back().unwrap();   // or `for item in result`
/// assert_eq!((last.index, last.item, last.outcome.unwrap()), (9, 9, 81));
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[must_use = "the result has the errors of the items, and why the batch stopped"]
pub struct BatchResult<I, T, E> {
    items: Vec<I>,
    outcomes: Outcomes<T, E>,
    summary: Summary,
}

/// What there is to tell of a batch beside its items.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) counts: Counts,
    /// Why it stopped before its end, if it did.
    pub(crate) stopped: Option<StopReason>,
    pub(crate) elapsed: Duration,
    /// The largest number of items that ran at the same time.
    pub(crate) workers: usize,
    /// Of some items, in their order.
    pub(crate) trials: Vec<Trials>,
    /// If it was to be recorded.
    pub(crate) timeline: Option<Box<Timeline>>,
    /// Why the journal could not go on, if it could not.
    pub(crate) journal_error: Option<String>,
}

impl Summary {
    /// Of a batch that stopped before anything ran.
    pub(crate) fn stopped(reason: StopReason) -> Self {
        Summary { stopped: Some(reason), ..Summary::default() }
    }
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
    /// Outcome k belongs to item k. There are as many of both, unless there was no memory for the outcomes.
    pub(crate) fn new(items: Vec<I>, outcomes: Vec<Outcome<T, E>>, summary: Summary) -> Self {
        debug_assert!(outcomes.len() == items.len() || summary.stopped == Some(StopReason::OutOfMemory));
        let have_errors = summary.counts.succeeded != outcomes.len();
        BatchResult { items, outcomes: Outcomes::new(outcomes, have_errors), summary }
    }

    /// Nothing of the batch ran, for this reason.
    pub(crate) fn skipped_all(items: Vec<I>, reason: StopReason) -> Self {
        let outcomes = items.iter().map(|_| Err(ItemError::Skipped)).collect();
        BatchResult::new(items, outcomes, Summary::stopped(reason))
    }

    /// Nothing of the batch ran, since there was no memory for the outcomes of these items, or for more of them.
    pub(crate) fn out_of_memory(items: Vec<I>) -> Self {
        BatchResult::new(items, Vec::new(), Summary::stopped(StopReason::OutOfMemory))
    }

    /// How many items there were.
    #[must_use]
    pub fn total(&self) -> usize {
        self.items.len()
    }

    /// How many items have a value.
    #[must_use]
    pub fn succeeded(&self) -> usize {
        self.summary.counts.succeeded
    }

    /// How many items failed, panicked, timed out or got no permit, or had failed in an earlier run and did not run again.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.summary.counts.failed
    }

    /// How many items are undecided, because the batch stopped: [`Skipped`](ItemError::Skipped) items, which never
    /// started, and [`Interrupted`](ItemError::Interrupted) ones, which waited for another attempt, or were cut off.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.line().skipped()
    }

    /// Whether every item has a value.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.summary.counts.succeeded == self.total()
    }

    /// Why the batch stopped, if it did. `Some` also if the failure that stopped it was that of the last item, so that nothing
    /// was left to skip. `None` if the batch ran to its end, whatever failures it collected.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, StopReason};
    ///
    /// let result = BatchExecutor::new().run(["1", "x", "3"], |text| text.parse::<u32>());
    /// assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 1 }));
    /// assert_eq!((result.succeeded(), result.failed(), result.skipped()), (1, 1, 1));
    /// ```
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        self.summary.stopped
    }

    /// How long the batch took: from the first item taken out of the iterator until the last worker was done.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.summary.elapsed
    }

    /// The largest number of workers that ran items at the same time; those that waited do not count. 0 if nothing ran.
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
    ///     .run_with(|id, cx| if *id == "bumpy" && cx.attempt() < 3 { Err("busy") } else { Ok(()) });
    /// assert_eq!([result.attempts(0), result.attempts(1)], [1, 3]);
    /// ```
    #[must_use]
    pub fn attempts(&self, index: usize) -> usize {
        if let Some(trials) = self.trials_of(index) {
            return trials.attempts;
        }
        match self.outcomes.as_slice().get(index) {
            None | Some(Err(ItemError::Skipped | ItemError::RateLimiter(_))) => 0,
            Some(_) => 1,
        }
    }

    /// The panic of the [`Retry`](crate::Retry), if it panicked while it decided about the item at this index. The item was
    /// not retried; its outcome is the error of its last attempt.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, ItemError, Retry};
    /// use std::time::Duration;
    ///
    /// let retry = Retry::delays(|| [Duration::ZERO; 9].into_iter()).when(|_: &&str| panic!("never thought of that"));
    /// let result = BatchExecutor::new().batch([1]).retry(retry).run(|_| Err::<(), _>("odd"));
    /// assert!(matches!(result.outcomes()[0], Err(ItemError::Failed("odd"))));
    /// assert_eq!(result.retry_panic(0).unwrap().message(), "never thought of that");
    /// ```
    #[must_use]
    pub fn retry_panic(&self, index: usize) -> Option<&Panic> {
        self.trials_of(index)?.panic.as_ref()
    }

    /// The timeline of the batch, if it had the step [`record_timeline`](crate::Batch::record_timeline). `None` also if nothing
    /// ran, since the lengths differed or memory was missing.
    ///
    /// ```
    /// # let executor = batch_executor::BatchExecutor::new();
    /// let result = executor.batch(0..10).record_timeline().run(|n| Ok::<_, String>(n * 2));
    /// assert_eq!(result.timeline().unwrap().stats().succeeded, 10);
    /// assert!(executor.run(0..10, |n| Ok::<_, String>(n * 2)).timeline().is_none());
    /// ```
    #[must_use]
    pub fn timeline(&self) -> Option<&Timeline> {
        self.summary.timeline.as_deref()
    }

    /// The error of the journal, if the batch stopped for it:
    /// [`StopReason::Journal`]. The text of the [`BatchError`] says it, too.
    ///
    /// ```
    /// # #[cfg(feature = "journal")] {
    /// use batch_executor::{BatchExecutor, Journal, Plan};
    ///
    /// # let path = std::env::temp_dir().join(format!("journal-error-doc-{}.jsonl", std::process::id()));
    /// let journal = Journal::open(&path, Plan::named("letters"))?;
    /// let result = BatchExecutor::new().batch(["a", "b", "a"]).journal(&journal).run(|_| Ok::<_, String>(()));
    /// let expected = "items 0 and 2 have the same id \"a\"; each item of a journal needs an id of its own";
    /// assert!(result.journal_error().unwrap().ends_with(expected));
    /// # std::fs::remove_file(path)?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn journal_error(&self) -> Option<&str> {
        self.summary.journal_error.as_deref()
    }

    /// The [timeline](BatchResult::timeline) with the errors of failed items as [notes](crate::Span::note), so that a
    /// page shows them. A copy of the timeline. Only the error of the last attempt at an item is kept.
    ///
    /// ```
    /// # let executor = batch_executor::BatchExecutor::builder().stop_on_error(false).build()?;
    /// let result = executor.batch(["7", "x"]).record_timeline().run(|text| text.parse::<u32>());
    /// let timeline = result.timeline_with_errors().unwrap();
    /// assert_eq!(timeline.failures().next().unwrap().note(), Some("invalid digit found in string"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timeline_with_errors(&self) -> Option<Timeline>
    where
        E: fmt::Display,
    {
        let error = |index: usize| match self.outcomes.as_slice().get(index)? {
            Err(ItemError::Failed(error)) => Some(format!("{error:#}")),
            _ => None,
        };
        Some(self.timeline()?.clone().with_notes(error))
    }

    fn trials_of(&self, index: usize) -> Option<&Trials> {
        let found = self.summary.trials.binary_search_by_key(&index, |trials| trials.index).ok()?;
        self.summary.trials.get(found)
    }

    fn line(&self) -> CountsLine {
        let Summary { counts, elapsed, .. } = self.summary;
        CountsLine { total: self.total(), counts, elapsed: Some(elapsed) }
    }

    /// All items, in input order.
    #[must_use]
    pub fn items(&self) -> &[I] {
        &self.items
    }

    /// The outcomes, in input order: outcome k belongs to item k.
    ///
    /// There are as many as items, except where the batch stopped for
    /// [`StopReason::OutOfMemory`]: then there are none.
    #[must_use = "the outcomes are what a batch is run for"]
    pub fn outcomes(&self) -> &[Outcome<T, E>] {
        self.outcomes.as_slice()
    }

    /// The items with their outcomes, in input order. The same as `&result` in a `for` loop.
    #[must_use]
    pub fn iter(&self) -> BatchIter<'_, I, T, E> {
        BatchIter::new(&self.items, self.outcomes.as_slice())
    }

    /// Items and outcomes by value, in input order. Copies nothing.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let result = BatchExecutor::new().run(vec!["a", "bc"], |word| Ok::<_, String>(word.len()));
    /// let (words, lengths) = result.into_parts();
    /// assert_eq!((words[1], lengths[1].as_ref().unwrap()), ("bc", &2));
    /// ```
    #[must_use]
    pub fn into_parts(self) -> (Vec<I>, Vec<Outcome<T, E>>) {
        (self.items, self.outcomes.into_vec())
    }

    /// The items that failed, in input order; skipped and interrupted ones are not among them. Looks at every item.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
    /// let result = executor.run(["a.txt", "b.txt"], |name| if *name > "b" { Err("not found") } else { Ok(()) });
    /// let texts: Vec<String> = result.failures().map(|failure| failure.to_string()).collect();
    /// assert_eq!(texts, ["item 1: not found"]);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn failures(&self) -> impl Iterator<Item = Failure<'_, I, E>> {
        self.iter().filter_map(|BatchItem { index, item, outcome }| {
            let error = outcome.as_ref().err().filter(|error| error.is_failure())?;
            Some(Failure { index, item, error, attempts: self.attempts(index) })
        })
    }

    /// The values of the items that have one, in input order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.outcomes.as_slice().iter().filter_map(|outcome| outcome.as_ref().ok())
    }

    /// The result, if the batch ran to its end: for `?`, where collected failures are data.
    ///
    /// # Errors
    ///
    /// [`BatchError`], if the batch [stopped](BatchResult::stopped). It has the error of the item that failed
    /// first as its [`source`](Error::source), and borrows nothing, however short-lived the items are. The values
    /// are dropped: look at [`stopped`](BatchResult::stopped) instead if you need them.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, BatchError};
    ///
    /// fn count(lines: &str) -> Result<usize, BatchError> {
    ///     let executor = BatchExecutor::new();                                     // stops on the first error
    ///     let result = executor.run(lines.lines(), |line| line.parse::<u32>()).into_result()?;
    ///     Ok(result.succeeded())
    /// }
    ///
    /// assert_eq!(count("1\n2").unwrap(), 2);
    /// assert!(count("1\nx").unwrap_err().to_string().starts_with("item 1 failed: invalid digit found in string ("));
    /// ```
    pub fn into_result(self) -> Result<Self, BatchError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        if self.summary.stopped.is_none() { Ok(self) } else { Err(self.into_error()) }
    }

    /// The values of all items, in input order: for `?` where every item must have one.
    ///
    /// # Errors
    ///
    /// [`BatchError`], if the batch stopped early, or if any item has no value. It names the failed item with the
    /// lowest index. The values are dropped.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let squares = BatchExecutor::new().run(1..=4, |n| Ok::<_, String>(n * n)).into_values()?;
    /// assert_eq!(squares, [1, 4, 9, 16]);
    ///
    /// let collecting = BatchExecutor::builder().stop_on_error(false).build()?;
    /// let error = collecting.run(["7", "x", "y"], |text| text.parse::<u32>()).into_values().unwrap_err();
    /// assert!(error.to_string().starts_with("item 1 failed: invalid digit found in string (1 of 3 succeeded, 2 failed"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_values(self) -> Result<Vec<T>, BatchError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        if self.summary.stopped.is_none() && self.is_success() {
            Ok(self.into_parts().1.into_iter().filter_map(Result::ok).collect())
        } else {
            Err(self.into_error())
        }
    }

    fn into_error(mut self) -> BatchError
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let (stopped, line) = (self.summary.stopped, self.line());
        let journal_error = self.summary.journal_error.take();
        let first = self.into_first_failure().map(|BatchItem { index, outcome, .. }| (index, outcome));
        BatchError::new(stopped, first, line, journal_error)
    }

    /// The failed item with the lowest index, and its error, by value. `None` if no item failed.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, ItemError};
    ///
    /// #[derive(Debug, PartialEq)]
    /// enum Rejected { Empty, TooLong }
    ///
    /// let check = |name: &&str| if name.is_empty() { Err(Rejected::Empty) } else { Ok(()) };
    /// let first = BatchExecutor::new().run(["a", "", "c"], check).into_first_failure().unwrap();
    /// let ItemError::Failed(rejected) = first.outcome else { unreachable!() };
    /// assert_eq!((first.index, rejected), (1, Rejected::Empty));
    /// ```
    #[must_use]
    pub fn into_first_failure(self) -> Option<BatchItem<I, ItemError<E>>> {
        self.into_iter().find_map(|BatchItem { index, item, outcome }| match outcome {
            Err(outcome) if outcome.is_failure() => Some(BatchItem { index, item, outcome }),
            _ => None,
        })
    }

    /// The failed, skipped and interrupted items, by value and in input order, to run them again.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
    /// let first = executor.run(["a", "b", "c"], |name| if *name == "b" { Err("busy") } else { Ok(()) });
    /// let second = executor.run(first.into_failed(), |_| Ok::<_, &str>(()));
    /// assert_eq!(second.items(), ["b"]);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    #[must_use]
    pub fn into_failed(self) -> Vec<I> {
        let (items, outcomes) = self.into_parts();
        let mut outcomes = outcomes.into_iter();
        // An item without an outcome has no value either.
        items.into_iter().filter(|_| outcomes.next().is_none_or(|outcome| outcome.is_err())).collect()
    }
}

impl<I, T, E> IntoIterator for BatchResult<I, T, E> {
    type Item = BatchItem<I, Outcome<T, E>>;
    type IntoIter = BatchIntoIter<I, T, E>;

    fn into_iter(self) -> Self::IntoIter {
        let (items, outcomes) = self.into_parts();
        BatchIntoIter::new(items, outcomes)
    }
}

impl<'r, I, T, E> IntoIterator for &'r BatchResult<I, T, E> {
    type Item = BatchItem<&'r I, &'r Outcome<T, E>>;
    type IntoIter = BatchIter<'r, I, T, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<I, T, E> fmt::Display for BatchResult<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line().fmt(f)
    }
}

/// The counts, not the items: a batch may have a million of them, of types that have no text.
impl<I, T, E> fmt::Debug for BatchResult<I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("BatchResult");
        fields.field("total", &self.total());
        fields.field("succeeded", &self.succeeded());
        fields.field("failed", &self.failed());
        fields.field("skipped", &self.skipped());
        fields.field("stopped", &self.stopped());
        fields.field("elapsed", &self.elapsed());
        fields.field("workers", &self.workers());
        if let Some(error) = self.journal_error() {
            fields.field("journal_error", &error);
        }
        fields.finish_non_exhaustive()
    }
}

/// The values of the accessors by their names, times in seconds; and the items, with their attempts.
///
/// Every result has the same fields, with or without retries: `attempts` is 1 for an item that was tried once, and 0 for one
/// that never started. Items, values and errors need only [`Serialize`](serde::Serialize). Turn another error into its text:
/// `.map_err(|error| error.to_string())`. [`retry_panic`](BatchResult::retry_panic) is
/// left out, and [`journal_error`](BatchResult::journal_error) is there if there was one.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
/// let result = executor.run(["7", "x", "0"], |text| match text.parse::<u32>() {
///     Ok(0) => panic!("nothing"),
///     parsed => parsed.map_err(|error| error.to_string()),
/// });
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
///   "succeeded": 1,
///   "failed": 2,
///   "skipped": 0,
///   "elapsed_seconds": 0.109392163,
///   "workers": 1,
///   "stopped": null,
///   "items": [
///     { "index": 0, "item": "7", "outcome": { "Ok": 7 }, "attempts": 1 },
///     { "index": 1, "item": "x", "outcome": { "Err": { "Failed": "invalid digit found in string" } }, "attempts": 1 },
///     { "index": 2, "item": "0", "outcome": { "Err": { "Panicked": "nothing" } }, "attempts": 1 }
///   ]
/// }
/// ```
///
/// A panic becomes its message, a [`LimiterError`](crate::LimiterError) its text, and a skipped item
/// `{ "Err": "Skipped" }`. If the batch stopped, `stopped` is the reason, such as `{ "ItemFailed": { "index": 1 } }`.
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
        let mut fields = serializer.serialize_struct("BatchResult", 8 + extra)?;
        fields.serialize_field("total", &self.total())?;
        fields.serialize_field("succeeded", &self.succeeded())?;
        fields.serialize_field("failed", &self.failed())?;
        fields.serialize_field("skipped", &self.skipped())?;
        fields.serialize_field("elapsed_seconds", &self.elapsed().as_secs_f64())?;
        fields.serialize_field("workers", &self.workers())?;
        fields.serialize_field("stopped", &self.stopped())?;
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
            index: usize,
            item: &'r I,
            outcome: &'r Outcome<T, E>,
            attempts: usize,
        }

        serializer.collect_seq(self.0.iter().map(|BatchItem { index, item, outcome }| {
            let attempts = self.0.attempts(index);
            Row { index, item, outcome, attempts }
        }))
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    fn result(
        outcomes: Vec<Outcome<u8, &'static str>>,
        stopped: Option<StopReason>,
    ) -> BatchResult<char, u8, &'static str> {
        let succeeded = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let failed = outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .filter(|error| error.is_failure())
            .count();
        let items = ('a'..).take(outcomes.len()).collect();
        let counts = Counts { succeeded, failed, recorded: 0 };
        BatchResult::new(items, outcomes, Summary { counts, stopped, ..Summary::default() })
    }

    #[test]
    fn undecided_items_are_no_failures_and_are_run_again() {
        let outcomes = || {
            vec![
                Ok(1),
                Err(ItemError::Interrupted(Some("busy"))),
                Err(ItemError::Failed("no")),
                Err(ItemError::Interrupted(None)),
                Err(ItemError::Skipped),
            ]
        };
        let of = || result(outcomes(), Some(StopReason::Cancelled));
        assert_eq!((of().succeeded(), of().failed(), of().skipped()), (1, 1, 3));
        assert_eq!([0, 1, 2, 3, 4, 5].map(|index| of().attempts(index)), [1, 1, 1, 1, 0, 0]);
        assert_eq!(of().failures().map(|failure| failure.to_string()).collect::<Vec<_>>(), ["item 2: no"]);
        assert_eq!(of().into_first_failure().map(|first| (first.index, first.item)), Some((2, 'c')));
        assert_eq!(of().into_failed(), ['b', 'c', 'd', 'e']);
        let error = of().into_result().unwrap_err().to_string();
        assert!(
            error.starts_with("cancelled, the first failure: no (1 of 5 succeeded, 1 failed, 3 skipped in"),
            "{error}"
        );
    }

    #[test]
    fn failures_that_were_collected_are_an_error_only_where_all_values_are_wanted() {
        let collected = || result(vec![Ok(1), Err(ItemError::Failed("no"))], None);
        assert_eq!(collected().into_result().unwrap().failed(), 1);
        let error = collected().into_values().unwrap_err();
        assert_eq!((error.stopped(), error.index()), (None, Some(1)));
        assert!(error.to_string().starts_with("item 1 failed: no (1 of 2 succeeded, 1 failed in"), "{error}");
        assert_eq!(error.source().map(ToString::to_string), Some("no".to_owned()));
        assert_eq!(result(vec![Ok(1), Ok(2)], None).into_values().unwrap(), [1, 2]);
        assert!(result(vec![Ok(1)], Some(StopReason::Journal)).into_values().is_err(), "it stopped");
    }

    #[test]
    fn without_memory_for_outcomes_the_items_are_there() {
        let result = BatchResult::<_, u8, String>::out_of_memory(vec!['a', 'b']);
        assert_eq!((result.items(), result.outcomes().len(), result.total()), (&['a', 'b'][..], 0, 2));
        assert_eq!((result.skipped(), result.iter().len(), result.attempts(0)), (2, 0, 0));
        assert_eq!(result.into_failed(), ['a', 'b']);
    }
}
