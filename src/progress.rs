//! The progress of a batch, as `on_progress` and `on_tick` get it.

use std::time::Duration;

use crate::counts::Counts;

/// The progress of a batch.
///
/// `completed == succeeded + failed`. In calls of [`on_progress`](crate::Batch::on_progress) it is
/// one more than in the call before. `running`, `waiting`, `retries`, `workers` and `paused_for` are
/// those of the time of the call; several calls that are made together have the same.
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
    /// Items in the batch; in a [stream](crate::Batch::stream), where `total_hint` is none, those that were pulled so far; in
    /// [`run_growing`](crate::Batch::run_growing), those that have come so far.
    pub total: usize,
    /// How many items there are in all, if that is known: always in a batch; in a stream if the iterator's
    /// [`size_hint`](Iterator::size_hint) is exact, or when it has ended; in a batch that grows, when no running item can
    /// push more.
    pub total_hint: Option<usize>,
    /// Completed items that have a value.
    pub succeeded: usize,
    /// Completed items that failed, panicked, timed out or got no permit, or had failed in an earlier
    /// run and did not run again.
    pub failed: usize,
    /// Items that workers run now.
    pub running: usize,
    /// Items that wait now: for their next attempt, or, after a worker has taken them up, for a
    /// [limit](crate::Limit). They hold no worker.
    pub waiting: usize,
    /// Retries so far: attempts that were not the first at their item, also those that failed again.
    pub retries: usize,
    /// Completed items that a journal has from an earlier run. They count neither in
    /// [`rate`](Progress::rate) nor in [`eta`](Progress::eta).
    pub recorded: usize,
    /// How many items may run at the same time now: the number of workers, which changes if they are
    /// [adaptive](crate::Workers::adaptive).
    pub workers: usize,
    /// Time since the batch began. Completions that are reported together carry the same time.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "elapsed_seconds", serialize_with = "crate::seconds::as_seconds")
    )]
    pub elapsed: Duration,
    /// The rest of a pause that an error has asked for with
    /// [`PauseAll`](crate::RetryDecision::PauseAll). `None` outside of such pauses.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "paused_for_seconds", serialize_with = "crate::seconds::as_seconds_if_any")
    )]
    pub paused_for: Option<Duration>,
    /// Those of the waiting that wait for their next attempt.
    #[cfg_attr(feature = "serde", serde(skip))]
    retrying: usize,
    #[cfg_attr(feature = "serde", serde(skip))]
    earlier: Earlier,
}

/// What goes on in a batch at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    /// Those of the waiting that wait for their next attempt.
    pub(crate) retrying: usize,
    pub(crate) retries: usize,
    pub(crate) workers: usize,
    pub(crate) paused_for: Option<Duration>,
    /// When the first item began that no earlier run has decided.
    pub(crate) began: Duration,
}

/// What an earlier run has done for this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Earlier {
    /// How many items it has decided that have not been looked up yet, as far as that is known.
    pub(crate) to_come: usize,
    /// When the first item began that is not one of them.
    pub(crate) took: Duration,
}

impl Progress {
    /// Of this many items, if that is known in the second place; of a stream otherwise those so
    /// far.
    pub(crate) fn new(
        counts: Counts,
        (total, total_hint): (usize, Option<usize>),
        elapsed: Duration,
        load: Load,
        earlier: Earlier,
    ) -> Self {
        let Counts { succeeded, failed, recorded } = counts;
        let Load { running, waiting, retrying, retries, workers, paused_for, .. } = load;
        Progress {
            completed: counts.decided(),
            total,
            total_hint,
            succeeded,
            failed,
            running,
            waiting,
            retries,
            recorded,
            workers,
            elapsed,
            paused_for,
            retrying,
            earlier,
        }
    }

    /// Of several batches; the sums.
    pub(crate) fn sum(parts: impl Iterator<Item = Progress>) -> Self {
        let none = Progress::new(
            Counts::default(),
            (0, Some(0)),
            Duration::ZERO,
            Load::default(),
            Earlier::default(),
        );
        let sum = parts.reduce(|sum, part| Progress {
            completed: sum.completed + part.completed,
            total: sum.total.saturating_add(part.total),
            total_hint: sum.total_hint.zip(part.total_hint).map(|(sum, part)| sum.saturating_add(part)),
            succeeded: sum.succeeded + part.succeeded,
            failed: sum.failed + part.failed,
            running: sum.running + part.running,
            waiting: sum.waiting + part.waiting,
            retries: sum.retries + part.retries,
            recorded: sum.recorded + part.recorded,
            workers: sum.workers + part.workers,
            elapsed: sum.elapsed.max(part.elapsed),
            paused_for: sum.paused_for.max(part.paused_for),
            retrying: sum.retrying + part.retrying,
            earlier: Earlier {
                to_come: sum.earlier.to_come + part.earlier.to_come,
                took: sum.earlier.took.min(part.earlier.took),
            },
        });
        sum.unwrap_or(none)
    }

    /// How many items wait for their next attempt.
    #[cfg_attr(not(feature = "indicatif"), allow(dead_code, reason = "only the bar tells of them"))]
    pub(crate) fn retrying(&self) -> usize {
        self.retrying
    }

    /// The same, so much later.
    #[cfg_attr(not(feature = "indicatif"), allow(dead_code, reason = "only the bar draws between two calls"))]
    pub(crate) fn after(&self, time: Duration) -> Self {
        let left = self.paused_for.map(|left| left.saturating_sub(time)).filter(|left| !left.is_zero());
        Progress { elapsed: self.elapsed.saturating_add(time), paused_for: left, ..*self }
    }

    /// Items completed per second, on average since the batch began. [Recorded](Progress::recorded)
    /// items do not count, nor does the time in which the batch looked up only such items. 0 until
    /// another item is completed and time has passed.
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
        let time = self.elapsed.saturating_sub(self.earlier.took);
        let completed = self.completed.saturating_sub(self.recorded);
        if time.is_zero() { 0.0 } else { completed as f64 / time.as_secs_f64() }
    }

    /// The time that the remaining items take at this [`rate`](Progress::rate). In a batch, items
    /// that a journal has do not count as remaining; a stream cannot know them beforehand. `None`
    /// while there is no rate, while the number of items is unknown, or if the time is too long for a
    /// [`Duration`].
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
        let left = self.total_hint?.saturating_sub(self.completed).saturating_sub(self.earlier.to_come);
        if left == 0 {
            return Some(Duration::ZERO);
        }
        Duration::try_from_secs_f64(left as f64 / self.rate()).ok()
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    fn progress(completed: usize, elapsed: Duration) -> Progress {
        let counts = Counts { succeeded: completed, ..Counts::default() };
        Progress::new(counts, (100, Some(100)), elapsed, Load::default(), Earlier::default())
    }

    /// 1,800 of 2,000 are recorded, and looking them up took a second.
    #[test]
    fn what_an_earlier_run_has_done_is_in_neither_rate_nor_estimate() {
        let counts = Counts { succeeded: 1_840, failed: 0, recorded: 1_800 };
        let earlier = Earlier { to_come: 0, took: Duration::from_secs(1) };
        let at = |counts, millis, earlier| {
            let elapsed = Duration::from_millis(millis);
            Progress::new(counts, (2_000, Some(2_000)), elapsed, Load::default(), earlier)
        };
        let p = at(counts, 1_400, earlier);
        assert!((p.rate() - 100.0).abs() < 1e-9);
        assert_eq!(p.eta(), Some(Duration::from_millis(1_600)));
        let p = at(Counts { succeeded: 40, ..Counts::default() }, 400, Earlier { to_come: 1_800, ..earlier });
        assert_eq!(p.eta(), None, "no time has passed beside");
        let earlier = Earlier { to_come: 1_800, took: Duration::ZERO };
        let p = at(Counts { succeeded: 40, ..Counts::default() }, 400, earlier);
        assert_eq!(p.eta(), Some(Duration::from_millis(1_600)), "those to come are not run");
    }

    #[test]
    fn later_more_time_has_passed_and_a_pause_may_be_over() {
        let p = Progress { paused_for: Some(Duration::from_secs(2)), ..progress(25, Duration::from_secs(2)) };
        let later = p.after(Duration::from_secs(1));
        assert_eq!((later.elapsed, later.paused_for), (Duration::from_secs(3), Some(Duration::from_secs(1))));
        assert_eq!(p.after(Duration::from_secs(2)).paused_for, None);
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
        assert_eq!([0, 1].map(|completed| progress(completed, Duration::MAX).eta()), [None; 2]);
    }

    #[test]
    fn of_several_batches_the_numbers_are_sums_and_the_longest_times() {
        let part = |unit: usize| Progress {
            completed: 3 * unit,
            total: 10 * unit,
            total_hint: Some(11 * unit),
            succeeded: 2 * unit,
            failed: unit,
            running: 4 * unit,
            waiting: 5 * unit,
            retries: 6 * unit,
            recorded: 7 * unit,
            workers: 8 * unit,
            elapsed: Duration::from_secs(unit as u64),
            paused_for: Some(Duration::from_secs(9 * unit as u64)),
            retrying: 9 * unit,
            earlier: Earlier { to_come: unit, took: Duration::from_secs(unit as u64) },
        };
        for parts in [[1, 2], [2, 1]] {
            let earlier = Earlier { to_come: 3, took: Duration::from_secs(1) };
            let (elapsed, paused_for) = (part(2).elapsed, part(2).paused_for);
            let longest = Progress { elapsed, paused_for, earlier, ..part(3) };
            assert_eq!(Progress::sum(parts.into_iter().map(part)), longest);
        }
        let endless = Progress { total_hint: None, paused_for: None, ..part(1) };
        let sum = Progress::sum([part(1), endless].into_iter());
        assert_eq!((sum.total_hint, sum.paused_for), (None, part(1).paused_for));
    }
}
