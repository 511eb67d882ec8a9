//! What was recorded of a batch: the attempts that are kept, and what is known of all.

use std::cmp::Reverse;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

#[cfg(feature = "serde")]
use crate::seconds::as_seconds;

use super::density::{Bucket, Density};
use super::span::{Ending, Span, nanos};
use super::track::{EXTREMES, Level, Recorded, Totals};

/// What a batch did over time: each attempt at each item, on which worker, and what it waited for. The batch needs the step
/// [`record_timeline`](crate::Batch::record_timeline).
///
/// Memory is bounded. Beyond [`timeline_spans`](crate::Batch::timeline_spans) attempts (100,000 by default) the timeline keeps a
/// uniform sample of the items, each with all its attempts, and beside it the 100 attempts that ran longest and the 100 that
/// failed first (fewer if it may keep fewer than 400). [`is_complete`](Timeline::is_complete) is then `false`. Counts, maxima and
/// [`intervals`](Timeline::intervals) include all attempts either way.
///
/// ```
/// use batch_executor::{BatchExecutor, RateLimit};
/// use std::time::Duration;
///
/// let executor = BatchExecutor::builder().workers(4).rate_limiter(RateLimit::per_second(2_000)).build()?;
/// let result = executor.batch(0..100).record_timeline().run(|n| Ok::<_, String>(n * n));
/// let timeline = result.timeline().unwrap();
///
/// println!("{}", timeline.stats());
/// let mut page = Vec::new();                           // or a file
/// timeline.write_html(&mut page)?;
///
/// assert!(timeline.is_complete());
/// assert_eq!((timeline.attempts(), timeline.spans().len(), timeline.sample().count()), (100, 100, 100));
/// assert!(timeline.slowest().next().unwrap().run_time() >= timeline.spans()[0].run_time());
/// assert!(timeline.spans().iter().all(|span| span.ended() <= timeline.elapsed()));
/// assert_eq!(timeline.failures().count(), 0);
/// assert_eq!(timeline.limits(), [(Duration::ZERO, 4)]);    // four workers from the beginning on
/// assert!(page.starts_with(b"<!doctype html>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Timeline {
    level: Level,
    pub(super) totals: Totals,
    /// By the number of the worker, all of one width and length.
    pub(super) densities: Vec<Density>,
    spans: Vec<Span>,
    limits: Vec<(Duration, usize)>,
    elapsed: Duration,
    pub(super) workers: usize,
}

/// What all workers together did in a part of the time: one of [`Timeline::intervals`].
///
/// ```
/// use batch_executor::{BatchExecutor, Interval};
///
/// let result = BatchExecutor::new().batch(0..1_000).record_timeline().run(|n| Ok::<_, String>(n + 1));
/// for Interval { start, busy_workers, rate, failed, .. } in result.timeline().unwrap().intervals() {
///     println!("{start:?}: {busy_workers:.1} workers at work, {rate:.0} items a second");
///     assert!(busy_workers <= 1.0 && failed == 0);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Interval {
    /// When it began, since the batch did.
    #[cfg_attr(feature = "serde", serde(rename = "start_seconds", serialize_with = "as_seconds"))]
    pub start: Duration,
    /// The length of the interval. All intervals of a timeline are equally long, except the last, which has 0.5 to 1.5 times this length.
    #[cfg_attr(feature = "serde", serde(rename = "length_seconds", serialize_with = "as_seconds"))]
    pub length: Duration,
    /// How many workers ran an operation, on average over the interval.
    pub busy_workers: f64,
    /// How many items waited for a limit, on average. They hold no worker. Items that still waited when the batch stopped are
    /// not counted.
    pub waiting_items: f64,
    /// Items that were decided in the interval, per second.
    pub rate: f64,
    /// Items that were decided in the interval and have no value.
    pub failed: usize,
}

impl Timeline {
    pub(crate) fn new(
        recorded: Recorded,
        limits: Vec<(Duration, usize)>,
        elapsed: Duration,
        workers: usize,
    ) -> Self {
        let Recorded { level, totals, densities, mut spans } = recorded;
        for span in &mut spans {
            span.is_sampled = level.keeps(span.index());
        }
        Timeline { level, totals, densities, spans, limits, elapsed, workers }
    }

    /// The items have these places in the result, by the numbers that they had while the batch ran.
    pub(crate) fn renumber(&mut self, places: &[usize]) {
        for span in &mut self.spans {
            span.renumber(places.get(span.index()).copied().unwrap_or(span.index()));
        }
    }

    /// With these notes on the last attempts of items that failed, by their indices.
    pub(crate) fn with_notes(mut self, note: impl Fn(usize) -> Option<String>) -> Self {
        for span in self.spans.iter_mut().filter(|span| span.ending() == Ending::Failed) {
            if let Some(note) = note(span.index()) {
                span.set_note(note);
            }
        }
        self
    }

    /// The attempts that are kept, by the time when they started.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether every attempt is kept.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.level == Level::ALL
    }

    /// The kept attempts that are a uniform sample of all: all of them, if the timeline is complete. The other kept attempts
    /// took long, or failed.
    pub fn sample(&self) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(|span| span.is_sampled)
    }

    /// How many attempts there were, kept or not.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.totals.attempts
    }

    /// How long the batch took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The limit for the number of workers over time: since when, and how many. One entry, unless the number changed. Beyond
    /// 4,096 changes, some are left out.
    #[must_use]
    pub fn limits(&self) -> &[(Duration, usize)] {
        &self.limits
    }

    /// The attempts that ran longest, the slowest first; at most 100. Sorts the spans.
    pub fn slowest(&self) -> impl Iterator<Item = &Span> {
        self.slowest_positions().into_iter().map(|position| &self.spans[position])
    }

    /// The first items that were decided without a value, by the time when they ended; at most 100.
    pub fn failures(&self) -> impl Iterator<Item = &Span> {
        self.failure_positions().into_iter().map(|position| &self.spans[position])
    }

    pub(super) fn slowest_positions(&self) -> Vec<usize> {
        self.extremes(|_| true, |span| Reverse(span.run_time()))
    }

    pub(super) fn failure_positions(&self) -> Vec<usize> {
        self.extremes(|span| span.ending().is_failure(), Span::ended)
    }

    /// Where the first of these are, in the order of the keys.
    fn extremes<K: Ord>(&self, of: impl Fn(&Span) -> bool, key: impl Fn(&Span) -> K) -> Vec<usize> {
        let mut positions: Vec<usize> = (0..self.spans.len()).filter(|at| of(&self.spans[*at])).collect();
        positions.sort_by_key(|at| key(&self.spans[*at]));
        positions.truncate(EXTREMES);
        positions
    }

    /// The time until the last attempt ended, in up to 512 equal parts. They include all attempts, also where the spans are a
    /// sample. What still waited when the batch stopped is in none of them.
    ///
    /// ```
    /// # let executor = batch_executor::BatchExecutor::new();
    /// let result = executor.batch(0..1_000).record_timeline().run(|n| Ok::<_, String>(n + 1));
    /// let timeline = result.timeline().unwrap();
    /// let decided: f64 = timeline.intervals().iter().map(|part| part.rate * part.length.as_secs_f64()).sum();
    /// assert!((decided - 1_000.0).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn intervals(&self) -> Vec<Interval> {
        let Some(first) = self.densities.first() else { return Vec::new() };
        let (width, count) = (first.width(), first.buckets().len());
        // A last one that is short would be all peaks.
        let is_short =
            count > 1 && nanos(self.elapsed).saturating_sub((count as u64 - 1) * width) < width / 2;
        let parts = count - usize::from(is_short);
        let end = |part| if part + 1 == parts { count } else { part + 1 };
        (0..parts).map(|part| self.interval(part..end(part), width)).collect()
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "rates, and no more items than usize"
    )]
    fn interval(&self, buckets: Range<usize>, width: u64) -> Interval {
        let all: Bucket = self.densities.iter().flat_map(|density| &density.buckets()[buckets.clone()]).sum();
        let start = buckets.start as u64 * width;
        let rest = nanos(self.elapsed).saturating_sub(start);
        let length = (buckets.len() as u64 * width).min(rest).max(1);
        Interval {
            start: Duration::from_nanos(start),
            length: Duration::from_nanos(length),
            busy_workers: all.busy as f64 / length as f64,
            waiting_items: all.waits as f64 / length as f64,
            rate: all.decided as f64 * 1e9 / length as f64,
            failed: all.failed as usize,
        }
    }
}

/// The numbers, not the spans: there may be a hundred thousand.
impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline")
            .field("attempts", &self.attempts())
            .field("spans", &self.spans.len())
            .field("is_complete", &self.is_complete())
            .field("elapsed", &self.elapsed)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}
