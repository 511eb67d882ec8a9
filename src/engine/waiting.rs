//! Items that wait for their next attempt, by the time when it is due.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::mem;

use crate::sync::Instant;

/// Whoever waits at `index` until a time, or until the batch has stopped below it.
pub(super) struct Waiting<W> {
    by_time: BinaryHeap<Entry<W>>,
    /// Those that are not to be tried again: the batch has stopped below them.
    stopped: Vec<W>,
    /// Where the batch stopped, as far as is known here.
    end: usize,
}

struct Entry<W> {
    due: Instant,
    index: usize,
    waiter: W,
}

impl<W> Waiting<W> {
    pub(super) fn new() -> Self {
        Waiting { by_time: BinaryHeap::new(), stopped: Vec::new(), end: usize::MAX }
    }

    pub(super) fn len(&self) -> usize {
        self.by_time.len() + self.stopped.len()
    }

    pub(super) fn push(&mut self, due: Instant, index: usize, waiter: W) {
        if index < self.end {
            self.by_time.push(Entry { due, index, waiter });
        } else {
            self.stopped.push(waiter);
        }
    }

    /// Those that are from `end` on, and need not wait.
    pub(super) fn take_stopped(&mut self, end: usize) -> Vec<W> {
        self.stop_at(end);
        mem::take(&mut self.stopped)
    }

    /// One that is due now, the longest due first.
    pub(super) fn take(&mut self, now: Instant) -> Option<W> {
        self.by_time.peek().filter(|entry| entry.due <= now)?;
        self.by_time.pop().map(|entry| entry.waiter)
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_time.peek().map(|entry| entry.due)
    }

    /// The end only ever comes down, so those above it are sorted out once.
    fn stop_at(&mut self, end: usize) {
        if end >= self.end {
            return;
        }
        self.end = end;
        let (above, below): (Vec<_>, Vec<_>) = self.by_time.drain().partition(|entry| entry.index >= end);
        self.by_time.extend(below);
        self.stopped.extend(above.into_iter().map(|entry| entry.waiter));
    }
}

/// The one that is due first is the greatest; of several the one with the lowest index.
impl<W> Ord for Entry<W> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.index).cmp(&(self.due, self.index))
    }
}

impl<W> PartialOrd for Entry<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> PartialEq for Entry<W> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<W> Eq for Entry<W> {}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Waiters that are their own index, due after so many seconds.
    fn waiting(now: Instant, dues: &[u32]) -> Waiting<usize> {
        let mut waiting = Waiting::new();
        for (index, &due) in dues.iter().enumerate() {
            waiting.push(now + due * SECOND, index, index);
        }
        waiting
    }

    fn take_due(waiting: &mut Waiting<usize>, now: Instant) -> Vec<usize> {
        iter::from_fn(|| waiting.take(now)).collect()
    }

    #[test]
    fn those_that_are_due_come_in_the_order_of_their_times_and_then_of_their_indices() {
        let now = Instant::now();
        let mut waiting = waiting(now, &[3, 1, 9, 1]);
        assert_eq!(waiting.next_due(), Some(now + SECOND));
        assert!(take_due(&mut waiting, now).is_empty());
        assert_eq!(take_due(&mut waiting, now + 3 * SECOND), [1, 3, 0]);
        assert_eq!((waiting.len(), waiting.next_due()), (1, Some(now + 9 * SECOND)));
    }

    #[test]
    fn those_above_the_end_come_at_once_and_those_below_wait_on() {
        let now = Instant::now();
        let mut waiting = waiting(now, &[5, 5, 5, 5]);
        let mut stopped = waiting.take_stopped(2);
        stopped.sort_unstable();
        assert_eq!(stopped, [2, 3]);
        waiting.push(now + SECOND, 7, 7);
        assert_eq!(waiting.len(), 3);
        assert_eq!(waiting.take_stopped(2), [7]);
        assert!(take_due(&mut waiting, now).is_empty());
        assert_eq!(waiting.take_stopped(0).len(), 2);
        assert_eq!((waiting.len(), waiting.next_due()), (0, None));
    }

    #[test]
    fn nobody_is_lost_at_the_end() {
        let now = Instant::now();
        let mut waiting = waiting(now, &[5, 6, 7]);
        assert_eq!(waiting.take_stopped(1).len(), 2);
        assert_eq!(waiting.take_stopped(0), [0]);
    }
}
