//! Threads, locks, atomics, channels and time, all from one place, so that a model checker can put its own there:
//! `--cfg loom` goes through the interleavings of a small scenario, `--cfg shuttle` many random ones of a large one.

#[cfg(any(loom, shuttle))]
pub(crate) mod model;
#[cfg(not(any(loom, shuttle)))]
mod real;

#[cfg(any(loom, shuttle))]
pub(crate) use model::{Condvar, Instant, Mutex, MutexGuard, atomic, channel, spin_until, thread};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::{Condvar, Instant, Mutex, MutexGuard, atomic, channel, spin_until, thread};
