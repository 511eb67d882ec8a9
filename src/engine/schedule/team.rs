//! Which workers there are, and what they do: at work, idle, or away. One function moves a worker, so the counts follow from
//! what each worker does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::adaptive::{Controller, Ticket};
use crate::timeline::curve::Curve;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Role {
    /// Works until nothing is left.
    Helper,
    /// Works now and then, and has something else to look after.
    Caller,
    /// One of those that a single task has: all of them are one thread, so none keeps another waiting by pulling.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "no batch runs in a task"))]
    Seat,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Phase {
    /// Nothing for this batch: it has not come yet, or has gone.
    Away,
    /// It runs a claim; whether idle workers could get something of it: one of several items, or what its item pushes.
    Busy { shares: bool },
    /// It has claimed an item, and asks whether that may start.
    Asking,
    /// It pulls items out of the iterator, which may keep it waiting.
    Pulling,
    /// It waits until there is something for it.
    Idle,
}

impl Phase {
    pub(in crate::engine) fn is_busy(self) -> bool {
        matches!(self, Phase::Busy { .. })
    }
}

/// One worker, as the schedule knows it.
#[derive(Debug)]
pub(in crate::engine) struct Member {
    pub(in crate::engine) role: Role,
    pub(super) phase: Phase,
    /// Its own among those that are busy, where the user or a timeline asks for it.
    pub(in crate::engine) number: usize,
    /// When it wakes by itself, while it is idle.
    alarm: Option<Duration>,
    /// Whether it has run a claim.
    pub(super) has_run: bool,
    /// Whether it has waited for room for several items already.
    pub(super) has_waited_for_room: bool,
    /// Its claim, as the controller knows it.
    pub(in crate::engine) ticket: Option<Ticket>,
}

impl Member {
    pub(in crate::engine) fn new(role: Role) -> Self {
        Member {
            role,
            phase: Phase::Away,
            number: 0,
            alarm: None,
            has_run: false,
            has_waited_for_room: false,
            ticket: None,
        }
    }

    pub(in crate::engine) fn is_away(&self) -> bool {
        self.phase == Phase::Away
    }
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Team {
    /// How many may be busy.
    pub(in crate::engine) limit: usize,
    pub(in crate::engine) busy: usize,
    pub(super) most_busy: usize,
    /// Helpers that have come and not gone.
    pub(super) helpers: usize,
    pub(super) idle: usize,
    pulling: usize,
    pub(super) asking: usize,
    /// How many run a claim of which idle workers could get something.
    pub(super) sharing: usize,
    /// Whether fewer slow items are left than there may be workers, so that no worker keeps several of them.
    pub(super) ends_slowly: bool,
    /// Whether they are those of a task.
    pub(super) has_seats: bool,
    /// How many helpers went because the limit had fallen.
    pub(in crate::engine) sent_away: usize,
    /// How many of the idle sleep, and how many of these were called and have not come yet.
    pub(super) asleep: usize,
    pub(super) called: usize,
    /// When the first of the idle wakes by itself.
    pub(super) alarm: Option<Duration>,
    numbers: Option<Numbers>,
    /// Whether a control has set the limit.
    is_set: bool,
    /// Moves the limit; none for one that stays.
    pub(super) controller: Option<Box<Controller>>,
    pub(super) curve: Option<Curve>,
}

impl Team {
    /// Workers are numbered if `numbered`, and a curve of the limit is drawn if `recorded`.
    pub(in crate::engine) fn new(
        limit: usize,
        controller: Option<Box<Controller>>,
        numbered: bool,
        recorded: bool,
    ) -> Self {
        let numbers = (numbered || recorded).then(Numbers::default);
        let curve = recorded.then(|| Curve::new(limit));
        Team { limit, numbers, controller, curve, ..Team::default() }
    }

    pub(in crate::engine) fn adapts(&self) -> bool {
        self.controller.is_some()
    }

    /// How many workers there may ever be.
    pub(in crate::engine) fn most_workers(&self) -> usize {
        self.controller.as_deref().map_or(self.limit, Controller::most).max(1)
    }

    /// Whether the limit may fall.
    pub(super) fn may_shrink(&self) -> bool {
        self.adapts() || self.is_set
    }

    /// The limit stays there from now on.
    pub(super) fn set_limit(&mut self, now: Duration, limit: usize) {
        (self.limit, self.is_set, self.controller) = (limit, true, None);
        self.curve.iter_mut().for_each(|curve| curve.add(now, limit));
    }

    /// The worker does something else now. A worker that becomes busy gets a number.
    pub(super) fn turn(&mut self, member: &mut Member, to: Phase) {
        let from = std::mem::replace(&mut member.phase, to);
        self.count(member.role, from, usize::wrapping_sub);
        self.count(member.role, to, usize::wrapping_add);
        self.most_busy = self.most_busy.max(self.busy);
        if let Some(numbers) = self.numbers.as_mut().filter(|_| from.is_busy() != to.is_busy()) {
            if to.is_busy() {
                member.number = numbers.take();
            } else {
                numbers.give_back(member.number);
            }
        }
        if let Some(alarm) = member.alarm.take() {
            self.alarm = self.alarm.filter(|first| *first != alarm);
        }
    }

    fn count(&mut self, role: Role, phase: Phase, add: impl Fn(usize, usize) -> usize) {
        let count = |number: &mut usize, counts: bool| *number = add(*number, usize::from(counts));
        count(&mut self.busy, phase.is_busy());
        count(&mut self.sharing, phase == Phase::Busy { shares: true });
        count(&mut self.pulling, phase == Phase::Pulling);
        count(&mut self.asking, phase == Phase::Asking);
        count(&mut self.idle, phase == Phase::Idle);
        count(&mut self.helpers, role != Role::Caller && phase != Phase::Away);
        self.has_seats |= role == Role::Seat;
    }

    /// Whether the worker may become busy.
    pub(super) fn has_room(&self, member: &Member) -> bool {
        self.busy - usize::from(member.phase.is_busy()) < self.limit
    }

    /// Whether the limit has fallen below the number of helpers, so that this one has to go. A worker that pulls is not counted:
    /// the iterator may keep it waiting.
    pub(super) fn is_one_too_many(&self, member: &Member) -> bool {
        let others = self.other_helpers(member) - self.pulling.min(self.other_helpers(member));
        member.role != Role::Caller && others >= self.limit
    }

    /// How many helpers there are beside this worker.
    pub(super) fn other_helpers(&self, member: &Member) -> usize {
        self.helpers - usize::from(member.role != Role::Caller && !member.is_away())
    }

    /// How many workers look after the batch. One that pulls what is not wanted any more is waited for elsewhere.
    pub(super) fn present(&self, is_open: bool) -> usize {
        self.busy + self.asking + self.idle + if is_open { self.pulling } else { 0 }
    }

    /// The worker, which is idle, wakes by itself then.
    pub(super) fn set_alarm(&mut self, member: &mut Member, due: Duration) {
        (self.alarm, member.alarm) = (Some(due), Some(due));
    }

    pub(super) fn is_before_alarm(&self, due: Duration) -> bool {
        self.alarm.is_none_or(|alarm| due < alarm)
    }

    /// Tells the controller something. Whether the limit moved.
    pub(super) fn control(&mut self, now: Duration, tell: impl FnOnce(&mut Controller)) -> bool {
        let Some(controller) = self.controller.as_deref_mut() else { return false };
        tell(controller);
        let before = std::mem::replace(&mut self.limit, controller.limit());
        let has_moved = self.limit != before;
        self.curve.iter_mut().filter(|_| has_moved).for_each(|curve| curve.add(now, self.limit));
        has_moved
    }
}

/// Numbers for busy workers: each gets the lowest that is free.
#[derive(Debug, Default)]
struct Numbers {
    /// Free numbers below `next`.
    free: BinaryHeap<Reverse<usize>>,
    next: usize,
}

impl Numbers {
    fn take(&mut self) -> usize {
        if let Some(Reverse(number)) = self.free.pop() {
            return number;
        }
        self.next += 1;
        self.next - 1
    }

    fn give_back(&mut self, number: usize) {
        self.free.push(Reverse(number));
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    /// So that all are below the number of workers that are left, when there are fewer.
    #[test]
    fn the_lowest_free_number_is_taken_first() {
        let mut numbers = Numbers::default();
        let taken: Vec<_> = (0..4).map(|_| numbers.take()).collect();
        assert_eq!(taken, [0, 1, 2, 3]);
        for number in [2, 0, 3] {
            numbers.give_back(number);
        }
        let taken: Vec<_> = (0..4).map(|_| numbers.take()).collect();
        assert_eq!(taken, [0, 2, 3, 4]);
    }
}
