//! What stands in for the real ones under a model checker, and what a scenario can ask for: time that passes, threads that
//! are refused, memory that is watched. A scenario that asks for nothing has a clock that stands still.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

#[cfg(loom)]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

pub(crate) use checker::sync::atomic;

thread_local! {
    // A checker runs all threads of a scenario on one thread of the system, so these are the scenario's own.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static RUNS_OUT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static THREADS_LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Waits that are limited may now run out. Those for ever do not.
pub(crate) fn let_time_pass() {
    let_time_pass_up_to(Duration::from_secs(3600));
}

/// Waits of at most so long may now run out. Longer ones are ended by a notification, or never.
pub(crate) fn let_time_pass_up_to(limit: Duration) {
    RUNS_OUT.set(limit);
}

/// No more than this many threads can be started.
pub(crate) fn refuse_threads_after(started: usize) {
    THREADS_LEFT.set(started);
}

/// Runs the scenario in the interleavings that loom tells apart, with at most this many preemptions: 2, unless
/// `LOOM_MAX_PREEMPTIONS` says more. Of several reads before a write it reorders only the last.
#[cfg(loom)]
pub(crate) fn check(scenario: impl Fn() + Send + Sync + 'static) {
    check_with(0, scenario);
}

/// The same, with one preemption less: for scenarios of which two would take hours.
#[cfg(loom)]
pub(crate) fn check_long(scenario: impl Fn() + Send + Sync + 'static) {
    check_with(1, scenario);
}

#[cfg(loom)]
fn check_with(fewer: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = checker::model::Builder::new();
    model.preemption_bound = Some(model.preemption_bound.unwrap_or(2) - fewer);
    model.max_branches = 20_000;
    model.check(afresh(scenario));
}

/// Runs the scenario under this many random schedules, 50 unless `MODEL_SCHEDULES` says otherwise: half of them random at
/// each step, half by random priorities (PCT, Burckhardt et al. 2010).
#[cfg(shuttle)]
pub(crate) fn check(scenario: impl Fn() + Send + Sync + 'static) {
    use checker::scheduler::{PctScheduler, RandomScheduler};
    use checker::{Config, FailurePersistence, Runner};

    let schedules = std::env::var("MODEL_SCHEDULES").map_or(50, |number| number.parse().expect("a number"));
    let scenario = afresh(move || {
        checker::thread::spawn(|| ()); // a schedule of one thread is refused
        scenario();
    });
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.failure_persistence = FailurePersistence::None;
    Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(scenario.clone());
    Runner::new(PctScheduler::new(3, schedules / 2), config).run(scenario);
}

#[cfg(shuttle)]
pub(crate) use check as check_long;

fn afresh(scenario: impl Fn() + Send + Sync + 'static) -> impl Fn() + Send + Sync + Clone + 'static {
    let scenario = Arc::new(scenario);
    move || {
        NOW.set(Duration::ZERO);
        RUNS_OUT.set(Duration::ZERO);
        THREADS_LEFT.set(usize::MAX);
        scenario();
    }
}

/// Memory that one thread owns and others borrow. Freeing it before the last use, or without that use being known to the
/// owner, is found: by loom through its atomic, by AddressSanitizer through the heap.
pub(crate) struct Borrowed {
    #[cfg(loom)]
    byte: atomic::AtomicU8,
    #[cfg(shuttle)]
    byte: Box<u8>,
}

impl Borrowed {
    pub(crate) fn new() -> Self {
        Borrowed { byte: Default::default() }
    }

    pub(crate) fn touch(&self) {
        #[cfg(loom)]
        self.byte.load(atomic::Ordering::Relaxed);
        #[cfg(shuttle)]
        {
            std::hint::black_box(*self.byte);
            checker::thread::yield_now();
            std::hint::black_box(*self.byte);
        }
    }

    #[cfg_attr(shuttle, allow(unused_mut))]
    pub(crate) fn free(mut self) {
        #[cfg(loom)]
        self.byte.with_mut(|byte| *byte = 1);
        drop(self);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(checker::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { mutex: self, held: Some(held) }
    }

    /// None if another thread has it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = self.0.try_lock().ok()?;
        Some(MutexGuard { mutex: self, held: Some(held) })
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Knows its mutex, so that a wait can give it up without the checker's condition variable.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: Option<checker::sync::MutexGuard<'a, T>>,
}

impl<'a, T> MutexGuard<'a, T> {
    fn release(mut self) -> (&'a Mutex<T>, checker::sync::MutexGuard<'a, T>) {
        let held = self.held.take();
        (self.mutex, held.unwrap_or_else(|| unreachable!("held until it is dropped")))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().unwrap_or_else(|| unreachable!("held until it is dropped"))
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().unwrap_or_else(|| unreachable!("held until it is dropped"))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(checker::sync::Condvar);

impl Condvar {
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let (mutex, held) = guard.release();
        let held = self.0.wait(held).unwrap_or_else(PoisonError::into_inner);
        MutexGuard { mutex, held: Some(held) }
    }

    /// The checkers' own never runs out. Where time passes, this runs out after some steps of others, whether or not there
    /// was a notification: its place in the queue is given up, as by a thread that wakes too late. Where time stands
    /// still, or does not pass for so long, only a notification ends it, so that one that is missing is a deadlock.
    pub(crate) fn wait_for<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        if limit > RUNS_OUT.get() {
            return (self.wait(guard), false);
        }
        let (mutex, held) = guard.release();
        drop(held);
        checker::thread::yield_now();
        NOW.set(NOW.get().saturating_add(limit));
        (mutex.lock(), true)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Looks once, lets others run, and has then looked long enough.
pub(crate) fn spin_until(come: impl Fn() -> bool) {
    if !come() {
        checker::thread::yield_now();
    }
}

/// A moment of the scenario's clock. As public as the real one, which is in signatures of the crate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(unreachable_pub)]
pub struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Instant(NOW.get())
    }

    pub(crate) fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Instant)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Instant(self.0 + time)
    }
}

impl std::ops::Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

pub(crate) mod thread {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{THREADS_LEFT, checker};

    pub(crate) use checker::thread::{Thread, ThreadId, current, yield_now};

    #[derive(Debug)]
    pub(crate) struct Builder(checker::thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Self {
            Builder(checker::thread::Builder::new())
        }

        pub(crate) fn name(self, name: String) -> Self {
            Builder(self.0.name(name))
        }

        /// The checker's threads keep the size that it gives them.
        pub(crate) fn stack_size(self, _: usize) -> Self {
            self
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            run: impl FnOnce() -> T + Send + 'static,
        ) -> io::Result<JoinHandle<T>> {
            let Some(left) = THREADS_LEFT.get().checked_sub(1) else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            THREADS_LEFT.set(left);
            let finished = Arc::new(AtomicBool::new(false));
            let at_the_end = Arc::clone(&finished);
            let thread = self.0.spawn(move || {
                let value = run();
                at_the_end.store(true, Ordering::Relaxed);
                value
            })?;
            Ok(JoinHandle { thread, finished })
        }
    }

    #[derive(Debug)]
    pub(crate) struct JoinHandle<T> {
        thread: checker::thread::JoinHandle<T>,
        finished: Arc<AtomicBool>,
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn join(self) -> std::thread::Result<T> {
            self.thread.join()
        }

        pub(crate) fn thread(&self) -> &Thread {
            self.thread.thread()
        }

        pub(crate) fn is_finished(&self) -> bool {
            self.finished.load(Ordering::Relaxed)
        }
    }

    pub(crate) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Builder::new().spawn(run).expect("the scenario lets threads be started")
    }
}

/// As much of a bounded channel as the crate uses.
pub(crate) mod channel {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Condvar, Mutex};

    struct Channel<T> {
        queue: Mutex<VecDeque<T>>,
        capacity: usize,
        filled: Condvar,
    }

    pub(crate) struct Sender<T>(Arc<Channel<T>>);

    pub(crate) struct Receiver<T>(Arc<Channel<T>>);

    pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let channel = Channel { queue: Mutex::default(), capacity, filled: Condvar::default() };
        let channel = Arc::new(channel);
        (Sender(Arc::clone(&channel)), Receiver(channel))
    }

    impl<T> Sender<T> {
        pub(crate) fn try_send(&self, message: T) -> Result<(), T> {
            let mut queue = self.0.queue.lock();
            if queue.len() == self.0.capacity {
                return Err(message);
            }
            queue.push_back(message);
            drop(queue);
            self.0.filled.notify_one();
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.queue.lock().is_empty()
        }

        /// Never an error: a sender of ours lives as long as its receiver.
        pub(crate) fn recv(&self) -> Result<T, ()> {
            let mut queue = self.0.queue.lock();
            loop {
                if let Some(message) = queue.pop_front() {
                    return Ok(message);
                }
                queue = self.0.filled.wait(queue);
            }
        }

        pub(crate) fn recv_timeout(&self, limit: Duration) -> Result<T, ()> {
            let queue = self.0.queue.lock();
            let (mut queue, _) =
                if queue.is_empty() { self.0.filled.wait_for(queue, limit) } else { (queue, false) };
            queue.pop_front().ok_or(())
        }
    }
}
