//! Threads, locks, atomics, channels and time, all from one place, so that a model checker can put its own there:
//! `--cfg loom` goes through the interleavings of a small scenario, `--cfg shuttle` many random ones of a large one.
//!
//! # Relaxed atomics
//!
//! Processors such as ARM show one thread's writes to another in any order that nothing forbids. What a thread writes and another
//! reads is ordered here by a lock, by `Release` and `Acquire`, or by a `SeqCst` fence on both sides. An atomic access that is
//! `Relaxed` orders nothing. Each belongs to one of these groups; `tests/tidy.rs` sees to it that all are named.
//!
//! 1. **Copies of what a lock guards**, for a look without the lock: `gate`, `stop_at` (which an `ItemContext` has as its `end`),
//!    `end_of` each worker of a batch that grows, `wants_room` and `pauses` of the schedule, `worth_a_look` of the pool. They are written under the lock. A worker that sees an
//!    old `gate` or `stop_at` starts one item more, which had then started before the stop; where the stop happened before that look by any
//!    other order, such as a message from the thread that cancelled, the look sees it, since that much holds for one place in memory
//!    on every processor. A worker that sees a new one takes the lock before it does anything else. A consumer that sees an old
//!    `wants_room` takes the lock for its look at the batch before it waits, and looks once more then: either it sees the worker's
//!    number, or the worker has seen the consumer's.
//! 2. **Numbers that are written under a lock and read under the same**, so that the lock orders them: `meter` of a limit,
//!    `synced` of the journal (a look without the lock only chooses whether to ask for a sync), `changes` (its readers without the
//!    lock use `Acquire`), and `max_threads` (raised before the same thread takes the lock to invite). `inside` of the latch rises under
//!    the pool's lock, which its reader has had after that; it falls with `Release`, and is read with `Acquire`.
//! 3. **Flags of which one thread gets the first value**, and that guard no memory: `is_kept` and `is_syncing` of the journal are
//!    swapped, and a swap reads the last value on every processor. What their owner then uses has locks of its own. `is_admitted` is
//!    written before the pool's lock hands the batch to its workers.
//! 4. **Hints and statistics**, of which an old value makes nothing wrong: `item_nanos`, `refusals`, `is_wanted`.
//! 5. **In the ring of a stream**, beside something that orders: a slot's `state` becomes FILLED before its claim goes to a worker through
//!    the schedule's lock, and its reader acts on READY alone, which is written with `Release`; LENT comes and goes in the one task that has the claim; `awaited` has a `SeqCst` fence behind its
//!    writing and one before its reading, so that either the worker sees that the reader waits, or the reader the worker's item.

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
