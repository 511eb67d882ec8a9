//! What the task does each time it is polled: it starts what may start, lands what is ready, reports, and says when it is to be
//! polled again.

use std::collections::BTreeSet;
use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::AbortHandle;
use futures_util::stream::FuturesUnordered;

use crate::clock::{self, TestClock};
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::slots::{Claim, Halt};
use crate::sync::{Instant, later};

use super::super::operation::Kinds;
use super::super::report::Report;
use super::super::schedule::{Done, Next, Schedule};
use super::super::shared::Job;
use super::Call;
use super::flight::{Flight, Flown, Place};
use super::seat::{Begun, Run, Seat};
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
    /// What a seat has pulled, until the schedule knows of it.
    pulled: Vec<Claim>,
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
            pulled: Vec::new(),
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
        let _clock = clock::enter_task(clock.as_ref(), Timer::now);
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
            if self.flights.is_empty() && job.dispatcher.schedule().is_idle() {
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
            self.has_landed(flown);
            return Poll::Ready(());
        }
        let Some(due) = self.due() else { return Poll::Pending };
        match &self.clock {
            None => self.timer.poll_until(due, cx),
            Some(_) if !self.flights.is_empty() => Poll::Pending,
            Some(clock) => {
                let call = self.job.dispatcher.call.as_ref();
                clock.wait(Some(due), || call.is_some_and(Call::is_given));
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
            self.has_landed(flown);
        }
    }

    /// Polls the futures that were woken, for a turn at most. Whether one of them was ready.
    fn land(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut turn, mut has_landed) = (Turn::begin(), false);
        while let Poll::Ready(Some(flown)) = self.flights.poll_next_unpin(cx) {
            self.has_landed(flown);
            has_landed = true;
            // One of them may have cancelled the batch: others may not have been polled yet.
            if turn.is_over() || !self.job.dispatcher.allows(0) {
                break;
            }
        }
        has_landed
    }

    /// Starts what may start, for a turn at most. What waits for something else says when to look again.
    fn start(&mut self) {
        self.next_start = None;
        let (mut turn, limit) = (Turn::begin(), self.job.dispatcher.limit());
        let mut now = clock::now();
        while self.flights.len() < limit && !turn.is_over() {
            let seat = self.idle.take().or_else(|| self.free.pop());
            let number = seat.unwrap_or_else(|| self.add_seat());
            if let Some(instead) = self.serve(number, Done::default(), &mut now) {
                self.idle = Some(number);
                self.next_start = if let Next::Wait(until) = instead { until } else { None };
                return;
            }
        }
    }

    fn add_seat(&mut self) -> usize {
        self.seats.push(Seat::new(self.job));
        self.seats.len() - 1
    }

    /// The seat tells what it has done, and does what is next. What it is to do instead, if it starts nothing.
    fn serve(&mut self, number: usize, done: Done, now: &mut Instant) -> Option<Next> {
        let job = self.job;
        let tell = |schedule: &mut Schedule, member: &mut _| {
            schedule.done(member, job.dispatcher.since(*now), done);
        };
        let mut next = self.seats[number].worker.try_next(tell, *now);
        while let Next::Pull { index, most } = next {
            next = self.pull(number, index, most);
        }
        match next {
            Next::Run { claim, is_retry } => {
                self.seats[number].take(claim, is_retry, *now);
                if self.go_on(number) {
                    let (done, ended) = self.done(number);
                    *now = ended;
                    self.leave(number, done, ended);
                }
                None
            }
            instead => Some(instead),
        }
    }

    /// Pulls up to `most` items, the first of which has this index. What the seat is to do then.
    fn pull(&mut self, number: usize, index: usize, most: usize) -> Next {
        let Driver { job, items, seats, pulled: claims, .. } = self;
        let pulled = panic::catch(|| {
            for index in index..index + most {
                let Some(item) = items.next() else { return true };
                claims.push(job.slots.fill(index, item));
                if !job.dispatcher.allows(index + 1) {
                    break;
                }
            }
            false
        });
        let has_ended = pulled.unwrap_or_else(|panic| {
            job.fail(panic);
            true
        });
        let tell = |schedule: &mut Schedule, _: &mut _| {
            for claim in claims.drain(..) {
                schedule.add(claim);
            }
            schedule.give_back_source(has_ended);
        };
        seats[number].worker.try_next(tell, clock::now())
    }

    /// Runs items of the seat's claim up to the first that is not ready. Whether nothing of the claim is in flight.
    fn go_on(&mut self, number: usize) -> bool {
        if self.expects_ready && !self.job.is_careful && !self.run_ready(number) {
            return false;
        }
        while let Some(begun) = self.seats[number].begin() {
            let (mut place, make) = (self.spare.take().unwrap_or_default(), &self.make);
            match place.start(|| make(begun), self.expects_ready) {
                Poll::Pending => {
                    self.take_off(number, place);
                    return false;
                }
                Poll::Ready(outcome) => {
                    self.spare = Some(place);
                    if !self.seats[number].decide(outcome.map(Ok)) {
                        break;
                    }
                }
            }
        }
        true
    }

    /// Runs items of a claim in a row, up to the gate, for as long as their futures are ready when they are polled first: one catch serves
    /// for all of them. False if one is not ready, and is in flight.
    fn run_ready(&mut self, number: usize) -> bool {
        let Driver { job, make, seats, spare, .. } = self;
        let Seat { worker, run: Some(run) } = &mut seats[number] else { return true };
        let (mut place, seat, end) =
            (spare.take().unwrap_or_default(), worker.member.number, job.dispatcher.stop_at());
        loop {
            let before = run.claim().index();
            let op = |index, item| {
                let begun = Begun { item, index, attempt: 1, worker: seat, end, deadline: None };
                match place.poll_first(make(begun)) {
                    Poll::Ready(outcome) => outcome.map_err(Some),
                    Poll::Pending => Err(None),
                }
            };
            let (gate, signal) = (job.dispatcher.gate(), || job.dispatcher.signal());
            let ended = panic::catch(|| job.slots.decide_ready(run.claim(), gate, op, signal));
            run.count_values(before);
            let error = match ended {
                Ok(None | Some(Halt::Gate)) => break,
                Ok(Some(Halt::Error(None))) => {
                    self.take_off(number, place);
                    return false;
                }
                Ok(Some(Halt::Error(Some(error)))) => ItemError::Failed(error),
                Err(panic) => {
                    place.clear();
                    ItemError::Panicked(panic)
                }
            };
            run.fail(worker, error);
        }
        *spare = Some(place);
        true
    }

    /// The future of the first item is not ready, if it was polled.
    fn take_off(&mut self, number: usize, place: Place<F>) {
        let was_polled = mem::replace(&mut self.expects_ready, false);
        let (abort, registration) = self.job.item_timeout.map(|_| AbortHandle::new_pair()).unzip();
        let due = self.job.item_timeout.map(|time| later(clock::now(), time));
        self.seats[number].takes_off(was_polled, abort, due);
        self.timeouts.extend(due.map(|due| (due, number)));
        self.flights.push(Flight::new(number, place, registration));
    }

    fn has_landed(&mut self, Flown { seat: number, landed, polls, place }: Flown<F>) {
        self.spare = self.spare.take().or(place);
        let seat = &mut self.seats[number];
        let Some(due) = seat.lands(polls, &landed) else { return };
        self.expects_ready |= due.was_ready;
        if let Some(due) = due.timeout {
            self.timeouts.remove(&(due, number));
        }
        if seat.decide(landed) && !self.go_on(number) {
            return;
        }
        let (done, mut now) = self.done(number);
        if self.idle.is_some() {
            self.leave(number, done, now); // another has found nothing to start
        } else if self.serve(number, done, &mut now).is_some() {
            self.leave(number, Done::default(), now);
        }
    }

    fn done(&mut self, number: usize) -> (Done, Instant) {
        self.has_news = true;
        self.seats[number].done()
    }

    /// The seat is free again.
    fn leave(&mut self, number: usize, done: Done, now: Instant) {
        let worker = &mut self.seats[number].worker;
        worker.give_permit_back();
        self.job.dispatcher.leave(&mut worker.member, done, now);
        self.free.push(number);
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

/// Dropped before the batch is over, it drops what is in flight, and gives all claims back, so that outcomes are dropped, too.
impl<K: Kinds, It, M, F> Drop for Driver<'_, '_, '_, K, It, M, F> {
    fn drop(&mut self) {
        self.flights.clear();
        if self.is_over {
            return;
        }
        let runs = self.seats.drain(..).filter_map(|seat| seat.run);
        let claims = runs.map(Run::into_claim).collect();
        self.job.dispatcher.change().leave_undecided(claims);
        self.job.abandon();
    }
}
