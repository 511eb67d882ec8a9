//! What the task does each time it is polled: it starts what may start, lands what is ready, reports, and says when it is to be
//! polled again.

use std::collections::BTreeSet;
use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::AbortHandle;
use futures_util::stream::FuturesUnordered;

use crate::adaptive::Sample;
use crate::clock::{self, TestClock};
use crate::counts::Counts;
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::slots::{Claim, Lent};
use crate::sync::atomic::AtomicUsize;
use crate::sync::{Instant, later};

use super::super::attempt::{Attempt, Tried};
use super::super::operation::Kinds;
use super::super::report::Report;
use super::super::schedule::{Done, Next, Role, Schedule};
use super::super::shared::Job;
use super::super::worker::Worker;
use super::flight::{Flight, Flown, Landed, Place};
use super::timer::Timer;

/// After this time the task lets others have the thread.
const TURN: Duration = Duration::from_micros(100);

/// How long the task has kept its thread.
struct Turn {
    since: Instant,
    steps: u32,
}

impl Turn {
    fn begin() -> Self {
        Turn { since: Instant::now(), steps: 0 }
    }

    /// Whether it is over after one more step. A look at the clock takes as long as a quick item, so not each step takes one.
    fn is_over(&mut self) -> bool {
        self.steps += 1;
        self.steps % 8 == 0 && self.since.elapsed() >= TURN
    }
}

/// What a future is made of.
pub(super) struct Begun<'s, I> {
    pub(super) item: Lent<'s, I>,
    pub(super) index: usize,
    pub(super) attempt: usize,
    pub(super) worker: usize,
    pub(super) end: &'s AtomicUsize,
    pub(super) deadline: Option<Instant>,
}

/// A worker of the task, and what it has under way.
struct Seat<'d, 'j, K: Kinds> {
    worker: Worker<'d, 'j, K>,
    run: Option<Run<'j, K::Error>>,
}

/// A claim whose first item is under way, or is about to be.
struct Run<'j, E> {
    claim: Claim,
    is_retry: bool,
    /// None where there is nothing to do for an item but to run it.
    attempt: Option<Attempt<'j, E>>,
    /// The error of the attempt before, until the future is polled.
    before: Option<E>,
    /// How many items the claim had, and since when.
    items: usize,
    since: Instant,
    counts: Counts,
    retried: usize,
    /// How to cut it off, while it is in flight.
    abort: Option<AbortHandle>,
    /// When that is to be.
    due: Option<Instant>,
    is_late: bool,
    /// Whether the future of the first item was polled. Before that, nothing of the operation has run.
    is_polled: bool,
}

pub(super) struct Driver<'d, 'j, 'r, K: Kinds, It, M, F> {
    job: &'d Job<'j, K>,
    clock: Option<TestClock>,
    report: Option<Report<'r>>,
    items: It,
    /// Makes the future of an attempt.
    make: M,
    flights: FuturesUnordered<Flight<F>>,
    seats: Vec<Seat<'d, 'j, K>>,
    free: Vec<usize>,
    /// The seat that found nothing to start: the schedule knows it as the idle worker that is called.
    idle: Option<usize>,
    spare: Option<Place<F>>,
    /// The last future was ready when it was polled first.
    expects_ready: bool,
    /// When items in flight are to be cut off, and which.
    timeouts: BTreeSet<(Instant, usize)>,
    /// When something may start that may not now.
    next_start: Option<Duration>,
    timer: Timer,
    panicked: Result<(), Panic>,
    /// Whether there is something for the consumer of a stream.
    has_news: bool,
    is_over: bool,
}

type Value<K> = <K as Kinds>::Value;
type Failure<K> = <K as Kinds>::Error;

impl<'d, 'j, 'r, K, It, M, F> Driver<'d, 'j, 'r, K, It, M, F>
where
    K: Kinds<State = ()>,
    It: Iterator<Item = K::Item>,
    M: Fn(Begun<'j, K::Item>) -> F,
    F: Future<Output = Result<Value<K>, Failure<K>>>,
{
    pub(super) fn new(
        job: &'d Job<'j, K>,
        clock: Option<TestClock>,
        report: Option<Report<'r>>,
        items: It,
        make: M,
    ) -> Self {
        Driver {
            job,
            clock,
            report,
            items,
            make,
            flights: FuturesUnordered::new(),
            seats: Vec::new(),
            free: Vec::new(),
            idle: None,
            spare: None,
            expects_ready: true,
            timeouts: BTreeSet::new(),
            next_start: None,
            timer: Timer::default(),
            panicked: Ok(()),
            has_news: false,
            is_over: false,
        }
    }

    /// Goes on as far as it can. Ready when nothing is left, now or later.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        let (clock, job) = (self.clock.clone(), self.job);
        let _clock = clock::enter(clock.as_ref());
        let _now = clock::enter_task(Timer::now);
        let _within = job.trace.enter();
        let turn = Turn::begin();
        loop {
            if let Some(call) = &job.dispatcher.call {
                call.take();
            }
            job.dispatcher.look_at_deadline();
            self.cut_off();
            let has_landed = self.land(cx);
            self.start();
            self.tell();
            if self.flights.is_empty() && job.dispatcher.read(Schedule::is_idle) {
                self.is_over = true;
                self.call_consumer();
                return Poll::Ready(());
            }
            if turn.since.elapsed() >= TURN {
                self.call_consumer();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !has_landed && self.waits(cx).is_pending() {
                self.call_consumer();
                return Poll::Pending;
            }
        }
    }

    /// Wakes what waits for the next outcome, if there is one, or the end.
    fn call_consumer(&mut self) {
        if mem::take(&mut self.has_news) || self.is_over {
            self.job.dispatcher.call.iter().for_each(|call| call.consumer.wake());
        }
    }

    /// Whether there is nothing to do before the task is woken, which this sees to.
    fn waits(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(call) = &self.job.dispatcher.call else { return Poll::Ready(()) };
        call.task.register(cx.waker());
        if call.take() {
            return Poll::Ready(());
        }
        // Those that have been started since are polled for the first time.
        if let Poll::Ready(Some(flown)) = self.flights.poll_next_unpin(cx) {
            self.has_landed(flown.seat, flown);
            return Poll::Ready(());
        }
        let Some(due) = self.due() else { return Poll::Pending };
        match &self.clock {
            None => self.timer.poll_until(due, cx),
            Some(_) if !self.flights.is_empty() => Poll::Pending,
            Some(clock) => {
                clock.wait(Some(due), || false);
                Poll::Ready(())
            }
        }
    }

    /// When there is something to do, whatever happens.
    fn due(&self) -> Option<Instant> {
        let dispatcher = self.job.dispatcher;
        let start = self.next_start.map(|at| later(dispatcher.since, at));
        let timeout = self.timeouts.first().map(|(at, _)| *at);
        let deadline = dispatcher.deadline.filter(|_| dispatcher.allows(0));
        let now = clock::now();
        let tick = self.report.as_ref().and_then(Report::tick_in).map(|time| later(now, time));
        let look = if self.job.dispatcher.adapts() {
            dispatcher.status(dispatcher.since(now)).tick_in.map(|time| later(now, time))
        } else {
            None
        };
        [start, timeout, deadline, tick, look].into_iter().flatten().min()
    }

    /// Cuts off what is late, or everything if the batch was stopped.
    fn cut_off(&mut self) {
        if !self.job.dispatcher.allows(0) {
            self.cut_off_all();
        }
        if self.timeouts.is_empty() {
            return;
        }
        let now = clock::now();
        while let Some((_, seat)) = self.timeouts.first().copied().filter(|(at, _)| *at <= now) {
            self.timeouts.pop_first();
            if let Some(run) = &mut self.seats[seat].run {
                run.is_late = true;
                run.abort.iter().for_each(AbortHandle::abort);
            }
        }
    }

    /// Drops all futures in flight.
    fn cut_off_all(&mut self) {
        for flight in mem::take(&mut self.flights) {
            let flown = flight.cut_off();
            self.has_landed(flown.seat, flown);
        }
    }

    /// Polls the futures that were woken, for a turn at most. Whether one of them was ready.
    fn land(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut turn, before) = (Turn::begin(), self.flights.len());
        while let Poll::Ready(Some(flown)) = self.flights.poll_next_unpin(cx) {
            self.has_landed(flown.seat, flown);
            if turn.is_over() {
                break;
            }
        }
        self.flights.len() < before
    }

    /// Starts what may start, for a turn at most. What waits for something else says when to look again.
    fn start(&mut self) {
        self.next_start = None;
        let (mut turn, limit) = (Turn::begin(), self.job.dispatcher.limit());
        let mut now = clock::now();
        while self.flights.len() < limit && !turn.is_over() {
            let seat = self.idle.take().or_else(|| self.free.pop());
            let number = seat.unwrap_or_else(|| self.add_seat());
            match self.seats[number].worker.try_next(now) {
                Next::Run { claim, is_retry } => {
                    now = self.run_claim(number, claim, is_retry, now).unwrap_or(now);
                }
                Next::Pull { index, most } => {
                    self.pull(index, most);
                    self.free.push(number);
                }
                next => {
                    self.idle = Some(number);
                    self.next_start = if let Next::Wait(until) = next { until } else { None };
                    return;
                }
            }
        }
    }

    fn add_seat(&mut self) -> usize {
        self.seats.push(Seat { worker: Worker::new(self.job, Role::Seat), run: None });
        self.seats.len() - 1
    }

    /// Pulls up to `most` items, the first of which has this index.
    fn pull(&mut self, index: usize, most: usize) {
        let Driver { job, items, .. } = self;
        let pulled = panic::catch(|| {
            for index in index..index + most {
                let Some(item) = items.next() else { return true };
                let claim = job.slots.fill(index, item);
                if !job.dispatcher.update(|schedule| schedule.add(claim)) {
                    break;
                }
            }
            false
        });
        let has_ended = *pulled.as_ref().unwrap_or(&true);
        job.dispatcher.update(|schedule| schedule.give_back_source(has_ended));
        if let Err(panic) = pulled {
            job.fail(panic);
        }
    }

    /// Runs a claim, which was made now. When it came to its end, if it did.
    fn run_claim(&mut self, number: usize, claim: Claim, is_retry: bool, now: Instant) -> Option<Instant> {
        self.seats[number].worker.turns_to(&claim, is_retry);
        let items = claim.len();
        let run = Run {
            claim,
            is_retry,
            attempt: None,
            before: None,
            items,
            since: now,
            counts: Counts::default(),
            retried: 0,
            abort: None,
            due: None,
            is_late: false,
            is_polled: true,
        };
        self.go_on(number, run)
    }

    /// Runs the items of the claim up to the first that is not ready at once.
    fn go_on(&mut self, number: usize, mut run: Run<'j, K::Error>) -> Option<Instant> {
        while run.claim.len() > 0 {
            match self.open(number, &mut run) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(()) => break,
            }
            let deadline = self.begins(number, &mut run);
            let (job, worker) = (self.job, self.seats[number].worker.member.number);
            let begun = Begun {
                item: job.slots.lend(&run.claim),
                index: run.claim.index(),
                attempt: run.attempt.as_ref().map_or(1, |attempt| attempt.number),
                worker,
                end: job.dispatcher.stop_at(),
                deadline,
            };
            let (mut place, make) = (self.spare.take().unwrap_or_default(), &self.make);
            run.is_polled = self.expects_ready;
            let polled = place.start(|| make(begun), run.is_polled);
            self.expects_ready = polled.is_ready();
            match polled {
                Poll::Pending => {
                    self.take_off(number, run, place);
                    return None;
                }
                Poll::Ready(outcome) => {
                    self.spare = Some(place);
                    if !self.decide(number, &mut run, outcome.map(Ok)) {
                        break;
                    }
                }
            }
        }
        Some(self.done(number, run))
    }

    /// Whether the first item of the claim is to run, or has been decided; an error if it may not start.
    fn open(&mut self, number: usize, run: &mut Run<'j, K::Error>) -> Result<bool, ()> {
        let worker = &mut self.seats[number].worker;
        if !self.job.is_careful {
            let dispatcher = self.job.dispatcher;
            let may_start = run.claim.index()
                < dispatcher.gate().load(crate::sync::atomic::Ordering::Relaxed)
                || dispatcher.look(&mut worker.member, &mut run.claim, false);
            return if may_start { Ok(true) } else { Err(()) };
        }
        let attempt = match worker.open(&mut run.claim, run.is_retry) {
            Ok(attempt) => attempt,
            Err(Some(counts)) => {
                run.counts.add(counts);
                return Ok(false);
            }
            Err(None) => return Err(()),
        };
        if let Some(tried) = worker.refused(&attempt) {
            return settled(worker, run, attempt, tried).then_some(false).ok_or(());
        }
        run.attempt = Some(attempt);
        Ok(true)
    }

    /// The future of the first item is about to be made. Until when it should be done.
    fn begins(&mut self, number: usize, run: &mut Run<'j, K::Error>) -> Option<Instant> {
        let attempt = run.attempt.as_mut()?;
        run.before = attempt.past.error.take();
        self.seats[number].worker.begins(attempt)
    }

    /// The future of the first item is not ready. What is left of the claim is for others.
    fn take_off(&mut self, number: usize, mut run: Run<'j, K::Error>, place: Place<F>) {
        let (job, seat) = (self.job, &mut self.seats[number]);
        if run.claim.len() > 1 {
            run.items -= run.claim.len() - 1;
            let (now, rest) = (job.dispatcher.since(clock::now()), run.claim.split_rest());
            job.dispatcher.update(|schedule| schedule.hand_back(&mut seat.worker.member, now, rest));
        }
        let (abort, registration) = job.item_timeout.map(|_| AbortHandle::new_pair()).unzip();
        run.abort = abort;
        run.due = job.item_timeout.map(|time| later(clock::now(), time));
        self.timeouts.extend(run.due.map(|due| (due, number)));
        seat.run = Some(run);
        self.flights.push(Flight::new(number, place, registration));
    }

    fn has_landed(&mut self, number: usize, Flown { landed, polls, .. }: Flown<F::Output>) {
        let Some(mut run) = self.seats[number].run.take() else { return };
        self.expects_ready |= polls == 1 && !run.is_polled;
        run.is_polled |= polls > 1 || !matches!(landed, Ok(Err(_)));
        run.abort = None;
        if let Some(due) = run.due.take() {
            self.timeouts.remove(&(due, number));
        }
        if self.decide(number, &mut run, landed) {
            self.go_on(number, run);
        } else {
            self.done(number, run);
        }
    }

    /// What becomes of the first item of the claim. Whether what follows it may go on.
    fn decide(&mut self, number: usize, run: &mut Run<'j, K::Error>, landed: Landed<F::Output>) -> bool {
        let (job, worker) = (self.job, &mut self.seats[number].worker);
        let tried = match landed {
            Ok(Ok(outcome)) => match &run.attempt {
                Some(attempt) => panic::catch(|| worker.concluded(&run.claim, attempt, outcome))
                    .unwrap_or_else(|panic| Tried::Error(ItemError::Panicked(panic))),
                None => outcome.map_or_else(|error| Tried::Error(ItemError::Failed(error)), Tried::Value),
            },
            Ok(Err(_)) if run.is_late => Tried::Error(ItemError::TimedOut),
            Ok(Err(_)) => {
                worker.forgets();
                match &mut run.attempt {
                    Some(attempt) if !run.is_polled => {
                        (attempt.has_begun, attempt.past.error) = (false, run.before.take());
                    }
                    None if run.is_polled => job.interrupted(run.claim.index()),
                    Some(_) | None => {}
                }
                Tried::Stopped
            }
            Err(panic) => Tried::Error(ItemError::Panicked(panic)),
        };
        run.is_late = false;
        job.discard(run.before.take());
        if let Some(attempt) = run.attempt.take() {
            return settled(worker, run, attempt, tried);
        }
        match tried {
            Tried::Value(value) => {
                job.settle(&mut run.claim, Ok(value));
                run.counts.add(Counts::SUCCEEDED);
            }
            Tried::Error(error) => {
                worker.fail_unnoted(&mut run.claim, error);
                run.counts.add(Counts::FAILED);
            }
            Tried::Stopped => return false,
        }
        true
    }

    /// The seat is free again.
    fn done(&mut self, number: usize, run: Run<'j, K::Error>) -> Instant {
        let (job, worker, now) = (self.job, &mut self.seats[number].worker, clock::now());
        let Run { claim, items, since, counts, retried, .. } = run;
        worker.learn(items, counts.succeeded, now.saturating_duration_since(since));
        worker.give_permit_back();
        let sample = worker.member.ticket.is_some().then(|| Sample {
            failed: counts.failed + retried,
            started: job.dispatcher.since(since),
            ended: job.dispatcher.since(now),
            cpu: None,
            run_delay: None,
        });
        let done = Done { counts, left: (claim.len() > 0).then_some(claim), sample };
        job.dispatcher.leave(&mut worker.member, done, now);
        self.has_news = true;
        self.free.push(number);
        now
    }

    /// Makes the calls that are due, and has the controller look around.
    fn tell(&mut self) {
        let dispatcher = self.job.dispatcher;
        let mut is_told = false;
        while !is_told && (self.report.is_some() || dispatcher.adapts()) {
            let status = dispatcher.status(clock::since(dispatcher.since));
            if status.tick_in.is_some_and(|time| time.is_zero()) {
                dispatcher.tick(None);
            }
            let Some(report) = &mut self.report else { return };
            match panic::catch(|| report.tell(&status)) {
                Ok(is_all) => is_told = is_all,
                Err(panic) => {
                    dispatcher.close(None);
                    let dropped = self.report.take().map_or(Ok(()), Report::end);
                    self.panicked = Err(panic);
                    let _ = dropped;
                }
            }
        }
    }

    /// The batch is over. Lets go of what it worked with.
    pub(super) fn end(mut self) -> Result<(), Panic> {
        let ended = self.report.take().map_or(Ok(()), Report::end);
        mem::replace(&mut self.panicked, Ok(())).and(ended)
    }
}

/// What the attempt came to is settled. Whether what follows in the claim may go on.
fn settled<'j, K: Kinds>(
    worker: &mut Worker<'_, 'j, K>,
    run: &mut Run<'j, K::Error>,
    attempt: Attempt<'j, K::Error>,
    tried: Tried<K::Value, K::Error>,
) -> bool {
    let Some(counts) = worker.settle(&mut run.claim, attempt, tried) else { return false };
    run.counts.add(counts);
    run.retried += usize::from(counts.decided() == 0);
    true
}

/// Dropped before the batch is over, it drops what is in flight, and gives all claims back, so that outcomes are dropped, too.
impl<K: Kinds, It, M, F> Drop for Driver<'_, '_, '_, K, It, M, F> {
    fn drop(&mut self) {
        self.flights.clear();
        if self.is_over {
            return;
        }
        let runs = self.seats.drain(..).filter_map(|seat| seat.run);
        let claims = runs.map(|run| run.claim).collect();
        self.job.dispatcher.update(|schedule| schedule.leave_undecided(claims));
        self.job.abandon();
    }
}
