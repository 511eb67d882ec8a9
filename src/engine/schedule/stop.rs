//! The stop line: items below it may start, items from it on may not.
//!
//! A failure moves the line down to just behind itself, so every item below the lowest failure runs, and the result is the
//! same for any number of workers. A cancel, a deadline or a panic that is no item's moves it to 0.

use std::collections::BinaryHeap;

use crate::batch_error::StopReason;

use super::growth::Growth;

/// What a failure does to the rest of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Nothing: all errors are collected.
    GoOn,
    /// The first failure, in input order, stops the batch.
    Stop,
    /// This many failures, in input order, stop the batch.
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

#[derive(Debug)]
pub(in crate::engine) struct Stop {
    on_failure: OnFailure,
    /// The lowest failures, at most `on_failure.limit()`; the highest of them is on top.
    lowest: BinaryHeap<usize>,
    is_closed: bool,
    /// Why the batch was closed, if there is a reason.
    reason: Option<StopReason>,
    /// Where items push others, which of two comes first is no matter of their numbers.
    pub(in crate::engine) growth: Option<Box<Growth>>,
}

impl Stop {
    pub(in crate::engine) fn new(on_failure: OnFailure) -> Self {
        Stop { on_failure, lowest: BinaryHeap::new(), is_closed: false, reason: None, growth: None }
    }

    /// Where items push others, no number of an item is at or above it until the batch is closed. It moves down with each move of the
    /// line, so that this is seen; [`allows`](Stop::allows) says which items may start.
    pub(in crate::engine) fn line(&self) -> usize {
        match &self.growth {
            _ if self.is_closed => 0,
            Some(growth) => usize::MAX - growth.moves(),
            None => self.line_of_failures(),
        }
    }

    /// Whether the item may start.
    pub(in crate::engine) fn allows(&self, index: usize) -> bool {
        index < self.line() && self.comes_before_failures(index)
    }

    /// A line that is above the item if and only if it may start.
    pub(super) fn line_for(&self, index: usize) -> usize {
        if self.allows(index) { self.line() } else { 0 }
    }

    /// Whether the failures so far let the item run, whatever else does.
    pub(in crate::engine) fn comes_before_failures(&self, index: usize) -> bool {
        match &self.growth {
            Some(growth) => !growth.is_behind_line(index),
            None => index < self.line_of_failures(),
        }
    }

    /// Where the failures so far stop the batch, whatever else does: behind the highest of the *lowest* failures that the limit
    /// counts, which is where a plain loop would have stopped.
    pub(in crate::engine) fn line_of_failures(&self) -> usize {
        if let Some(growth) = &self.growth {
            return growth.line().map_or(usize::MAX, |last| last + 1);
        }
        if self.lowest.len() < self.on_failure.limit() {
            return usize::MAX;
        }
        self.lowest.peek().map_or(usize::MAX, |last| last + 1)
    }

    /// The item at `index` failed.
    pub(in crate::engine) fn failed(&mut self, index: usize) {
        if self.on_failure == OnFailure::GoOn {
            return;
        }
        if let Some(growth) = &mut self.growth {
            growth.failed(index, self.on_failure.limit());
            return;
        }
        self.lowest.push(index);
        if self.lowest.len() > self.on_failure.limit() {
            self.lowest.pop();
        }
    }

    /// Nothing more starts. The first call gives the reason.
    pub(super) fn close(&mut self, reason: Option<StopReason>) {
        if !self.is_closed {
            (self.is_closed, self.reason) = (true, reason);
        }
    }

    /// Why the batch stopped, if it did. A cancel or a deadline counts only where it kept an item undecided that the failures
    /// would have let run: `is_missed` says so of the items below the line of failures. An item for which there was no memory is one.
    pub(in crate::engine) fn reason(&self, is_missed: impl FnOnce(usize) -> bool) -> Option<StopReason> {
        let line = self.line_of_failures();
        let closed = self.reason.filter(|reason| *reason == StopReason::OutOfMemory || is_missed(line));
        closed.or(match self.on_failure {
            _ if line == usize::MAX => None,
            OnFailure::Stop => Some(StopReason::ItemFailed { index: line - 1 }),
            OnFailure::StopAfter(limit) => Some(StopReason::TooManyFailures { limit }),
            OnFailure::GoOn => None,
        })
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    /// The line and the line of failures, after failures in this order.
    fn line_after(on_failure: OnFailure, failures: &[usize]) -> usize {
        let mut stop = Stop::new(on_failure);
        for &index in failures {
            stop.failed(index);
        }
        stop.line()
    }

    #[test]
    fn the_line_is_behind_the_failure_where_a_plain_loop_would_have_stopped() {
        assert_eq!(line_after(OnFailure::GoOn, &[0, 1]), usize::MAX);
        assert_eq!(line_after(OnFailure::Stop, &[]), usize::MAX);
        assert_eq!(line_after(OnFailure::Stop, &[7, 3, 5]), 4);
        assert_eq!(line_after(OnFailure::StopAfter(2), &[7]), usize::MAX);
        assert_eq!(line_after(OnFailure::StopAfter(2), &[7, 3, 5]), 6);
    }

    #[test]
    fn a_cancel_is_the_reason_only_if_something_below_the_failures_was_missed() {
        let mut stop = Stop::new(OnFailure::Stop);
        stop.close(Some(StopReason::Cancelled));
        stop.close(Some(StopReason::DeadlineExceeded));
        assert_eq!((stop.line(), stop.line_of_failures()), (0, usize::MAX));
        assert_eq!(stop.reason(|_| false), None);
        assert_eq!(stop.reason(|_| true), Some(StopReason::Cancelled));
        stop.failed(3);
        assert_eq!(stop.reason(|line| line > 4), Some(StopReason::ItemFailed { index: 3 }));
        assert_eq!(stop.reason(|line| line == 4), Some(StopReason::Cancelled));
    }

    #[test]
    fn the_line_for_an_item_is_above_it_if_it_may_start() {
        let mut stop = Stop::new(OnFailure::Stop);
        stop.failed(2);
        assert_eq!([0, 2, 3].map(|index| stop.line_for(index)), [3, 3, 0]);
        stop.close(Some(StopReason::Cancelled));
        assert_eq!([0, 2, 3].map(|index| stop.line_for(index)), [0; 3]);
    }

    #[test]
    fn a_batch_that_was_closed_without_a_reason_has_none() {
        let mut stop = Stop::new(OnFailure::GoOn);
        stop.close(None);
        assert_eq!((stop.line(), stop.reason(|_| true)), (0, None));
    }
}
