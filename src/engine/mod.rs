//! From items to outcomes: one batch, run by the caller and by helpers from the pool.

mod carve;
mod chunk;
mod collect;
mod coordinate;
mod crew;
mod event;
#[cfg_attr(not(feature = "tracing"), path = "nobody.rs")]
mod events;
mod inlet;
mod job;
mod limits;
mod numbers;
mod outlet;
mod pace;
mod pause;
mod record;
mod retrying;
mod shift;
mod slots;
mod stint;
mod stop;
mod stream;
mod supply;
mod tally;
mod tray;
mod waiting;
mod window;
mod work;
mod worker;

use std::thread;

use crate::adaptive::{Controller, Setup};
use crate::batch_error::{BatchError, StopReason};
use crate::cancel::CancelToken;
use crate::error::ItemError;
use crate::keep::policy::Keep;
use crate::panic::{self, Panic};
use crate::pool::{Invitation, Pool};
use crate::rate_limit::RateLimiter;
use crate::result::{BatchItem, BatchResult, discard_each};
use crate::senses::Watch;
use crate::stream::Streamed;
use crate::sync::atomic::AtomicUsize;
use crate::sync::{Instant, Mutex};
use crate::workers::{AdaptiveWorkers, Workers};

use carve::{Carve, Team};
use coordinate::coordinate;
use events::Events;
use inlet::Inlet;
use job::{Job, SupplyFor, stopped_by_journal};
use limits::Limits;
use numbers::Numbers;
use outlet::Outlet;
use record::Recorder;
use slots::Slots;
use stop::{Stop, Watched};
use stream::{Channel, ResultsOf};
use tally::{Bell, Report};
use tray::Tray;
use window::Window;
use work::retries;

pub(crate) use collect::collect;
pub(crate) use outlet::Order;
pub(crate) use record::{NameOf, Record};
pub(crate) use stop::OnFailure;
pub(crate) use stream::Flow;
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
pub(crate) struct Control {
    pub(crate) since: Instant,
    pub(crate) tokens: Vec<CancelToken>,
    pub(crate) deadline: Option<Instant>,
    /// Whether workers are to have numbers.
    pub(crate) numbered: bool,
}

/// Who wants to know what the batch does.
pub(crate) struct Observers<'a, I> {
    pub(crate) on_progress: Option<OnProgress<'a>>,
    pub(crate) record: Option<Record<'a, I>>,
}

impl<'a, I> Observers<'a, I> {
    /// For a batch that began then, of so many items if that is known.
    fn begin(self, since: Instant, items: Option<usize>) -> (Option<Report<'a>>, Option<Recorder<'a, I>>) {
        let Observers { on_progress, record } = self;
        let report = on_progress.map(|on_progress| Report::new(on_progress, items, since));
        (report, record.map(|record| Recorder::new(record, since, items)))
    }
}

impl Control {
    /// Who is to work, and whether that is recorded.
    fn team(&self, workers: usize, controller: Option<Box<Controller>>, is_recorded: bool) -> Team {
        let numbers = (self.numbered || is_recorded).then(Numbers::default);
        let limits = is_recorded.then(|| Limits::new(self.since, workers));
        Team { workers, controller, numbers, limits }
    }
}

impl Engine {
    /// One batch, from its iterator to its result. A panic that is no item's is handed back, when nobody
    /// works any more and everything is dropped.
    pub(crate) fn run<W: Work>(
        &self,
        items: impl Iterator<Item = W::Item>,
        observers: Observers<'_, W::Item>,
        control: &Control,
        work: W,
    ) -> Result<OutcomeOf<W>, Panic> {
        let Ok(items) = collect(items) else { return Ok(Err(BatchError::out_of_memory())) };
        let admitted = panic::catch(|| work.keep().admit(&items));
        let Ok(mut slots) = Slots::new(items) else { return Ok(Err(BatchError::out_of_memory())) };
        let controller = self.controller(Some(slots.len()), slots.len());
        let workers = self.workers_to_begin_with(controller.as_deref(), slots.len());
        let (report, recorder) = observers.begin(control.since, Some(slots.len()));
        let bell = (report.is_some() || controller.is_some()).then(Bell::new);
        let stop = Watched::new(Stop::new(self.on_failure, control.deadline, bell), &control.tokens);
        let stop = stop.stop();
        let (ended, summary) = {
            let team = control.team(workers, controller, recorder.is_some());
            let mut job = self.job(&work, stop, slots.rest(), team, report.is_some(), recorder);
            job.attend(admitted);
            let ended = self.work_on(&job, workers, report);
            let (panicked, summary) = job.end(control.since);
            (ended.and(panicked), summary)
        };
        let ended = ended.and(work.discard());
        let items = slots.into_decided();
        if let Err(panic) = ended {
            // A panic of a destructor must not meet this one on its way.
            let _ = discard_each(items);
            return Err(panic);
        }
        let reason = stopped_by_journal(&summary).or_else(|| reason(stop, &items));
        let result = BatchResult::new(items, summary);
        Ok(match reason {
            None => Ok(result),
            Some(reason) => Err(BatchError::stopped(reason, result)),
        })
    }

    /// How many workers a batch of so many items starts with.
    pub(crate) fn workers_for(&self, items: usize) -> usize {
        self.workers_to_begin_with(self.controller(Some(items), items).as_deref(), items)
    }

    fn workers_to_begin_with(&self, controller: Option<&Controller>, items: usize) -> usize {
        controller.map_or_else(|| self.workers.for_batch(items), Controller::limit)
    }

    /// None where the number of workers stays, or can only be 1. Of so many items, if that is known, so many at once.
    fn controller(&self, items: Option<usize>, at_once: usize) -> Option<Box<Controller>> {
        let bounds = self.workers.adaptive_bounds().filter(|bounds| bounds.most().min(at_once) > 1)?;
        let (least, most, cpus) = (bounds.least(), bounds.most().min(at_once), bounds.cpus());
        Some(Box::new(Controller::new(Setup { least, most, cpus, items })))
    }

    fn job<'a, W: Work, S: SupplyFor<W>>(
        &'a self,
        work: &'a W,
        stop: &'a Stop,
        rest: S,
        team: Team,
        reports: bool,
        recorder: Option<Recorder<'a, W::Item>>,
    ) -> Job<'a, W, S> {
        let (limiter, adapts) = (self.limiter.as_deref(), team.adapts());
        let (items, are_all) = rest.known();
        let what = if S::IS_STREAM { "stream" } else { "batch" };
        let events = Events::begin(what, are_all.then_some(items), team.workers);
        Job {
            work,
            limiter,
            stop,
            carve: Carve::new(rest, team),
            watch: adapts.then(Watch::default),
            paced: AtomicUsize::new(0),
            waits: limiter.is_some() || stop.deadline().is_some() || retries::<W>(),
            reports,
            events,
            recorder,
            halted: Mutex::default(),
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

    /// One stream, from its iterator to the end of its consumer. A panic that is no item's is handed back,
    /// when nobody works any more and everything is dropped.
    pub(crate) fn stream<W: Work, O>(
        &self,
        items: impl Iterator<Item = W::Item> + Send,
        flow: Flow,
        observers: Observers<'_, W::Item>,
        control: &Control,
        work: W,
        consume: impl FnOnce(&mut ResultsOf<'_, W>) -> O,
    ) -> Result<Streamed<O>, Panic> {
        let (least, most) = items.size_hint();
        let (hint, at_once) = (most.filter(|most| *most == least), flow.at_once(most));
        let controller = self.controller(hint, at_once);
        let workers = self.workers_to_begin_with(controller.as_deref(), at_once);
        let window = Window::new(flow.window.unwrap_or_else(|| self.default_window(workers)));
        let (report, recorder) = observers.begin(control.since, hint);
        let stop = Stop::new(self.on_failure, control.deadline, Some(Bell::new()));
        let stop = Watched::new(stop, &control.tokens);
        let outlet = Outlet::new(flow.order, window.size(), stop.stop());
        let tray = Tray::new(&outlet);
        let channel = Channel { outlet: &outlet, window: &window, stop: stop.stop() };
        let ended = {
            let inlet = Inlet::new(items, &window, &tray);
            let team = control.team(workers, controller, recorder.is_some());
            let job = self.job(&work, stop.stop(), inlet, team, report.is_some(), recorder);
            let consume =
                |helpers: Option<&Invitation<'_>>| channel.consume(&job, helpers, workers, report, consume);
            // In a window of one there is one worker, and the consumer need not wait for the input with it.
            let consumed = if self.workers.for_batch(usize::MAX) == 1 && !job.carve.adapts() {
                consume(None)
            } else {
                self.pool.lend(workers, &|| job.work(), |helpers| consume(Some(helpers)))
            };
            consumed.end(job, &channel, control.since)
        };
        stream::and(ended, work.discard())
    }

    /// A few items for each worker that there may be, so that a slow one does not hold the others up at once.
    fn default_window(&self, workers: usize) -> usize {
        let most = self.workers.adaptive_bounds().map_or(workers, AdaptiveWorkers::most);
        4 * most.max(workers)
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

/// Why a batch stopped, if it did: a cancel counts only where something that it kept from being run was skipped.
fn reason<I, T, E>(stop: &Stop, items: &[BatchItem<I, T, E>]) -> Option<StopReason> {
    let is_skipped = |item: &BatchItem<I, T, E>| matches!(item.error(), Some(ItemError::Skipped));
    stop.reason(|end| items[..end.min(items.len())].iter().any(is_skipped))
}
