//! A batch or stream in one task: its items are futures, of which as many are under way as there are workers, and no thread is
//! started. The task asks the schedule as a worker does, and has a seat for each future that is under way.
//!
//! A future is polled once where it is made. One that is ready then costs no allocation; any other goes to those in flight, of
//! which only the woken ones are polled again.

mod driver;
mod flight;
mod results;
mod seat;
mod timer;

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::clock::{self, Entered};
use crate::context::ItemContext;
use crate::panic::{self, Panic};
use crate::result::BatchResult;
use crate::slots::Slots;
use crate::stream::Streamed;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::trace::Trace;

use super::operation::{Kinds, Operation, Settings, Types};
use super::parking::{Dispatcher, Hears, Held};
use super::results::Consumed;
use super::schedule::Schedule;
use super::shared::Job;
use super::{Engine, collect, ending};

use driver::Driver;
pub use results::AsyncResults;
use seat::Begun;
use timer::Timer;

/// Calls the task that runs a batch: something has changed that is not its own doing.
#[derive(Default)]
pub(super) struct Call {
    is_given: AtomicBool,
    /// The task, while it waits.
    task: AtomicWaker,
    /// What waits for the next outcome of a stream.
    consumer: AtomicWaker,
}

impl Call {
    pub(super) fn give(&self) {
        self.is_given.store(true, Ordering::SeqCst);
        self.task.wake();
    }

    fn is_given(&self) -> bool {
        self.is_given.load(Ordering::SeqCst)
    }

    fn take(&self) -> bool {
        self.is_given.swap(false, Ordering::SeqCst)
    }
}

/// The operation of a batch in a task, which makes futures of it by itself.
struct InTask<I, T, E>(Types<I, T, E, ()>);

impl<I, T, E> Operation for InTask<I, T, E> {
    type Kinds = Types<I, T, E, ()>;

    fn state(&self) -> Result<(), E> {
        Ok(())
    }

    fn run(&self, _item: &I, _context: &mut ItemContext<'_>) -> Result<T, E> {
        unreachable!("a task makes futures of its operation")
    }

    fn discard(self) -> Result<(), Panic> {
        Ok(())
    }
}

/// The time by the clock of the runtime.
pub(super) fn now() -> crate::sync::Instant {
    Timer::now()
}

impl Engine {
    /// One batch, from its iterator to its result, as [`run`](Engine::run). Dropped before its end, it drops what is in flight.
    pub(crate) async fn run_in_task<I, T, E>(
        &self,
        items: impl Iterator<Item = I>,
        mut settings: Settings<'_, I, T, E>,
        op: impl AsyncFn(&I, &mut ItemContext<'_>) -> Result<T, E>,
    ) -> Result<BatchResult<I, T, E>, Panic> {
        let entered = self.enter_clock();
        let since = clock::now();
        enter(&mut settings);
        let items = match collect(items) {
            Ok(items) => items,
            Err(items) => return Ok(BatchResult::out_of_memory(items)),
        };
        let total = items.len();
        let admitted = settings.journal.as_ref().map(|journal| panic::catch(|| journal.admit(&items)));
        let (slots, claim) = match Slots::of(items) {
            Ok(parts) => parts,
            Err(items) => return Ok(BatchResult::out_of_memory(items)),
        };
        let (report, recorder) = settings.observers_of_batch(since, total);
        let team = settings.team(Some(total), total, recorder.is_some());
        let workers = team.limit;
        let schedule = Schedule::of_batch(claim, settings.on_failure, team);
        let held = Held::new(schedule, since, Hears::Task, &settings, self);
        let trace = Trace::begin("batch", Some(total), workers);
        let kinds = InTask(PhantomData);
        let job = self.job(&kinds, &held, &slots, &mut settings, recorder, trace);
        if let Some(admitted) = admitted {
            job.attend(admitted);
        }
        let nothing = std::iter::empty();
        let mut driver = Driver::new(&job, self.clock.clone(), report, nothing, |begun| attempt(&op, begun));
        drop(entered);
        poll_fn(|cx| driver.poll(cx)).await;
        sync(&job).await;
        let ended = driver.end();
        let _clock = self.enter_clock();
        let ending = job.end(ended);
        ending::finish(ending::of_batch(ending, held.dispatcher(), slots), settings.discard())
    }

    /// One stream, from its iterator to the end of its consumer, as [`stream`](Engine::stream).
    pub(crate) async fn stream_in_task<I, T, E, R>(
        &self,
        items: impl Iterator<Item = I>,
        mut settings: Settings<'_, I, T, E>,
        op: impl AsyncFn(&I, &mut ItemContext<'_>) -> Result<T, E>,
        consume: impl AsyncFnOnce(&mut AsyncResults<'_, I, T, E>) -> R,
    ) -> Result<Streamed<R>, Panic> {
        let entered = self.enter_clock();
        let since = clock::now();
        enter(&mut settings);
        let (hint, at_once) = settings.expects(&items);
        let (report, recorder) = settings.observers(since, hint);
        let team = settings.team(hint, at_once, recorder.is_some());
        let workers = team.limit;
        let (slots, reader) = Slots::ring(settings.most_under_way(workers).min(at_once), settings.flow.order);
        let window = settings.window(workers, slots.room());
        let schedule = Schedule::of_stream(window, settings.on_failure, team);
        let held = Held::new(schedule, since, Hears::Task, &settings, self);
        let trace = Trace::begin("stream", hint, workers);
        let kinds = InTask(PhantomData);
        let job = self.job(&kinds, &held, &slots, &mut settings, recorder, trace);
        let mut driver = Driver::new(&job, self.clock.clone(), report, items, |begun| attempt(&op, begun));
        let mut results = AsyncResults::new(&slots, held.dispatcher(), reader);
        drop(entered);
        let output = beside(|cx| driver.poll(cx), consume(&mut results), held.dispatcher()).await;
        let drawn = results.drawn();
        let consumed = Consumed::new(output, drawn, job.dispatcher.is_complete(drawn.counts.decided()));
        sync(&job).await;
        let ended = driver.end();
        let _clock = self.enter_clock();
        let ending = job.end(ended);
        ending::of_stream(ending, held.dispatcher(), slots, consumed, || settings.discard())
    }

    /// This thread goes by the clock of the batch, up to the next `await` at the latest.
    fn enter_clock(&self) -> Entered {
        clock::enter_task(self.clock.as_ref(), Timer::now)
    }
}

/// One attempt at an item.
async fn attempt<I, T, E>(
    op: &impl AsyncFn(&I, &mut ItemContext<'_>) -> Result<T, E>,
    begun: Begun<'_, I>,
) -> Result<T, E> {
    let Begun { item, index, attempt, worker, end, deadline } = begun;
    let state = &mut ();
    op(&item, &mut ItemContext { state, index, attempt, worker, end, deadline }).await
}

/// Sets what differs in a task: how many items run at a time, and where a journal syncs.
fn enter<I, T, E>(settings: &mut Settings<'_, I, T, E>) {
    settings.workers = settings.workers.in_a_task();
    if let Some(journal) = &mut settings.journal {
        journal.sync_by(timer::spawn_blocking);
    }
}

/// Has the journal sync on another thread, so that [`Job::end`], which holds this one, finds nothing left to sync.
async fn sync<K: Kinds>(job: &Job<'_, K>) {
    if let Some(journal) = job.journal {
        timer::blocking(journal.in_background()).await;
    }
}

/// Polls the batch and the consumer of its outcomes by turns, until the consumer has ended and nothing is in flight. What the
/// consumer made of them, or its panic.
async fn beside<R>(
    mut drive: impl FnMut(&mut Context<'_>) -> Poll<()>,
    consumer: impl Future<Output = R>,
    dispatcher: &Dispatcher,
) -> Result<R, Panic> {
    let (mut consumer, mut output) = (pin!(consumer), None);
    poll_fn(|cx| {
        loop {
            let driven = drive(cx);
            if output.is_some() {
                return driven;
            }
            let before = dispatcher.handed_on();
            match panic::catch(|| consumer.as_mut().poll(cx)) {
                Ok(Poll::Pending) if dispatcher.handed_on() > before => continue, // there is room for more
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(value)) => output = Some(Ok(value)),
                Err(panic) => output = Some(Err(panic)),
            }
            dispatcher.close(None);
        }
    })
    .await;
    output.unwrap_or_else(|| unreachable!("the consumer has ended"))
}
