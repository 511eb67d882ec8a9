//! Who is where: the open invitations of the batches, and how many threads look for a seat, sleep, or live. Decides, and
//! does nothing: no lock, no thread, no clock.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::sync::thread::{JoinHandle, ThreadId};

use super::latch::{Latch, Leave};

/// What a helper runs. It must not unwind; if it does all the same, the thread ends and the batch goes on without it.
pub(super) type Work<'a> = &'a (dyn Fn() + Sync);

/// One batch's invitation.
struct Open {
    id: u64,
    work: Work<'static>,
    seats: usize,
    latch: Arc<Latch>,
}

/// One thread's place in one batch.
pub(super) struct Seat {
    work: Work<'static>,
    leave: Leave,
}

impl Seat {
    /// Runs the batch's work to its end. The thread is inside until it drops what it gets back.
    pub(super) fn work(self) -> Leave {
        (self.work)();
        self.leave
    }
}

/// What a thread that looks is to do next.
pub(super) enum Next {
    Work(Seat),
    Sleep,
    End,
}

/// What it takes to have a thread look for the next seat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Nobody,
    Sleeper,
    NewThread { number: usize },
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Oldest first, so that a batch gets all its helpers before a younger one does.
    open: VecDeque<Open>,
    next_id: u64,
    /// Threads that are awake, or called, and will look at `open` before they sleep. While there is one, nobody has to
    /// be called; when it takes a seat, it calls the next.
    looking: usize,
    asleep: usize,
    /// Calls that no sleeper has answered yet.
    calls: usize,
    alive: usize,
    started: usize,
    /// Every thread that may still have to be joined, with the process that it is a thread of.
    threads: Vec<(u32, JoinHandle<()>)>,
    /// Who waits for whom to end, both of the pool.
    joining: Vec<(ThreadId, ThreadId)>,
    closed: bool,
}

/// Invitations.
impl Roster {
    pub(super) fn open(&mut self, seats: usize, work: Work<'static>) -> (u64, Arc<Latch>) {
        let (id, latch) = (self.next_id, Arc::new(Latch::default()));
        self.next_id += 1;
        self.open.push_back(Open { id, work, seats, latch: Arc::clone(&latch) });
        (id, latch)
    }

    /// No thread enters any more.
    pub(super) fn revoke(&mut self, id: u64) {
        self.open.retain(|open| open.id != id);
    }

    pub(super) fn add_seats(&mut self, id: u64, seats: usize) {
        if let Some(open) = self.entry(id) {
            open.seats += seats;
        }
    }

    /// Takes a seat out of an invitation, for a thread that is not of the pool; whether there was one.
    pub(super) fn reserve_seat(&mut self, id: u64) -> bool {
        let free = self.entry(id).filter(|open| open.seats > 0);
        free.map(|open| open.seats -= 1).is_some()
    }

    pub(super) fn has_free_seat(&self) -> bool {
        self.open.iter().any(|open| open.seats > 0)
    }

    fn entry(&mut self, id: u64) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.id == id)
    }

    fn take_seat(&mut self) -> Option<Seat> {
        let open = self.open.iter_mut().find(|open| open.seats > 0)?;
        open.seats -= 1;
        open.latch.enter();
        Some(Seat { work: open.work, leave: Leave(Arc::clone(&open.latch)) })
    }
}

/// Threads.
impl Roster {
    /// Has a thread on the way to a free seat, if one can be had.
    pub(super) fn call(&mut self, max_threads: usize) -> Call {
        if self.looking > 0 || !self.has_free_seat() {
            Call::Nobody
        } else if self.asleep > 0 {
            self.asleep -= 1;
            self.calls += 1;
            self.looking += 1;
            Call::Sleeper
        } else if self.alive < max_threads {
            self.alive += 1;
            self.started += 1;
            self.looking += 1;
            Call::NewThread { number: self.started }
        } else {
            Call::Nobody
        }
    }

    /// The thread that was to be started cannot be had. Another may have relied on it to look: a sleeper looks now.
    pub(super) fn refused(&mut self) -> Call {
        self.alive -= 1;
        self.looking -= 1;
        self.call(0)
    }

    /// Whether a thread is on the way to a seat.
    pub(super) fn is_anybody_looking(&self) -> bool {
        self.looking > 0
    }

    /// The calling thread comes out of a batch. Whether it may burn a few microseconds looking: one thread does, so
    /// that the next batch of a row finds a thread awake; more would take the cores from those that work.
    pub(super) fn look_again(&mut self) -> bool {
        self.looking += 1;
        self.looking == 1
    }

    /// What the calling thread, which looks, finds. To sleep, it has to [`fall_asleep`](Roster::fall_asleep).
    pub(super) fn look(&mut self) -> Next {
        let next = match self.take_seat() {
            Some(seat) => Next::Work(seat),
            None if self.closed => Next::End,
            None => return Next::Sleep,
        };
        self.looking -= 1;
        next
    }

    pub(super) fn fall_asleep(&mut self) {
        self.looking -= 1;
        self.asleep += 1;
    }

    /// Wakes the calling thread, which sleeps, if it is to look; whether it is. The caller has counted one sleeper as
    /// looking already, no matter which.
    pub(super) fn wake(&mut self) -> bool {
        if self.calls > 0 {
            self.calls -= 1;
            return true;
        }
        if self.closed {
            self.asleep -= 1;
            self.looking += 1;
        }
        self.closed
    }

    /// The calling thread has slept for as long as it is kept.
    pub(super) fn expires(&mut self) {
        self.asleep -= 1;
    }

    pub(super) fn ended(&mut self) {
        self.alive -= 1;
    }

    /// Keeps what has to be joined.
    pub(super) fn keep(&mut self, process: u32, thread: JoinHandle<()>) {
        self.threads.push((process, thread));
    }

    /// Whether this process was forked, and has none of these threads.
    pub(super) fn is_inherited(&self, process: u32) -> bool {
        self.threads.iter().any(|(of, _)| *of != process)
    }

    /// Threads of this process that have ended, or are about to, for `joiner` to join, so that they do not pile up.
    /// Once the pool is closed there are none: the thread that closed it joins.
    pub(super) fn take_ended(&mut self, process: u32, joiner: ThreadId) -> Vec<JoinHandle<()>> {
        let closed = self.closed;
        let can_go = |(of, thread): &(u32, JoinHandle<()>)| !closed && *of == process && thread.is_finished();
        let (ended, left) = mem::take(&mut self.threads).into_iter().partition(can_go);
        self.threads = left;
        let ended: Vec<_> = ended.into_iter().map(|(_, thread)| thread).collect();
        self.joining.extend(ended.iter().map(|thread| (joiner, thread.thread().id())));
        ended
    }

    /// The thread has joined what it took.
    pub(super) fn has_joined(&mut self, joiner: ThreadId) {
        self.joining.retain(|(who, _)| *who != joiner);
    }

    pub(super) fn next_to_join(&mut self) -> Option<(u32, JoinHandle<()>)> {
        self.threads.pop()
    }

    /// Whether `thread` waits for `other` to end.
    pub(super) fn is_joining(&self, thread: ThreadId, other: ThreadId) -> bool {
        self.joining.contains(&(thread, other))
    }

    /// All threads are to end.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("id", &self.id).field("seats", &self.seats).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::sync::thread;

    fn with_invitation(seats: usize) -> Roster {
        let mut roster = Roster::default();
        roster.open(seats, &|| ());
        roster
    }

    #[test]
    fn threads_are_called_one_after_another_and_only_for_free_seats() {
        let mut roster = with_invitation(2);
        assert_eq!(roster.call(9), Call::NewThread { number: 1 });
        assert_eq!(roster.call(9), Call::Nobody, "one is on its way");
        assert!(matches!(roster.look(), Next::Work(_)));
        assert_eq!(roster.call(9), Call::NewThread { number: 2 });
        assert!(matches!(roster.look(), Next::Work(_)));
        assert_eq!(roster.call(9), Call::Nobody, "no seat is free");
    }

    #[test]
    fn a_sleeper_is_called_before_a_thread_is_started() {
        let mut roster = with_invitation(1);
        roster.call(9);
        assert!(matches!(roster.look(), Next::Work(_)));
        assert!(roster.look_again());
        assert!(matches!(roster.look(), Next::Sleep));
        roster.fall_asleep();
        assert!(!roster.wake());
        roster.add_seats(0, 2);
        assert_eq!(roster.call(9), Call::Sleeper);
        assert!(roster.wake());
        assert!(matches!(roster.look(), Next::Work(_)));
        assert_eq!(roster.call(1), Call::Nobody, "the pool is full");
        assert_eq!(roster.call(2), Call::NewThread { number: 2 });
    }

    #[test]
    fn a_sleeper_stands_in_for_a_thread_that_was_refused() {
        let mut roster = with_invitation(1);
        roster.call(9);
        roster.fall_asleep();
        assert_eq!(roster.call(9), Call::Sleeper);
        roster.wake();
        roster.fall_asleep();
        roster.alive += 1;
        roster.looking += 1; // as if one were being started
        assert_eq!(roster.refused(), Call::Sleeper);
        assert_eq!(roster.alive, 1);
    }

    #[test]
    fn the_oldest_invitation_is_served_first_and_a_revoked_one_never() {
        let mut roster = Roster::default();
        let (old, old_latch) = roster.open(1, &|| ());
        let (new, new_latch) = roster.open(1, &|| ());
        roster.call(9);
        let Next::Work(seat) = roster.look() else { panic!("there are seats") };
        assert!(Arc::ptr_eq(&seat.leave.0, &old_latch));
        roster.revoke(old);
        assert!(roster.has_free_seat());
        roster.revoke(new);
        assert!(!roster.has_free_seat());
        assert_eq!(Arc::strong_count(&new_latch), 1);
        assert!(!roster.reserve_seat(new));
    }

    #[test]
    fn a_reserved_seat_is_one_less_for_helpers() {
        let mut roster = with_invitation(1);
        assert!(roster.reserve_seat(0));
        assert!(!roster.reserve_seat(0));
        assert_eq!(roster.call(9), Call::Nobody);
    }

    #[test]
    fn threads_that_have_ended_are_handed_out_to_be_joined_once() {
        const THIS: u32 = 1;
        let mut roster = Roster::default();
        for process in [THIS, 2] {
            let ended = thread::spawn(|| ());
            while !ended.is_finished() {
                thread::yield_now();
            }
            roster.keep(process, ended);
            assert_eq!(roster.is_inherited(THIS), process != THIS);
        }
        let me = thread::current().id();
        let ended = roster.take_ended(THIS, me);
        assert_eq!((ended.len(), roster.take_ended(THIS, me).len()), (1, 0));
        assert!(roster.is_joining(me, ended[0].thread().id()));
        roster.has_joined(me);
        assert!(!roster.is_joining(me, ended[0].thread().id()));
        roster.close();
        assert_eq!(roster.take_ended(2, me).len(), 0);
        assert!(roster.next_to_join().is_some_and(|(process, _)| process == 2));
    }

    #[test]
    fn a_call_wakes_one_sleeper_and_no_other() {
        let mut roster = Roster { asleep: 2, ..with_invitation(2) };
        assert_eq!(roster.call(9), Call::Sleeper);
        assert!(roster.wake());
        assert!(!roster.wake());
        assert_eq!(roster.asleep, 1);
    }

    #[test]
    fn somebody_looks_from_the_call_until_a_seat_is_taken() {
        let mut roster = with_invitation(1);
        assert!(!roster.is_anybody_looking());
        roster.call(9);
        assert!(roster.is_anybody_looking());
        assert!(matches!(roster.look(), Next::Work(_)));
        assert!(!roster.is_anybody_looking());
    }

    #[test]
    fn who_expires_sleeps_no_more_and_who_has_ended_lives_no_more() {
        let mut roster = Roster { alive: 2, asleep: 2, ..Roster::default() };
        roster.expires();
        assert_eq!((roster.alive, roster.asleep), (2, 1));
        roster.ended();
        assert_eq!((roster.alive, roster.asleep), (1, 1));
    }

    #[test]
    fn no_thread_has_the_number_of_one_that_has_ended() {
        let mut roster = with_invitation(2);
        assert_eq!(roster.call(9), Call::NewThread { number: 1 });
        assert!(matches!(roster.look(), Next::Work(_)));
        roster.ended();
        assert_eq!(roster.call(9), Call::NewThread { number: 2 });
    }

    #[test]
    fn every_thread_that_is_kept_is_joined_once() {
        let mut roster = Roster { alive: 9, ..Roster::default() };
        roster.keep(1, thread::spawn(|| ()));
        roster.keep(2, thread::spawn(|| ()));
        let mut processes = [(); 2].map(|()| roster.next_to_join().map(|(process, _)| process));
        processes.sort_unstable();
        assert_eq!(processes, [Some(1), Some(2)]);
        assert!(roster.next_to_join().is_none());
    }

    #[test]
    fn of_three_sleepers_closing_wakes_each_once() {
        let mut roster = Roster { asleep: 3, ..Roster::default() };
        roster.close();
        assert!(roster.wake());
        assert_eq!((roster.looking, roster.asleep), (1, 2));
        assert!(roster.wake());
        assert_eq!((roster.looking, roster.asleep), (2, 1));
    }

    #[test]
    fn closing_ends_lookers_and_sleepers() {
        let mut roster = Roster::default();
        roster.look_again();
        roster.fall_asleep();
        roster.close();
        assert!(roster.wake());
        assert!(matches!(roster.look(), Next::End));
        assert_eq!((roster.looking, roster.asleep), (0, 0));
    }
}
