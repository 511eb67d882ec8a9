//! Threads, locks, atomics, channels and time, all from one place, so that a model checker can put its own there:
//! `--cfg loom` goes through the interleavings of a small scenario, `--cfg shuttle` many random ones of a large one.

use std::time::Duration;

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) mod model;
#[cfg(not(all(test, any(loom, shuttle))))]
mod real;

#[cfg(all(test, any(loom, shuttle)))]
pub(crate) use model::{Condvar, Instant, Mutex, MutexGuard, atomic, channel, spin_until, thread};
#[cfg(not(all(test, any(loom, shuttle))))]
pub(crate) use real::{Condvar, Instant, Mutex, MutexGuard, atomic, channel, spin_until, thread};

/// A short wait of the engine's own. Under a model checker it is none: there time stands still, and what waits for it would wait for
/// ever.
pub(crate) const fn moment(micros: u64) -> Duration {
    Duration::from_micros(if cfg!(all(test, any(loom, shuttle))) { 0 } else { micros })
}

/// Far enough away for a batch, and near enough for every clock.
const THIRTY_YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The moment that is so much later; what is further away than a clock can tell is 30 years away.
pub(crate) fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time.min(THIRTY_YEARS)).unwrap_or(now)
}
