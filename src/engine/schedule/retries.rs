//! Items that wait for their next attempt, by the time when it is due.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::mem;
use std::time::Duration;

use crate::slots::Claim;

#[derive(Debug, Default)]
pub(super) struct Retries {
    by_time: BinaryHeap<Entry>,
    /// Those that are not tried again: the batch has stopped below them.
    stopped: Vec<Claim>,
}

#[derive(Debug)]
struct Entry {
    due: Duration,
    claim: Claim,
    /// Whether it waits for a pause that it has asked for.
    is_held: bool,
}

impl Retries {
    /// How many are to be tried again.
    pub(super) fn waiting(&self) -> usize {
        self.by_time.len()
    }

    pub(super) fn push(&mut self, due: Duration, claim: Claim, stop_at: usize) {
        self.add(Entry { due, claim, is_held: false }, stop_at);
    }

    /// One that waits for a pause that it has asked for, which may be ended.
    pub(super) fn push_held(&mut self, due: Duration, claim: Claim, stop_at: usize) {
        self.add(Entry { due, claim, is_held: true }, stop_at);
    }

    fn add(&mut self, entry: Entry, stop_at: usize) {
        if entry.claim.index() < stop_at {
            self.by_time.push(entry);
        } else {
            self.stopped.push(entry.claim);
        }
    }

    /// Pauses are ended: what waits for one is due now.
    pub(super) fn resume(&mut self) {
        let due_now =
            |entry: Entry| Entry { due: if entry.is_held { Duration::ZERO } else { entry.due }, ..entry };
        self.by_time = mem::take(&mut self.by_time).into_iter().map(due_now).collect();
    }

    /// One that is due now, the longest due first.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Claim> {
        self.next_due().filter(|due| *due <= now)?;
        self.by_time.pop().map(|entry| entry.claim)
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.by_time.peek().map(|entry| entry.due)
    }

    /// Nothing from here on is tried again. The line only ever comes down, so each item is sorted out once.
    pub(super) fn stop_at(&mut self, stop_at: usize) {
        self.stop_where(|index| index >= stop_at);
    }

    /// These are not tried again.
    pub(super) fn stop_where(&mut self, is_stopped: impl Fn(usize) -> bool) {
        let (stopped, below): (Vec<_>, Vec<_>) =
            mem::take(&mut self.by_time).into_iter().partition(|entry| is_stopped(entry.claim.index()));
        self.by_time.extend(below);
        self.stopped.extend(stopped.into_iter().map(|entry| entry.claim));
    }

    /// When no worker is left.
    pub(super) fn left(&mut self) -> Vec<Claim> {
        self.stop_at(0);
        mem::take(&mut self.stopped)
    }
}

/// The one that is due first is the greatest; of several the one with the lowest index.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.claim.index()).cmp(&(self.due, self.claim.index()))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::iter;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An item for each number, due after this many seconds.
    fn retries(dues: &[u32]) -> Retries {
        let mut retries = Retries::default();
        for (index, &due) in dues.iter().enumerate() {
            retries.push(due * SECOND, Claim::of(index..index + 1), usize::MAX);
        }
        retries
    }

    fn take_due(retries: &mut Retries, now: Duration) -> Vec<usize> {
        iter::from_fn(|| retries.take_due(now)).map(|claim| claim.index()).collect()
    }

    #[test]
    fn items_that_are_due_come_in_the_order_of_their_times_and_then_of_their_indices() {
        let mut retries = retries(&[3, 1, 9, 1]);
        assert_eq!(retries.next_due(), Some(SECOND));
        assert_eq!(take_due(&mut retries, Duration::ZERO), Vec::<usize>::new());
        assert_eq!(take_due(&mut retries, 3 * SECOND), [1, 3, 0]);
        assert_eq!((retries.waiting(), retries.next_due()), (1, Some(9 * SECOND)));
    }

    #[test]
    fn items_from_the_stop_line_on_wait_no_longer_and_are_not_lost() {
        let mut retries = retries(&[5, 5, 5, 5]);
        retries.stop_at(2);
        retries.push(SECOND, Claim::of(7..8), 2);
        assert_eq!(retries.waiting(), 2);
        assert_eq!(take_due(&mut retries, 9 * SECOND), [0, 1]);
        let mut left: Vec<_> = retries.left().iter().map(Claim::index).collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3, 7]);
    }

    #[test]
    fn when_pauses_are_ended_those_that_wait_for_one_are_due() {
        let mut retries = retries(&[3, 9]);
        retries.push_held(Duration::MAX, Claim::of(7..8), usize::MAX);
        retries.push_held(SECOND, Claim::of(8..9), usize::MAX);
        retries.resume();
        assert_eq!(take_due(&mut retries, 2 * SECOND), [7, 8]);
        assert_eq!((retries.waiting(), retries.next_due()), (2, Some(3 * SECOND)));
    }
}
