//! From items to outcomes: one batch, run by the caller and by helpers from the pool.

mod carve;
mod chunk;
mod collect;
mod coordinate;
mod job;
mod numbers;
mod pace;
mod pause;
mod slots;
mod stop;
mod supply;
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

use carve::{Carve, Team};
use coordinate::coordinate;
use job::{Job, SupplyFor};
use numbers::Numbers;
use slots::Slots;
use stop::{Stop, Watched};
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
        let stop = || {
            let bell = (report.is_some() || controller.is_some()).then(Bell::new);
            Stop::new(self.on_failure, control.deadline, bell)
        };
        // With the caller, or where its tokens reach it.
        let (alone, watched);
        let stop = if control.tokens.is_empty() {
            alone = stop();
            &alone
        } else {
            watched = Watched::new(stop(), &control.tokens);
            watched.stop()
        };
        let (ended, told) = {
            let numbers = control.numbered.then(Numbers::default);
            let team = Team { workers, controller, numbers };
            let mut job = self.job(&work, stop, slots.rest(), team, report.is_some());
            let ended = self.work_on(&job, workers, report);
            let (waiting, told) = job.carve.left();
            (ended.and(job.panicked()).and(panic::drop_each(waiting)), told)
        };
        let ended = ended.and(work.discard());
        let items = slots.into_decided();
        if let Err(panic) = ended {
            // A panic of a destructor must not meet this one on its way.
            let _ = panic::drop_each(items);
            return Err(panic);
        }
        let reason = stop.reason(&items);
        let result = BatchResult::new(items, told.counts, since.elapsed(), told.most_running, told.trials);
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

    fn job<'a, W: Work, S: SupplyFor<W>>(
        &'a self,
        work: &'a W,
        stop: &'a Stop,
        rest: S,
        team: Team,
        reports: bool,
    ) -> Job<'a, W, S> {
        let (limiter, adapts) = (self.limiter.as_deref(), team.adapts());
        Job {
            work,
            limiter,
            stop,
            carve: Carve::new(rest, team),
            watch: adapts.then(Watch::default),
            paced: AtomicUsize::new(0),
            waits: limiter.is_some() || stop.deadline().is_some() || retries::<W>(),
            reports,
            panicked: Mutex::default(),
        }
    }

    /// Has the batch run to its end by the caller and its helpers. A panic of `on_progress` is handed back when nobody
    /// works any more.
    fn work_on<W: Work, S: SupplyFor<W>>(
        &self,
        job: &Job<'_, W, S>,
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
