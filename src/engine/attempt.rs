//! One item with its attempts, where there is more to do than to run it: a journal, a limiter, retries, a deadline, a timeline.
//! An item that is to be tried again waits in the schedule, where it holds no worker.

use std::mem;
use std::time::Duration;

use crate::clock;
use crate::context::ItemContext;
use crate::counts::Counts;
use crate::error::ItemError;
use crate::journal_hook::Recalled;
use crate::panic::{self, Panic};
use crate::result::Trials;
use crate::retry::RetryDecision;
use crate::sync::atomic::Ordering;
use crate::sync::{Instant, later};
use crate::timeline::recorder::{End, Queued};
use crate::timeline::span::Ending;
use crate::trace::{Event, Trace};

use super::limits::Permit;
use super::operation::{Kinds, Past, made};
use super::parking::Runs;
use super::shared::Job;
use super::worker::Worker;
use crate::slots::Claim;

/// An attempt, while it is under way.
pub(super) struct Attempt<'a, E> {
    pub(super) index: usize,
    /// The first is 1.
    pub(super) number: usize,
    /// Whether the operation was called, or what makes its state gave an error.
    pub(super) has_begun: bool,
    /// Whether the item got no permit.
    is_refused: bool,
    /// How many pauses there had been when it started.
    pauses: usize,
    /// What the attempts before have left. Its error is dropped when this one starts.
    pub(super) past: Past<'a, E>,
    /// Shows it to a control.
    _runs: Option<Runs<'a>>,
}

/// What an attempt came to.
pub(super) enum Tried<T, E> {
    Value(T),
    Error(ItemError<E>),
    /// It did not start: the batch has stopped below it.
    Stopped,
}

impl<'j, K: Kinds> Worker<'_, 'j, K> {
    /// One attempt at the first item of the claim; what was decided. None if the item may not start.
    pub(super) fn attempt(&mut self, claim: &mut Claim, is_retry: bool) -> Option<Counts> {
        let mut attempt = match self.open(claim, is_retry) {
            Ok(attempt) => attempt,
            Err(instead) => return instead,
        };
        let tried = panic::catch(|| self.try_first(claim, &mut attempt));
        let tried = tried.unwrap_or_else(|panic| Tried::Error(ItemError::Panicked(panic)));
        let decided = self.settle(claim, attempt, tried);
        self.tell_ended(decided.is_some_and(|counts| counts.decided() > 0));
        decided
    }

    /// Runs the operation on the first item of the claim, when it may start.
    fn try_first(&mut self, claim: &Claim, attempt: &mut Attempt<'j, K::Error>) -> Tried<K::Value, K::Error> {
        if let Some(instead) = self.refused(attempt) {
            return instead;
        }
        let (job, made) = (self.job, made(&mut self.state, self.job.operation).err());
        let deadline = self.begins(attempt);
        if let Some(error) = made {
            return Tried::Error(ItemError::Failed(error));
        }
        let (Some(state), Some(item)) = (&mut self.state, job.slots.first(claim)) else {
            return Tried::Stopped;
        };
        let (end, worker, Attempt { index, number: attempt_number, .. }) =
            (job.dispatcher.stop_at(), self.member.number, &*attempt);
        let context =
            &mut ItemContext { state, index: *index, attempt: *attempt_number, worker, end, deadline };
        let outcome = job.operation.run(item, context);
        self.concluded(claim, attempt, outcome)
    }

    /// Tells the operation that an attempt has ended, and whether its item is decided.
    fn tell_ended(&self, counts: bool) {
        if let Some(state) = &self.state {
            let told = panic::catch(|| self.job.operation.ended(state, counts));
            told.unwrap_or_else(|panic| self.job.fail(panic));
        }
    }
}

/// An attempt before its operation is called, and after.
impl<'j, K: Kinds> Worker<'_, 'j, K> {
    /// Begins an attempt at the first item of the claim, or says what was decided instead; none if the item may not start.
    pub(super) fn open(
        &mut self,
        claim: &mut Claim,
        is_retry: bool,
    ) -> Result<Attempt<'j, K::Error>, Option<Counts>> {
        let (job, index) = (self.job, claim.index());
        // Either the thread that pauses the batch sees that this runs, or this sees the pause.
        let runs =
            job.dispatcher.runs(self.member.number, index, || job.attempts_before(index, is_retry) + 1);
        if (runs.is_some() || index >= job.dispatcher.gate().load(Ordering::Relaxed))
            && !job.dispatcher.look(&mut self.member, claim, is_retry)
        {
            return Err(None);
        }
        let past = if is_retry { job.past.lock().remove(&index) } else { None };
        if past.is_none() && job.limits.is_none() {
            if let Some(counts) = self.recall(claim) {
                return Err(Some(counts));
            }
        }
        let past = past.unwrap_or_default();
        let number = past.attempts + 1;
        Ok(Attempt { index, number, has_begun: false, is_refused: false, pauses: 0, past, _runs: runs })
    }

    /// What the attempt comes to without a call of the operation, if there is to be none.
    pub(super) fn refused(
        &mut self,
        attempt: &mut Attempt<'j, K::Error>,
    ) -> Option<Tried<K::Value, K::Error>> {
        let error = self.refusal.take().map(Tried::Error);
        attempt.is_refused = error.is_some();
        error.or_else(|| (!self.job.dispatcher.allows(attempt.index)).then_some(Tried::Stopped))
    }

    /// The operation is about to be called. Until when it should be done.
    pub(super) fn begins(&mut self, attempt: &mut Attempt<'j, K::Error>) -> Option<Instant> {
        let job = self.job;
        attempt.begins(job);
        if let Some(scribe) = &mut self.scribe {
            scribe.starts(job.waits || job.journal.is_some());
        }
        let own = job.item_timeout.map(|time| later(clock::now(), time));
        own.into_iter().chain(job.dispatcher.deadline).min()
    }

    /// The operation has returned.
    pub(super) fn concluded(
        &mut self,
        claim: &Claim,
        attempt: &Attempt<'j, K::Error>,
        outcome: Result<K::Value, K::Error>,
    ) -> Tried<K::Value, K::Error> {
        let Worker { job, member, scribe, .. } = self;
        let (index, number, worker) = (attempt.index, attempt.number, member.number);
        if let Some(scribe) = scribe.as_mut().filter(|_| job.journal.is_some() || outcome.is_err()) {
            scribe.stops();
        }
        let value = match outcome {
            Ok(value) => value,
            Err(error) => return Tried::Error(ItemError::Failed(error)),
        };
        let Some(item) = job.slots.first(claim) else { return Tried::Stopped };
        if let Some(journal) = job.journal {
            job.attend(Ok(journal.record(index, item, number, Ok(&value))));
        }
        if let Some(scribe) = scribe {
            scribe.succeeds(index, number, item);
        }
        if job.trace.hears_successes() {
            job.tell(Event { index, attempt: number, worker, ending: Ending::Succeeded, note: None });
        }
        Tried::Value(value)
    }

    /// What becomes of the first item of the claim; what was decided. None if it is to stay undecided.
    pub(super) fn settle(
        &mut self,
        claim: &mut Claim,
        mut attempt: Attempt<'j, K::Error>,
        tried: Tried<K::Value, K::Error>,
    ) -> Option<Counts> {
        match tried {
            Tried::Value(value) => {
                self.close(&mut attempt, None);
                self.job.settle(claim, Ok(value));
                Some(Counts::SUCCEEDED)
            }
            Tried::Stopped => {
                self.job.keep_past(attempt);
                None
            }
            Tried::Error(ItemError::Failed(error)) => self.judge(claim, attempt, error),
            Tried::Error(ItemError::TimedOut) => self.judge_timeout(claim, attempt),
            Tried::Error(error) => Some(self.give_up(claim, attempt, error, None)),
        }
    }

    /// Tells the timeline that the worker turns to the items of this claim.
    pub(super) fn turns_to(&mut self, claim: &Claim, is_retry: bool) {
        let asked = self.asked.take();
        let Worker { job, member, scribe, .. } = self;
        let Some(scribe) = scribe else { return };
        let fresh =
            if job.is_stream() || claim.index() >= job.at_start { Queued::Now } else { Queued::AtStart };
        let due = || job.past.lock().get(&claim.index())?.due;
        scribe.turns_to(member.number, is_retry.then(due).flatten().map_or(fresh, Queued::At), asked);
    }

    /// What is to become of the first item of the claim, after this error of its operation.
    fn judge(
        &mut self,
        claim: &mut Claim,
        mut attempt: Attempt<'j, K::Error>,
        error: K::Error,
    ) -> Option<Counts> {
        let job = self.job;
        match panic::catch(|| job.ask(&error, &mut attempt, self.permit.as_ref())) {
            Ok(Some(delay)) => {
                self.note(&attempt, claim, End::retried);
                self.put_back(claim, attempt, Some(error), delay)
            }
            Ok(None) => Some(self.give_up(claim, attempt, ItemError::Failed(error), None)),
            Err(panic) => Some(self.give_up(claim, attempt, ItemError::Failed(error), Some(panic))),
        }
    }

    /// The attempt was cut off: the item is tried again after the next delay, if there is one.
    fn judge_timeout(&mut self, claim: &mut Claim, mut attempt: Attempt<'j, K::Error>) -> Option<Counts> {
        attempt.past.is_held = false;
        let delay = panic::catch(|| {
            let retry = self.job.retry?;
            attempt.past.delays.get_or_insert_with(|| retry.new_delays()).next()
        });
        match delay {
            Ok(Some(delay)) => {
                self.note(&attempt, claim, End::retried);
                self.put_back(claim, attempt, None, delay)
            }
            Ok(None) => Some(self.give_up(claim, attempt, ItemError::TimedOut, None)),
            Err(panic) => Some(self.give_up(claim, attempt, ItemError::TimedOut, Some(panic))),
        }
    }

    /// Has the item wait for its next attempt; if the batch has stopped below it, until the end.
    fn put_back(
        &self,
        claim: &mut Claim,
        mut attempt: Attempt<'j, K::Error>,
        error: Option<K::Error>,
        delay: Duration,
    ) -> Option<Counts> {
        let is_stopped = !self.job.dispatcher.allows(attempt.index);
        let is_held = attempt.past.is_held;
        let now = clock::now();
        let due = self.job.dispatcher.since(now).saturating_add(delay);
        attempt.past.error = error;
        attempt.past.due = Some(later(now, delay));
        self.job.keep_past(attempt);
        if is_stopped {
            return None;
        }
        let (item, mut schedule) = (claim.split_first(1), self.job.dispatcher.change());
        if is_held {
            schedule.later_or_resumed(due, item);
        } else {
            schedule.later(due, item);
        }
        Some(Counts::default())
    }

    /// The error is the outcome of the first item of the claim.
    fn give_up(
        &mut self,
        claim: &mut Claim,
        mut attempt: Attempt<'j, K::Error>,
        error: ItemError<K::Error>,
        panic: Option<Panic>,
    ) -> Counts {
        self.note(&attempt, claim, || End::of(&error));
        // A panic before the operation was called has come to nothing that another run should know.
        if attempt.has_begun || !matches!(error, ItemError::Panicked(_)) {
            self.keep_failure(claim, attempt.attempts(), &error);
        }
        self.close(&mut attempt, panic);
        self.fail(claim, error);
        Counts::FAILED
    }

    /// The item has its outcome: nothing of the attempts before is needed any more.
    fn close(&self, attempt: &mut Attempt<'j, K::Error>, panic: Option<Panic>) {
        let attempts = attempt.number - usize::from(attempt.is_refused);
        if attempt.number > 1 || attempt.is_refused || panic.is_some() {
            self.job.tell_trials(Trials { index: attempt.index, attempts, panic });
        }
        let Past { error, delays, .. } = mem::take(&mut attempt.past);
        self.job.discard(delays);
        self.job.discard(error);
    }

    /// Tells the timeline and subscribers how the attempt ended.
    fn note(&mut self, attempt: &Attempt<'j, K::Error>, claim: &Claim, end: impl FnOnce() -> End) {
        let Worker { job, member, scribe, .. } = self;
        if scribe.is_none() && !Trace::MAY_BE_HEARD {
            return;
        }
        let (index, number, end) = (attempt.index, attempt.number, end());
        if let Some(scribe) = scribe {
            scribe.close(index, number, &end, job.slots.first(claim));
        }
        let note = end.note.as_deref();
        job.tell(Event { index, attempt: number, worker: member.number, ending: end.ending, note });
    }
}

/// What an earlier run has left, and what this one leaves.
impl<K: Kinds> Worker<'_, '_, K> {
    /// Decides the first item of the claim as an earlier run did, if it has.
    pub(super) fn recall(&mut self, claim: &mut Claim) -> Option<Counts> {
        let (job, index) = (self.job, claim.index());
        let (journal, item) = (job.journal?, job.slots.first(claim)?);
        let recalled = job.attend(panic::catch(|| journal.recall(index, item)));
        let Some(Recalled { outcome, attempts }) = recalled.flatten() else {
            job.dispatcher.begins();
            return None;
        };
        if attempts != 1 {
            job.tell_trials(Trials { index, attempts, panic: None });
        }
        match outcome {
            Ok(value) => {
                job.settle(claim, Ok(value));
                Some(Counts { recorded: 1, ..Counts::SUCCEEDED })
            }
            Err(error) => {
                self.fail(claim, error);
                Some(Counts { recorded: 1, ..Counts::FAILED })
            }
        }
    }

    fn keep_failure(&self, claim: &Claim, attempts: usize, error: &ItemError<K::Error>) {
        let (job, index) = (self.job, claim.index());
        if let Some((journal, item)) = job.journal.zip(job.slots.first(claim)) {
            job.attend(panic::catch(|| journal.record(index, item, attempts, Err(error))));
        }
    }
}

impl<'a, K: Kinds> Job<'a, K> {
    /// How long the item waits for its next attempt, if there is to be one.
    fn ask(
        &self,
        error: &K::Error,
        attempt: &mut Attempt<'a, K::Error>,
        permit: Option<&Permit>,
    ) -> Option<Duration> {
        let retry = self.retry?;
        let decision = retry.decide(error);
        if decision == RetryDecision::GiveUp {
            return None;
        }
        attempt.past.is_held = false;
        let delays = attempt.past.delays.get_or_insert_with(|| retry.new_delays());
        match decision {
            RetryDecision::PauseAll(time) => {
                let answer = self.pause_all(time, attempt.pauses, attempt.past.refusal, permit);
                attempt.past.refusal = Some(answer.refusal);
                attempt.past.is_held = !answer.waits_alone;
                (0..answer.costs).all(|_| delays.next().is_some()).then_some(time)
            }
            RetryDecision::RetryAfter(time) => delays.next().map(|_| time),
            _ => delays.next(),
        }
    }

    fn attempts_before(&self, index: usize, is_retry: bool) -> usize {
        if is_retry { self.past.lock().get(&index).map_or(0, |past| past.attempts) } else { 0 }
    }

    /// Keeps what is known of an item until it is tried again, or until the end.
    fn keep_past(&self, attempt: Attempt<'a, K::Error>) {
        let attempts = attempt.attempts();
        if attempts > 0 {
            self.past.lock().insert(attempt.index, Past { attempts, ..attempt.past });
        }
    }

    /// A stream may have any number of items, and tells nothing of them afterwards.
    fn tell_trials(&self, trials: Trials) {
        if !self.is_stream() {
            self.trials.lock().push(trials);
        }
    }
}

impl<'a, E> Attempt<'a, E> {
    /// How often the item has been tried, this time included if it has begun.
    fn attempts(&self) -> usize {
        if self.has_begun { self.number } else { self.number - 1 }
    }

    fn begins<K: Kinds<Error = E>>(&mut self, job: &Job<'a, K>) {
        job.discard(self.past.error.take());
        (self.has_begun, self.pauses) = (true, job.dispatcher.pauses());
    }
}
