//! How workers pass the turnstile: claim an item, ask what it needs, and start it or leave it there.

use std::time::Duration;

use crate::clock;
use crate::error::ItemError;
use crate::panic;
use crate::sync::Instant;
use crate::sync::atomic::Ordering;

use super::turnstile::{Refused, Start};
use super::{Limits, Permit, Turnstile};
use crate::engine::operation::Kinds;
use crate::engine::schedule::{Done, Next};
use crate::engine::shared::Job;
use crate::engine::worker::Worker;
use crate::slots::Claim;
use crate::timeline::recorder::LimitWait;

impl<K: Kinds> Worker<'_, '_, K> {
    /// What the worker is to do next, as soon as there is something.
    pub(in crate::engine) fn next_within(
        &mut self,
        limits: &Limits<'_, K::Item>,
        done: Done,
        now: &mut Instant,
    ) -> Next {
        self.job.dispatcher.report(&mut self.member, done, *now);
        loop {
            let (next, seen) = self.try_next_within(limits, *now);
            match next {
                Next::Wait(until) => drop(self.job.dispatcher.rest(seen, until)),
                next => return next,
            }
            *now = clock::now();
        }
    }

    /// The same for a worker that does not sleep here. Says also how many changes there had been.
    pub(in crate::engine) fn try_next_within(
        &mut self,
        limits: &Limits<'_, K::Item>,
        now: Instant,
    ) -> (Next, usize) {
        let dispatcher = self.job.dispatcher;
        let mut turnstile = limits.lock();
        dispatcher.look_at_deadline_at(now);
        let at = dispatcher.since(now);
        self.prepare(&mut turnstile, at);
        loop {
            let ask = |worker: &mut Self| dispatcher.change().ask_for_due(&mut worker.member, at);
            let (may_start, due) = if turnstile.parked() > 0 { ask(self) } else { (false, None) };
            if let Some(claim) = due {
                match self.admit(limits, &mut turnstile, claim, true, now) {
                    Some(next) => return (next, 0),
                    None => continue,
                }
            }
            if may_start {
                if let Some(start) = turnstile.next_parked(at) {
                    let (waiting, index) = (limits.waiting(&turnstile), start.claim.index());
                    let mut schedule = dispatcher.change();
                    schedule.wait_at_limits(waiting);
                    schedule.begin(&mut self.member, at, index, start.is_retry);
                    drop(schedule);
                    return (self.begin(&mut turnstile, start), 0);
                }
            }
            let waiting = limits.waiting(&turnstile);
            let (next, seen) = dispatcher.try_next_with(&mut self.member, waiting, turnstile.changes(), now);
            let Next::Run { mut claim, is_retry } = next else { return (next, seen) };
            if !is_retry {
                if let Some(counts) = self.recall(&mut claim) {
                    let done = Done { counts, left: None, sample: None };
                    dispatcher.report(&mut self.member, done, now);
                    continue;
                }
            }
            if let Some(next) = self.admit(limits, &mut turnstile, claim, is_retry, now) {
                return (next, seen);
            }
        }
    }

    /// Gives back what the last attempt had, and takes notice of what has changed.
    fn prepare(&mut self, turnstile: &mut Turnstile<'_>, now: Duration) {
        let dispatcher = self.job.dispatcher;
        if let Some(permit) = self.permit.take() {
            turnstile.give_back(permit);
        }
        turnstile.look_at_changes(dispatcher.changes_of_limits(), now);
        let stop_at = dispatcher.stop_at().load(Ordering::Relaxed);
        if stop_at < turnstile.stopped_at() {
            let schedule = dispatcher.schedule();
            let stopped = turnstile.stop_at(stop_at, |index| !schedule.stop.allows(index));
            drop(schedule);
            let stopped = turnstile.remove_all(stopped);
            if !stopped.is_empty() {
                dispatcher.change().leave_undecided(stopped);
            }
        }
    }

    /// Starts the item, or parks it.
    fn admit<'l>(
        &mut self,
        limits: &Limits<'l, K::Item>,
        turnstile: &mut Turnstile<'l>,
        claim: Claim,
        is_retry: bool,
        now: Instant,
    ) -> Option<Next> {
        let item = self.job.slots.first(&claim)?;
        let (dispatcher, index) = (self.job.dispatcher, claim.index());
        let at = dispatcher.since(now);
        let start = match panic::catch(|| limits.demands(item, turnstile)) {
            Ok(demands) => turnstile.admit(claim, is_retry, demands, at)?,
            Err(panic) => {
                let permit = Err(Refused::Panicked(panic));
                Start { claim, is_retry, since: at, waited_for: None, permit }
            }
        };
        let next = self.begin(turnstile, start);
        dispatcher.change().begin(&mut self.member, at, index, is_retry);
        Some(next)
    }

    /// The attempt has its permit, or fails before it starts.
    fn begin(&mut self, turnstile: &mut Turnstile<'_>, start: Start) -> Next {
        match start.permit {
            Ok(permit) => {
                let limit = start.waited_for.filter(|_| self.scribe.is_some());
                let limit = limit.map(|meter| turnstile.name(meter));
                (self.permit, self.asked) = (Some(permit), Some(LimitWait { since: start.since, limit }));
            }
            Err(Refused::Error(error)) => self.refusal = Some(ItemError::RateLimiter(error)),
            Err(Refused::Panicked(panic)) => self.refusal = Some(ItemError::Panicked(panic)),
        }
        Next::Run { claim: start.claim, is_retry: start.is_retry }
    }

    /// Gives back what the last attempt had, where the worker claims nothing next.
    pub(in crate::engine) fn give_permit_back(&mut self) {
        let (Some(limits), Some(permit)) = (&self.job.limits, self.permit.take()) else { return };
        let mut turnstile = limits.lock();
        turnstile.give_back(permit);
        let waiting = limits.waiting(&turnstile);
        self.job.dispatcher.change().wait_at_limits(waiting);
    }
}

impl<K: Kinds> Job<'_, K> {
    /// The limiters of this attempt hear of a pause.
    pub(in crate::engine) fn pause_limiters(&self, permit: Option<&Permit>, time: Duration) {
        let (Some(limits), Some(permit)) = (&self.limits, permit) else { return };
        let mut turnstile = limits.lock();
        turnstile.hear_of_limiters(permit);
        let limiters = turnstile.limiters_to_pause(permit, (self.dispatcher.pauses(), time));
        drop(turnstile);
        for (limiter, refused) in limiters {
            match limiter.as_rate_limit() {
                Some(limit) => limit.pause_after(refused, time),
                None => limiter.pause(time),
            }
        }
    }
}
