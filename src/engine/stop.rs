//! Who may still start.
//!
//! One number decides: items below the *end* may start, items from it on may not. A failure moves the end down to just
//! behind itself, so every item below the lowest failure runs and the answer is the same for any number of workers.

use std::collections::BinaryHeap;
use std::time::Duration;

use crate::batch_error::StopReason;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Instant, Mutex};

/// What a failure does to the rest of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Nothing: all errors are collected.
    GoOn,
    /// The first failure, in input order, stops the batch.
    Stop,
    /// So many failures, in input order, stop the batch.
    StopAfter(usize),
}

impl OnFailure {
    fn limit(self) -> usize {
        match self {
            OnFailure::GoOn => usize::MAX,
            OnFailure::Stop => 1,
            OnFailure::StopAfter(limit) => limit,
        }
    }
}

/// The end of what may start, and what moved it there.
#[derive(Debug)]
pub(super) struct Stop {
    on_failure: OnFailure,
    end: AtomicUsize,
    /// The lowest failures, as many as the limit counts; the highest of them is on top.
    lowest: Mutex<BinaryHeap<usize>>,
    /// Who waits before a start is told here when the end moves.
    moved: Condvar,
}

impl Stop {
    pub(super) fn new(on_failure: OnFailure) -> Self {
        Stop {
            on_failure,
            end: AtomicUsize::new(usize::MAX),
            lowest: Mutex::default(),
            moved: Condvar::default(),
        }
    }

    /// Items below this may start.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.end.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn allows(&self, index: usize) -> bool {
        index < self.end()
    }

    /// Nothing more starts.
    pub(super) fn close(&self) {
        let lowest = self.lowest.lock();
        self.end.store(0, Ordering::Relaxed);
        drop(lowest);
        self.moved.notify_all();
    }

    /// The item at `index` failed. The end moves once as many have failed as the limit says: behind the highest of
    /// the *lowest* so many, which is where a plain loop would have stopped.
    #[cold]
    pub(super) fn failed(&self, index: usize) {
        let limit = self.on_failure.limit();
        if limit == usize::MAX {
            return;
        }
        let mut lowest = self.lowest.lock();
        lowest.push(index);
        if lowest.len() > limit {
            lowest.pop();
        }
        if lowest.len() < limit {
            return;
        }
        let last = lowest.peek().map_or(usize::MAX, |last| last + 1);
        self.end.fetch_min(last, Ordering::Relaxed);
        drop(lowest);
        self.moved.notify_all();
    }

    /// Waits so long before the item at `index` starts; whether it may start then. Wakes as soon as it may not.
    pub(super) fn wait_to_start(&self, index: usize, wait: Duration) -> bool {
        if wait.is_zero() {
            return self.allows(index);
        }
        let since = Instant::now();
        let mut lowest = self.lowest.lock();
        while self.allows(index) {
            let left = wait.saturating_sub(since.elapsed());
            if left.is_zero() {
                return true;
            }
            (lowest, _) = self.moved.wait_for(lowest, left);
        }
        false
    }

    /// Why the batch stopped, if it did.
    pub(super) fn reason(self) -> Option<StopReason> {
        let lowest = self.lowest.into_inner();
        match self.on_failure {
            OnFailure::GoOn => None,
            OnFailure::Stop => lowest.peek().map(|&index| StopReason::ItemFailed { index }),
            OnFailure::StopAfter(limit) => {
                (lowest.len() == limit).then_some(StopReason::TooManyFailures { limit })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_after(on_failure: OnFailure, failures: &[usize]) -> (usize, Option<StopReason>) {
        let stop = Stop::new(on_failure);
        for &index in failures {
            stop.failed(index);
        }
        (stop.end(), stop.reason())
    }

    #[test]
    fn the_lowest_failure_is_the_end_in_whatever_order_failures_come() {
        let reason = Some(StopReason::ItemFailed { index: 3 });
        assert_eq!(end_after(OnFailure::Stop, &[7, 3, 5]), (4, reason));
        assert_eq!(end_after(OnFailure::Stop, &[3, 7]), (4, reason));
    }

    #[test]
    fn up_to_the_failure_items_may_start_and_none_behind_it() {
        let stop = Stop::new(OnFailure::Stop);
        stop.failed(3);
        assert_eq!([2, 3, 4].map(|index| stop.allows(index)), [true, true, false]);
    }

    #[test]
    fn a_limit_ends_behind_the_highest_of_the_lowest_so_many() {
        let reason = Some(StopReason::TooManyFailures { limit: 2 });
        assert_eq!(end_after(OnFailure::StopAfter(2), &[9]), (usize::MAX, None));
        assert_eq!(end_after(OnFailure::StopAfter(2), &[9, 4]), (10, reason));
        assert_eq!(end_after(OnFailure::StopAfter(2), &[9, 4, 1, 6]), (5, reason));
    }

    #[test]
    fn collecting_never_ends() {
        assert_eq!(end_after(OnFailure::GoOn, &[0, 1]), (usize::MAX, None));
    }

    #[test]
    fn who_waits_is_told_when_the_end_moves() {
        let stop = Stop::new(OnFailure::Stop);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stop.wait_to_start(8, Duration::MAX));
            stop.failed(8); // itself may still start
            stop.failed(2);
            assert!(!waiting.join().unwrap());
        });
        assert!(stop.wait_to_start(1, Duration::from_nanos(1)));
        stop.close();
        assert!(!stop.wait_to_start(1, Duration::MAX));
    }
}
