//! One batch while it runs, and what everybody who works on it does.

use std::time::Instant;

use crate::error::ItemError;
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
        loop {
            let caught = panic::catch(|| {
                while let Some(slot) = slots.get_mut(at) {
                    let Some(outcome) = self.attempt(start + at, &slot.id) else { break };
                    if outcome.is_err() {
                        failed += 1;
                        self.stop.failed(start + at);
                    }
                    slot.outcome = outcome;
                    at += 1;
                }
            });
            let Err(panic) = caught else { break };
            slots[at].outcome = Err(ItemError::Panicked(panic));
            failed += 1;
            self.stop.failed(start + at);
            at += 1;
        }
        Counts { succeeded: at - failed, failed }
    }

    /// One item, if it may start.
    fn attempt(&self, index: usize, item: &I) -> Option<Result<T, ItemError<E>>> {
        if !self.stop.allows(index) {
            return None;
        }
        if let Some(limiter) = self.limiter {
            match limiter.reserve() {
                Err(error) => return Some(Err(ItemError::RateLimiter(error))),
                Ok(wait) if self.stop.wait_to_start(index, wait) => {}
                Ok(_) => return None,
            }
        }
        Some((self.op)(index, item).map_err(ItemError::Failed))
    }
}
