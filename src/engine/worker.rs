//! The worker loop: a worker claims items, runs them, and tells what came of that with its next claim.

use std::mem;
use std::time::Duration;

use crate::adaptive::Sample;
use crate::clock;
use crate::counts::Counts;
use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::thread_meter::{Meter, Usage, Watch};
use crate::timeline::recorder::{LimitWait, Scribe};

use super::limits::Permit;
use super::operation::{Kinds, Stretch};
use super::schedule::{Done, Member, Next, Pace, Role, Schedule};
use super::shared::Job;
use crate::slots::{Claim, Halt};

/// One worker, and what is its own.
pub(super) struct Worker<'w, 'j, K: Kinds> {
    pub(super) job: &'w Job<'j, K>,
    pub(super) member: Member,
    pace: Pace,
    /// The user's. Made when the worker has its first item.
    pub(super) state: Option<K::State>,
    /// Boxed, as the measure is, since a task may have thousands of workers.
    pub(super) scribe: Option<Box<Scribe<'w, K::Item>>>,
    /// What the attempt under way has of the limits.
    pub(super) permit: Option<Permit>,
    /// When it came to the limits, and for which it has waited.
    pub(super) asked: Option<LimitWait>,
    /// Why it may not start: a limiter gave an error, or what asks for its cost panicked.
    pub(super) refusal: Option<ItemError<K::Error>>,
    /// Where the controller wants to know of it.
    measure: Option<Box<Measure>>,
}

/// What is measured of a claim.
struct Measure {
    meter: Meter,
    before: Option<Usage>,
    /// When the claim began; with a limiter, when its item had the permit.
    started: Instant,
}

impl Measure {
    fn new(now: Instant) -> Self {
        Measure { meter: Meter::new(), before: None, started: now }
    }
}

/// Hears of each item that a caller decides.
pub(super) type Tell<'t> = &'t mut dyn FnMut(Counts);

/// What a caller that takes turns is to do next.
pub(super) enum Turn {
    Worked,
    /// Nothing until then, unless there is a signal.
    Wait(Option<Duration>),
    Leave,
}

impl<'w, 'j, K: Kinds> Worker<'w, 'j, K> {
    pub(super) fn new(job: &'w Job<'j, K>, role: Role) -> Self {
        let pace = if job.adapts() && role == Role::Helper { Pace::measured() } else { Pace::new() };
        let scribe = job.recorder.as_ref().map(|recorder| Box::new(Scribe::new(recorder)));
        Worker {
            job,
            member: Member::new(role),
            pace,
            state: None,
            scribe,
            permit: None,
            asked: None,
            refusal: None,
            measure: None,
        }
    }

    /// The first item of the claim has come to this error in the end.
    pub(super) fn fail(&self, claim: &mut Claim, error: ItemError<K::Error>) {
        // First, so that the consumer of a stream sees no item above the one that stops it.
        self.job.dispatcher.failed(claim.index());
        self.job.settle(claim, Err(error));
    }

    #[cold]
    pub(super) fn fail_unnoted(&self, claim: &mut Claim, error: ItemError<K::Error>) {
        self.job.tell_failure(claim.index(), self.member.number, &error);
        self.fail(claim, error);
    }

    /// What was noted of an attempt that was cut off.
    #[cfg(feature = "tokio")]
    pub(super) fn forgets(&mut self) {
        self.scribe.iter_mut().for_each(|scribe| scribe.forgets());
    }

    /// With a limiter, a deadline or a retry every item may have to wait, so no claim has more than one.
    fn claim_size(&self) -> usize {
        if self.job.waits { 1 } else { self.pace.size() }
    }

    /// What the worker is to do next, after it has told something, under one lock if it can be.
    pub(super) fn try_next(&mut self, tell: impl FnOnce(&mut Schedule, &mut Member), now: Instant) -> Next {
        let (job, size) = (self.job, self.claim_size());
        match &job.limits {
            Some(limits) => {
                tell(&mut job.dispatcher.change(), &mut self.member);
                self.try_next_within(limits, now).0
            }
            None => job.dispatcher.try_next(&mut self.member, tell, size, now),
        }
    }

    /// A claim of `items` items has taken the time `took`, and `succeeded` of them have a value.
    pub(super) fn learn(&mut self, items: usize, succeeded: usize, took: Duration) {
        if succeeded > 0 || !self.job.adapts() {
            self.pace.learn(items, took);
        } else {
            self.pace.go_one_by_one(); // items that are refused are quick, and the controller hears of them
        }
        self.job.learn(items, took);
    }
}

impl<K: Kinds> Worker<'_, '_, K> {
    /// Works until there is nothing left for this worker.
    pub(super) fn work(&mut self) {
        let _watched = self.job.watch.as_ref().map(Watch::enter);
        let _within = self.job.trace.enter();
        let (mut done, mut now) = (Done::default(), clock::now());
        loop {
            match self.next(mem::take(&mut done), &mut now) {
                Next::Run { claim, is_retry } => {
                    done = self.run_claim(claim, is_retry, &mut now, &mut None).0;
                }
                Next::Pull { index, most } => {
                    self.job.pull(index, most);
                    now = clock::now();
                }
                Next::Oversee => {
                    self.job.oversee();
                    now = clock::now();
                }
                Next::Wait(_) | Next::Leave => break,
            }
        }
        let state = self.state.take();
        self.job.discard(state);
    }

    fn next(&mut self, done: Done, now: &mut Instant) -> Next {
        let (job, size) = (self.job, self.claim_size());
        match &job.limits {
            Some(limits) => self.next_within(limits, done, now),
            None => job.dispatcher.next(&mut self.member, done, size, now),
        }
    }

    /// Works a short while, and tells of each item before the next one starts. A panic of `tell` goes on when the claim has come
    /// back.
    pub(super) fn take_turn(&mut self, tell: Tell<'_>) -> Turn {
        let (job, mut now) = (self.job, clock::now());
        let _within = job.trace.enter();
        let (mut turn, mut done, mut told) = (Turn::Worked, Done::default(), Ok(()));
        match self.try_next(|_, _| (), now) {
            Next::Run { claim, is_retry } => {
                (done, told) = self.run_claim(claim, is_retry, &mut now, &mut Some(tell));
            }
            Next::Pull { index, most } => job.pull(index, most),
            Next::Wait(until) => turn = Turn::Wait(until),
            Next::Oversee | Next::Leave => return Turn::Leave,
        }
        self.give_permit_back();
        job.dispatcher.leave(&mut self.member, done, now);
        told.unwrap_or_else(|panic| panic.resume());
        turn
    }

    /// Runs a claim, and learns how long that takes. With `tell`, which hears of each item, item by item, until it panics.
    fn run_claim(
        &mut self,
        mut claim: Claim,
        is_retry: bool,
        now: &mut Instant,
        tell: &mut Option<Tell<'_>>,
    ) -> (Done, Result<(), Panic>) {
        let items = claim.len();
        let most = if tell.is_some() { 1 } else { usize::MAX };
        self.begin_measure(*now);
        self.turns_to(&claim, is_retry);
        let (mut counts, mut retried, mut told) = (Counts::default(), 0, Ok(()));
        while claim.len() > 0 && told.is_ok() {
            let run = if self.job.is_careful {
                self.attempt(&mut claim, is_retry)
            } else {
                self.run_some(&mut claim, most)
            };
            let Some(more) = run else { break };
            counts.add(more);
            retried += usize::from(self.job.is_careful && more.decided() == 0);
            if let Some(tell) = tell.as_mut().filter(|_| more.decided() > 0) {
                told = panic::catch(|| tell(more));
            }
        }
        let since = mem::replace(now, clock::now());
        self.learn(items, counts.succeeded, *now - since);
        let sample = self.sample(counts.failed + retried, since, *now);
        (Done { counts, left: (claim.len() > 0).then_some(claim), sample }, told)
    }

    /// Decides items, up to the first without a value: one catch serves for all of them. None if the next may not start.
    fn run_some(&mut self, claim: &mut Claim, most: usize) -> Option<Counts> {
        let (dispatcher, start) = (self.job.dispatcher, claim.index());
        let (gate, most) = match dispatcher.gate().load(Ordering::Relaxed) {
            gate if start < gate => (dispatcher.gate(), most),
            _ if dispatcher.look(&mut self.member, claim, false) => (dispatcher.stop_at(), 1),
            _ => return None,
        };
        let Worker { job, member, state, .. } = self;
        let stretch = Stretch {
            most,
            gate,
            worker: member.number,
            end: dispatcher.stop_at(),
            deadline: dispatcher.deadline,
            consumer: job.is_stream().then_some(dispatcher),
        };
        let ended = panic::catch(|| job.operation.decide_while(job.slots, claim, state, &stretch));
        let mut counts = Counts { succeeded: claim.index() - start, ..Counts::default() };
        match ended {
            Ok(None | Some(Halt::Gate)) => return Some(counts),
            Ok(Some(Halt::Error(error))) => self.fail_unnoted(claim, ItemError::Failed(error)),
            Err(panic) => self.fail_unnoted(claim, ItemError::Panicked(panic)),
        }
        counts.failed += 1;
        Some(counts)
    }
}

/// What the controller wants to know.
impl<K: Kinds> Worker<'_, '_, K> {
    fn begin_measure(&mut self, now: Instant) {
        let Some(ticket) = &self.member.ticket else { return };
        let measure = self.measure.get_or_insert_with(|| Box::new(Measure::new(now)));
        measure.started = now;
        measure.before = if ticket.measure() { measure.meter.read() } else { None };
    }

    /// What the claim took, of which this many attempts gave no value.
    fn sample(&mut self, failed: usize, since: Instant, now: Instant) -> Option<Sample> {
        let (job, measure) = (self.job, self.measure.as_mut()?);
        let used = measure.before.take().and_then(|before| Some((before, measure.meter.read()?)));
        let cpu = used.map(|(before, after)| after.cpu.saturating_sub(before.cpu));
        let run_delay = used.and_then(|(before, after)| after.run_delay?.checked_sub(before.run_delay?));
        let started = job.dispatcher.since(measure.started.max(since));
        Some(Sample { failed, started, ended: job.dispatcher.since(now), cpu, run_delay })
    }
}

/// A worker that goes counts as gone, also by unwinding.
impl<K: Kinds> Drop for Worker<'_, '_, K> {
    fn drop(&mut self) {
        self.give_permit_back();
        if !self.member.is_away() {
            self.job.dispatcher.leave(&mut self.member, Done::default(), clock::now());
        }
        let state = self.state.take();
        self.job.discard(state);
    }
}
