//! One batch while it runs, and what everybody who works on it does.

use std::time::Instant;

use crate::error::ItemError;
use crate::panic;
use crate::rate_limit::RateLimiter;
use crate::result::Counts;

use super::carve::Carve;
use super::pace::Pace;
use super::slots::Chunk;
use super::stop::Stop;
use super::tally::Bell;

/// Shared by all who work on the batch.
pub(super) struct Job<'a, I, T, E, F> {
    /// Gets the item's index and the item.
    pub(super) op: F,
    pub(super) limiter: Option<&'a dyn RateLimiter>,
    pub(super) stop: Stop,
    pub(super) carve: Carve<'a, I, T, E>,
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
        let mut buffer = Vec::new();
        let mut since = Instant::now();
        while let Some(chunk) = worker.claim(self.claim_size(&pace), self.stop.end(), &mut buffer) {
            if self.reports || worker.moved_limit {
                self.ring();
            }
            let items = chunk.len();
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
        let mut buffer = Vec::new();
        if let Some(chunk) = worker.claim(1, self.stop.end(), &mut buffer) {
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

    /// Decides the items of a chunk, up to the first that may not start. One catch serves until something fails.
    fn run_chunk(&self, mut chunk: Chunk<'_, '_, I, T, E>) -> Counts {
        let (items, mut failed) = (chunk.len(), 0);
        loop {
            let ended = panic::catch(|| chunk.decide_while(|index, item| self.attempt(index, item)));
            let error = match ended {
                Ok(Some(NoValue::Error(error))) => error,
                Ok(Some(NoValue::Stopped) | None) => break,
                Err(panic) => ItemError::Panicked(panic),
            };
            self.stop.failed(chunk.decide(error));
            failed += 1;
        }
        Counts { succeeded: items - chunk.len() - failed, failed }
    }

    /// One item, if it may start.
    #[inline]
    fn attempt(&self, index: usize, item: &I) -> Result<T, NoValue<E>> {
        match self.limiter {
            None if self.stop.allows(index) => {}
            None => return Err(NoValue::Stopped),
            Some(limiter) => self.wait_for_permit(index, limiter)?,
        }
        (self.op)(index, item).map_err(|error| NoValue::Error(ItemError::Failed(error)))
    }

    fn wait_for_permit(&self, index: usize, limiter: &dyn RateLimiter) -> Result<(), NoValue<E>> {
        if !self.stop.allows(index) {
            return Err(NoValue::Stopped);
        }
        let wait = limiter.reserve().map_err(|error| NoValue::Error(ItemError::RateLimiter(error)))?;
        if self.stop.wait_to_start(index, wait) { Ok(()) } else { Err(NoValue::Stopped) }
    }
}

/// What an item came to instead of a value.
enum NoValue<E> {
    Error(ItemError<E>),
    /// The batch has stopped below it.
    Stopped,
}
