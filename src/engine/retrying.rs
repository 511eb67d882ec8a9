//! Attempts at an item that may be tried again: it waits for its next one outside of the claim, where it holds no worker.

use std::cell::Cell;
use std::time::Duration;

use crate::error::ItemError;
use crate::panic::{self, Panic};
use crate::result::{Counts, Trials};
use crate::retry::RetryDecision;
use crate::retry::policy::Policy;
use crate::sync::{Instant, later};

use super::carve::Waiter;
use super::chunk::NoValue;
use super::job::{Job, PastOf, SupplyFor};
use super::record::End;
use super::stint::Stint;
use super::work::{DelaysOf, Memory, Past, Work};
use super::worker::Worker;

/// An item's run, while it is under way.
struct Attempt<E> {
    /// The first is 1.
    which: usize,
    /// How often the item has been tried, this time included as soon as it starts.
    number: Cell<usize>,
    /// How many pauses there had been when it started.
    pauses: Cell<usize>,
    /// What it came to the last time. Taken when it starts again.
    last: Cell<Option<E>>,
}

/// What an attempt came to.
enum CameTo<E> {
    /// The item is undecided: it is to be tried again, or may not start.
    Nothing,
    Value,
    /// There is no other attempt after this. The panic is that of the retry that was asked about it.
    Error(ItemError<E>, Option<Panic>),
    /// There would have been another, had the batch not stopped.
    GivenUp(ItemError<E>),
}

impl<W: Work, S: SupplyFor<W>> Stint<'_, '_, W, S> {
    /// One attempt at the one item of the claim. If it is to be tried again, it is taken out and is not decided.
    pub(super) fn try_one(&mut self, past: Option<PastOf<W>>) -> Counts {
        if self.chunk.len() == 0 {
            return Counts::default();
        }
        let recalled = if past.is_none() { self.recall() } else { None };
        recalled.unwrap_or_else(|| self.attempt(past))
    }

    fn attempt(&mut self, past: Option<PastOf<W>>) -> Counts {
        let (job, index) = (self.job, self.chunk.next());
        let (attempt, mut memory) = Attempt::after(past);
        let is_another = memory.is_some();
        let begin = || {
            job.discard(attempt.last.take());
            attempt.begin(job.stop.pauses())
        };
        let ended = panic::catch(|| self.decide(1, begin));
        let came_to = self.judge(&attempt, &mut memory, ended);
        self.close(&attempt, &came_to);
        let (error, panic) = match came_to {
            CameTo::Nothing => return Counts::default(),
            CameTo::Value => (None, None),
            CameTo::Error(error, panic) => (Some(error), panic),
            CameTo::GivenUp(error) => (Some(error), None),
        };
        if is_another || panic.is_some() {
            self.worker.tried(Trials { index, attempts: attempt.number.get(), panic });
        }
        job.discard(memory);
        job.discard(attempt.last.take());
        error.map_or(Counts::SUCCEEDED, |error| self.fail(error))
    }

    /// Notes and keeps what there is to tell of an attempt that failed.
    fn close(&mut self, attempt: &Attempt<W::Error>, came_to: &CameTo<W::Error>) {
        match came_to {
            CameTo::Error(error, _) => {
                self.note(attempt.which, || End::of(error));
                self.keep_failure(attempt.number.get(), attempt.has_begun(), error);
            }
            CameTo::GivenUp(error) if attempt.has_begun() => self.note(attempt.which, || End::of(error)),
            _ => {}
        }
    }

    /// What is to become of the item.
    fn judge(
        &mut self,
        attempt: &Attempt<W::Error>,
        memory: &mut Option<Memory<DelaysOf<W>>>,
        ended: Result<Option<NoValue<W::Error>>, Panic>,
    ) -> CameTo<W::Error> {
        match ended {
            Ok(None) => CameTo::Value,
            Ok(Some(NoValue::Error(ItemError::Failed(error)))) => self.judge_error(attempt, memory, error),
            Ok(Some(NoValue::Error(error))) => CameTo::Error(error, None),
            Ok(Some(NoValue::Stopped)) => {
                attempt.last.take().map_or(CameTo::Nothing, |error| self.give_up(error))
            }
            Err(panic) => CameTo::Error(ItemError::Panicked(panic), None),
        }
    }

    fn judge_error(
        &mut self,
        attempt: &Attempt<W::Error>,
        memory: &mut Option<Memory<DelaysOf<W>>>,
        error: W::Error,
    ) -> CameTo<W::Error> {
        match panic::catch(|| self.job.ask(&error, attempt.pauses.get(), memory)) {
            Ok(None) => CameTo::Error(ItemError::Failed(error), None),
            Err(panic) => CameTo::Error(ItemError::Failed(error), Some(panic)),
            Ok(Some(_)) if !self.job.stop.allows(self.chunk.next()) => self.give_up(error),
            Ok(Some(delay)) => self.put_back(attempt, memory, error, delay),
        }
    }

    /// The item would have been tried again, had the batch not stopped.
    fn give_up(&self, error: W::Error) -> CameTo<W::Error> {
        self.job.stop.gave_up(self.chunk.next());
        CameTo::GivenUp(ItemError::Failed(error))
    }

    /// Has the item wait for its next attempt.
    fn put_back(
        &mut self,
        attempt: &Attempt<W::Error>,
        memory: &mut Option<Memory<DelaysOf<W>>>,
        error: W::Error,
        delay: Duration,
    ) -> CameTo<W::Error> {
        self.note(attempt.which, End::retried);
        let Some((held, memory)) = self.chunk.hold().zip(memory.take()) else {
            unreachable!("there is an item, and somebody was asked for its delay")
        };
        let due = later(Instant::now(), delay);
        let past = Past { attempts: attempt.number.get(), due, error, memory };
        if self.job.carve.put_back(due, (held, past)) {
            self.job.stop.call_one();
        }
        CameTo::Nothing
    }
}

impl<W: Work, S: SupplyFor<W>> Job<'_, W, S> {
    /// How long the item waits for its next attempt, if there is to be one. It is remembered what it was told.
    fn ask(
        &self,
        error: &W::Error,
        pauses: usize,
        memory: &mut Option<Memory<DelaysOf<W>>>,
    ) -> Option<Duration> {
        let retry = self.work.retry();
        let decision = retry.decide(error);
        if decision == RetryDecision::GiveUp {
            return None;
        }
        let memory = memory.get_or_insert_with(|| Memory::new(retry.delays()));
        match decision {
            RetryDecision::PauseAll(time) => {
                self.pause_all(time, pauses);
                if memory.pauses_in_vain(self.carve.succeeded()) {
                    memory.next_delay()?;
                }
                Some(time)
            }
            RetryDecision::RetryAfter(time) => memory.next_delay().map(|_| time),
            _ => memory.next_delay(),
        }
    }

    /// Decides items that would have been tried again, had the batch not stopped below them.
    pub(super) fn give_up(
        &self,
        worker: &mut Worker<'_, S, PastOf<W>>,
        waiters: Vec<Waiter<S, PastOf<W>>>,
        buffer: &mut Vec<W::Item>,
    ) -> Counts {
        let (failed, lowest) = (waiters.len(), waiters.iter().map(|(held, _)| held.index()).min());
        for (held, Past { attempts, error, memory, .. }) in waiters {
            let index = held.into_chunk(buffer).settle(Err(ItemError::Failed(error)));
            worker.tried(Trials { index, attempts, panic: None });
            self.stop.failed(index);
            self.discard(memory);
        }
        if let Some(index) = lowest {
            self.stop.gave_up(index);
        }
        Counts { succeeded: 0, failed }
    }
}

impl<E> Attempt<E> {
    /// The next after these.
    fn after<D>(past: Option<Past<E, D>>) -> (Self, Option<Memory<D>>) {
        let (tried, last, memory) = match past {
            Some(past) => (past.attempts, Some(past.error), Some(past.memory)),
            None => (0, None, None),
        };
        let (number, pauses, last) = (Cell::new(tried), Cell::new(0), Cell::new(last));
        (Attempt { which: tried + 1, number, pauses, last }, memory)
    }

    /// Whether the operation was called.
    fn has_begun(&self) -> bool {
        self.number.get() == self.which
    }

    /// It starts, when there have been so many pauses.
    fn begin(&self, pauses: usize) -> usize {
        self.pauses.set(pauses);
        self.number.set(self.number.get() + 1);
        self.number.get()
    }
}
