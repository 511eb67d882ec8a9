//! A stream of quick items, of which the caller runs one after the other by itself: pulled, run and handed on without a slot or
//! a claim. To hand such an item from one thread to another takes longer than to run it, and on a busy machine each hand-over
//! waits for the scheduler.
//!
//! The caller begins when nothing is under way, and borrows the iterator until it is told to give it back. Meanwhile one helper
//! oversees it: it looks every few milliseconds how far the caller has come. If that is not far, the helper takes the iterator
//! back, and all go on in the ordinary way.

use std::mem;
use std::time::Duration;

use crate::clock;
use crate::context::ItemContext;
use crate::counts::Counts;
use crate::error::{ItemError, Outcome};
use crate::panic;
use crate::result::BatchItem;
use crate::sync::atomic::Ordering;
use crate::sync::{Mutex, moment};

use super::caller::{Caller, ItemOf};
use super::operation::{Kinds, Operation, made};
use super::schedule::Done;
use super::shared::Job;
use crate::slots::Reader;

/// Items that take fewer nanoseconds are run by the caller, whatever the window.
const QUICK: usize = 400;

/// With a small window also those that take fewer than `QUICKEST`, if all that are under way take less than the time in which
/// a thread wakes another: then workers and consumer wait for each other after each window.
const QUICKEST: usize = 2_000;
const HAND_OVER: usize = 40_000;

/// How often a helper looks: at first, and later on.
const FIRST_LOOK: Duration = moment(1_000);
const LATER_LOOK: Duration = moment(8_000);

impl<K: Kinds> Caller<'_, '_, K> {
    /// The next item, if the caller runs by itself or may begin to. Here the compiler sees the operation itself: for items as quick as
    /// these, to copy an outcome from a call through `dyn` takes a third of the time.
    #[inline]
    pub(super) fn run_solo<O>(&mut self, operation: &O, reader: &mut Reader) -> Option<ItemOf<K>>
    where
        O: Operation<Kinds = K> + ?Sized,
    {
        if self.solo.is_none() && !self.begin_solo(reader) {
            return None;
        }
        let job = self.job;
        // A helper that has the lock takes the iterator, and may wait in it for a long time.
        let Some(mut source) = job.source.as_ref()?.try_lock() else { return self.leave_solo(None) };
        let next = source.solo.take();
        let Some(index) = next.filter(|index| job.dispatcher.allows(*index) && !job.dispatcher.is_wanted())
        else {
            drop(source);
            return self.leave_solo(next.map(|next| (next, false)));
        };
        let item = match panic::catch(|| source.items.next()) {
            Ok(Some(item)) => item,
            ended => {
                drop(source);
                ended.err().into_iter().for_each(|panic| job.fail(panic));
                return self.leave_solo(Some((index, true)));
            }
        };
        source.solo = Some(index + 1);
        drop(source);
        let outcome = self.run_one(operation, index, &item);
        reader.skip();
        Some(BatchItem { index, item, outcome })
    }

    /// Whether the caller may run by itself from now on.
    fn begin_solo(&mut self, reader: &Reader) -> bool {
        let (job, is_alone) = (self.job, self.is_alone());
        let is_quick = job.may_solo && (is_alone || job.item_nanos.load(Ordering::Relaxed) < job.quick());
        if !is_quick {
            if mem::take(&mut self.asks) {
                job.dispatcher.change().forget_solo();
            }
            return false;
        }
        let (member, now) = (&mut self.worker.member, job.dispatcher.since(clock::now()));
        let begun = job.dispatcher.change().lend_solo(member, now, reader.taken(), !is_alone);
        self.asks = begun.is_none() && !is_alone;
        if let Some((index, source)) = begun.zip(job.source.as_ref()) {
            source.lock().solo = Some(index);
            job.dispatcher.set_wanted(false);
            self.solo = Some(Counts::default());
        }
        self.solo.is_some()
    }

    /// Gives the iterator back, unless a helper has taken it.
    pub(super) fn end_solo(&mut self) {
        let source = self.job.source.as_ref().filter(|_| self.solo.is_some()).and_then(Mutex::try_lock);
        let next = source.and_then(|mut source| source.solo.take());
        self.leave_solo(next.map(|next| (next, false)));
    }

    /// The caller runs by itself no longer. It has the iterator, unless a helper took it: then it tells up to which item it has come,
    /// and whether there are no more.
    fn leave_solo(&mut self, come_to: Option<(usize, bool)>) -> Option<ItemOf<K>> {
        let (job, counts) = (self.job, self.solo.take()?);
        if let Some((next, has_ended)) = come_to {
            job.dispatcher.change().end_solo(next, has_ended);
        }
        let done = Done { counts, ..Done::default() };
        job.dispatcher.leave(&mut self.worker.member, done, clock::now());
        None
    }

    /// Runs the operation on an item that has no slot.
    #[inline]
    fn run_one<O>(&mut self, operation: &O, index: usize, item: &K::Item) -> Outcome<K::Value, K::Error>
    where
        O: Operation<Kinds = K> + ?Sized,
    {
        let Caller { job, worker, solo, .. } = self;
        let (stop_at, number, state) = (job.dispatcher.stop_at(), worker.member.number, &mut worker.state);
        let _within = job.trace.enter();
        let ended = panic::catch(|| {
            let state = made(state, operation)?;
            let context =
                &mut ItemContext { state, index, attempt: 1, worker: number, end: stop_at, deadline: None };
            operation.run(item, context)
        });
        let outcome = ended.map_err(ItemError::Panicked).and_then(|ended| ended.map_err(ItemError::Failed));
        if let Err(error) = &outcome {
            job.tell_failure(index, number, error);
            job.dispatcher.failed(index);
        }
        let more = if outcome.is_ok() { Counts::SUCCEEDED } else { Counts::FAILED };
        if let Some(counts) = solo {
            counts.add(more);
        }
        outcome
    }
}

impl<K: Kinds> Job<'_, K> {
    /// Items that take fewer nanoseconds are run by the caller.
    fn quick(&self) -> usize {
        (HAND_OVER / self.slots.room().max(1)).clamp(QUICK, QUICKEST)
    }

    /// A helper looks after a caller that runs by itself, until it no longer does.
    pub(super) fn oversee(&self) {
        let (dispatcher, mut look) = (self.dispatcher, FIRST_LOOK);
        loop {
            let (before, since) = (dispatcher.handed_on(), clock::now());
            dispatcher.nap(look);
            // A fifth of the time is the consumer's.
            let slowest = self.quick() as u128 * 5 / 4;
            let enough = usize::try_from(clock::since(since).as_nanos() / slowest).unwrap_or(1).max(1);
            if !dispatcher.schedule().is_solo() {
                return;
            }
            if dispatcher.handed_on() - before < enough {
                break;
            }
            look = (2 * look).min(LATER_LOOK);
        }
        // The caller may be in the iterator, which may keep it waiting. What it pulls there may in turn wait for the items behind it.
        dispatcher.set_wanted(true);
        let next = self.source.as_ref().and_then(|source| source.lock().solo.take());
        if let Some(next) = next {
            dispatcher.change().end_solo(next, false);
        }
    }
}
