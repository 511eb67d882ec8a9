//! What a batch leaves when no worker is there any more.

use std::collections::HashMap;
use std::mem;

use crate::batch_error::StopReason;
use crate::clock;
use crate::error::{ItemError, Outcome};
use crate::panic::{self, Panic};
use crate::result::{BatchResult, Summary, Trials};
use crate::timeline::Timeline;
use crate::timeline::recorder::Recorder;

use super::limits::Limits;
use super::operation::{Kinds, Past};
use super::parking::Dispatcher;
use super::results::Consumed;
use super::shared::{Job, Trouble};
use crate::slots::{Claim, Slots};
use crate::stream::Streamed;

pub(super) struct Ending<E> {
    pub(super) summary: Summary,
    /// The claims of items that are undecided.
    pub(super) left: Vec<Claim>,
    /// How often some of them were tried, and what the last attempt came to.
    tried: HashMap<usize, (usize, Option<E>)>,
    /// The panic that is no item's, if there was one.
    panicked: Result<(), Panic>,
}

impl<K: Kinds> Job<'_, K> {
    /// The batch is over, after the caller's part has ended like this.
    pub(super) fn end(self, ended: Result<(), Panic>) -> Ending<K::Error> {
        if let Some(journal) = self.journal {
            self.attend(panic::catch(|| journal.finish()));
        }
        let elapsed = clock::since(self.dispatcher.since);
        let (counts, workers, curve, mut left) = self.dispatcher.change().end();
        left.extend(self.limits.iter().flat_map(Limits::end));
        self.trace.end(counts);
        let Trouble { panic, journal } = mem::take(&mut *self.trouble.lock());
        let (recorded, dropped) = self.recorder.map(Recorder::finish).unzip();
        let summary = Summary {
            counts,
            stopped: journal.as_ref().map(|_| StopReason::Journal),
            elapsed,
            workers,
            trials: mem::take(&mut *self.trials.lock()),
            timeline: recorded.map(|recorded| Box::new(Timeline::new(recorded, curve, elapsed, workers))),
            journal_error: journal.map(|failure| failure.0),
        };
        let panicked = ended.and(panic.map_or(Ok(()), Err)).and(dropped.unwrap_or(Ok(())));
        let mut ending = Ending { summary, left, tried: HashMap::new(), panicked };
        for (index, Past { attempts, error, delays, .. }) in mem::take(&mut *self.past.lock()) {
            ending.tried.insert(index, (attempts, error));
            ending.also(panic::discard(delays));
        }
        ending
    }
}

impl<E> Ending<E> {
    /// The outcome of an item that is undecided.
    pub(super) fn of_undecided<T>(&mut self, index: usize) -> Outcome<T, E> {
        let Some((attempts, error)) = self.tried.remove(&index) else { return Err(ItemError::Skipped) };
        self.summary.trials.push(Trials { index, attempts, panic: None });
        Err(ItemError::Interrupted(error))
    }

    /// Something else that has ended, with a panic or not: the first panic counts.
    pub(super) fn also(&mut self, ended: Result<(), Panic>) {
        let before = mem::replace(&mut self.panicked, Ok(()));
        self.panicked = before.and(ended);
    }

    /// The batch stopped for this reason, if it did and none is known that comes first.
    pub(super) fn stopped(&mut self, reason: Option<StopReason>) {
        self.summary.stopped = self.summary.stopped.or(reason);
    }

    /// What there is to tell, unless something has panicked.
    pub(super) fn close(mut self) -> Result<Summary, Panic> {
        for (_, error) in mem::take(&mut self.tried).into_values() {
            self.also(panic::discard(error));
        }
        self.summary.trials.sort_unstable_by_key(|trials| trials.index);
        let Ending { summary, panicked, .. } = self;
        panicked.map(|()| summary)
    }
}

/// What a batch has come to, or a panic that is no item's; and all items with their outcomes, if those could be brought together.
pub(super) type Ended<I, T, E> = (Result<Summary, Panic>, Result<Parts<I, T, E>, Panic>);

pub(super) type EndedOf<K> = Ended<<K as Kinds>::Item, <K as Kinds>::Value, <K as Kinds>::Error>;

/// All items of a batch, and their outcomes.
type Parts<I, T, E> = (Vec<I>, Vec<Outcome<T, E>>);

/// A batch from its end to its items and outcomes.
pub(super) fn of_batch<I, T, E>(
    mut ending: Ending<E>,
    dispatcher: &Dispatcher,
    slots: Slots<I, T, E>,
) -> Ended<I, T, E> {
    let missed = |line| ending.left.iter().any(|claim| claim.index() < line);
    let reason = dispatcher.schedule().stop.reason(missed);
    ending.stopped(reason);
    let left = mem::take(&mut ending.left);
    let parts = panic::catch(|| slots.into_parts(left, |index| ending.of_undecided(index)));
    (ending.close(), parts)
}

/// A stream from its end to what its consumer made of it. `discard` drops the user's parts of it.
pub(super) fn of_stream<I, T, E, R>(
    mut ending: Ending<E>,
    dispatcher: &Dispatcher,
    mut slots: Slots<I, T, E>,
    consumed: Consumed<R>,
    discard: impl FnOnce() -> Result<(), Panic>,
) -> Result<Streamed<R>, Panic> {
    let in_order = slots.is_in_order();
    let lowest = ending.left.iter().map(Claim::index).min().unwrap_or(usize::MAX);
    let reason = consumed.stopped(&dispatcher.schedule().stop, in_order, lowest);
    ending.stopped(reason);
    ending.also(discard());
    for (item, outcome) in slots.left() {
        ending.also(panic::discard(item).and(panic::discard(outcome)));
    }
    consumed.end(ending.close())
}

/// What a batch hands back: its result, or a panic that is no item's, when everything else is dropped. `discarded` tells how it went to
/// drop what the user gave it.
pub(super) fn finish<I, T, E>(
    (summary, parts): Ended<I, T, E>,
    discarded: Result<(), Panic>,
) -> Result<BatchResult<I, T, E>, Panic> {
    let summary = summary.and_then(|summary| discarded.map(|()| summary));
    match (summary, parts) {
        (Ok(summary), Ok((items, outcomes))) => Ok(BatchResult::new(items, outcomes, summary)),
        (Err(panic), Ok((items, outcomes))) => {
            // A panic of a destructor must not meet this one on its way.
            let _ = panic::drop_each(items).and(panic::drop_each(outcomes));
            Err(panic)
        }
        (Err(panic), Err(_)) | (Ok(_), Err(panic)) => Err(panic),
    }
}
