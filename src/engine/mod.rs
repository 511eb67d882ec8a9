//! From items to outcomes: one batch or stream from its parts to its end. Workers, of which the calling thread may be one, run
//! what the schedule hands them, on items that stay where they are.

mod alone;
mod attempt;
mod caller;
mod ending;
mod growing;
mod limits;
mod operation;
mod parking;
mod report;
mod results;
mod schedule;
mod shared;
mod solo;
mod source;
#[cfg(feature = "tokio")]
mod task;
mod worker;

use std::mem;

use crate::adaptive::{Controller, Setup};
use crate::clock::{self, TestClock};
use crate::control::Control;
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::pool::{Invitation, Pool};
use crate::rate_limit::RateLimiter;
use crate::result::BatchResult;
use crate::stream::{Results, Streamed};
use crate::sync::Instant;
use crate::timeline::recorder::Recorder;
use crate::trace::Trace;
use crate::workers::{AdaptiveWorkers, Workers};

use crate::slots::Slots;
use alone::run_alone;
use caller::Caller;
use ending::EndedOf;
use parking::{Hears, Held};
use report::Report;
use schedule::{Schedule, Team, Window, few_for};
use shared::{Job, SettingsOf, SlotsOf};

pub(crate) use crate::slots::Order;
pub use growing::More;
pub(crate) use operation::{Kinds, Operation, Settings, Steps};
pub(crate) use report::Tick;
pub(crate) use schedule::OnFailure;
pub(crate) use source::collect;
#[cfg(feature = "tokio")]
pub use task::AsyncResults;

/// What an executor is: its settings and its threads.
pub(crate) struct Engine {
    pub(crate) workers: Workers,
    pub(crate) on_failure: OnFailure,
    pub(crate) limiter: Option<Box<dyn RateLimiter>>,
    pub(crate) pool: Pool,
    /// What waits go by in a test.
    pub(crate) clock: Option<TestClock>,
}

type ResultOf<K> = BatchResult<<K as Kinds>::Item, <K as Kinds>::Value, <K as Kinds>::Error>;

/// The most items of a stream that are under way where the user sets no window.
const LARGEST_WINDOW: usize = 4096;

impl Engine {
    /// One batch, from its iterator to its result. A panic that is no item's is handed back, when no worker is there any more and
    /// everything is dropped.
    pub(crate) fn run<O>(
        &self,
        since: Instant,
        items: impl Iterator<Item = <O::Kinds as Kinds>::Item>,
        mut settings: SettingsOf<'_, O::Kinds>,
        operation: O,
    ) -> Result<ResultOf<O::Kinds>, Panic>
    where
        O: Operation<Kinds: Kinds<Item: Send, Value: Send, Error: Send>>,
    {
        match collect(items).and_then(|items| self.run_all(since, items, &mut settings, &operation)) {
            Ok(ended) => ending::finish(ended, settings.discard().and(operation.discard())),
            Err(items) => Ok(BatchResult::out_of_memory(items)),
        }
    }

    /// The items come back where there is no memory for them.
    fn run_all<K>(
        &self,
        since: Instant,
        items: Vec<K::Item>,
        settings: &mut SettingsOf<'_, K>,
        operation: &dyn Operation<Kinds = K>,
    ) -> Result<EndedOf<K>, Vec<K::Item>>
    where
        K: Kinds<Item: Send, Value: Send, Error: Send>,
    {
        let total = items.len();
        let admitted = settings.journal.as_ref().map(|journal| panic::catch(|| journal.admit(&items)));
        let (slots, claim) = Slots::of(items)?;
        if settings.are_plain() && self.runs_alone(settings.workers, total) {
            return Ok(run_alone(since, (slots, claim), settings.on_failure, operation));
        }
        let (report, recorder) = settings.observers_of_batch(since, total);
        let team = settings.team(Some(total), total, recorder.is_some());
        let (workers, hears) = (team.limit, self.hears(report.as_ref(), &team, settings));
        let held =
            Held::new(Schedule::of_batch(claim, settings.on_failure, team), since, hears, settings, self);
        let trace = Trace::begin("batch", Some(total), workers);
        let job = self.job(operation, &held, &slots, settings, recorder, trace);
        if let Some(admitted) = admitted {
            job.attend(admitted);
        }
        let ended = self.work_on(&job, workers, report);
        let ending = job.end(ended);
        Ok(ending::of_batch(ending, held.dispatcher(), slots))
    }

    /// What the workers of a batch share.
    fn job<'j, K: Kinds>(
        &'j self,
        operation: &'j dyn Operation<Kinds = K>,
        held: &'j Held,
        slots: &'j SlotsOf<K>,
        settings: &'j mut SettingsOf<'_, K>,
        recorder: Option<Recorder<'j, K::Item>>,
        trace: Trace,
    ) -> Job<'j, K> {
        let limits = mem::take(&mut settings.limits);
        let mut job = Job::new(operation, held.dispatcher(), slots, settings, recorder, trace);
        job.limit_by(limits, self.limiter.as_deref(), held.listener());
        job
    }

    /// How many workers a batch of this many items starts with.
    pub(crate) fn workers_for(&self, items: usize) -> usize {
        workers_to_begin_with(self.workers, controller(self.workers, Some(items), items).as_deref(), items)
    }

    /// Whether the calling thread is the only worker of a batch of this size, and may start each of them at once.
    fn runs_alone(&self, workers: Workers, items: usize) -> bool {
        let is_only_one =
            workers.for_batch(items) <= 1 && workers.adaptive_bounds().is_none_or(|_| items <= 1);
        is_only_one && self.limiter.is_none() && self.clock.is_none() && !Trace::MAY_BE_HEARD
    }

    /// What the caller of a batch wants to hear of.
    fn hears<I, T, E>(
        &self,
        report: Option<&Report<'_>>,
        team: &Team,
        settings: &Settings<'_, I, T, E>,
    ) -> Hears {
        match report {
            Some(report) if report.counts_items() => Hears::EveryItem,
            None if !team.adapts() && self.clock.is_none() && settings.controls.is_empty() => Hears::Nothing,
            _ => Hears::Changes,
        }
    }

    /// Has the batch run to its end by the caller and its helpers. A panic of `on_progress` is handed back when no worker is there
    /// any more.
    fn work_on<K>(&self, job: &Job<'_, K>, workers: usize, report: Option<Report<'_>>) -> Result<(), Panic>
    where
        K: Kinds<Item: Send, Value: Send, Error: Send>,
    {
        let coordinate = |helpers: Option<&Invitation<'_>>| {
            let mut caller = Caller::new(job, helpers, workers, report);
            let ended = caller.watch_to_the_end();
            ended.and(caller.leave())
        };
        let help = || job.work();
        match (job.dispatcher.signal.is_some(), workers) {
            (false, 1) => job.work(),
            (false, _) => self.pool.lend(workers - 1, &help, |_| job.work()),
            (true, 1) if !job.adapts() && !job.dispatcher.is_controlled() => return coordinate(None),
            (true, _) => return self.pool.lend(workers, &help, |helpers| coordinate(Some(helpers))),
        }
        Ok(())
    }

    /// One stream, from its iterator to the end of its consumer. A panic that is no item's is handed back, when no worker is there
    /// any more and everything is dropped.
    pub(crate) fn stream<O, I, T, E, R>(
        &self,
        since: Instant,
        mut items: impl Iterator<Item = I> + Send,
        mut settings: Settings<'_, I, T, E>,
        operation: O,
        consume: impl FnOnce(&mut Results<'_, I, T, E>) -> R,
    ) -> Result<Streamed<R>, Panic>
    where
        I: Send,
        T: Send,
        E: Send,
        O: Operation<Kinds: Kinds<Item = I, Value = T, Error = E>>,
    {
        let (hint, at_once) = settings.expects(&items);
        let (report, recorder) = settings.observers(since, hint);
        let team = settings.team(hint, at_once, recorder.is_some());
        let (workers, is_alone) = (team.limit, settings.is_alone(&team));
        let (slots, reader) = Slots::ring(settings.most_under_way(workers).min(at_once), settings.flow.order);
        let window = settings.window(workers, slots.room());
        let hears = match self.hears(report.as_ref(), &team, &settings) {
            Hears::Nothing => Hears::Changes, // it waits for outcomes
            hears => hears,
        };
        let held =
            Held::new(Schedule::of_stream(window, settings.on_failure, team), since, hears, &settings, self);
        let trace = Trace::begin("stream", hint, workers);
        let may_solo = is_alone || self.clock.is_none() && settings.may_solo(hint);
        let mut job = self.job(&operation, &held, &slots, &mut settings, recorder, trace);
        job.pull_from(&mut items, may_solo);
        let consume = |helpers: Option<&Invitation<'_>>| {
            results::consume(&operation, &job, helpers, workers, report, reader, consume)
        };
        let consumed = if is_alone {
            consume(None)
        } else {
            self.pool.lend(workers, &|| job.work(), |helpers| consume(Some(helpers)))
        };
        let ending = job.end(Ok(()));
        let discard = || panic::discard(items).and(settings.discard()).and(operation.discard());
        ending::of_stream(ending, held.dispatcher(), slots, consumed, discard)
    }

    /// A batch of one, on this thread, with nothing around it.
    pub(crate) fn execute<T, E>(&self, task: impl FnOnce() -> Result<T, E>) -> Result<T, ItemError<E>> {
        let _clock = clock::enter(self.clock.as_ref());
        let attempt = || {
            if let Some(limiter) = &self.limiter {
                limiter.acquire().map_err(ItemError::RateLimiter)?;
            }
            task().map_err(ItemError::Failed)
        };
        panic::catch(attempt).unwrap_or_else(|panic| Err(ItemError::Panicked(panic)))
    }
}

/// What follows from the settings.
impl<'a, I, T, E> Settings<'a, I, T, E> {
    /// What hears of the batch, which has this many items if that is known.
    fn observers(
        &mut self,
        since: Instant,
        items: Option<usize>,
    ) -> (Option<Report<'a>>, Option<Recorder<'a, I>>) {
        let ticks = [self.on_tick.take(), self.bar.take()].into_iter().flatten().collect();
        let report = Report::new(self.on_progress.take(), ticks, items, since);
        self.foreseen.items = items;
        (report, self.name_of.take().map(|name_of| Recorder::new(name_of, self.spans, since, items)))
    }

    /// The same for a batch, of whose items an earlier run may have recorded some.
    fn observers_of_batch(
        &mut self,
        since: Instant,
        items: usize,
    ) -> (Option<Report<'a>>, Option<Recorder<'a, I>>) {
        let (mut report, recorder) = self.observers(since, Some(items));
        if let Some(journal) = self.journal.as_ref().filter(|_| report.is_some() || !self.controls.is_empty())
        {
            self.foreseen.recorded = journal.recorded(items);
            if let Some(report) = &mut report {
                report.expects(self.foreseen.recorded);
            }
        }
        (report, recorder)
    }

    /// How many items the iterator of a stream has, if it knows that, and how many of them may be under way.
    fn expects(&self, items: &impl Iterator) -> (Option<usize>, usize) {
        let (least, most) = items.size_hint();
        let window = self.flow.window.unwrap_or(usize::MAX);
        (most.filter(|most| *most == least), most.unwrap_or(usize::MAX).min(window).max(1))
    }

    /// The workers of a batch with this many items, if that is known, of which `at_once` may run at a time.
    fn team(&self, items: Option<usize>, at_once: usize, is_recorded: bool) -> Team {
        let controller = controller(self.workers, items, at_once);
        let limit = workers_to_begin_with(self.workers, controller.as_deref(), at_once);
        Team::new(limit, controller, self.numbered || !self.controls.is_empty(), is_recorded)
    }

    /// Whether the consumer of a stream is its only worker, also in a window of one: then it need not wait for another.
    fn is_alone(&self, team: &Team) -> bool {
        self.workers.for_batch(usize::MAX) == 1 && !team.adapts() && self.controls.is_empty()
    }

    /// Whether the consumer of a stream may run items by itself while there are other workers.
    fn may_solo(&self, items: Option<usize>) -> bool {
        let may_change = !self.controls.is_empty() || self.workers.adaptive_bounds().is_some();
        items.is_some() && !self.has_state && !may_change
    }

    /// How many items of a stream may be under way; without a window of the user's, while they are quick.
    fn most_under_way(&self, workers: usize) -> usize {
        self.flow.window.unwrap_or_else(|| LARGEST_WINDOW.max(few_for(self.most_workers(workers))))
    }

    /// How many workers there may be, if it begins with this many and no control sets another number later.
    fn most_workers(&self, workers: usize) -> usize {
        let adaptive = self.workers.adaptive_bounds().map(AdaptiveWorkers::most);
        self.controls.iter().filter_map(Control::workers).chain(adaptive).fold(workers, usize::max)
    }

    /// Within the room that there is.
    fn window(&self, workers: usize, room: usize) -> Window {
        match self.flow.window {
            Some(window) => Window::new(window.min(room), window.min(room)),
            None => Window::for_workers(self.most_workers(workers), room.min(self.most_under_way(workers))),
        }
    }
}

fn workers_to_begin_with(workers: Workers, controller: Option<&Controller>, items: usize) -> usize {
    controller.map_or_else(|| workers.for_batch(items), Controller::limit)
}

/// None where the number of workers stays, or can only be 1.
fn controller(workers: Workers, items: Option<usize>, at_once: usize) -> Option<Box<Controller>> {
    let bounds = workers.adaptive_bounds().filter(|bounds| bounds.most().min(at_once) > 1)?;
    let (least, most, cpus) = (bounds.least(), bounds.most().min(at_once), bounds.cpus());
    Some(Box::new(Controller::new(Setup { least, most, cpus, items })))
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::PoolConfig;

    /// The ring has room for a power of two.
    #[test]
    fn a_window_that_grows_stays_below_what_is_promised() {
        let (thread_name, keep_alive) = (String::new(), Duration::ZERO);
        let pool = Pool::new(PoolConfig { thread_name, stack_size: None, keep_alive, max_threads: 0 });
        let (workers, on_failure) = (Workers::Fixed(1), OnFailure::Stop);
        let engine = Engine { workers, on_failure, limiter: None, pool, clock: None };
        let settings = Settings::<(), (), ()>::new(&engine);
        for (workers, most) in [(2, 4_096), (1_024, 4_096), (1_500, 6_000)] {
            let (slots, _) = Slots::<(), (), ()>::ring(settings.most_under_way(workers), Order::Input);
            assert_eq!(settings.window(workers, slots.room()), Window::for_workers(workers, most));
        }
    }
}
