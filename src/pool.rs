//! Threads that outlive a batch, lent to batches as helpers. Knows nothing of items.
//!
//! A batch leaves an *invitation* with some *seats*; threads that are free take a seat each and run the batch's work.
//! The caller works by itself and waits for no thread: when it is done it takes back the seats that are still free, and
//! waits only for the helpers that are inside. So a full pool, a nested batch, a refused thread or a forked child cost
//! speed, never progress.
//!
//! Helpers are called one after another: a thread that takes a seat has another look for the next one. A batch
//! that is over in a microsecond has then called one thread and not thirty.

mod latch;
#[cfg(all(test, any(loom, shuttle)))]
mod models;
mod roster;

use std::sync::Arc;
use std::time::Duration;
use std::{mem, process};

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex, MutexGuard, spin_until};

use latch::Latch;
use roster::{Call, Next, Roster, Seat, Work};

#[derive(Debug, Clone)]
pub(crate) struct PoolConfig {
    pub(crate) thread_name: String,
    pub(crate) stack_size: Option<usize>,
    pub(crate) keep_alive: Duration,
    /// Until [`Pool::allow`] raises it.
    pub(crate) max_threads: usize,
}

/// The threads of one executor. Dropping it ends and joins them.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// More than any address space has room for, and refused. Of sizes beyond it a system may make small ones, when it rounds them up to
/// whole pages.
const LARGEST_STACK: usize =
    if cfg!(target_pointer_width = "64") { usize::MAX / 2 } else { usize::MAX / 16 * 15 };

impl Pool {
    /// Starts no thread yet.
    pub(crate) fn new(config: PoolConfig) -> Self {
        let shared = Shared {
            max_threads: AtomicUsize::new(config.max_threads),
            config,
            roster: Mutex::default(),
            called: Condvar::default(),
            worth_a_look: AtomicBool::new(false),
            refusals: AtomicUsize::new(0),
        };
        Pool { shared: Arc::new(shared) }
    }

    /// Raises the most threads that there may be to this many. Never lowers it.
    pub(crate) fn allow(&self, threads: usize) {
        self.shared.max_threads.fetch_max(threads, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn allowed(&self) -> usize {
        self.shared.max_threads.load(Ordering::Relaxed)
    }

    /// Runs `lead` on this thread, and meanwhile `work` on up to `seats` threads of the pool. When it returns or
    /// unwinds, no thread runs `work` any more.
    pub(crate) fn lend<R>(&self, seats: usize, work: Work<'_>, lead: impl FnOnce(&Invitation<'_>) -> R) -> R {
        // SAFETY: a thread gets the reference by `Roster::look` alone, and only while the invitation stands in the
        // roster. `Invitation` takes it out of there and then waits until every thread that got the reference has
        // returned from its call, and it does so in `drop`: whichever way this function is left, `work` is not used
        // any more when it is. `lead` is lent the invitation, so it cannot forget it.
        #[allow(unsafe_code)]
        let work = unsafe { mem::transmute::<Work<'_>, Work<'static>>(work) };
        let invitation = self.shared.invite(seats, work);
        lead(&invitation)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.close();
        // Taken one by one, since a thread that ends needs the lock.
        while let Some((process, thread)) = self.shared.next_to_join() {
            // A forked child has this memory and none of these threads.
            let inherited = process != process::id();
            let (me, it) = (thread::current().id(), thread.thread().id());
            // The last handle to an executor may be dropped by a thread of its own, even by one that another waits for.
            let own = it == me || self.shared.roster.lock().is_joining(it, me);
            if !own && !inherited {
                // An error would be a panic of that thread, which its panic hook has reported.
                let _ = thread.join();
            }
        }
    }
}

/// A batch's invitation. Dropping it takes the free seats back and waits for the helpers inside.
pub(crate) struct Invitation<'p> {
    shared: &'p Arc<Shared>,
    id: u64,
    latch: Arc<Latch>,
}

impl Invitation<'_> {
    /// Takes a seat for the calling thread, if one is free.
    pub(crate) fn take_seat(&self) -> bool {
        let mut roster = self.shared.roster.lock();
        let taken = roster.reserve_seat(self.id);
        self.shared.show(&roster);
        taken
    }

    /// Opens this many seats more, or again.
    pub(crate) fn add_seats(&self, seats: usize) {
        let mut roster = self.shared.roster.lock();
        roster.add_seats(self.id, seats);
        self.shared.show(&roster);
        self.shared.call_next(roster);
    }

    /// How many helpers are inside.
    pub(crate) fn inside(&self) -> usize {
        self.latch.inside()
    }

    /// How many threads the pool has asked for in vain so far.
    pub(crate) fn refusals(&self) -> usize {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    /// Whether a helper is inside, or a thread of the pool is on its way to some invitation, this one or an older.
    pub(crate) fn are_coming(&self) -> bool {
        // In this order: a thread that looks no longer when it is asked for is inside by then, or has gone elsewhere.
        self.shared.is_anybody_looking() || !self.latch.is_empty()
    }
}

impl Drop for Invitation<'_> {
    fn drop(&mut self) {
        self.shared.revoke(self.id);
        self.latch.wait_until_empty();
    }
}

#[derive(Debug)]
struct Shared {
    config: PoolConfig,
    /// The most threads that there may be.
    max_threads: AtomicUsize,
    roster: Mutex<Roster>,
    /// A sleeping thread waits here until it is called.
    called: Condvar,
    /// Whether the roster has a free seat, or is closed; for a look without the lock.
    worth_a_look: AtomicBool,
    refusals: AtomicUsize,
}

/// What a batch does.
impl Shared {
    fn invite(self: &Arc<Self>, seats: usize, work: Work<'static>) -> Invitation<'_> {
        let mut roster = self.roster.lock();
        let (id, latch) = roster.open(seats, work);
        let invitation = Invitation { shared: self, id, latch };
        self.show(&roster);
        self.call_next(roster);
        invitation
    }

    fn revoke(&self, id: u64) {
        let mut roster = self.roster.lock();
        roster.revoke(id);
        self.show(&roster);
    }

    fn show(&self, roster: &Roster) {
        self.worth_a_look.store(roster.has_free_seat(), Ordering::Relaxed);
    }

    /// Calls the thread that is to look for the next free seat. Gives the lock up before it calls.
    fn call_next(self: &Arc<Self>, mut roster: MutexGuard<'_, Roster>) {
        let call = roster.call(self.max_threads.load(Ordering::Relaxed));
        drop(roster);
        self.place(&call);
    }

    fn place(self: &Arc<Self>, call: &Call) {
        match call {
            Call::Nobody => {}
            Call::Sleeper => self.called.notify_one(),
            Call::NewThread { number } => self.start_thread(*number),
        }
    }

    fn start_thread(self: &Arc<Self>, number: usize) {
        let shared = Arc::clone(self);
        match self.thread_builder(number).spawn(move || shared.live()) {
            Ok(thread) => self.roster.lock().keep(process::id(), thread),
            Err(_refused) => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                let stand_in = self.roster.lock().refused();
                self.place(&stand_in);
            }
        }
    }

    fn thread_builder(&self, number: usize) -> thread::Builder {
        let builder = thread::Builder::new().name(format!("{}-{number}", self.config.thread_name));
        match self.config.stack_size {
            Some(bytes) => builder.stack_size(bytes.min(LARGEST_STACK)),
            None => builder,
        }
    }

    fn close(&self) {
        self.roster.lock().close();
        self.worth_a_look.store(true, Ordering::Relaxed);
        self.called.notify_all();
    }

    /// Whether a thread looks for a seat. In a forked child none does that was to do so in its parent.
    fn is_anybody_looking(&self) -> bool {
        let roster = self.roster.lock();
        roster.is_anybody_looking() && !roster.is_inherited(process::id())
    }

    fn next_to_join(&self) -> Option<(u32, JoinHandle<()>)> {
        self.roster.lock().next_to_join()
    }
}

/// What a thread of the pool does.
impl Shared {
    /// The life of a thread.
    fn live(self: &Arc<Self>) {
        self.serve();
        self.join_ended();
    }

    /// Waits for the threads that have ended already: they may still be in their thread-locals' destructors, and nobody
    /// else would wait for that.
    fn join_ended(&self) {
        let me = thread::current().id();
        let ended = self.roster.lock().take_ended(process::id(), me);
        for thread in ended {
            let _ = thread.join();
        }
        self.roster.lock().has_joined(me);
    }

    /// Works for one batch after another, until the pool has no use for this thread.
    fn serve(self: &Arc<Self>) {
        let _alive = Alive { shared: self };
        while let Some(seat) = self.find_seat() {
            let leave = seat.work();
            // Before it leaves: a batch that follows at once has a thread on the way to it then, and calls none.
            let may_spin = self.roster.lock().look_again();
            drop(leave);
            if may_spin {
                spin_until(|| self.worth_a_look.load(Ordering::Relaxed));
            }
        }
    }

    /// A seat, as soon as there is one; `None` when the thread is to end.
    fn find_seat(self: &Arc<Self>) -> Option<Seat> {
        let mut roster = self.roster.lock();
        loop {
            match roster.look() {
                Next::Work(seat) => {
                    self.show(&roster);
                    self.call_next(roster);
                    return Some(seat);
                }
                Next::End => return None,
                Next::Sleep => roster = self.sleep(roster)?,
            }
        }
    }

    /// Sleeps until called, or until the pool closes; `None` when neither came in time.
    fn sleep<'s>(&self, mut roster: MutexGuard<'s, Roster>) -> Option<MutexGuard<'s, Roster>> {
        roster.fall_asleep();
        let mut timed_out = false;
        while !roster.wake() {
            if timed_out {
                roster.expires();
                return None;
            }
            (roster, timed_out) = self.called.wait_for(roster, self.config.keep_alive);
        }
        Some(roster)
    }
}

/// Counts the thread out when it ends, also if a batch's work unwinds.
struct Alive<'s> {
    shared: &'s Arc<Shared>,
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        // A batch may have found the pool full because of this thread.
        let mut roster = self.shared.roster.lock();
        roster.ended();
        self.shared.call_next(roster);
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_look_without_the_lock_sees_whether_a_seat_is_free() {
        let (thread_name, keep_alive) = ("pool".to_owned(), Duration::ZERO);
        let pool = Pool::new(PoolConfig { thread_name, stack_size: None, keep_alive, max_threads: 0 });
        let is_seen = || pool.shared.worth_a_look.load(Ordering::Relaxed);
        assert!(!is_seen());
        pool.lend(1, &|| (), |invitation| {
            assert!(is_seen(), "opened");
            assert!(invitation.take_seat());
            assert!(!is_seen(), "taken");
            invitation.add_seats(1);
            assert!(is_seen(), "opened again");
        });
        assert!(!is_seen(), "revoked");
        pool.shared.close();
        assert!(is_seen(), "somebody has to look, and end");
    }
}
