//! From items to outcomes: one batch, run by the caller and by helpers from the pool.

mod carve;
mod coordinate;
mod job;
mod pace;
mod slots;
mod stop;
mod tally;

use std::collections::TryReserveError;
use std::thread;
use std::time::Instant;

use crate::adaptive::Controller;
use crate::batch_error::{BatchError, StopReason};
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::pool::Pool;
use crate::rate_limit::RateLimiter;
use crate::result::{BatchResult, Counts};
use crate::workers::Workers;

use carve::Carve;
use coordinate::coordinate;
use job::Job;
use slots::Slots;
use stop::Stop;
use tally::{Bell, Report};

pub(crate) use stop::OnFailure;
pub(crate) use tally::OnProgress;

/// What an executor is: its settings and its threads.
pub(crate) struct Engine {
    pub(crate) workers: Workers,
    pub(crate) on_failure: OnFailure,
    pub(crate) limiter: Option<Box<dyn RateLimiter>>,
    pub(crate) pool: Pool,
}

impl Engine {
    /// One batch, from its iterator to its result. `op` gets the item's index and the item.
    pub(crate) fn run<I: Send, T: Send, E: Send>(
        &self,
        items: impl Iterator<Item = I>,
        on_progress: Option<OnProgress<'_>>,
        op: impl Fn(usize, &I) -> Result<T, E> + Sync,
    ) -> Result<BatchResult<I, T, E>, BatchError<I, T, E>> {
        let since = Instant::now();
        let Ok(mut slots) = collect(items).and_then(Slots::new) else {
            let nothing = BatchResult::new(Vec::new(), Counts::default(), since.elapsed(), 0);
            return Err(BatchError::stopped(StopReason::OutOfMemory, nothing));
        };
        let workers = self.workers.for_batch(slots.len());
        let report = on_progress.map(|on_progress| Report::new(on_progress, slots.len(), since));
        let controller = self.workers.adaptive_bounds().map(|bounds| Controller::new(bounds, workers));
        let coordinated = report.is_some() || controller.is_some();
        let job = Job {
            op,
            limiter: self.limiter.as_deref(),
            stop: Stop::new(self.on_failure),
            carve: Carve::new(slots.rest(), workers, controller),
            bell: coordinated.then(Bell::new),
            reports: report.is_some(),
        };
        let ended = self.work_on(&job, workers, report);
        let status = job.carve.status(0);
        let reason = job.stop.reason();
        let items = slots.into_decided();
        if let Err(panic) = ended {
            // Another panic, of a destructor, must not meet this one on its way.
            drop(panic::catch(|| drop(items)));
            panic.resume();
        }
        let result = BatchResult::new(items, status.counts, since.elapsed(), status.most_running);
        match reason {
            None => Ok(result),
            Some(reason) => Err(BatchError::stopped(reason, result)),
        }
    }

    /// Has the batch run to its end by the caller and its helpers. A panic of `on_progress` is handed back when nobody
    /// works any more.
    fn work_on<I: Send, T: Send, E: Send>(
        &self,
        job: &Job<'_, I, T, E, impl Fn(usize, &I) -> Result<T, E> + Sync>,
        workers: usize,
        report: Option<Report<'_>>,
    ) -> Result<(), Panic> {
        let help = || job.work();
        match (job.bell.is_some(), workers) {
            (false, 1) => job.work(),
            (false, _) => self.pool.lend(workers - 1, &help, |_| job.work()),
            (true, 1) if self.workers.adaptive_bounds().is_none() => return coordinate(job, None, 1, report),
            (true, _) => {
                return self
                    .pool
                    .lend(workers, &help, |helpers| coordinate(job, Some(helpers), workers, report));
            }
        }
        Ok(())
    }

    /// A batch of one, on this thread, with nothing around it.
    pub(crate) fn execute<T, E>(&self, task: impl FnOnce() -> Result<T, E>) -> Result<T, ItemError<E>> {
        let attempt = || {
            if let Some(limiter) = &self.limiter {
                thread::sleep(limiter.reserve().map_err(ItemError::RateLimiter)?);
            }
            task().map_err(ItemError::Failed)
        };
        panic::catch(attempt).unwrap_or_else(|panic| Err(ItemError::Panicked(panic)))
    }
}

/// All items. A size hint is taken for a hint: what it asks for is reserved if it can be, and nothing relies on it.
fn collect<I>(mut items: impl Iterator<Item = I>) -> Result<Vec<I>, TryReserveError> {
    let (least, most) = items.size_hint();
    let mut collected = Vec::new();
    let has_room = collected.try_reserve(least).is_ok();
    if has_room && most == Some(least) {
        // Where the items are in a vector already, this keeps them there.
        return Ok(items.collect());
    }
    loop {
        // An extension that cannot outgrow its room runs without a check for each item.
        let room = collected.capacity() - collected.len();
        collected.extend(items.by_ref().take(room));
        if collected.len() < collected.capacity() {
            return Ok(collected);
        }
        let Some(item) = items.next() else { return Ok(collected) };
        collected.try_reserve(1)?;
        collected.push(item);
    }
}
