//! One batch while it runs: what all who work on it share.

use std::time::Duration;

use crate::batch_error::StopReason;
use crate::error::ItemError;
use crate::keep::Halt;
use crate::keep::policy::Keep;
use crate::panic::{self, Panic};
use crate::rate_limit::RateLimiter;
use crate::result::Summary;
use crate::senses::Watch;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Instant, Mutex};

use super::carve::Carve;
use super::chunk::{NoValue, Places};
use super::event::Event;
use super::events::Events;
use super::record::Recorder;
use super::stop::Stop;
use super::supply::Supply;
use super::work::{DelaysOf, Past, Work, forget_each};

/// What is kept of an item that failed and is tried again.
pub(super) type PastOf<W> = Past<<W as Work>::Error, DelaysOf<W>>;

/// What work of this kind is done on.
pub(super) trait SupplyFor<W: Work>:
    Supply<Places: Places<Item = W::Item, Value = W::Value, Error = W::Error> + Send> + Send
{
}

impl<W: Work, S> SupplyFor<W> for S where
    S: Supply<Places: Places<Item = W::Item, Value = W::Value, Error = W::Error> + Send> + Send
{
}

pub(super) struct Job<'a, W: Work, S: SupplyFor<W>> {
    pub(super) work: &'a W,
    pub(super) limiter: Option<&'a dyn RateLimiter>,
    pub(super) stop: &'a Stop,
    pub(super) carve: Carve<S, PastOf<W>>,
    /// Those who work on it, where the number of workers depends on what they do.
    pub(super) watch: Option<Watch>,
    /// How many wait for a permit, where the number of workers depends on it.
    pub(super) paced: AtomicUsize,
    /// Whether an item may have to wait before it starts.
    pub(super) waits: bool,
    /// Whether the caller wants to hear of every claim, or only of a limit that moved.
    pub(super) reports: bool,
    pub(super) events: Events,
    /// Where every attempt is noted, if that is wanted.
    pub(super) recorder: Option<Recorder<'a, W::Item>>,
    /// Why the journal cannot go on, if it cannot.
    pub(super) halted: Mutex<Option<Halt>>,
    /// A panic that is nobody's outcome, for the caller.
    pub(super) panicked: Mutex<Option<Panic>>,
}

/// Who may start.
impl<W: Work, S: SupplyFor<W>> Job<'_, W, S> {
    pub(super) fn admit(&self, index: usize) -> Result<(), NoValue<W::Error>> {
        if self.stop.allows(index) { Ok(()) } else { Err(NoValue::Stopped) }
    }

    /// Whether the item at `index` may start; waits for its permit, and for the end of a pause.
    pub(super) fn wait_to_start(&self, index: usize) -> Result<(), NoValue<W::Error>> {
        self.admit(index)?;
        let wait = self.limiter.map_or(Ok(Duration::ZERO), RateLimiter::reserve);
        let wait = wait.map_err(|error| NoValue::Error(ItemError::RateLimiter(error)))?;
        let _paced = self.carve.adapts().then(|| Paced::new(&self.paced));
        if self.stop.wait_to_start(index, wait) { Ok(()) } else { Err(NoValue::Stopped) }
    }

    /// Holds everybody back, as an attempt asks for that began when there had been so many pauses.
    pub(super) fn pause_all(&self, time: Duration, pauses: usize) {
        if self.stop.pause(time, pauses) {
            self.carve.overload();
            if let Some(limiter) = self.limiter {
                limiter.pause(time);
            }
        }
    }
}

/// What the caller looks after.
impl<W: Work, S: SupplyFor<W>> Job<'_, W, S> {
    /// How long the caller may sleep before it looks around, if something is due, or it is to tick.
    pub(super) fn until_next_look(
        &self,
        due_in: Option<Duration>,
        tick_in: Option<Duration>,
    ) -> Option<Duration> {
        let deadline_in =
            self.stop.deadline_ahead().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        [due_in, tick_in, deadline_in].into_iter().flatten().min()
    }

    /// Has the limit of workers follow what there is to see now.
    pub(super) fn look_around(&self, wants_runnable: bool) {
        let runnable = self.watch.as_ref().filter(|_| wants_runnable).and_then(Watch::runnable);
        self.carve.tick(self.stop.end(), runnable, self.paced.load(Ordering::Relaxed));
    }

    /// When nobody works any more: what there is to tell of a batch that took so long, and the panic that was nobody's
    /// outcome, if there was one.
    pub(super) fn end(&mut self, since: Instant) -> (Result<(), Panic>, Summary) {
        self.attend(panic::catch(|| self.work.keep().finish()));
        let (waiting, told) = self.carve.left(since.elapsed());
        self.events.end(told.counts);
        let panicked = self.panicked.get_mut().take().map_or(Ok(()), Err);
        let ended = panicked.and(forget_each(waiting));
        let (recorded, unrecorded) = self.recorder.take().map(Recorder::finish).unzip();
        let ended = ended.and(unrecorded.unwrap_or(Ok(())));
        (ended, told.summary(recorded, self.halted.get_mut().take()))
    }
}

/// What goes wrong that is no item's.
impl<W: Work, S: SupplyFor<W>> Job<'_, W, S> {
    /// Drops something of the user's. A panic of its destructor stops the batch.
    pub(super) fn discard<V>(&self, value: V) {
        if let Err(panic) = panic::catch(|| drop(value)) {
            self.fail(panic);
        }
    }

    /// Tells an attempt to whoever listens.
    pub(super) fn tell(&self, event: Event<'_>) {
        if let Err(panic) = panic::catch(|| self.events.tell(event)) {
            self.fail(panic);
        }
    }

    /// A panic that is nobody's outcome stops the batch.
    pub(super) fn fail(&self, panic: Panic) {
        self.stop.close(None);
        self.panicked.lock().get_or_insert(panic);
    }

    /// What came of asking the journal. If it cannot go on, the batch stops.
    pub(super) fn attend<V>(&self, answer: Result<Result<V, Halt>, Panic>) -> Option<V> {
        match answer {
            Ok(answer) => self.heed(answer),
            Err(panic) => {
                self.fail(panic);
                None
            }
        }
    }

    pub(super) fn heed<V>(&self, answer: Result<V, Halt>) -> Option<V> {
        answer.map_err(|halt| self.halt(halt)).ok()
    }

    #[cold]
    fn halt(&self, halt: Halt) {
        self.stop.close(Some(StopReason::Journal));
        self.halted.lock().get_or_insert(halt);
    }
}

/// Why a batch stopped of which this is told, if it was for its journal.
pub(super) fn stopped_by_journal(summary: &Summary) -> Option<StopReason> {
    summary.journal_error.as_ref().map(|_| StopReason::Journal)
}

/// Counts a worker that waits for a permit.
struct Paced<'p>(&'p AtomicUsize);

impl<'p> Paced<'p> {
    fn new(paced: &'p AtomicUsize) -> Self {
        paced.fetch_add(1, Ordering::Relaxed);
        Paced(paced)
    }
}

impl Drop for Paced<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
