//! A seat of the task: a worker, and the claim whose first item it has under way.

use futures_util::future::AbortHandle;

use crate::adaptive::Sample;
use crate::clock;
use crate::counts::Counts;
use crate::error::ItemError;
use crate::panic;
use crate::slots::{Claim, Lent};
use crate::sync::Instant;
use crate::sync::atomic::{AtomicUsize, Ordering};

use super::super::attempt::{Attempt, Tried};
use super::super::operation::Kinds;
use super::super::schedule::{Done, Role};
use super::super::shared::Job;
use super::super::worker::Worker;
use super::flight::Landed;

/// What a future is made of.
pub(super) struct Begun<'s, I> {
    pub(super) item: Lent<'s, I>,
    pub(super) index: usize,
    pub(super) attempt: usize,
    pub(super) worker: usize,
    pub(super) end: &'s AtomicUsize,
    pub(super) deadline: Option<Instant>,
}

pub(super) struct Seat<'d, 'j, K: Kinds> {
    pub(super) worker: Worker<'d, 'j, K>,
    /// What it has under way.
    pub(super) run: Option<Run<'j, K::Error>>,
}

/// A claim whose first item is under way, or is about to be.
pub(super) struct Run<'j, E> {
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
    pub(super) abort: Option<AbortHandle>,
    /// When that is to be.
    due: Option<Instant>,
    pub(super) is_late: bool,
    /// Whether the future of the first item was polled. Before that, nothing of the operation has run.
    is_polled: bool,
}

/// What there is to know of a future that has ended.
pub(super) struct Landing {
    /// It was ready when it was polled first.
    pub(super) was_ready: bool,
    /// When it was to be cut off.
    pub(super) timeout: Option<Instant>,
}

/// What the first item of a claim is to do.
enum Opened {
    Run,
    /// It has been decided.
    Next,
    /// It may not start, or there is none.
    End,
}

type Outcome<K> = Result<<K as Kinds>::Value, <K as Kinds>::Error>;

impl<'d, 'j, K: Kinds> Seat<'d, 'j, K> {
    pub(super) fn new(job: &'d Job<'j, K>) -> Self {
        Seat { worker: Worker::new(job, Role::Seat), run: None }
    }

    /// Takes a claim, which was made now.
    pub(super) fn take(&mut self, claim: Claim, is_retry: bool, now: Instant) {
        self.worker.turns_to(&claim, is_retry);
        self.run = Some(Run {
            items: claim.len(),
            claim,
            is_retry,
            attempt: None,
            before: None,
            since: now,
            counts: Counts::default(),
            retried: 0,
            abort: None,
            due: None,
            is_late: false,
            is_polled: true,
        });
    }

    /// What the future of the next item is made of. None if no item of the claim is to run any more.
    pub(super) fn begin(&mut self) -> Option<Begun<'j, K::Item>> {
        loop {
            match self.open()? {
                Opened::Run => break,
                Opened::Next => {}
                Opened::End => return None,
            }
        }
        let Seat { worker, run: Some(run) } = self else { return None };
        let job = worker.job;
        let (number, deadline) = match &mut run.attempt {
            None => (1, None),
            Some(attempt) => {
                run.before = attempt.past.error.take();
                (attempt.number, worker.begins(attempt))
            }
        };
        Some(Begun {
            item: job.slots.lend(&run.claim),
            index: run.claim.index(),
            attempt: number,
            worker: worker.member.number,
            end: job.dispatcher.stop_at(),
            deadline,
        })
    }

    fn open(&mut self) -> Option<Opened> {
        let Seat { worker, run } = self;
        let (job, run) = (worker.job, run.as_mut().filter(|run| run.claim.len() > 0)?);
        if !job.is_careful {
            let may_start = run.claim.index() < job.dispatcher.gate().load(Ordering::Relaxed)
                || job.dispatcher.look(&mut worker.member, &mut run.claim, false);
            return Some(if may_start { Opened::Run } else { Opened::End });
        }
        let mut attempt = match worker.open(&mut run.claim, run.is_retry) {
            Ok(attempt) => attempt,
            Err(Some(counts)) => {
                run.counts.add(counts);
                return Some(Opened::Next);
            }
            Err(None) => return Some(Opened::End),
        };
        let refused = worker.refused(&mut attempt);
        run.attempt = Some(attempt);
        let Some(instead) = refused else { return Some(Opened::Run) };
        Some(if settle(worker, run, instead) { Opened::Next } else { Opened::End })
    }

    /// The future of the first item is in flight: how to cut it off, and when that is to be. What is left of the claim is for
    /// others.
    pub(super) fn takes_off(&mut self, was_polled: bool, abort: Option<AbortHandle>, due: Option<Instant>) {
        let Seat { worker, run: Some(run) } = self else { return };
        let job = worker.job;
        (run.is_polled, run.abort, run.due) = (was_polled, abort, due);
        if run.claim.len() > 1 {
            run.items -= run.claim.len() - 1;
            let (now, rest) = (job.dispatcher.since(clock::now()), run.claim.split_rest());
            job.dispatcher.change().hand_back(&mut worker.member, now, rest);
        }
    }

    /// The future of the first item has ended after that number of polls, or was dropped. None if there is no such future.
    pub(super) fn lands(&mut self, polls: u32, landed: &Landed<Outcome<K>>) -> Option<Landing> {
        let run = self.run.as_mut()?;
        let was_ready = polls == 1 && !run.is_polled;
        run.is_polled |= polls > 1 || !matches!(landed, Ok(Err(_)));
        run.abort = None;
        Some(Landing { was_ready, timeout: run.due.take() })
    }

    /// What becomes of the first item of the claim. Whether what follows it may go on.
    pub(super) fn decide(&mut self, landed: Landed<Outcome<K>>) -> bool {
        let Seat { worker, run: Some(run) } = self else { return false };
        let job = worker.job;
        let tried = match landed {
            Ok(Ok(outcome)) => match &run.attempt {
                Some(attempt) => panic::catch(|| worker.concluded(&run.claim, attempt, outcome))
                    .unwrap_or_else(|panic| Tried::Error(ItemError::Panicked(panic))),
                None => outcome.map_or_else(|error| Tried::Error(ItemError::Failed(error)), Tried::Value),
            },
            Ok(Err(_)) if run.is_late => Tried::Error(ItemError::TimedOut),
            Ok(Err(_)) => {
                worker.forgets();
                run.is_cut_off(job);
                Tried::Stopped
            }
            Err(panic) => Tried::Error(ItemError::Panicked(panic)),
        };
        run.is_late = false;
        if let Some(error) = run.before.take() {
            job.discard(error);
        }
        settle(worker, run, tried)
    }

    /// Nothing of the claim runs any more. What the seat has done, and when that came to its end.
    pub(super) fn done(&mut self) -> (Done, Instant) {
        let (worker, now) = (&mut self.worker, clock::now());
        let Some(Run { claim, items, since, counts, retried, .. }) = self.run.take() else {
            return (Done::default(), now);
        };
        worker.learn(items, counts.succeeded, now.saturating_duration_since(since));
        let dispatcher = worker.job.dispatcher;
        let sample = worker.member.ticket.is_some().then(|| Sample {
            failed: counts.failed + retried,
            started: dispatcher.since(since),
            ended: dispatcher.since(now),
            cpu: None,
            run_delay: None,
        });
        (Done { counts, left: (claim.len() > 0).then_some(claim), sample }, now)
    }
}

impl<'j, E> Run<'j, E> {
    /// The future was dropped, as the batch has stopped below its item.
    fn is_cut_off<K: Kinds<Error = E>>(&mut self, job: &Job<'j, K>) {
        match &mut self.attempt {
            Some(attempt) if !self.is_polled => {
                (attempt.has_begun, attempt.past.error) = (false, self.before.take());
            }
            None if self.is_polled => job.interrupted(self.claim.index()),
            Some(_) | None => {}
        }
    }

    pub(super) fn claim(&mut self) -> &mut Claim {
        &mut self.claim
    }

    /// Items from this index on, up to the first that is left, have values.
    pub(super) fn count_values(&mut self, from: usize) {
        self.counts.succeeded += self.claim.index() - from;
    }

    /// The first item failed, and nothing has to be done for it but to note that.
    pub(super) fn fail<K: Kinds<Error = E>>(&mut self, worker: &mut Worker<'_, 'j, K>, error: ItemError<E>) {
        worker.fail_unnoted(&mut self.claim, error);
        self.counts.failed += 1;
    }

    pub(super) fn into_claim(self) -> Claim {
        self.claim
    }
}

/// What the attempt came to is settled. Whether what follows in the claim may go on.
fn settle<'j, K: Kinds>(
    worker: &mut Worker<'_, 'j, K>,
    run: &mut Run<'j, K::Error>,
    tried: Tried<K::Value, K::Error>,
) -> bool {
    if let Some(attempt) = run.attempt.take() {
        let Some(counts) = worker.settle(&mut run.claim, attempt, tried) else { return false };
        run.counts.add(counts);
        run.retried += usize::from(counts.decided() == 0);
        return true;
    }
    match tried {
        Tried::Value(value) => {
            worker.job.settle(&mut run.claim, Ok(value));
            run.counts.succeeded += 1;
        }
        Tried::Error(error) => run.fail(worker, error),
        Tried::Stopped => return false,
    }
    true
}
