//! How far a batch is: what `on_progress` is told.

use std::time::Duration;

use crate::counts::Counts;

/// How far a batch is.
///
/// `completed == succeeded + failed`, and it is one more in each call than in the call before.
///
/// ```
/// use batch_executor::BatchExecutor;
///
/// let mut seen = Vec::new();
/// BatchExecutor::new()
///     .batch(["a", "b", "c"])
///     .on_progress(|p| seen.push(format!("{}/{}", p.completed, p.total)))
///     .run(|_| Ok::<(), String>(()))
///     .into_result()?;
/// assert_eq!(seen, ["1/3", "2/3", "3/3"]);
/// # Ok::<(), batch_executor::BatchError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Progress {
    /// Items decided so far: run, refused by the rate limiter, or recorded in the journal.
    pub completed: usize,
    /// Items in the batch; in a [stream](crate::Batch::stream), where `total_hint` is none, those that were pulled so far.
    pub total: usize,
    /// How many items there are in all, if that is known: always in a batch; in a stream if the iterator's
    /// [`size_hint`](Iterator::size_hint) is exact, or when it has ended.
    pub total_hint: Option<usize>,
    /// Those of the completed that have a value.
    pub succeeded: usize,
    /// Those of the completed that failed, panicked or got no permit.
    pub failed: usize,
    /// Time since the batch began. Completions that are reported together carry the same time.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "elapsed_seconds", serialize_with = "crate::seconds::as_seconds")
    )]
    pub elapsed: Duration,
}

impl Progress {
    pub(crate) fn new(counts: Counts, total: usize, total_hint: Option<usize>, elapsed: Duration) -> Self {
        let Counts { succeeded, failed } = counts;
        Progress { completed: counts.decided(), total, total_hint, succeeded, failed, elapsed }
    }

    /// Items completed per second, on average since the batch began. 0 until time has passed.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::{thread, time::Duration};
    ///
    /// let mut rate = 0.0;
    /// BatchExecutor::new().batch(0..5).on_progress(|p| rate = p.rate()).run(|_| {
    ///     thread::sleep(Duration::from_millis(2));
    ///     Ok::<(), String>(())
    /// }).into_result()?;
    /// assert!(rate > 0.0 && rate <= 500.0);
    /// # Ok::<(), batch_executor::BatchError>(())
    /// ```
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
    pub fn rate(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.completed as f64 / self.elapsed.as_secs_f64() }
    }

    /// The time that the rest takes if it goes on at [`rate`](Progress::rate). `None` while there is no rate, where the
    /// time is too long for a [`Duration`], or while nobody knows how many items there are.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # batch_executor::BatchExecutor::new().batch([1]).on_progress(|p| {
    /// assert_eq!(p.completed, p.total);
    /// assert_eq!(p.eta(), Some(Duration::ZERO));      // the last call: nothing is left
    /// # }).run(|_| Ok::<(), String>(())).into_result().unwrap();
    /// ```
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "an estimate needs no more than 52 bits")]
    pub fn eta(&self) -> Option<Duration> {
        let left = self.total_hint?.saturating_sub(self.completed);
        if left == 0 {
            return Some(Duration::ZERO);
        }
        Duration::try_from_secs_f64(left as f64 / self.rate()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(completed: usize, elapsed: Duration) -> Progress {
        Progress::new(Counts { succeeded: completed, failed: 0 }, 100, Some(100), elapsed)
    }

    #[test]
    fn without_an_end_there_is_a_rate_and_no_estimate() {
        let p = Progress { total_hint: None, ..progress(25, Duration::from_secs(2)) };
        assert!((p.rate() - 12.5).abs() < 1e-9);
        assert_eq!(p.eta(), None);
    }

    #[test]
    fn a_quarter_in_two_seconds_leaves_six() {
        let p = progress(25, Duration::from_secs(2));
        assert!((p.rate() - 12.5).abs() < 1e-9);
        assert_eq!(p.eta(), Some(Duration::from_secs(6)));
    }

    #[test]
    fn without_time_there_is_no_rate_and_no_estimate() {
        let p = progress(25, Duration::ZERO);
        assert!(p.rate().abs() < f64::EPSILON);
        assert_eq!(p.eta(), None);
        assert_eq!(progress(100, Duration::ZERO).eta(), Some(Duration::ZERO));
    }

    #[test]
    fn an_estimate_longer_than_a_duration_is_none() {
        assert_eq!(progress(0, Duration::MAX).eta(), None);
    }
}
