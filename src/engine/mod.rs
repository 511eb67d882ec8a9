//! From items to outcomes: one batch, run by the caller and by helpers from the pool.

mod carve;
mod collect;
mod coordinate;
mod job;
mod pace;
mod slots;
mod stop;
mod tally;

use std::thread;

use crate::adaptive::{Controller, Setup};
use crate::batch_error::BatchError;
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::pool::Pool;
use crate::rate_limit::RateLimiter;
use crate::result::BatchResult;
use crate::senses::Watch;
use crate::sync::Instant;
use crate::sync::atomic::AtomicUsize;
use crate::workers::Workers;

use carve::Carve;
use coordinate::coordinate;
use job::Job;
use slots::{Rest, Slots};
use stop::Stop;
use tally::{Bell, Report};

pub(crate) use collect::collect;
pub(crate) use stop::OnFailure;
pub(crate) use tally::OnProgress;

/// How a batch ends: with every outcome, or with those that were reached when it stopped.
pub(crate) type Outcome<I, T, E> = Result<BatchResult<I, T, E>, BatchError<I, T, E>>;

/// What an executor is: its settings and its threads.
pub(crate) struct Engine {
    pub(crate) workers: Workers,
    pub(crate) on_failure: OnFailure,
    pub(crate) limiter: Option<Box<dyn RateLimiter>>,
    pub(crate) pool: Pool,
}

impl Engine {
    /// One batch, begun at `since`, from its iterator to its result. `op` gets the item's index and the item. A panic of
    /// `on_progress` is handed back, when nobody works any more and everything is dropped.
    pub(crate) fn run<I: Send, T: Send, E: Send>(
        &self,
        since: Instant,
        items: impl Iterator<Item = I>,
        on_progress: Option<OnProgress<'_>>,
        op: impl Fn(usize, &I) -> Result<T, E> + Sync,
    ) -> Result<Outcome<I, T, E>, Panic> {
        let Ok(mut slots) = collect(items).and_then(Slots::new) else {
            return Ok(Err(BatchError::out_of_memory()));
        };
        let controller = self.controller(slots.len());
        let workers = self.workers_to_begin_with(controller.as_deref(), slots.len());
        let report = on_progress.map(|on_progress| Report::new(on_progress, slots.len(), since));
        let job = self.job(op, slots.rest(), workers, controller, report.is_some());
        let ended = self.work_on(&job, workers, report);
        let status = job.carve.status(0);
        let Job { op, stop, .. } = job;
        let ended = ended.and(panic::catch(|| drop(op)));
        let items = slots.into_decided();
        if let Err(panic) = ended {
            // A panic of a destructor must not meet this one on its way.
            let _ = panic::drop_each(items);
            return Err(panic);
        }
        let result = BatchResult::new(items, status.counts, since.elapsed(), status.most_running);
        Ok(match stop.reason() {
            None => Ok(result),
            Some(reason) => Err(BatchError::stopped(reason, result)),
        })
    }

    /// How many workers a batch of so many items starts with.
    pub(crate) fn workers_for(&self, items: usize) -> usize {
        self.workers_to_begin_with(self.controller(items).as_deref(), items)
    }

    fn workers_to_begin_with(&self, controller: Option<&Controller>, items: usize) -> usize {
        controller.map_or_else(|| self.workers.for_batch(items), Controller::limit)
    }

    /// None where the number of workers stays, or can only be 1.
    fn controller(&self, items: usize) -> Option<Box<Controller>> {
        let bounds = self.workers.adaptive_bounds().filter(|bounds| bounds.most().min(items) > 1)?;
        let (least, most, cpus) = (bounds.least(), bounds.most(), bounds.cpus());
        Some(Box::new(Controller::new(Setup { least, most, cpus, items: Some(items) })))
    }

    fn job<'a, I, T, E, F>(
        &'a self,
        op: F,
        rest: Rest<'a, I, T, E>,
        workers: usize,
        controller: Option<Box<Controller>>,
        reports: bool,
    ) -> Job<'a, I, T, E, F> {
        let adapts = controller.is_some();
        Job {
            op,
            limiter: self.limiter.as_deref(),
            stop: Stop::new(self.on_failure),
            carve: Carve::new(rest, workers, controller),
            bell: (reports || adapts).then(Bell::new),
            watch: adapts.then(Watch::default),
            paced: AtomicUsize::new(0),
            reports,
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
            (true, 1) if !job.carve.adapts() => return coordinate(job, None, 1, report),
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
