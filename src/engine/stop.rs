//! Who may still start, and when.
//!
//! One number decides: items below the *end* may start, items from it on may not. A failure moves the end down to just
//! behind itself, so every item below the lowest failure runs and the answer is the same for any number of workers. A
//! cancel, a deadline or a panic moves it to 0.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use crate::batch_error::StopReason;
use crate::cancel::{CancelToken, OnCancel, Watching};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, spin_until};

use super::pause::Pause;
use super::tally::Bell;

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

/// More than there can be workers who sleep.
const CHANGE: usize = 1 << 13;

/// The end of what may start, and what moved it there. Borrows nothing of the batch, so that a token may hold it.
pub(super) struct Stop {
    on_failure: OnFailure,
    deadline: Option<Instant>,
    end: AtomicUsize,
    /// How many pauses there have been, for a look without the lock.
    pauses: AtomicUsize,
    /// How many sleep who have nothing to do, and in `CHANGE`s, what there was for them to look at: in one word, so that nobody
    /// can miss the one while it looks at the other.
    changes: AtomicUsize,
    state: Mutex<State>,
    /// Who waits to start is told here when the end moves.
    moved: Condvar,
    /// Who has nothing to do is told here when the end moves, or when there is something to do.
    called: Condvar,
    /// Rung for a caller that coordinates.
    bell: Option<Bell>,
}

#[derive(Default)]
struct State {
    /// The lowest failures, as many as the limit counts; the highest of them is on top.
    lowest: BinaryHeap<usize>,
    pause: Pause,
    closed: bool,
    /// Why, if it was closed for a reason.
    reason: Option<StopReason>,
    /// The lowest item that would have been tried again.
    given_up: Option<usize>,
}

impl State {
    /// Where the failures so far end the batch.
    fn end_by_failures(&self, limit: usize) -> usize {
        if self.lowest.len() < limit {
            return usize::MAX;
        }
        self.lowest.peek().map_or(usize::MAX, |last| last + 1)
    }
}

impl Stop {
    pub(super) fn new(on_failure: OnFailure, deadline: Option<Instant>, bell: Option<Bell>) -> Self {
        Stop {
            on_failure,
            deadline,
            end: AtomicUsize::new(usize::MAX),
            pauses: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            state: Mutex::default(),
            moved: Condvar::default(),
            called: Condvar::default(),
            bell,
        }
    }

    /// Items below this may start.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.end.load(Ordering::Relaxed)
    }

    /// The end, for whoever looks at it while an item runs.
    #[inline]
    pub(super) fn end_itself(&self) -> &AtomicUsize {
        &self.end
    }

    #[inline]
    pub(super) fn allows(&self, index: usize) -> bool {
        index < self.end()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn bell(&self) -> Option<&Bell> {
        self.bell.as_ref()
    }

    /// Has the caller look, if it coordinates.
    pub(super) fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Nothing more starts.
    pub(super) fn close(&self, reason: Option<StopReason>) {
        let mut state = self.state.lock();
        if !state.closed {
            (state.closed, state.reason) = (true, reason);
        }
        self.end.store(0, Ordering::Relaxed);
        self.tell(state);
        self.ring();
    }

    /// The deadline, while it may still close the batch.
    pub(super) fn deadline_ahead(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.end() > 0)
    }

    /// Closes the batch if its time is over; without a deadline, the clock is not read.
    pub(super) fn look_at_deadline(&self) {
        if self.deadline.is_some() {
            self.look_at_clock(Instant::now());
        }
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Closes the batch if its time is over.
    pub(super) fn look_at_clock(&self, now: Instant) {
        if self.is_late(now) && self.end() > 0 {
            self.close(Some(StopReason::DeadlineExceeded));
        }
    }

    /// The item at `index` failed. The end moves once as many have failed as the limit says: behind the highest of
    /// the *lowest* so many, which is where a plain loop would have stopped.
    #[cold]
    pub(super) fn failed(&self, index: usize) {
        let limit = self.on_failure.limit();
        if limit == usize::MAX {
            return;
        }
        let mut state = self.state.lock();
        state.lowest.push(index);
        if state.lowest.len() > limit {
            state.lowest.pop();
        }
        let end = state.end_by_failures(limit);
        if end < usize::MAX {
            self.end.fetch_min(end, Ordering::Relaxed);
            self.tell(state);
        }
    }

    /// The item at `index` would have been tried again, had the batch not stopped.
    pub(super) fn gave_up(&self, index: usize) {
        let mut state = self.state.lock();
        state.given_up = Some(state.given_up.map_or(index, |lowest| lowest.min(index)));
    }

    /// How many pauses there have been.
    pub(super) fn pauses(&self) -> usize {
        self.pauses.load(Ordering::Relaxed)
    }

    /// Somebody who started when there had been `seen` pauses asks that nothing starts for so long; whether that is news.
    pub(super) fn pause(&self, time: Duration, seen: usize) -> bool {
        let mut state = self.state.lock();
        let is_news = state.pause.ask(Instant::now(), time, seen);
        self.pauses.store(state.pause.number(), Ordering::Relaxed);
        is_news
    }

    /// Waits so long before the item at `index` starts, and longer during a pause; whether it may start then. Wakes as
    /// soon as it may not.
    pub(super) fn wait_to_start(&self, index: usize, wait: Duration) -> bool {
        let mut now = Instant::now();
        self.look_at_clock(now);
        if wait.is_zero() && self.pauses() == 0 {
            return self.allows(index);
        }
        let since = now;
        let mut state = self.state.lock();
        while self.allows(index) {
            let waited = now.saturating_duration_since(since);
            let left = wait.saturating_sub(waited).max(state.pause.left(now));
            if self.is_late(now) {
                drop(state);
                self.look_at_clock(now);
                return false; // even if its time has come, too
            }
            if left.is_zero() {
                return true;
            }
            let limit = self.until_deadline(now, left);
            (state, _) = self.moved.wait_for(state, limit);
            now = Instant::now();
        }
        false
    }

    /// What there was to look at so far, for [`wait_for_change`](Stop::wait_for_change).
    pub(super) fn changes(&self) -> usize {
        // Acquire: who has seen a change sees what it was, too.
        self.changes.load(Ordering::Acquire) / CHANGE
    }

    /// Waits so long for something to do, unless something has changed since `seen`; whether it has.
    pub(super) fn wait_for_change(&self, seen: usize, wait: Duration) -> bool {
        let since = Instant::now();
        spin_until(|| self.changes() != seen);
        let mut state = self.state.lock();
        let mut is_same = self.changes.fetch_add(1, Ordering::AcqRel) / CHANGE == seen;
        while is_same {
            let now = Instant::now();
            let left = wait.saturating_sub(now.saturating_duration_since(since));
            let left = self.until_deadline(now, left);
            if left.is_zero() {
                break;
            }
            (state, _) = self.called.wait_for(state, left);
            is_same = self.changes() == seen;
        }
        self.changes.fetch_sub(1, Ordering::AcqRel);
        !is_same
    }

    /// So long, but not beyond the deadline.
    pub(super) fn until_deadline(&self, now: Instant, wait: Duration) -> Duration {
        self.deadline.map_or(wait, |deadline| wait.min(deadline.saturating_duration_since(now)))
    }

    /// There is something to look at for one of those who wait for something to do.
    pub(super) fn call_one(&self) {
        if self.changes.fetch_add(CHANGE, Ordering::AcqRel) % CHANGE > 0 {
            // Who is about to sleep holds the lock until it does.
            drop(self.state.lock());
            self.called.notify_one();
        }
    }

    /// There is something to look at for all of them.
    pub(super) fn call_all(&self) {
        self.tell(self.state.lock());
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        // Under the lock: who is about to sleep holds it until it does.
        self.changes.fetch_add(CHANGE, Ordering::AcqRel);
        drop(state);
        self.moved.notify_all();
        self.called.notify_all();
    }

    /// Where the failures so far end the batch, whatever else may.
    pub(super) fn end_by_failures(&self) -> usize {
        if self.end() == usize::MAX {
            return usize::MAX;
        }
        self.state.lock().end_by_failures(self.on_failure.limit())
    }

    /// Why the batch stopped, if it did. A cancel or a deadline is the reason only where it kept something from being run that
    /// the failures, which end the batch at the index that `is_missed` gets, would have let run.
    pub(super) fn reason(&self, is_missed: impl FnOnce(usize) -> bool) -> Option<StopReason> {
        let (end, closed, given_up) = {
            let state = self.state.lock();
            (state.end_by_failures(self.on_failure.limit()), state.reason, state.given_up)
        };
        let is_closed = closed.filter(|_| given_up.is_some_and(|index| index < end) || is_missed(end));
        is_closed.or_else(|| self.failure(end))
    }

    /// The reason why failures end the batch at this index.
    pub(super) fn failure(&self, end: usize) -> Option<StopReason> {
        match self.on_failure {
            OnFailure::Stop if end < usize::MAX => Some(StopReason::ItemFailed { index: end - 1 }),
            OnFailure::StopAfter(limit) if end < usize::MAX => Some(StopReason::TooManyFailures { limit }),
            _ => None,
        }
    }
}

/// A `Stop` with the caller, or where tokens reach it.
pub(super) enum Watched {
    ByNobody(Stop),
    ByTokens(Arc<Stop>, #[expect(dead_code, reason = "held until the batch is over")] Vec<Watching>),
}

impl Watched {
    pub(super) fn new(stop: Stop, tokens: &[CancelToken]) -> Self {
        if tokens.is_empty() {
            return Watched::ByNobody(stop);
        }
        let stop = Arc::new(stop);
        let watching = tokens.iter().map(|token| token.watch(stop.clone())).collect();
        Watched::ByTokens(stop, watching)
    }

    pub(super) fn stop(&self) -> &Stop {
        match self {
            Watched::ByNobody(stop) => stop,
            Watched::ByTokens(stop, _) => stop,
        }
    }
}

impl OnCancel for Stop {
    fn cancelled(&self) {
        self.close(Some(StopReason::Cancelled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(on_failure: OnFailure) -> Stop {
        Stop::new(on_failure, None, None)
    }

    /// Whether one of these never started, below the end that is asked about.
    fn any_below(skipped: &[usize]) -> impl FnOnce(usize) -> bool {
        move |end| skipped.iter().any(|index| *index < end)
    }

    fn end_after(on_failure: OnFailure, failures: &[usize]) -> (usize, Option<StopReason>) {
        let stop = stop(on_failure);
        for &index in failures {
            stop.failed(index);
        }
        (stop.end(), stop.reason(any_below(&[])))
    }

    #[test]
    fn the_lowest_failure_is_the_end_in_whatever_order_failures_come() {
        let reason = Some(StopReason::ItemFailed { index: 3 });
        assert_eq!(end_after(OnFailure::Stop, &[7, 3, 5]), (4, reason));
        assert_eq!(end_after(OnFailure::Stop, &[3, 7]), (4, reason));
    }

    #[test]
    fn up_to_the_failure_items_may_start_and_none_behind_it() {
        let stop = stop(OnFailure::Stop);
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
        let stop = stop(OnFailure::Stop);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stop.wait_to_start(8, Duration::MAX));
            stop.failed(8); // itself may still start
            stop.failed(2);
            assert!(!waiting.join().unwrap());
        });
        assert!(stop.wait_to_start(1, Duration::from_nanos(1)));
        stop.close(None);
        assert!(!stop.wait_to_start(1, Duration::MAX));
    }

    #[test]
    fn a_cancel_is_the_reason_only_where_it_kept_something_from_being_run() {
        let reason = |on_failure, failed: Option<usize>, skipped: &[usize], given_up: Option<usize>| {
            let stop = stop(on_failure);
            stop.cancelled();
            let _ = failed.map(|index| stop.failed(index));
            let _ = given_up.map(|index| stop.gave_up(index));
            stop.reason(any_below(skipped))
        };
        let (cancelled, failed) = (Some(StopReason::Cancelled), Some(StopReason::ItemFailed { index: 3 }));
        assert_eq!(reason(OnFailure::GoOn, None, &[], None), None, "everything has run");
        assert_eq!(reason(OnFailure::GoOn, None, &[9], None), cancelled);
        assert_eq!(reason(OnFailure::GoOn, None, &[], Some(5)), cancelled);
        assert_eq!(reason(OnFailure::Stop, Some(3), &[4, 5], Some(6)), failed, "behind the failure");
        assert_eq!(reason(OnFailure::Stop, Some(3), &[2], None), cancelled);
        assert_eq!(reason(OnFailure::Stop, Some(3), &[4], Some(2)), cancelled);
    }

    #[test]
    fn the_first_reason_to_close_stays() {
        let stop = stop(OnFailure::GoOn);
        stop.close(Some(StopReason::DeadlineExceeded));
        stop.cancelled();
        assert_eq!(stop.reason(any_below(&[1])), Some(StopReason::DeadlineExceeded));
    }

    #[test]
    fn a_deadline_ends_every_wait_and_closes() {
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        let at_the_limiter = Stop::new(OnFailure::GoOn, soon(), None);
        assert!(!at_the_limiter.wait_to_start(0, Duration::MAX));
        assert_eq!(at_the_limiter.end(), 0);
        let for_work = Stop::new(OnFailure::GoOn, soon(), None);
        for_work.wait_for_change(for_work.changes(), Duration::MAX);
        assert!(for_work.allows(0), "it is for the next look at the clock to close it");
        for_work.look_at_clock(Instant::now());
        assert!(!for_work.allows(0));
    }

    #[test]
    fn who_waits_for_something_to_do_goes_on_when_there_is_a_change() {
        let stop = stop(OnFailure::Stop);
        let seen = stop.changes();
        stop.call_one();
        stop.wait_for_change(seen, Duration::MAX);
        let seen = stop.changes();
        stop.failed(3);
        stop.wait_for_change(seen, Duration::MAX);
        stop.wait_for_change(stop.changes(), Duration::from_nanos(1));
    }

    #[test]
    fn a_pause_holds_back_who_has_a_permit_already() {
        let stop = stop(OnFailure::GoOn);
        let (long, since) = (Duration::from_millis(20), Instant::now());
        assert!(stop.pause(long, 0));
        assert!(!stop.pause(Duration::ZERO, 0));
        assert_eq!(stop.pauses(), 1);
        assert!(stop.wait_to_start(0, Duration::ZERO));
        assert!(since.elapsed() >= long);
    }
}
