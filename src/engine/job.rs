//! One batch while it runs, and what everybody who works on it does.

use std::mem;
use std::time::Instant;

use crate::error::{ItemError, LimiterError};
use crate::panic;
use crate::rate_limit::RateLimiter;
use crate::result::{BatchItem, Counts};

use super::carve::{Carve, Chunk};
use super::pace::Pace;
use super::stop::Stop;
use super::tally::Bell;

/// Shared by all who work on the batch.
pub(super) struct Job<'a, I, T, E, F> {
    /// Gets the item's index and the item.
    pub(super) op: F,
    pub(super) limiter: Option<&'a dyn RateLimiter>,
    pub(super) stop: Stop,
    pub(super) carve: Carve<'a, BatchItem<I, T, E>>,
    /// Rung for a caller that coordinates.
    pub(super) bell: Option<Bell>,
    /// Whether the caller wants to hear of every claim, or only of a limit that moved.
    pub(super) reports: bool,
}

impl<I, T, E, F> Job<'_, I, T, E, F>
where
    F: Fn(usize, &I) -> Result<T, E>,
{
    /// Works until there is nothing left to claim.
    pub(super) fn work(&self) {
        let mut worker = self.carve.worker();
        let mut pace = Pace::new();
        let mut since = Instant::now();
        while let Some(chunk) = worker.claim(self.claim_size(&pace), self.stop.end()) {
            if self.reports || worker.moved_limit {
                self.ring();
            }
            let items = chunk.slots.len();
            worker.did(self.run_chunk(chunk));
            let now = Instant::now();
            pace.learn(items, now - since);
            since = now;
        }
        self.ring();
    }

    /// Runs the next item alone.
    pub(super) fn work_once(&self) {
        let mut worker = self.carve.worker();
        if let Some(chunk) = worker.claim(1, self.stop.end()) {
            worker.did(self.run_chunk(chunk));
        }
    }

    /// With a limiter every item may wait, so nobody holds more than one.
    fn claim_size(&self, pace: &Pace) -> usize {
        if self.limiter.is_some() { 1 } else { pace.size() }
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Fills the slots of a chunk, up to the first that may not start. One catch serves until something panics.
    fn run_chunk(&self, chunk: Chunk<'_, BatchItem<I, T, E>>) -> Counts {
        let Chunk { start, slots } = chunk;
        let mut failed = 0;
        let mut at = 0;
        while let Err(panic) = panic::catch(|| self.fill(start, slots, &mut at, &mut failed)) {
            self.put_failure(&mut slots[at], ItemError::Panicked(panic), start + at, &mut failed);
            at += 1;
        }
        Counts { succeeded: at - failed, failed }
    }

    /// Fills slots from `at` on. Unwinds with `at` at the item whose operation panicked.
    ///
    /// Each way to an outcome writes it where it belongs: through a common variable it would be stored in two parts and
    /// read back as one, which stalls for longer than everything else here takes.
    #[inline]
    fn fill(&self, start: usize, slots: &mut [BatchItem<I, T, E>], at: &mut usize, failed: &mut usize) {
        for slot in &mut slots[*at..] {
            let index = start + *at;
            match self.admit(index) {
                Admission::Granted => match (self.op)(index, &slot.id) {
                    Ok(value) => put(slot, Ok(value)),
                    Err(error) => self.put_failure(slot, ItemError::Failed(error), index, failed),
                },
                Admission::Refused(error) => {
                    self.put_failure(slot, ItemError::RateLimiter(error), index, failed);
                }
                Admission::Stopped => return,
            }
            *at += 1;
        }
    }

    #[cold]
    fn put_failure(
        &self,
        slot: &mut BatchItem<I, T, E>,
        error: ItemError<E>,
        index: usize,
        failed: &mut usize,
    ) {
        put(slot, Err(error));
        self.stop.failed(index);
        *failed += 1;
    }

    /// Whether the item at `index` may start; waits at the limiter for that.
    #[inline]
    fn admit(&self, index: usize) -> Admission {
        match self.limiter {
            None if self.stop.allows(index) => Admission::Granted,
            None => Admission::Stopped,
            Some(limiter) => self.admit_limited(index, limiter),
        }
    }

    fn admit_limited(&self, index: usize, limiter: &dyn RateLimiter) -> Admission {
        if !self.stop.allows(index) {
            return Admission::Stopped;
        }
        match limiter.reserve() {
            Ok(wait) if self.stop.wait_to_start(index, wait) => Admission::Granted,
            Ok(_) => Admission::Stopped,
            Err(error) => Admission::Refused(error),
        }
    }
}

enum Admission {
    Granted,
    Refused(LimiterError),
    /// The batch has stopped below this item.
    Stopped,
}

/// Puts an outcome where `Skipped` stood. That has nothing to drop, and forgetting it saves looking.
#[inline]
fn put<I, T, E>(slot: &mut BatchItem<I, T, E>, outcome: Result<T, ItemError<E>>) {
    mem::forget(mem::replace(&mut slot.outcome, outcome));
}
