//! From items to outcomes: one batch, run by the caller and by helpers from the pool.

mod carve;
mod collect;
mod coordinate;
mod job;
mod numbers;
mod pace;
mod pause;
mod slots;
mod stop;
mod tally;
mod waiting;
mod work;

use std::thread;

use crate::adaptive::{Controller, Setup};
use crate::batch_error::BatchError;
use crate::cancel::CancelToken;
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::pool::Pool;
use crate::rate_limit::RateLimiter;
use crate::result::BatchResult;
use crate::senses::Watch;
use crate::sync::atomic::AtomicUsize;
use crate::sync::{Instant, Mutex};
use crate::workers::Workers;

use carve::Carve;
use coordinate::coordinate;
use job::{CarveOf, Job};
use numbers::Numbers;
use slots::Slots;
use stop::{Stop, Stoppable};
use tally::{Bell, Report};
use work::retries;

pub(crate) use collect::collect;
pub(crate) use stop::OnFailure;
pub(crate) use tally::OnProgress;
pub(crate) use work::{Init, Steps, Work};

/// How a batch ends: with every outcome, or with those that were reached when it stopped.
pub(crate) type Outcome<I, T, E> = Result<BatchResult<I, T, E>, BatchError<I, T, E>>;
pub(crate) type OutcomeOf<W> = Outcome<<W as Work>::Item, <W as Work>::Value, <W as Work>::Error>;

/// What an executor is: its settings and its threads.
pub(crate) struct Engine {
    pub(crate) workers: Workers,
    pub(crate) on_failure: OnFailure,
    pub(crate) limiter: Option<Box<dyn RateLimiter>>,
    pub(crate) pool: Pool,
}

/// What ends a batch from outside, and what has to be known for its steps.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) tokens: Vec<CancelToken>,
    pub(crate) deadline: Option<Instant>,
    /// Whether workers are to have numbers.
    pub(crate) numbered: bool,
}

impl Engine {
    /// One batch, begun at `since`, from its iterator to its result. A panic that is no item's is handed back, when nobody
    /// works any more and everything is dropped.
    pub(crate) fn run<W: Work>(
        &self,
        since: Instant,
        items: impl Iterator<Item = W::Item>,
        on_progress: Option<OnProgress<'_>>,
        control: &Control,
        work: W,
    ) -> Result<OutcomeOf<W>, Panic> {
        let Ok(mut slots) = collect(items).and_then(Slots::new) else {
            return Ok(Err(BatchError::out_of_memory()));
        };
        let controller = self.controller(slots.len());
        let workers = self.workers_to_begin_with(controller.as_deref(), slots.len());
        let report = on_progress.map(|on_progress| Report::new(on_progress, slots.len(), since));
        let bell = (report.is_some() || controller.is_some()).then(Bell::new);
        let stop = Stoppable::new(Stop::new(self.on_failure, control.deadline, bell), &control.tokens);
        let numbers = control.numbered.then(Numbers::default);
        let carve = Carve::new(slots.rest(), workers, controller, numbers);
        let job = self.job(work, &stop, carve, report.is_some());
        let ended = self.work_on(&job, workers, report);
        let status = job.carve.status(0);
        let (discarded, trials) = job.discard_all();
        let ended = ended.and(discarded);
        let items = slots.into_decided();
        if let Err(panic) = ended {
            // A panic of a destructor must not meet this one on its way.
            let _ = panic::drop_each(items);
            return Err(panic);
        }
        let reason = stop.reason(&items);
        let (elapsed, workers) = (since.elapsed(), status.most_running);
        let result = BatchResult::new(items, status.counts, elapsed, workers).with_trials(trials);
        Ok(match reason {
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

    fn job<'a, W: Work>(
        &'a self,
        work: W,
        stop: &'a Stop,
        carve: CarveOf<'a, W>,
        reports: bool,
    ) -> Job<'a, W> {
        let limiter = self.limiter.as_deref();
        Job {
            work,
            limiter,
            stop,
            watch: carve.adapts().then(Watch::default),
            carve,
            paced: AtomicUsize::new(0),
            waits: limiter.is_some() || stop.deadline().is_some() || retries::<W>(),
            reports,
            panicked: Mutex::default(),
        }
    }

    /// Has the batch run to its end by the caller and its helpers. A panic of `on_progress` is handed back when nobody
    /// works any more.
    fn work_on<W: Work>(
        &self,
        job: &Job<'_, W>,
        workers: usize,
        report: Option<Report<'_>>,
    ) -> Result<(), Panic> {
        let help = || job.work();
        match (job.stop.bell().is_some(), workers) {
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
