//! From items to outcomes: one batch, run by the caller and by helpers from the pool.

mod carve;
mod coordinate;
mod job;
mod pace;
mod stop;
mod tally;

use std::thread;
use std::time::Instant;

use crate::adaptive::Controller;
use crate::batch_error::{BatchError, StopReason};
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::pool::Pool;
use crate::rate_limit::RateLimiter;
use crate::result::{BatchItem, BatchResult, Counts};
use crate::workers::Workers;

use carve::Carve;
use coordinate::coordinate;
use job::Job;
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
        let (mut slots, out_of_memory) = collect(items);
        if out_of_memory {
            let reason = StopReason::OutOfMemory { items: slots.len() };
            let partial = BatchResult::new(slots, Counts::default(), since.elapsed(), 0);
            return Err(BatchError::stopped(reason, partial));
        }
        let workers = self.workers.for_batch(slots.len());
        let report = on_progress.map(|on_progress| Report::new(on_progress, slots.len(), since));
        let controller = self.workers.adaptive_bounds().map(|bounds| Controller::new(bounds, workers));
        let coordinated = report.is_some() || controller.is_some();
        let job = Job {
            op,
            limiter: self.limiter.as_deref(),
            stop: Stop::new(self.on_failure),
            carve: Carve::new(&mut slots, workers, controller),
            bell: coordinated.then(Bell::new),
            reports: report.is_some(),
        };
        let ended = self.work_on(&job, workers, report);
        let status = job.carve.status(0);
        let reason = job.stop.reason();
        if let Err(panic) = ended {
            // Another panic, of a destructor, must not meet this one on its way.
            drop(panic::catch(|| drop(slots)));
            panic.resume();
        }
        let result = BatchResult::new(slots, status.counts, since.elapsed(), status.most_running);
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

/// All items, none of them started; whether memory ran out before the iterator did. A size hint is taken for a hint:
/// what it asks for is reserved if it can be, and nothing relies on it.
fn collect<I, T, E>(mut items: impl Iterator<Item = I>) -> (Vec<BatchItem<I, T, E>>, bool) {
    let mut slots = Vec::new();
    let _ = slots.try_reserve(items.size_hint().0);
    loop {
        // An extension that cannot outgrow its room runs without a check for each item.
        let room = slots.capacity() - slots.len();
        slots.extend(items.by_ref().take(room).map(BatchItem::skipped));
        if slots.len() < slots.capacity() {
            return (slots, false);
        }
        let Some(item) = items.next() else { return (slots, false) };
        if slots.try_reserve(1).is_err() {
            return (slots, true);
        }
        slots.push(BatchItem::skipped(item));
    }
}
