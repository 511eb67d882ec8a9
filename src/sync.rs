//! Threads, locks, atomics, channels and time, all from one place, so that a model checker can put its own there:
//! `--cfg loom` goes through the interleavings of a small scenario, `--cfg shuttle` many random ones of a large one.

use std::time::Duration;

#[cfg(any(loom, shuttle))]
pub(crate) mod model;
#[cfg(not(any(loom, shuttle)))]
mod real;

#[cfg(any(loom, shuttle))]
pub(crate) use model::{Condvar, Instant, Mutex, MutexGuard, atomic, channel, spin_until, thread};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::{Condvar, Instant, Mutex, MutexGuard, atomic, channel, spin_until, thread};

/// For a moment that no clock can tell.
const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// So much later; of a time without end, 30 years.
pub(crate) fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time.min(THIRTY_YEARS)).unwrap_or(now)
}
