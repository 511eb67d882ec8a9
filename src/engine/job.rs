//! One batch while it runs, and what everybody who works on it does.

use std::cell::Cell;
use std::time::Duration;

use crate::batch_error::StopReason;
use crate::context::ItemContext;
use crate::error::ItemError;
use crate::keep::policy::Keep;
use crate::keep::{Halt, Recalled};
use crate::panic::{self, Panic};
use crate::rate_limit::RateLimiter;
use crate::result::{Counts, Trials};
use crate::retry::RetryDecision;
use crate::retry::policy::Policy;
use crate::senses::Watch;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Instant, Mutex, later};
use crate::timeline::span::Ending;

use super::carve::{Calls, Carve, Claim, Waiter, Worker};
use super::chunk::{Chunk, NoValue, Places};
use super::crew::Role;
use super::event::Event;
use super::events::Events;
use super::pace::Pace;
use super::record::{End, Queued, Recorder, Scribe};
use super::stop::Stop;
use super::supply::{Pulled, Supply};
use super::work::{DelaysOf, Memory, Past, Work, keeps, retries};

/// What is kept of an item that failed and is tried again.
pub(super) type PastOf<W> = Past<<W as Work>::Error, DelaysOf<W>>;

type ChunkOf<'b, S> = Chunk<'b, <S as Supply>::Places>;

/// What work of this kind is done on.
pub(super) trait SupplyFor<W: Work>:
    Supply<Places: Places<Item = W::Item, Value = W::Value, Error = W::Error> + Send> + Send
{
}

impl<W: Work, S> SupplyFor<W> for S where
    S: Supply<Places: Places<Item = W::Item, Value = W::Value, Error = W::Error> + Send> + Send
{
}

/// Shared by all who work on the batch.
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

/// What one who works keeps from claim to claim.
pub(super) struct Kit<'j, W: Work> {
    pace: Pace,
    pub(super) desk: Desk<'j, W>,
    /// Lent to chunks for their items: those that were there, and those that it has pulled.
    taken: Vec<W::Item>,
    pulled: Vec<W::Item>,
}

/// What it has at hand while items run.
pub(super) struct Desk<'j, W: Work> {
    /// Made when it first works.
    pub(super) state: Option<W::State>,
    scribe: Option<Scribe<'j, W::Item>>,
}

impl<'j, W: Work> Kit<'j, W> {
    pub(super) fn new<S: SupplyFor<W>>(job: &'j Job<'_, W, S>, pace: Pace) -> Self {
        let desk = Desk { state: None, scribe: job.recorder.as_ref().map(Scribe::new) };
        Kit { pace, desk, taken: Vec::new(), pulled: Vec::new() }
    }
}

/// What a worker that takes turns is to do next.
pub(super) enum Turn {
    Worked,
    /// Nothing for so long.
    Wait(Duration),
    SentAway,
}

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

impl<W: Work, S: SupplyFor<W>> Job<'_, W, S> {
    /// Works until there is nothing left to claim.
    pub(super) fn work(&self) {
        // Rung last of all, when this worker no longer counts as running.
        let _leaving = Ringing(self.stop);
        let _watched = self.watch.as_ref().map(Watch::enter);
        let _within = self.events.enter();
        let mut kit = Kit::new(self, if self.carve.adapts() { Pace::measured() } else { Pace::new() });
        let mut worker = self.carve.worker(Role::Helper);
        let mut since = Instant::now();
        loop {
            let changes = self.stop.changes();
            self.stop.look_at_clock(since);
            let (size, end) = (self.claim_size(&kit.pace), self.stop.end());
            let claim = worker.claim(since, size, end, &mut kit.taken);
            self.tell(&worker);
            let (mut chunk, past) = match claim {
                Claim::Work(chunk, past) => (chunk, past),
                Claim::Pull(source, most) => {
                    if self.stop.end() != end {
                        self.stop.ring(); // the caller may have thought that this worker would leave
                    }
                    (self.pull(&mut worker, source, most, &mut kit.pulled), None)
                }
                Claim::GiveUp(waiters) => {
                    let counts = self.give_up(&mut worker, waiters, &mut kit.pulled);
                    worker.did(counts);
                    continue;
                }
                Claim::Wait(time) => {
                    worker.waited_in_vain = !self.stop.wait_for_change(changes, time);
                    since = Instant::now();
                    continue;
                }
                Claim::Leave => break,
            };
            let items = chunk.len();
            let counts = self.run(&mut worker, &mut kit.desk, &mut chunk, past, items);
            worker.did(counts);
            drop(chunk);
            let now = Instant::now();
            kit.pace.learn(items, now - since);
            since = now;
        }
        drop(worker);
        self.discard(kit.desk.state);
    }

    /// Has others look at what a claim brought.
    fn tell(&self, worker: &Worker<'_, S, PastOf<W>>) {
        if self.reports || worker.moved_limit {
            self.stop.ring();
        }
        self.call(worker);
    }

    fn call(&self, worker: &Worker<'_, S, PastOf<W>>) {
        match worker.calls {
            Calls::Nobody => {}
            Calls::One => self.stop.call_one(),
            Calls::All => self.stop.call_all(),
        }
    }

    /// Pulls up to `most` items, one by one, and gives the source back.
    fn pull<'b>(
        &self,
        worker: &mut Worker<'_, S, PastOf<W>>,
        mut source: S::Source,
        most: usize,
        buffer: &'b mut Vec<W::Item>,
    ) -> ChunkOf<'b, S> {
        let mut pulled = Pulled::default();
        let ended = panic::catch(|| {
            let mut goes_on = true;
            while goes_on && pulled.items < most {
                let got_one = S::pull(&mut source);
                pulled.items += usize::from(got_one.is_some());
                pulled.has_ended = got_one.is_none();
                goes_on = got_one.unwrap_or(false);
            }
        });
        pulled.has_ended |= ended.is_err();
        // Before others pull, and put their items there.
        let chunk = S::pulled(&source, buffer);
        worker.give_back(source, pulled, chunk.len(), self.stop.end());
        match ended {
            Err(panic) => self.fail(panic),
            Ok(()) if pulled.has_ended => self.stop.call_all(),
            Ok(()) => self.call(worker),
        }
        chunk
    }

    /// Works a short while, and tells of each item before the next one starts.
    pub(super) fn take_turn(&self, kit: &mut Kit<'_, W>, mut tell: impl FnMut(Counts)) -> Turn {
        let _within = self.events.enter();
        let mut worker = self.carve.worker(Role::Caller);
        let since = Instant::now();
        self.stop.look_at_clock(since);
        let (size, end) = (self.claim_size(&kit.pace), self.stop.end());
        let claim = worker.claim(since, size, end, &mut kit.taken);
        self.call(&worker);
        let (mut chunk, mut past) = match claim {
            Claim::Work(chunk, past) => (chunk, past),
            Claim::Pull(source, most) => (self.pull(&mut worker, source, most, &mut kit.pulled), None),
            Claim::GiveUp(waiters) => {
                let counts = self.give_up(&mut worker, waiters, &mut kit.pulled);
                worker.did(counts);
                tell(counts);
                return Turn::Worked;
            }
            Claim::Wait(time) => return Turn::Wait(time),
            Claim::Leave => return Turn::SentAway,
        };
        let items = chunk.len();
        loop {
            let left = chunk.len();
            let counts = self.run(&mut worker, &mut kit.desk, &mut chunk, past.take(), 1);
            if chunk.len() == left {
                break;
            }
            if counts.decided() > 0 {
                worker.did(counts);
                tell(counts);
            }
        }
        kit.pace.learn(items, since.elapsed());
        Turn::Worked
    }

    /// Drops something of the user's. A panic of its destructor stops the batch.
    pub(super) fn discard<V>(&self, value: V) {
        if let Err(panic) = panic::catch(|| drop(value)) {
            self.fail(panic);
        }
    }

    /// A panic that is nobody's outcome stops the batch.
    fn fail(&self, panic: Panic) {
        self.stop.close(None);
        self.panicked.lock().get_or_insert(panic);
    }

    /// The panic that is nobody's outcome, if there was one.
    pub(super) fn panicked(&mut self) -> Result<(), Panic> {
        self.panicked.get_mut().take().map_or(Ok(()), Err)
    }

    /// With a limiter or a retry every item may have to wait, so nobody holds more than one.
    fn claim_size(&self, pace: &Pace) -> usize {
        if self.limiter.is_some() || retries::<W>() { 1 } else { pace.size() }
    }

    /// Notes how an attempt at the first item of the chunk ended, and tells of it.
    fn note(
        &self,
        worker: &Worker<'_, S, PastOf<W>>,
        desk: &mut Desk<'_, W>,
        chunk: &ChunkOf<'_, S>,
        attempt: usize,
        end: impl FnOnce() -> End,
    ) {
        if desk.scribe.is_none() && !Events::MAY_BE_HEARD {
            return;
        }
        let (index, end) = (chunk.next(), end());
        desk.scribe.iter_mut().for_each(|scribe| scribe.close(index, attempt, &end, chunk.first()));
        let (ending, note) = (end.ending, end.note.as_deref());
        self.tell_others(Event { index, attempt, worker: worker.number, ending, note });
    }

    /// How long a caller may sleep before it looks around, if something is due, or it is to tick.
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

    /// Decides so many items of a chunk, or up to the first that may not start.
    fn run(
        &self,
        worker: &mut Worker<'_, S, PastOf<W>>,
        desk: &mut Desk<'_, W>,
        chunk: &mut ChunkOf<'_, S>,
        past: Option<PastOf<W>>,
        most: usize,
    ) -> Counts {
        if let Some(scribe) = &mut desk.scribe {
            let at_start = if S::IS_STREAM { Queued::Now } else { Queued::AtStart };
            scribe.turns_to(worker.number, past.as_ref().map_or(at_start, |past| Queued::At(past.due)));
        }
        if retries::<W>() {
            self.try_one(worker, desk, chunk, past)
        } else {
            self.run_once(worker, desk, chunk, most)
        }
    }

    /// The way without retries. One catch serves until something fails.
    fn run_once(
        &self,
        worker: &mut Worker<'_, S, PastOf<W>>,
        desk: &mut Desk<'_, W>,
        chunk: &mut ChunkOf<'_, S>,
        most: usize,
    ) -> Counts {
        let (mut left, mut counts) = (most.min(chunk.len()), Counts::default());
        while left > 0 {
            if let Some(recalled) = self.recall(worker, chunk) {
                counts.add(recalled);
                left -= 1;
                continue;
            }
            let (before, size) = (chunk.len(), if keeps::<W>() { 1 } else { left });
            let has_begun = Cell::new(false);
            let begin = || {
                if keeps::<W>() {
                    has_begun.set(true);
                }
                1
            };
            let ended = panic::catch(|| self.decide(worker, desk, chunk, size, begin));
            let decided = before - chunk.len();
            counts.succeeded += decided;
            left -= decided;
            let error = match ended {
                Ok(Some(NoValue::Error(error))) => error,
                Ok(Some(NoValue::Stopped)) => break,
                Ok(None) => continue,
                Err(panic) => ItemError::Panicked(panic),
            };
            self.note(worker, desk, chunk, 1, || End::with(&error));
            self.keep_failure(chunk, 1, has_begun.get(), &error);
            self.stop.failed(chunk.decide(error));
            counts.failed += 1;
            left -= 1;
        }
        counts
    }

    /// The way with retries: one attempt at the one item of a chunk. An item that is to be tried again is taken out of
    /// the chunk and is not decided.
    fn try_one(
        &self,
        worker: &mut Worker<'_, S, PastOf<W>>,
        desk: &mut Desk<'_, W>,
        chunk: &mut ChunkOf<'_, S>,
        past: Option<PastOf<W>>,
    ) -> Counts {
        if chunk.len() == 0 {
            return Counts::default();
        }
        if past.is_none() {
            if let Some(recalled) = self.recall(worker, chunk) {
                return recalled;
            }
        }
        let (attempt, mut memory) = Attempt::after(past);
        let (index, is_another) = (chunk.next(), memory.is_some());
        let begin = || {
            self.discard(attempt.last.take());
            attempt.begin(self.stop.pauses())
        };
        let ended = panic::catch(|| self.decide(worker, desk, chunk, 1, begin));
        let (error, panic, is_final) = match self.judge(worker, desk, chunk, &attempt, &mut memory, ended) {
            CameTo::Nothing => return Counts::default(),
            CameTo::Value => (None, None, true),
            CameTo::Error(error, panic) => (Some(error), panic, true),
            CameTo::GivenUp(error) => (Some(error), None, false),
        };
        if let Some(error) = error.as_ref().filter(|_| is_final || attempt.has_begun()) {
            self.note(worker, desk, chunk, attempt.which, || End::with(error));
        }
        if let Some(error) = error.as_ref().filter(|_| is_final) {
            self.keep_failure(chunk, attempt.number.get(), attempt.has_begun(), error);
        }
        if is_another || panic.is_some() {
            worker.tried(Trials { index, attempts: attempt.number.get(), panic });
        }
        self.discard(memory);
        self.discard(attempt.last.take());
        let Some(error) = error else { return Counts { succeeded: 1, failed: 0 } };
        self.stop.failed(chunk.decide(error));
        Counts { succeeded: 0, failed: 1 }
    }

    /// Decides items for as long as there are values; `begin` is called before each and says which attempt it is.
    #[inline]
    fn decide(
        &self,
        worker: &Worker<'_, S, PastOf<W>>,
        desk: &mut Desk<'_, W>,
        chunk: &mut ChunkOf<'_, S>,
        most: usize,
        begin: impl Fn() -> usize,
    ) -> Option<NoValue<W::Error>> {
        if !self.stop.allows(chunk.next()) {
            return Some(NoValue::Stopped);
        }
        let Desk { state, scribe } = desk;
        let state = state.get_or_insert_with(|| self.work.state());
        if scribe.is_some() || self.events.hears_successes() || keeps::<W>() {
            return self.decide_and_note(worker, state, scribe, chunk, most, begin);
        }
        let (number, end, deadline) = (worker.number, self.stop.end_itself(), self.stop.deadline());
        let op = |index, item: &W::Item| {
            let attempt = begin();
            self.work.run(item, &mut ItemContext { state, index, attempt, worker: number, end, deadline })
        };
        // Two loops, so that the quick one has nothing in it that could unwind but the operation.
        if self.waits {
            chunk.decide_while(most, |index| self.wait_to_start(index, worker), op)
        } else {
            chunk.decide_while(most, |index| self.admit(index), op)
        }
    }

    /// The same, with a clock reading an item. Apart, so that it costs nothing where nobody wants it.
    #[inline(never)]
    fn decide_and_note(
        &self,
        worker: &Worker<'_, S, PastOf<W>>,
        state: &mut W::State,
        scribe: &mut Option<Scribe<'_, W::Item>>,
        chunk: &mut ChunkOf<'_, S>,
        most: usize,
        begin: impl Fn() -> usize,
    ) -> Option<NoValue<W::Error>> {
        let (number, end, deadline) = (worker.number, self.stop.end_itself(), self.stop.deadline());
        if let Some(scribe) = scribe.as_mut().filter(|_| keeps::<W>()) {
            scribe.goes_on();
        }
        let admitted = Cell::new(None);
        let clock = scribe.as_ref().map(Scribe::clock);
        let admit = |index| {
            if !self.waits {
                return self.admit(index);
            }
            self.wait_to_start(index, worker)?;
            admitted.set(clock.as_ref().map(|clock| clock()));
            Ok(())
        };
        let op = |index, item: &W::Item| {
            let attempt = begin();
            if let Some(scribe) = scribe {
                scribe.starts(admitted.take());
            }
            let context = &mut ItemContext { state, index, attempt, worker: number, end, deadline };
            let outcome = self.work.run(item, context);
            if let Some(scribe) = scribe.as_mut().filter(|_| keeps::<W>() || outcome.is_err()) {
                scribe.stops();
            }
            if let Ok(value) = &outcome {
                self.heed(self.work.keep().record(index, item, attempt, Ok(value)));
                if let Some(scribe) = scribe {
                    scribe.succeeds(index, attempt, item);
                }
                self.tell_of_success(index, attempt, number);
            }
            outcome
        };
        chunk.decide_while(most, admit, op)
    }

    fn tell_of_success(&self, index: usize, attempt: usize, worker: usize) {
        if self.events.hears_successes() {
            self.tell_others(Event { index, attempt, worker, ending: Ending::Succeeded, note: None });
        }
    }

    fn tell_others(&self, event: Event<'_>) {
        if let Err(panic) = panic::catch(|| self.events.tell(event)) {
            self.fail(panic);
        }
    }

    fn admit(&self, index: usize) -> Result<(), NoValue<W::Error>> {
        if self.stop.allows(index) { Ok(()) } else { Err(NoValue::Stopped) }
    }

    /// Whether the item at `index` may start; waits for its permit, and for the end of a pause.
    fn wait_to_start(
        &self,
        index: usize,
        worker: &Worker<'_, S, PastOf<W>>,
    ) -> Result<(), NoValue<W::Error>> {
        self.admit(index)?;
        let wait = self.limiter.map_or(Ok(Duration::ZERO), RateLimiter::reserve);
        let wait = wait.map_err(|error| NoValue::Error(ItemError::RateLimiter(error)))?;
        let paced = self.carve.adapts().then(|| Paced::new(&self.paced));
        if !self.stop.wait_to_start(index, wait) {
            return Err(NoValue::Stopped);
        }
        drop(paced);
        worker.is_permitted();
        Ok(())
    }
}

/// What an earlier run has left, and what this one leaves.
impl<W: Work, S: SupplyFor<W>> Job<'_, W, S> {
    /// Decides the first item of a chunk as an earlier run did, if it has.
    fn recall(&self, worker: &mut Worker<'_, S, PastOf<W>>, chunk: &mut ChunkOf<'_, S>) -> Option<Counts> {
        if !keeps::<W>() || !self.stop.allows(chunk.next()) {
            return None;
        }
        let item = chunk.first()?;
        let recalled = self.attend(panic::catch(|| self.work.keep().recall(chunk.next(), item)));
        let Recalled { outcome, attempts } = recalled.flatten()?;
        if attempts != 1 {
            worker.tried(Trials { index: chunk.next(), attempts, panic: None });
        }
        let has_failed = outcome.is_err();
        let index = chunk.settle(outcome);
        if has_failed {
            self.stop.failed(index);
            return Some(Counts { succeeded: 0, failed: 1 });
        }
        Some(Counts { succeeded: 1, failed: 0 })
    }

    /// Keeps what the first item of a chunk has come to. What has panicked before it was called has come to nothing.
    fn keep_failure(
        &self,
        chunk: &ChunkOf<'_, S>,
        attempts: usize,
        has_begun: bool,
        error: &ItemError<W::Error>,
    ) {
        let is_kept = keeps::<W>() && (has_begun || !matches!(error, ItemError::Panicked(_)));
        let Some(item) = chunk.first().filter(|_| is_kept) else { return };
        let (keep, index) = (self.work.keep(), chunk.next());
        self.attend(panic::catch(|| keep.record(index, item, attempts, Err(error))));
    }

    /// Sees to it that what was recorded stays.
    pub(super) fn finish(&self) {
        self.attend(panic::catch(|| self.work.keep().finish()));
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

    fn heed<V>(&self, answer: Result<V, Halt>) -> Option<V> {
        answer.map_err(|halt| self.halt(halt)).ok()
    }

    #[cold]
    fn halt(&self, halt: Halt) {
        self.stop.close(Some(StopReason::Journal));
        self.halted.lock().get_or_insert(halt);
    }
}

/// Trying again.
impl<W: Work, S: SupplyFor<W>> Job<'_, W, S> {
    /// What is to become of the first item of a chunk.
    fn judge(
        &self,
        worker: &Worker<'_, S, PastOf<W>>,
        desk: &mut Desk<'_, W>,
        chunk: &mut ChunkOf<'_, S>,
        attempt: &Attempt<W::Error>,
        memory: &mut Option<Memory<DelaysOf<W>>>,
        ended: Result<Option<NoValue<W::Error>>, Panic>,
    ) -> CameTo<W::Error> {
        match ended {
            Ok(None) => CameTo::Value,
            Ok(Some(NoValue::Error(ItemError::Failed(error)))) => {
                self.put_back(worker, desk, chunk, attempt, memory, error)
            }
            Ok(Some(NoValue::Error(error))) => CameTo::Error(error, None),
            Ok(Some(NoValue::Stopped)) => attempt.last.take().map_or(CameTo::Nothing, |error| {
                self.stop.gave_up(chunk.next());
                CameTo::GivenUp(ItemError::Failed(error))
            }),
            Err(panic) => CameTo::Error(ItemError::Panicked(panic), None),
        }
    }

    /// Has the first item of the chunk wait for its next attempt, if there is to be one.
    fn put_back(
        &self,
        worker: &Worker<'_, S, PastOf<W>>,
        desk: &mut Desk<'_, W>,
        chunk: &mut ChunkOf<'_, S>,
        attempt: &Attempt<W::Error>,
        memory: &mut Option<Memory<DelaysOf<W>>>,
        error: W::Error,
    ) -> CameTo<W::Error> {
        let delay = match panic::catch(|| self.ask(&error, attempt.pauses.get(), memory)) {
            Ok(Some(delay)) => delay,
            Ok(None) => return CameTo::Error(ItemError::Failed(error), None),
            Err(panic) => return CameTo::Error(ItemError::Failed(error), Some(panic)),
        };
        let index = chunk.next();
        if !self.stop.allows(index) {
            self.stop.gave_up(index);
            return CameTo::GivenUp(ItemError::Failed(error));
        }
        self.note(worker, desk, chunk, attempt.which, End::retried);
        let Some((held, memory)) = chunk.hold().zip(memory.take()) else {
            unreachable!("there is an item, and somebody was asked for its delay")
        };
        let due = later(Instant::now(), delay);
        let past = Past { attempts: attempt.number.get(), due, error, memory };
        if self.carve.put_back(due, (held, past)) {
            self.stop.call_one();
        }
        CameTo::Nothing
    }

    /// Decides items that would have been tried again, had the batch not stopped below them.
    fn give_up(
        &self,
        worker: &mut Worker<'_, S, PastOf<W>>,
        waiters: Vec<Waiter<S, PastOf<W>>>,
        buffer: &mut Vec<W::Item>,
    ) -> Counts {
        let (failed, lowest) = (waiters.len(), waiters.iter().map(|(held, _)| held.index()).min());
        for (held, Past { attempts, error, memory, .. }) in waiters {
            let index = held.into_chunk(buffer).decide(ItemError::Failed(error));
            worker.tried(Trials { index, attempts, panic: None });
            self.stop.failed(index);
            self.discard(memory);
        }
        if let Some(index) = lowest {
            self.stop.gave_up(index);
        }
        Counts { succeeded: 0, failed }
    }

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

    /// Holds everybody back, as an attempt asks for that began when there had been so many pauses.
    fn pause_all(&self, time: Duration, pauses: usize) {
        if self.stop.pause(time, pauses) {
            self.carve.overload();
            if let Some(limiter) = self.limiter {
                limiter.pause(time);
            }
        }
    }
}

impl<E> Attempt<E> {
    /// The next after these.
    fn after<D>(past: Option<Past<E, D>>) -> (Self, Option<Memory<D>>) {
        let (tried, last, memory) = match past {
            Some(past) => (past.attempts, Some(past.error), Some(past.memory)),
            None => (0, None, None),
        };
        (
            Attempt {
                which: tried + 1,
                number: Cell::new(tried),
                pauses: Cell::new(0),
                last: Cell::new(last),
            },
            memory,
        )
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

/// Rings when it goes, also by unwinding.
struct Ringing<'s>(&'s Stop);

impl Drop for Ringing<'_> {
    fn drop(&mut self) {
        self.0.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::marker::PhantomData;

    use super::super::carve::Team;
    use super::super::slots::Slots;
    use super::super::stop::OnFailure;
    use super::super::work::Steps;
    use super::*;
    use crate::keep::NoJournal;
    use crate::rate_limit::RateLimit;
    use crate::retry::{NoRetry, Retry, RetryPolicy};

    /// How many items are claimed at first, and after a quick one.
    fn claim_sizes(limiter: Option<&dyn RateLimiter>, retry: impl RetryPolicy<()>) -> (usize, usize) {
        let mut slots = Slots::<(), (), ()>::new(vec![(); 9]).unwrap();
        let op = |(): &(), _: &mut ItemContext<'_>| Ok(());
        let job = Job {
            work: &Steps { op, init: Box::new(|| ()), retry, keep: NoJournal, types: PhantomData },
            limiter,
            stop: &Stop::new(OnFailure::GoOn, None, None),
            carve: Carve::new(
                slots.rest(),
                Team { workers: 1, controller: None, numbers: None, limits: None },
            ),
            watch: None,
            paced: AtomicUsize::new(0),
            waits: false,
            reports: false,
            events: Events::begin("batch", None, 1),
            recorder: None,
            halted: Mutex::default(),
            panicked: Mutex::default(),
        };
        let (first, mut quick) = (Pace::new(), Pace::new());
        quick.learn(1, Duration::from_nanos(1));
        (job.claim_size(&first), job.claim_size(&quick))
    }

    #[test]
    fn quick_items_are_claimed_several_at_a_time_unless_each_may_have_to_wait() {
        assert_eq!(claim_sizes(None, NoRetry), (1, 8));
        assert_eq!(claim_sizes(Some(&RateLimit::per_second(9)), NoRetry), (1, 1));
        assert_eq!(claim_sizes(None, Retry::new(iter::empty)), (1, 1));
    }
}
