//! The real ones: the standard library's, crossbeam's channel, locks that outlive a panic, and a short look before a
//! sleep. A poisoned lock is as good as any other, since no user code runs under it.

use std::hint;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

pub(crate) use std::sync::{MutexGuard, atomic};
pub(crate) use std::thread;
pub(crate) use std::time::Instant;

pub(crate) use crossbeam_channel as channel;

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if another thread has it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a notification, or for `limit`; the flag says that it was the limit.
    pub(crate) fn wait_for<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let (guard, waited) = self.0.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
        (guard, waited.timed_out())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// How long to look for something that is likely to come at once. Waking a thread takes 5 to 50 microseconds.
const LOOK: Duration = Duration::from_micros(20);

/// Looks a few microseconds for something that is likely to come at once.
pub(crate) fn spin_until(come: impl Fn() -> bool) {
    if come() {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < LOOK {
        for _ in 0..16 {
            if come() {
                return;
            }
            hint::spin_loop();
        }
        // What is awaited may be done by a thread that waits for this very core. Without this, batches of 10 to 1,000
        // no-ops took 25 µs more whenever the scheduler had put caller and helper on one core.
        thread::yield_now();
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_comes_soon_is_seen() {
        let is_seen = |after: u32| {
            let looks = Cell::new(0);
            let come = || looks.replace(looks.get() + 1) >= after;
            spin_until(come);
            looks.get() > after
        };
        assert!(is_seen(0), "it is there");
        // Again and again, since a busy machine may take the core away for longer than a look lasts.
        assert!((0..1_000).any(|_| is_seen(3)));
    }

    #[test]
    fn who_looks_in_vain_gives_up() {
        let looked = Cell::new(false);
        spin_until(|| {
            looked.set(true);
            false
        });
        assert!(looked.get());
    }
}
