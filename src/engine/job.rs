//! One batch while it runs, and what everybody who works on it does.

use crate::error::ItemError;
use crate::panic;
use crate::rate_limit::RateLimiter;
use crate::result::Counts;
use crate::senses::Watch;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicUsize, Ordering};

use super::carve::{Carve, Worker};
use super::pace::Pace;
use super::slots::{Chunk, NoValue};
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
    /// Those who work on it, where the number of workers depends on what they do.
    pub(super) watch: Option<Watch>,
    /// How many wait for a permit, where the number of workers depends on it.
    pub(super) paced: AtomicUsize,
    /// Whether the caller wants to hear of every claim, or only of a limit that moved.
    pub(super) reports: bool,
}

impl<I, T, E, F> Job<'_, I, T, E, F>
where
    F: Fn(usize, &I) -> Result<T, E>,
{
    /// Works until there is nothing left to claim.
    pub(super) fn work(&self) {
        // Rung last of all, when this worker no longer counts as running.
        let _leaving = Ringing(self.bell.as_ref());
        let _watched = self.watch.as_ref().map(Watch::enter);
        let mut worker = self.carve.worker();
        let mut pace = if self.carve.adapts() { Pace::measured() } else { Pace::new() };
        let mut buffer = Vec::new();
        let mut since = Instant::now();
        while let Some(mut chunk) = worker.claim(since, self.claim_size(&pace), self.stop.end(), &mut buffer)
        {
            if self.reports || worker.moved_limit {
                self.ring();
            }
            let items = chunk.len();
            let counts = self.run(&worker, &mut chunk, items);
            worker.did(counts);
            drop(chunk);
            let now = Instant::now();
            pace.learn(items, now - since);
            since = now;
        }
    }

    /// Works a short while, and tells of each item before the next one starts. False if it was sent away instead.
    pub(super) fn take_turn(&self, pace: &mut Pace, mut tell: impl FnMut(Counts)) -> bool {
        let (mut worker, mut buffer, since) = (self.carve.worker(), Vec::new(), Instant::now());
        let Some(mut chunk) = worker.claim(since, self.claim_size(pace), self.stop.end(), &mut buffer) else {
            return false;
        };
        let items = chunk.len();
        loop {
            let counts = self.run(&worker, &mut chunk, 1);
            if counts.decided() == 0 {
                break;
            }
            worker.did(counts);
            tell(counts);
        }
        pace.learn(items, since.elapsed());
        true
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

    /// Has the limit of workers follow what there is to see now.
    pub(super) fn look_around(&self, wants_runnable: bool) {
        let runnable = self.watch.as_ref().filter(|_| wants_runnable).and_then(Watch::runnable);
        self.carve.tick(self.stop.end(), runnable, self.paced.load(Ordering::Relaxed));
    }

    /// Decides so many items of a chunk, or up to the first that may not start. One catch serves until something fails.
    fn run(
        &self,
        worker: &Worker<'_, '_, I, T, E>,
        chunk: &mut Chunk<'_, '_, I, T, E>,
        most: usize,
    ) -> Counts {
        let (mut left, mut counts) = (most.min(chunk.len()), Counts::default());
        while left > 0 {
            let before = chunk.len();
            let ended =
                panic::catch(|| chunk.decide_while(left, |index| self.admit(index, worker), &self.op));
            let decided = before - chunk.len();
            counts.succeeded += decided;
            left -= decided;
            let error = match ended {
                Ok(Some(NoValue::Error(error))) => error,
                Ok(Some(NoValue::Stopped) | None) => break,
                Err(panic) => ItemError::Panicked(panic),
            };
            self.stop.failed(chunk.decide(error));
            counts.failed += 1;
            left -= 1;
        }
        counts
    }

    /// Whether the item at `index` may start; waits at the limiter for that.
    #[inline]
    fn admit(&self, index: usize, worker: &Worker<'_, '_, I, T, E>) -> Result<(), NoValue<E>> {
        if !self.stop.allows(index) {
            return Err(NoValue::Stopped);
        }
        let Some(limiter) = self.limiter else { return Ok(()) };
        self.wait_for_permit(index, limiter)?;
        worker.is_permitted();
        Ok(())
    }

    fn wait_for_permit(&self, index: usize, limiter: &dyn RateLimiter) -> Result<(), NoValue<E>> {
        let wait = limiter.reserve().map_err(|error| NoValue::Error(ItemError::RateLimiter(error)))?;
        let _paced = self.carve.adapts().then(|| Paced::new(&self.paced));
        if self.stop.wait_to_start(index, wait) { Ok(()) } else { Err(NoValue::Stopped) }
    }
}

/// Counts a worker that waits for a permit.
struct Paced<'p>(&'p AtomicUsize);

impl<'p> Paced<'p> {
    fn new(paced: &'p AtomicUsize) -> Self {
        paced.fetch_add(1, Ordering::Relaxed);
        Paced(paced)
    }
}

impl Drop for Paced<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Rings when it goes, also by unwinding.
struct Ringing<'b>(Option<&'b Bell>);

impl Drop for Ringing<'_> {
    fn drop(&mut self) {
        if let Some(bell) = self.0 {
            bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::slots::Slots;
    use super::super::stop::OnFailure;
    use super::*;
    use crate::rate_limit::RateLimit;

    /// How many items are claimed at first, and after a quick one.
    fn claim_sizes(limiter: Option<&dyn RateLimiter>) -> (usize, usize) {
        let mut slots = Slots::<(), (), ()>::new(vec![(); 9]).unwrap();
        let job = Job {
            op: |_, (): &()| Ok(()),
            limiter,
            stop: Stop::new(OnFailure::GoOn),
            carve: Carve::new(slots.rest(), 1, None),
            bell: None,
            watch: None,
            paced: AtomicUsize::new(0),
            reports: false,
        };
        let (first, mut quick) = (Pace::new(), Pace::new());
        quick.learn(1, Duration::from_nanos(1));
        (job.claim_size(&first), job.claim_size(&quick))
    }

    #[test]
    fn quick_items_are_claimed_several_at_a_time_unless_each_may_have_to_wait() {
        assert_eq!(claim_sizes(None), (1, 8));
        assert_eq!(claim_sizes(Some(&RateLimit::per_second(9))), (1, 1));
    }
}
