//! One batch or stream while it runs: what all who work on it share.

use std::collections::HashMap;
use std::time::Duration;

use crate::batch_error::StopReason;
use crate::clock;
use crate::error::{ItemError, Outcome};
use crate::journal_hook::{JournalFailure, JournalHook};
use crate::limit::Limit;
use crate::listeners::Listener;
use crate::panic::{self, Panic};
use crate::rate_limit::RateLimiter;
use crate::result::Trials;
use crate::retry::Retry;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::thread_meter::Watch;
use crate::timeline::recorder::{End, Recorder};
use crate::trace::{Event, Trace};

use super::limits::{Limits, Permit};
use super::operation::{Kinds, Operation, Past, Settings};
use super::parking::Dispatcher;
use super::schedule::{Answer, Refusal, Role};
use super::worker::Worker;
use crate::slots::{Claim, Slots};

pub(crate) type SlotsOf<K> = Slots<<K as Kinds>::Item, <K as Kinds>::Value, <K as Kinds>::Error>;

pub(super) type SettingsOf<'a, K> =
    Settings<'a, <K as Kinds>::Item, <K as Kinds>::Value, <K as Kinds>::Error>;

/// The iterator of a stream. The schedule lends it to one worker at a time, so no worker waits for its lock.
pub(super) struct Source<'a, I> {
    pub(super) items: &'a mut (dyn Iterator<Item = I> + Send + 'a),
    /// While the caller runs by itself, the index of the next item.
    pub(super) solo: Option<usize>,
}

/// In nanoseconds.
const QUICK: usize = 20_000;

pub(super) struct Job<'a, K: Kinds> {
    pub(super) operation: &'a (dyn Operation<Kinds = K> + 'a),
    pub(super) dispatcher: &'a Dispatcher,
    pub(super) slots: &'a SlotsOf<K>,
    /// Out of what workers pull; none for a batch.
    pub(super) source: Option<Mutex<Source<'a, K::Item>>>,
    /// Items with lower numbers were there when the batch began.
    pub(super) at_start: usize,
    /// None where no item has to wait for anything.
    pub(super) limits: Option<Limits<'a, K::Item>>,
    pub(super) retry: Option<&'a Retry<'a, K::Error>>,
    /// How long an attempt may take.
    pub(super) item_timeout: Option<Duration>,
    pub(super) journal: Option<&'a (dyn JournalHook<K::Item, K::Value, K::Error> + Send + 'a)>,
    /// Where every attempt is noted, if that is wanted.
    pub(super) recorder: Option<Recorder<'a, K::Item>>,
    pub(super) trace: Trace,
    /// The workers' threads, where the number of workers depends on what they do.
    pub(super) watch: Option<Watch>,
    /// Whether an item may have to wait before it starts. Then a claim has one item.
    pub(super) waits: bool,
    /// Whether there is more to do for an item than to run it.
    pub(super) is_careful: bool,
    /// Items that are to be tried again, by their indices.
    pub(super) past: Mutex<HashMap<usize, Past<'a, K::Error>>>,
    /// Whether the caller may run items by itself.
    pub(super) may_solo: bool,
    /// What the last items of a stream took, in nanoseconds.
    pub(super) item_nanos: AtomicUsize,
    /// What there is to tell of items that were tried more than once.
    pub(super) trials: Mutex<Vec<Trials>>,
    pub(super) trouble: Mutex<Trouble>,
}

/// What went wrong that is no item's.
#[derive(Default)]
pub(super) struct Trouble {
    pub(super) panic: Option<Panic>,
    pub(super) journal: Option<JournalFailure>,
}

impl<'a, K: Kinds> Job<'a, K> {
    pub(super) fn new(
        operation: &'a (dyn Operation<Kinds = K> + 'a),
        dispatcher: &'a Dispatcher,
        slots: &'a SlotsOf<K>,
        settings: &'a SettingsOf<'_, K>,
        recorder: Option<Recorder<'a, K::Item>>,
        trace: Trace,
    ) -> Self {
        let (retry, journal) = (settings.retry.as_ref(), settings.journal.as_deref());
        let waits = retry.is_some() || dispatcher.deadline.is_some();
        let adapts = dispatcher.schedule().team.adapts();
        Job {
            operation,
            dispatcher,
            slots,
            source: None,
            at_start: usize::MAX,
            limits: None,
            retry,
            item_timeout: settings.item_timeout,
            journal,
            watch: adapts.then(Watch::default),
            waits,
            is_careful: waits
                || dispatcher.is_controlled()
                || journal.is_some()
                || recorder.is_some()
                || settings.item_timeout.is_some()
                || trace.hears_successes(),
            may_solo: false,
            item_nanos: AtomicUsize::new(usize::MAX),
            recorder,
            trace,
            past: Mutex::default(),
            trials: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// Items come out of this iterator, which waits for nothing if the caller `may_solo`.
    pub(super) fn pull_from(
        &mut self,
        items: &'a mut (dyn Iterator<Item = K::Item> + Send + 'a),
        may_solo: bool,
    ) {
        self.source = Some(Mutex::new(Source { items, solo: None }));
        self.at_start = 0;
        self.may_solo = !self.is_careful && !self.dispatcher.reports && may_solo;
    }

    /// The batch begins with this number of items, and they push others: a worker claims each by itself.
    pub(super) fn grow_from(&mut self, items: usize) {
        self.at_start = items;
        (self.waits, self.is_careful) = (true, true);
    }

    /// Every item needs something of these limits, and of the executor's.
    pub(super) fn limit_by<'l: 'a>(
        &mut self,
        limits: Vec<Limit<'l, K::Item>>,
        limiter: Option<&'a dyn RateLimiter>,
        listener: Option<Listener>,
    ) {
        let limits = limits.into_iter().map(Limit::shortened);
        let limits: Vec<_> = limits.chain(limiter.map(Limit::rate)).collect();
        if !limits.is_empty() {
            let workers = self.dispatcher.schedule().team.most_workers();
            self.limits = Some(Limits::new(limits, self.dispatcher.since, workers, listener));
            (self.waits, self.is_careful) = (true, true);
        }
    }
}

impl<K: Kinds> Job<'_, K> {
    /// A worker works until there is nothing left for it. A panic of the loop itself fails the batch.
    pub(super) fn work(&self) {
        let clock = clock::enter(self.dispatcher.clock.as_ref());
        if let Err(panic) = panic::catch(|| Worker::new(self, Role::Helper).work()) {
            self.fail(panic);
        }
        self.dispatcher.signal();
        drop(clock);
    }
}

/// Who may start.
impl<K: Kinds> Job<'_, K> {
    /// Whether the number of workers depends on what they do.
    pub(super) fn adapts(&self) -> bool {
        self.watch.is_some()
    }

    /// A worker has learnt what an item takes.
    pub(super) fn learn(&self, items: usize, took: Duration) {
        if self.is_stream() {
            let nanos = took.as_nanos() / items.max(1) as u128;
            self.item_nanos.store(usize::try_from(nanos).unwrap_or(usize::MAX), Ordering::Relaxed);
        }
    }

    /// Whether it takes longer to wake the caller than to run an item.
    pub(super) fn has_quick_items(&self) -> bool {
        self.item_nanos.load(Ordering::Relaxed) < QUICK
    }

    /// An item was refused, also the `last` time, in an attempt that started when there had been `pauses` pauses. Holds all items
    /// back, unless it is the only one that is refused. Its limiters hear of that.
    pub(super) fn pause_all(
        &self,
        time: Duration,
        pauses: usize,
        last: Option<Refusal>,
        permit: Option<&Permit>,
    ) -> Answer {
        let answer = self.dispatcher.pause(time, pauses, last);
        if !answer.waits_alone {
            self.pause_limiters(permit, time);
        }
        answer
    }

    /// The first attempt at this item was cut off.
    #[cfg(feature = "tokio")]
    pub(super) fn interrupted(&self, index: usize) {
        self.past.lock().insert(index, Past { attempts: 1, ..Past::default() });
    }

    /// The batch was dropped: what is undecided is skipped, so that what is decided can be dropped.
    #[cfg(feature = "tokio")]
    pub(super) fn abandon(&self) {
        let (.., mut left) = self.dispatcher.change().end();
        left.extend(self.limits.iter().flat_map(Limits::end));
        for mut claim in left.into_iter().filter(|_| !self.is_stream()) {
            while claim.len() > 0 {
                self.slots.decide(&mut claim, Err(ItemError::Skipped), || ());
            }
        }
    }

    /// Whether items are pulled while others are worked on.
    pub(super) fn is_stream(&self) -> bool {
        self.slots.is_ring()
    }

    /// Decides the first item of the claim.
    pub(super) fn settle(&self, claim: &mut Claim, outcome: Outcome<K::Value, K::Error>) {
        self.slots.decide(claim, outcome, || self.dispatcher.signal());
    }
}

/// What goes wrong that is no item's.
impl<K: Kinds> Job<'_, K> {
    /// Drops something of the user's. A panic of its destructor stops the batch.
    pub(super) fn discard<V>(&self, value: V) {
        if let Err(panic) = panic::discard(value) {
            self.fail(panic);
        }
    }

    /// Tells subscribers of an attempt.
    pub(super) fn tell(&self, event: Event<'_>) {
        if let Err(panic) = panic::catch(|| self.trace.tell(event)) {
            self.fail(panic);
        }
    }

    /// Tells subscribers of an item that failed at its first attempt.
    pub(super) fn tell_failure(&self, index: usize, worker: usize, error: &ItemError<K::Error>) {
        if Trace::MAY_BE_HEARD {
            let End { ending, note } = End::of(error);
            self.tell(Event { index, attempt: 1, worker, ending, note: note.as_deref() });
        }
    }

    /// A panic that is no outcome stops the batch.
    pub(super) fn fail(&self, panic: Panic) {
        self.dispatcher.close(None);
        self.trouble.lock().panic.get_or_insert(panic);
    }

    /// What came of asking the journal. If it cannot go on, the batch stops.
    pub(super) fn attend<V>(&self, answer: Result<Result<V, JournalFailure>, Panic>) -> Option<V> {
        match answer {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(failure)) => {
                self.dispatcher.close(Some(StopReason::Journal));
                self.trouble.lock().journal.get_or_insert(failure);
            }
            Err(panic) => self.fail(panic),
        }
        None
    }
}
