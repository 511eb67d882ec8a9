//! One claim while it is worked on: its items, and how they come to their outcomes.

use std::cell::Cell;

use crate::context::ItemContext;
use crate::error::ItemError;
use crate::keep::Recalled;
use crate::keep::policy::Keep;
use crate::panic;
use crate::result::{Counts, Trials};
use crate::timeline::span::Ending;

use super::chunk::{Chunk, NoValue};
use super::event::Event;
use super::events::Events;
use super::job::{Job, PastOf, SupplyFor};
use super::record::{End, Queued, Scribe};
use super::supply::Supply;
use super::work::{Work, keeps};
use super::worker::Worker;

pub(super) type ChunkOf<'b, S> = Chunk<'b, <S as Supply>::Places>;

/// A worker with what it has claimed.
pub(super) struct Stint<'s, 'j, W: Work, S: SupplyFor<W>> {
    pub(super) job: &'j Job<'j, W, S>,
    pub(super) worker: &'s mut Worker<'j, S, PastOf<W>>,
    pub(super) desk: &'s mut Desk<'j, W>,
    pub(super) chunk: ChunkOf<'s, S>,
}

/// What a worker has at hand while items run.
pub(super) struct Desk<'j, W: Work> {
    /// Made when it first works.
    pub(super) state: Option<W::State>,
    scribe: Option<Scribe<'j, W::Item>>,
}

impl<'j, W: Work> Desk<'j, W> {
    pub(super) fn new<S: SupplyFor<W>>(job: &'j Job<'_, W, S>) -> Self {
        Desk { state: None, scribe: job.recorder.as_ref().map(Scribe::new) }
    }
}

impl<W: Work, S: SupplyFor<W>> Stint<'_, '_, W, S> {
    /// It begins, with an item that has been tried before or with others.
    pub(super) fn begin(&mut self, past: Option<&PastOf<W>>) {
        if let Some(scribe) = &mut self.desk.scribe {
            let at_start = if S::IS_STREAM { Queued::Now } else { Queued::AtStart };
            scribe.turns_to(self.worker.number, past.map_or(at_start, |past| Queued::At(past.due)));
        }
    }

    /// Decides so many items, or those up to the first that may not start. Each is tried once.
    #[inline]
    pub(super) fn run(&mut self, most: usize) -> Counts {
        let end = self.chunk.next() + most.min(self.chunk.len());
        let mut counts = Counts::default();
        while self.chunk.next() < end {
            let Some(more) = self.recall().or_else(|| self.run_to_failure(end)) else { break };
            counts.add(more);
        }
        counts
    }

    /// Decides items before `end`, up to the first without a value: one catch serves for all of them. None if the next may not
    /// start.
    #[inline]
    fn run_to_failure(&mut self, end: usize) -> Option<Counts> {
        let start = self.chunk.next();
        // What was recorded of an item is asked before it runs.
        let most = if keeps::<W>() { 1 } else { end - start };
        let has_begun = Cell::new(false);
        let begin = || {
            if keeps::<W>() {
                has_begun.set(true);
            }
            1
        };
        let ended = panic::catch(|| self.decide(most, begin));
        let mut counts = Counts { succeeded: self.chunk.next() - start, failed: 0 };
        let error = match ended {
            Ok(Some(NoValue::Error(error))) => error,
            Ok(Some(NoValue::Stopped)) => return (counts.succeeded > 0).then_some(counts),
            Ok(None) => return Some(counts),
            Err(panic) => ItemError::Panicked(panic),
        };
        self.note(1, || End::of(&error));
        self.keep_failure(1, has_begun.get(), &error);
        counts.add(self.fail(error));
        Some(counts)
    }

    /// The first item has come to this in the end.
    pub(super) fn fail(&mut self, error: ItemError<W::Error>) -> Counts {
        self.job.stop.failed(self.chunk.settle(Err(error)));
        Counts::FAILED
    }

    /// Decides up to `most` items for as long as there are values; what there was instead, if there was. `begin` is called before
    /// each and says which attempt it is.
    #[inline]
    pub(super) fn decide(&mut self, most: usize, begin: impl Fn() -> usize) -> Option<NoValue<W::Error>> {
        let Stint { job, worker, desk, chunk } = self;
        if !job.stop.allows(chunk.next()) {
            return Some(NoValue::Stopped);
        }
        let state = desk.state.get_or_insert_with(|| job.work.state());
        if desk.scribe.is_some() || job.events.hears_successes() || keeps::<W>() {
            return self.decide_and_note(most, begin);
        }
        let (number, end, deadline) = (worker.number, job.stop.end_itself(), job.stop.deadline());
        let op = |index, item: &W::Item| {
            let attempt = begin();
            job.work.run(item, &mut ItemContext { state, index, attempt, worker: number, end, deadline })
        };
        // Two loops, so that the quick one has nothing in it that could unwind but the operation.
        if job.waits {
            let admit = |index| job.wait_to_start(index).inspect(|()| worker.is_permitted());
            chunk.decide_while(most, admit, op)
        } else {
            chunk.decide_while(most, |index| job.admit(index), op)
        }
    }

    /// The same, with a clock reading an item. Apart, so that it costs nothing where nobody wants it.
    #[inline(never)]
    fn decide_and_note(&mut self, most: usize, begin: impl Fn() -> usize) -> Option<NoValue<W::Error>> {
        let Stint { job, worker, desk, chunk } = self;
        let Desk { state, scribe } = desk;
        let state = state.get_or_insert_with(|| job.work.state());
        let (number, end, deadline) = (worker.number, job.stop.end_itself(), job.stop.deadline());
        if let Some(scribe) = scribe.as_mut().filter(|_| keeps::<W>()) {
            scribe.goes_on();
        }
        let admitted = Cell::new(None);
        let clock = scribe.as_ref().map(Scribe::clock);
        let admit = |index| {
            if !job.waits {
                return job.admit(index);
            }
            job.wait_to_start(index)?;
            worker.is_permitted();
            admitted.set(clock.as_ref().map(|clock| clock()));
            Ok(())
        };
        let op = |index, item: &W::Item| {
            let attempt = begin();
            if let Some(scribe) = scribe {
                scribe.starts(admitted.take());
            }
            let context = &mut ItemContext { state, index, attempt, worker: number, end, deadline };
            let outcome = job.work.run(item, context);
            if let Some(scribe) = scribe.as_mut().filter(|_| keeps::<W>() || outcome.is_err()) {
                scribe.stops();
            }
            if let Ok(value) = &outcome {
                job.heed(job.work.keep().record(index, item, attempt, Ok(value)));
                if let Some(scribe) = scribe {
                    scribe.succeeds(index, attempt, item);
                }
                if job.events.hears_successes() {
                    job.tell(Event { index, attempt, worker: number, ending: Ending::Succeeded, note: None });
                }
            }
            outcome
        };
        chunk.decide_while(most, admit, op)
    }

    /// Notes how an attempt at the first item ended, and tells of it.
    pub(super) fn note(&mut self, attempt: usize, end: impl FnOnce() -> End) {
        let Stint { job, worker, desk, chunk } = self;
        if desk.scribe.is_none() && !Events::MAY_BE_HEARD {
            return;
        }
        let (index, end) = (chunk.next(), end());
        desk.scribe.iter_mut().for_each(|scribe| scribe.close(index, attempt, &end, chunk.first()));
        let (ending, note) = (end.ending, end.note.as_deref());
        job.tell(Event { index, attempt, worker: worker.number, ending, note });
    }
}

/// What an earlier run has left, and what this one leaves.
impl<W: Work, S: SupplyFor<W>> Stint<'_, '_, W, S> {
    /// Decides the first item as an earlier run did, if it has.
    pub(super) fn recall(&mut self) -> Option<Counts> {
        let (job, index) = (self.job, self.chunk.next());
        if !keeps::<W>() || !job.stop.allows(index) {
            return None;
        }
        let item = self.chunk.first()?;
        let recalled = job.attend(panic::catch(|| job.work.keep().recall(index, item)));
        let Recalled { outcome, attempts } = recalled.flatten()?;
        if attempts != 1 {
            self.worker.tried(Trials { index, attempts, panic: None });
        }
        Some(match outcome {
            Ok(value) => {
                self.chunk.settle(Ok(value));
                Counts::SUCCEEDED
            }
            Err(error) => self.fail(error),
        })
    }

    /// Keeps what the first item has come to. What has panicked before it was called has come to nothing.
    pub(super) fn keep_failure(&self, attempts: usize, has_begun: bool, error: &ItemError<W::Error>) {
        let is_kept = keeps::<W>() && (has_begun || !matches!(error, ItemError::Panicked(_)));
        let Some(item) = self.chunk.first().filter(|_| is_kept) else { return };
        let (job, index) = (self.job, self.chunk.next());
        job.attend(panic::catch(|| job.work.keep().record(index, item, attempts, Err(error))));
    }
}
