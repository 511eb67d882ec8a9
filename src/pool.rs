//! Threads that outlive a batch, lent to batches as helpers. Knows nothing of items.
//!
//! A batch leaves an *invitation* with so many *seats*; threads that are free take a seat each and run the batch's work.
//! The caller works on its own and waits for nobody: when it is done it takes back the seats that are still free, and
//! waits only for the helpers that are inside. So a full pool, a nested batch, a refused thread or a forked child cost
//! speed, never progress.
//!
//! Helpers are called one after another: whoever takes a seat sees to it that somebody looks for the next one. A batch
//! that is over in a microsecond has then called one thread and not thirty.

mod latch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{mem, process};

use crate::sync::{Condvar, Mutex, MutexGuard, spin_until};

use latch::Latch;

/// What a helper runs. It must not unwind; if it does all the same, the thread ends and the batch goes on without it.
type Work<'a> = &'a (dyn Fn() + Sync);

#[derive(Debug, Clone)]
pub(crate) struct PoolConfig {
    pub(crate) thread_name: String,
    pub(crate) stack_size: Option<usize>,
    pub(crate) keep_alive: Duration,
    pub(crate) max_threads: usize,
}

/// The threads of one executor. Dropping it ends and joins them.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    /// A forked child has this process's memory and none of its threads.
    process: u32,
}

impl Pool {
    /// Starts no thread yet.
    pub(crate) fn new(config: PoolConfig) -> Self {
        let shared = Shared {
            config,
            state: Mutex::new(State::default()),
            called: Condvar::default(),
            anything_open: AtomicBool::new(false),
        };
        Pool { shared: Arc::new(shared), process: process::id() }
    }

    /// Runs `lead` on this thread, and meanwhile `work` on up to `seats` threads of the pool. When it returns or
    /// unwinds, no thread runs `work` any more.
    pub(crate) fn lend<R>(&self, seats: usize, work: Work<'_>, lead: impl FnOnce(&Invitation<'_>) -> R) -> R {
        // SAFETY: the reference is handed out by `Shared::take_seat` alone, and only while the entry stands in
        // `State::open`. `invitation` takes the entry out and then waits until every thread that got the reference has
        // returned from the call, and it does so in `drop`: whichever way this function is left, `work` is not
        // used any more when it is. `lead` gets a reference to the invitation, so it cannot forget it.
        #[allow(unsafe_code)]
        let work = unsafe { mem::transmute::<Work<'_>, Work<'static>>(work) };
        let invitation = self.shared.invite(seats, work);
        lead(&invitation)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.close();
        let in_forked_child = process::id() != self.process;
        // Taken one by one: a thread that is being joined may just be starting another.
        while let Some(thread) = self.shared.next_to_join() {
            let own = thread.thread().id() == thread::current().id();
            if !own && !in_forked_child {
                // An error would be a panic of that thread, which its panic hook has reported.
                let _ = thread.join();
            }
        }
    }
}

/// A batch's open invitation. Dropping it takes the free seats back and waits for the helpers inside.
pub(crate) struct Invitation<'p> {
    shared: &'p Arc<Shared>,
    id: u64,
    latch: Arc<Latch>,
}

impl Invitation<'_> {
    /// Takes a seat for the calling thread, if one is free.
    pub(crate) fn take_seat(&self) -> bool {
        let mut state = self.shared.state.lock();
        let taken = state.entry(self.id).is_some_and(Open::take_seat);
        self.shared.show_open(&state);
        taken
    }

    /// Opens so many seats more, or again.
    pub(crate) fn add_seats(&self, seats: usize) {
        let mut state = self.shared.state.lock();
        if let Some(entry) = state.entry(self.id) {
            entry.seats += seats;
        }
        self.shared.show_open(&state);
        self.shared.call_next(state);
    }

    /// Whether a thread of the pool is on its way to some invitation, this one or an older.
    pub(crate) fn is_heard(&self) -> bool {
        self.shared.state.lock().looking > 0
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
    state: Mutex<State>,
    /// A sleeping thread waits here until it is called.
    called: Condvar,
    /// Whether there may be a free seat, for a look without the lock.
    anything_open: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first, so that a batch gets all its helpers before a younger one does.
    open: VecDeque<Open>,
    next_id: u64,
    /// Threads that are awake and will look at `open` before they sleep: whoever is counted here needs no call.
    looking: usize,
    asleep: usize,
    /// Calls that no sleeper has answered yet. Whoever is called counts as looking from that moment.
    calls: usize,
    alive: usize,
    started: usize,
    /// Every thread that may still have to be joined.
    threads: Vec<JoinHandle<()>>,
    closed: bool,
}

struct Open {
    id: u64,
    work: Work<'static>,
    seats: usize,
    latch: Arc<Latch>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("id", &self.id).field("seats", &self.seats).finish_non_exhaustive()
    }
}

impl Open {
    /// Whether there was a seat to take.
    fn take_seat(&mut self) -> bool {
        let free = self.seats > 0;
        self.seats -= usize::from(free);
        free
    }
}

/// What it takes to have one more thread look for a seat.
enum Call {
    Nobody,
    Sleeper,
    NewThread { number: usize },
}

impl State {
    fn entry(&mut self, id: u64) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.id == id)
    }

    fn has_free_seat(&self) -> bool {
        self.open.iter().any(|open| open.seats > 0)
    }

    /// Counts the calling thread as looking again; whether it may burn a few microseconds at it. One thread does, so
    /// that a batch in a row finds somebody awake; the others would take the cores from those that work.
    fn look_again(&mut self) -> bool {
        self.looking += 1;
        self.looking == 1
    }

    /// Keeps what has to be joined, and lets go of what has ended by itself.
    fn keep(&mut self, thread: JoinHandle<()>) {
        if self.threads.len() >= 2 * self.alive {
            self.threads.retain(|thread| !thread.is_finished());
        }
        self.threads.push(thread);
    }

    fn take_seat(&mut self) -> Option<Seat> {
        let open = self.open.iter_mut().find(|open| open.seats > 0)?;
        open.seats -= 1;
        open.latch.enter();
        Some(Seat { work: open.work, latch: Arc::clone(&open.latch) })
    }

    /// Sees to it that a free seat has somebody on the way to it, if anybody can be had.
    fn call(&mut self, max_threads: usize) -> Call {
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
}

impl Shared {
    fn invite(self: &Arc<Self>, seats: usize, work: Work<'static>) -> Invitation<'_> {
        let latch = Arc::new(Latch::default());
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.open.push_back(Open { id, work, seats, latch: Arc::clone(&latch) });
        self.show_open(&state);
        // From here on the entry is there, and only `drop` of this takes it away again.
        let invitation = Invitation { shared: self, id, latch };
        self.call_next(state);
        invitation
    }

    fn revoke(&self, id: u64) {
        let mut state = self.state.lock();
        state.open.retain(|open| open.id != id);
        self.show_open(&state);
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.anything_open.store(true, Ordering::Relaxed);
        self.called.notify_all();
    }

    fn next_to_join(&self) -> Option<JoinHandle<()>> {
        self.state.lock().threads.pop()
    }

    fn show_open(&self, state: &State) {
        self.anything_open.store(state.has_free_seat() || state.closed, Ordering::Relaxed);
    }

    /// Calls whoever is to look for the next free seat. Gives the lock up before it calls.
    fn call_next(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let call = state.call(self.config.max_threads);
        drop(state);
        match call {
            Call::Nobody => {}
            Call::Sleeper => self.called.notify_one(),
            Call::NewThread { number } => self.start_thread(number),
        }
    }

    fn start_thread(self: &Arc<Self>, number: usize) {
        let shared = Arc::clone(self);
        match self.thread_builder(number).spawn(move || shared.serve()) {
            Ok(thread) => self.state.lock().keep(thread),
            Err(_refused) => self.do_without_new_thread(),
        }
    }

    fn thread_builder(&self, number: usize) -> thread::Builder {
        let builder = thread::Builder::new().name(format!("{}-{number}", self.config.thread_name));
        match self.config.stack_size {
            Some(bytes) => builder.stack_size(bytes),
            None => builder,
        }
    }

    /// The system gave no thread. Somebody may have relied on that one to look: a sleeper does it, if there is one.
    fn do_without_new_thread(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.alive -= 1;
        state.looking -= 1;
        if state.asleep > 0 {
            self.call_next(state);
        }
    }

    /// The life of a thread. It comes in counted as looking.
    fn serve(self: &Arc<Self>) {
        let _alive = Alive { shared: self };
        while let Some(seat) = self.find_seat() {
            seat.fill();
            if self.state.lock().look_again() {
                self.wait_a_moment();
            }
        }
    }

    /// A seat, as soon as there is one; `None` when the thread is to end.
    fn find_seat(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.state.lock();
        loop {
            if let Some(seat) = state.take_seat() {
                state.looking -= 1;
                self.show_open(&state);
                self.call_next(state);
                return Some(seat);
            }
            if state.closed {
                state.looking -= 1;
                return None;
            }
            state = self.sleep(state)?;
        }
    }

    /// Sleeps until called, or until the pool closes; `None` when neither came in time.
    fn sleep<'s>(&self, mut state: MutexGuard<'s, State>) -> Option<MutexGuard<'s, State>> {
        state.looking -= 1;
        state.asleep += 1;
        loop {
            let timed_out;
            if state.calls > 0 {
                state.calls -= 1; // whoever called has moved one sleeper to the lookers
                return Some(state);
            }
            if state.closed {
                state.asleep -= 1;
                state.looking += 1;
                return Some(state);
            }
            (state, timed_out) = self.called.wait_for(state, self.config.keep_alive);
            if timed_out && state.calls == 0 && !state.closed {
                state.asleep -= 1;
                return None;
            }
        }
    }

    fn wait_a_moment(&self) {
        spin_until(|| self.anything_open.load(Ordering::Relaxed));
    }
}

/// One thread's place in one batch.
struct Seat {
    work: Work<'static>,
    latch: Arc<Latch>,
}

impl Seat {
    fn fill(self) {
        let Seat { work, latch } = self;
        let _leave = latch::Leave(latch);
        work();
    }
}

struct Alive<'s> {
    shared: &'s Shared,
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().alive -= 1;
    }
}
