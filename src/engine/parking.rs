//! How the threads of a batch sleep and are woken: the schedule behind its one lock, what owners of claims look at without
//! it, and a signal for a caller that does not simply work.
//!
//! A worker that finds nothing to do counts as idle and goes to sleep in one critical section, and a change of the schedule
//! says in the same section which sleepers are to be woken. So no call is lost.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::batch_error::StopReason;
use crate::cancel::{OnCancel, Watching};
use crate::clock::{self, TestClock};
use crate::control::{Control, Controlled, Following, Running};
use crate::listeners::{Changed, Listener, OnChange};
use crate::progress::{Earlier, Load, Progress};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::channel::{Receiver, Sender, bounded};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, later, spin_until};

use super::Engine;
use super::limits::Changes;
use super::operation::{Foreseen, Settings};
use super::schedule::{Answer, Ask, Done, Member, Next, Refusal, Schedule, Status, Waiting, Wake};
use crate::slots::Claim;

/// Tells the caller that there is something to look at. Given twice before the caller waits, it is one signal: what there is to
/// look at stands elsewhere.
pub(super) struct Signal {
    give: Sender<()>,
    given: Receiver<()>,
}

impl Signal {
    pub(super) fn new() -> Self {
        let (give, given) = bounded(1);
        Signal { give, given }
    }

    pub(super) fn give(&self) {
        // Full means that it has been given already.
        let _ = self.give.try_send(());
    }

    fn is_given(&self) -> bool {
        !self.given.is_empty()
    }

    /// Waits for the signal; if there is a limit, not longer. Whether it was given.
    pub(super) fn wait(&self, limit: Option<Duration>) -> bool {
        match limit {
            Some(limit) => self.given.recv_timeout(limit).is_ok(),
            None => self.given.recv().is_ok(),
        }
    }
}

/// What a caller wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hears {
    /// It works itself.
    Nothing,
    /// What it waits for, and a limit that has moved.
    Changes,
    EveryItem,
    /// It is a task, and hears of changes from elsewhere.
    #[cfg(feature = "tokio")]
    Task,
}

/// The index and the attempt of what each worker runs, and since when.
type RunningItems = Mutex<HashMap<usize, (usize, usize, Instant)>>;

/// Borrows nothing of the batch, so that a token may hold it.
pub(super) struct Dispatcher {
    pub(super) since: Instant,
    pub(super) deadline: Option<Instant>,
    schedule: Mutex<Schedule>,
    /// What the schedule says of these: kept here for a look without the lock.
    gate: AtomicUsize,
    stop_at: AtomicUsize,
    pauses: AtomicUsize,
    /// Where items push others: from which number on the item that each worker runs is not wanted any more.
    ends: Vec<AtomicUsize>,
    /// How often something else has changed what items wait for.
    limits_changes: AtomicUsize,
    rates_changes: AtomicUsize,
    /// In a batch with a journal: when the first item began that is not recorded there.
    began: OnceLock<Duration>,
    wants_room: AtomicUsize,
    /// How many items the consumer of a stream is done with.
    handed_on: AtomicUsize,
    /// Whether a helper wants the iterator of a caller that runs by itself.
    is_wanted: AtomicBool,
    /// Counts what idle workers may want to look at.
    changes: AtomicUsize,
    /// Idle workers sleep here.
    idle: Condvar,
    /// What waits go by in a test.
    pub(super) clock: Option<TestClock>,
    /// A helper that looks now and then sleeps here, until the stop line moves.
    napping: Condvar,
    /// For a caller that does not simply work.
    pub(super) signal: Option<Signal>,
    /// For a task that runs the batch.
    #[cfg(feature = "tokio")]
    pub(super) call: Option<super::task::Call>,
    /// Whether it wants to hear of every item that was decided.
    pub(super) reports: bool,
    /// With a control: the items that run, by the numbers of their workers, and since when.
    running: Option<RunningItems>,
    foreseen: Foreseen,
}

impl Dispatcher {
    pub(super) fn new(
        schedule: Schedule,
        since: Instant,
        deadline: Option<Instant>,
        hears: Hears,
        clock: Option<TestClock>,
    ) -> Self {
        let gate = AtomicUsize::new(schedule.gate());
        let ends = schedule.stop.growth.as_ref().map_or(0, |growth| growth.most_workers());
        Dispatcher {
            ends: (0..ends).map(|_| AtomicUsize::new(usize::MAX)).collect(),
            since,
            deadline,
            schedule: Mutex::new(schedule),
            gate,
            stop_at: AtomicUsize::new(usize::MAX),
            pauses: AtomicUsize::new(0),
            limits_changes: AtomicUsize::new(0),
            rates_changes: AtomicUsize::new(0),
            began: OnceLock::new(),
            wants_room: AtomicUsize::new(usize::MAX),
            handed_on: AtomicUsize::new(0),
            is_wanted: AtomicBool::new(false),
            changes: AtomicUsize::new(0),
            idle: Condvar::default(),
            clock,
            napping: Condvar::default(),
            signal: matches!(hears, Hears::Changes | Hears::EveryItem).then(Signal::new),
            #[cfg(feature = "tokio")]
            call: (hears == Hears::Task).then(super::task::Call::default),
            reports: hears == Hears::EveryItem,
            running: None,
            foreseen: Foreseen::default(),
        }
    }

    /// Below this index an owner of a claim starts the next item without a look at anything else.
    #[inline]
    pub(super) fn gate(&self) -> &AtomicUsize {
        &self.gate
    }

    /// Items from this index on may not start.
    #[inline]
    pub(super) fn stop_at(&self) -> &AtomicUsize {
        &self.stop_at
    }

    #[inline]
    pub(super) fn allows(&self, index: usize) -> bool {
        index < self.stop_at.load(Ordering::Relaxed)
    }

    /// Whether items push others.
    pub(super) fn grows(&self) -> bool {
        !self.ends.is_empty()
    }

    /// Where items push others: the item that this worker runs is not wanted any more if its number is not below this.
    pub(super) fn end_for(&self, worker: usize) -> &AtomicUsize {
        self.ends.get(worker).unwrap_or(&self.stop_at)
    }

    pub(super) fn signal(&self) {
        if let Some(signal) = &self.signal {
            signal.give();
            self.clock.iter().for_each(TestClock::changed);
        }
        self.call_task();
    }

    /// If a task runs the batch, it looks again.
    #[cfg_attr(not(feature = "tokio"), expect(clippy::unused_self, reason = "no task runs a batch"))]
    fn call_task(&self) {
        #[cfg(feature = "tokio")]
        self.call.iter().for_each(super::task::Call::give);
    }

    /// Waits for the signal, not longer than that. Whether it was given.
    pub(super) fn wait_for_signal(&self, signal: &Signal, limit: Option<Duration>) -> bool {
        let Some(clock) = &self.clock else { return signal.wait(limit) };
        clock.wait(limit.map(|limit| later(clock::now(), limit)), || signal.is_given());
        signal.wait(Some(Duration::ZERO))
    }

    /// The time since the batch began, on a thread that may not be the batch's.
    fn elapsed(&self) -> Duration {
        let now = self.clock.as_ref().map_or_else(|| self.now_of_machine(), TestClock::now);
        self.since(now)
    }

    /// Of its runtime, if it runs in a task.
    #[cfg_attr(not(feature = "tokio"), expect(clippy::unused_self, reason = "no task runs a batch"))]
    fn now_of_machine(&self) -> Instant {
        #[cfg(feature = "tokio")]
        if self.call.is_some() {
            return super::task::now();
        }
        Instant::now()
    }

    pub(super) fn since(&self, time: Instant) -> Duration {
        time.saturating_duration_since(self.since)
    }

    /// For a change of the schedule. When it is dropped, the sleepers that the change concerns are woken.
    pub(super) fn change(&self) -> Change<'_> {
        Change { dispatcher: self, schedule: Some(self.schedule.lock()) }
    }

    /// For a look at the schedule that changes nothing.
    pub(super) fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock()
    }

    /// Gives up the lock after a change.
    fn release(&self, mut schedule: MutexGuard<'_, Schedule>) {
        self.gate.store(schedule.gate(), Ordering::Relaxed);
        self.stop_at.store(schedule.stop.line(), Ordering::Relaxed);
        self.wants_room.store(schedule.wants_room(), Ordering::Relaxed);
        if let Some(growth) = &mut schedule.stop.growth {
            for (worker, end) in growth.take_ends() {
                let end_of = &self.ends[worker];
                end_of.store(end, Ordering::Relaxed);
            }
        }
        let (limit_moved, wake) = (schedule.take_limit_moved(), self.wake(&mut schedule));
        drop(schedule);
        match wake {
            Wake::None => {}
            Wake::One => self.idle.notify_one(),
            Wake::All => self.idle.notify_all(),
        }
        if limit_moved {
            self.signal();
        }
    }

    fn wake(&self, schedule: &mut Schedule) -> Wake {
        if !schedule.has_idle() {
            return Wake::None;
        }
        let handed_on = self.handed_on.load(Ordering::Acquire);
        if schedule.concerns_idle(handed_on) {
            self.changes.fetch_add(1, Ordering::Release);
            self.clock.iter().for_each(TestClock::changed);
            self.call_task();
            schedule.call()
        } else {
            Wake::None
        }
    }

    /// What the worker is to do next, as soon as there is something; never [`Next::Wait`]. `now` is the time of the call, and then
    /// that of the answer.
    pub(super) fn next(&self, member: &mut Member, done: Done, size: usize, now: &mut Instant) -> Next {
        let has_news = self.reports && done.counts.decided() > 0;
        let mut schedule = self.schedule.lock();
        schedule.done(member, self.since(*now), done);
        if has_news {
            self.signal();
        }
        loop {
            match self.ask(&mut schedule, member, size, *now) {
                Next::Wait(until) => {
                    schedule = self.sleep(schedule, until);
                    *now = clock::now();
                }
                next => {
                    self.release(schedule);
                    return next;
                }
            }
        }
    }

    /// The same for a worker that does not sleep here, and tells something first.
    pub(super) fn try_next(
        &self,
        member: &mut Member,
        tell: impl FnOnce(&mut Schedule, &mut Member),
        size: usize,
        now: Instant,
    ) -> Next {
        let mut schedule = self.change();
        tell(&mut schedule, member);
        self.ask(&mut schedule, member, size, now)
    }

    /// How often something else has changed what items wait for.
    pub(super) fn changes_of_limits(&self) -> Changes {
        let all = self.limits_changes.load(Ordering::Acquire);
        Changes { all, of_rates: self.rates_changes.load(Ordering::Acquire) }
    }

    /// The same where items may have to wait for limits, with how it stands with these. Says also how many changes there have been.
    pub(super) fn try_next_with(
        &self,
        member: &mut Member,
        waiting: Waiting,
        looked_at: usize,
        now: Instant,
    ) -> (Next, usize) {
        let mut schedule = self.change();
        schedule.wait_at_limits(waiting);
        if self.limits_changes.load(Ordering::Acquire) != looked_at {
            schedule.limits_changed(); // since the worker has looked
        }
        let handed_on = self.handed_on.load(Ordering::Acquire);
        self.look_at_time(&mut schedule, now);
        let ask = Ask { now: self.since(now), size: 1, handed_on, is_limited: true };
        (schedule.next(member, ask), self.changes.load(Ordering::Relaxed))
    }

    /// How many may run.
    #[cfg(feature = "tokio")]
    pub(super) fn limit(&self) -> usize {
        self.schedule().team.limit
    }

    /// Whether that number depends on what they do.
    #[cfg(feature = "tokio")]
    pub(super) fn adapts(&self) -> bool {
        self.schedule().team.adapts()
    }

    /// The worker tells what it has done.
    pub(super) fn report(&self, member: &mut Member, done: Done, now: Instant) {
        let has_news = self.reports && done.counts.decided() > 0;
        self.change().done(member, self.since(now), done);
        if has_news {
            self.signal();
        }
    }

    /// The worker goes, and tells what it has done.
    pub(super) fn leave(&self, member: &mut Member, done: Done, now: Instant) {
        let (now, mut schedule) = (self.since(now), self.change());
        schedule.done(member, now, done);
        schedule.leave(member);
    }

    fn ask(&self, schedule: &mut Schedule, member: &mut Member, size: usize, now: Instant) -> Next {
        self.look_at_time(schedule, now);
        let handed_on = self.handed_on.load(Ordering::Acquire);
        schedule.next(member, Ask { now: self.since(now), size, handed_on, is_limited: false })
    }

    fn look_at_time(&self, schedule: &mut Schedule, now: Instant) {
        if self.is_late(now) {
            schedule.close(Some(StopReason::DeadlineExceeded));
            self.napping.notify_all();
            self.signal();
        }
    }

    /// Sleeps until then, unless something changes that concerns an idle worker.
    fn sleep<'s>(
        &'s self,
        schedule: MutexGuard<'s, Schedule>,
        until: Option<Duration>,
    ) -> MutexGuard<'s, Schedule> {
        let seen = self.changes.load(Ordering::Relaxed);
        self.release(schedule);
        self.rest(seen, until)
    }

    /// The same for a worker that has found nothing when there had been `seen` changes.
    pub(super) fn rest(&self, seen: usize, until: Option<Duration>) -> MutexGuard<'_, Schedule> {
        let is_same = || self.changes.load(Ordering::Acquire) == seen;
        spin_until(|| !is_same());
        let mut schedule = self.schedule.lock();
        schedule.falls_asleep();
        if let Some(clock) = &self.clock {
            drop(schedule);
            let now = clock::now();
            let left = until.map_or(Duration::MAX, |until| until.saturating_sub(self.since(now)));
            let left = self.until_deadline(now, left);
            clock.wait((left < Duration::MAX).then(|| later(now, left)), || !is_same());
            schedule = self.schedule.lock();
            schedule.wakes_up();
            return schedule;
        }
        while is_same() {
            let now = clock::now();
            let left = until.map_or(Duration::MAX, |until| until.saturating_sub(self.since(now)));
            let left = self.until_deadline(now, left);
            if left.is_zero() {
                break;
            }
            (schedule, _) = self.idle.wait_for(schedule, left);
        }
        schedule.wakes_up();
        schedule
    }

    /// The owner of a claim has come to the gate. Whether its next item may start; what follows that one is handed back if others
    /// want it.
    #[cold]
    pub(super) fn look(&self, member: &mut Member, claim: &mut Claim, is_retry: bool) -> bool {
        if !self.allows(claim.index()) {
            return false;
        }
        if claim.len() == 1 && !self.is_controlled() {
            return true;
        }
        let now = self.since(clock::now());
        let mut schedule = self.change();
        let may_start = !schedule.is_held();
        if !may_start {
            schedule.hand_all_back(member, now, claim.split_first(usize::MAX), is_retry);
        } else if schedule.wants_rests() && claim.len() > 1 {
            schedule.hand_back(member, now, claim.split_rest());
        }
        drop(schedule);
        self.signal(); // a caller with adaptive workers looks around again, since items wait
        may_start
    }

    /// Whether a control has a hand on the batch.
    pub(super) fn is_controlled(&self) -> bool {
        self.running.is_some()
    }

    /// The worker runs an attempt at this item, as long as what it gets is there.
    pub(super) fn runs(
        &self,
        worker: usize,
        index: usize,
        attempt: impl FnOnce() -> usize,
    ) -> Option<Runs<'_>> {
        let running = self.running.as_ref()?;
        running.lock().insert(worker, (index, attempt(), clock::now()));
        Some(Runs { running, worker })
    }

    /// What goes on beside the caller, which is about to tell of an item that it has just run.
    pub(super) fn load_of_others(&self) -> Load {
        let load = self.status(clock::since(self.since)).load;
        Load { running: load.running.saturating_sub(1), ..load }
    }

    /// An item begins that is not recorded.
    pub(super) fn begins(&self) {
        if self.began.get().is_none() {
            let _ = self.began.set(clock::since(self.since)); // or another thread has
        }
    }

    /// Whether a consumer that has drawn this many items has them all: the iterator has ended, or has no more by its size hint.
    pub(super) fn is_complete(&self, drawn: usize) -> bool {
        let (pulled, has_ended) = self.schedule().known();
        drawn == pulled && (has_ended || self.foreseen.items == Some(pulled))
    }

    /// How far the batch is.
    pub(super) fn status(&self, now: Duration) -> Status {
        let mut status = self.schedule.lock().status(now);
        status.load.began = self.began.get().copied().unwrap_or_default();
        status
    }
}

/// Stops, and waits.
impl Dispatcher {
    /// Nothing more starts.
    pub(super) fn close(&self, reason: Option<StopReason>) {
        self.change().close(reason);
        self.napping.notify_all();
        self.signal();
    }

    /// The item at `index` failed.
    #[cold]
    pub(super) fn failed(&self, index: usize) {
        self.change().failed(index);
        if self.stop_at.load(Ordering::Relaxed) < usize::MAX {
            self.napping.notify_all();
        }
    }

    /// Where the failures so far stop the batch, whatever else does.
    pub(super) fn line_of_failures(&self) -> usize {
        if self.allows(usize::MAX - 1) { usize::MAX } else { self.schedule.lock().stop.line_of_failures() }
    }

    /// Closes the batch if its time is over.
    pub(super) fn look_at_deadline(&self) {
        if self.deadline.is_some() {
            self.look_at_deadline_at(clock::now());
        }
    }

    pub(super) fn look_at_deadline_at(&self, now: Instant) {
        if self.is_late(now) {
            self.close(Some(StopReason::DeadlineExceeded));
        }
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline && self.allows(0))
    }

    /// This time, cut off at a deadline that has not passed.
    pub(super) fn until_deadline(&self, now: Instant, wait: Duration) -> Duration {
        let deadline = self.deadline.filter(|_| self.allows(0));
        deadline.map_or(wait, |deadline| wait.min(deadline.saturating_duration_since(now)))
    }

    /// How many pauses there have been.
    pub(super) fn pauses(&self) -> usize {
        self.pauses.load(Ordering::Relaxed)
    }

    /// An item was refused, also the `last` time, in an attempt that started when there had been
    /// `seen` pauses.
    pub(super) fn pause(&self, time: Duration, seen: usize, last: Option<Refusal>) -> Answer {
        let now = clock::since(self.since);
        let mut schedule = self.change();
        let answer = schedule.refuse(now, (time, seen), last);
        self.pauses.store(schedule.pause.number(), Ordering::Relaxed);
        answer
    }

    /// The consumer is done with `items` items. If a worker waits for room, it is woken: at the latest when the consumer, which takes
    /// the lock before it waits, says so once more.
    #[inline]
    pub(super) fn hand_on(&self, items: usize) {
        self.handed_on.store(items, Ordering::Release);
        if items >= self.wants_room.load(Ordering::Relaxed) {
            drop(self.change());
        }
    }

    pub(super) fn handed_on(&self) -> usize {
        self.handed_on.load(Ordering::Acquire)
    }

    /// Waits for this time, or until the stop line moves.
    pub(super) fn nap(&self, time: Duration) {
        let schedule = self.schedule.lock();
        if self.allows(0) {
            drop(self.napping.wait_for(schedule, time));
        }
    }

    /// A helper wants the iterator of a caller that runs by itself.
    pub(super) fn set_wanted(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Has the controller look around: `runnable` workers compute, if that is known.
    pub(super) fn tick(&self, runnable: Option<usize>) {
        let (now, handed_on) = (clock::since(self.since), self.handed_on.load(Ordering::Acquire));
        self.change().tick(now, handed_on, runnable);
    }
}

/// The schedule, locked for a change.
pub(super) struct Change<'d> {
    dispatcher: &'d Dispatcher,
    /// Until it is dropped.
    schedule: Option<MutexGuard<'d, Schedule>>,
}

impl Deref for Change<'_> {
    type Target = Schedule;

    fn deref(&self) -> &Schedule {
        let Some(schedule) = &self.schedule else { unreachable!("it is locked until it is dropped") };
        schedule
    }
}

impl DerefMut for Change<'_> {
    fn deref_mut(&mut self) -> &mut Schedule {
        let Some(schedule) = &mut self.schedule else { unreachable!("it is locked until it is dropped") };
        schedule
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.schedule.take().into_iter().for_each(|schedule| self.dispatcher.release(schedule));
    }
}

/// An item that runs, as a control sees it.
pub(super) struct Runs<'d> {
    running: &'d RunningItems,
    worker: usize,
}

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        self.running.lock().remove(&self.worker);
    }
}

impl Controlled for Dispatcher {
    fn hold(&self, by: usize, is_held: bool) {
        self.change().hold(by, is_held);
        self.signal();
    }

    fn set_workers(&self, workers: usize) {
        let now = self.elapsed();
        let mut schedule = self.change();
        schedule.set_workers(now, workers);
        drop(schedule);
        self.signal();
    }

    fn progress(&self) -> Progress {
        let elapsed = self.elapsed();
        let Status { counts, known: (items, are_all), load, .. } = self.status(elapsed);
        let Foreseen { items: hint, recorded } = self.foreseen;
        let total_hint = if are_all { Some(items) } else { hint.filter(|hint| *hint >= items) };
        let earlier = Earlier { to_come: recorded.saturating_sub(counts.recorded), took: load.began };
        Progress::new(counts, (total_hint.unwrap_or(items), total_hint), elapsed, load, earlier)
    }

    fn running(&self) -> Vec<Running> {
        let now = self.since + self.elapsed();
        let running = self.running.iter().flat_map(|running| running.lock().clone());
        let running = running.map(|(worker, (index, attempt, since))| {
            Running::new(index, attempt, worker, now.saturating_duration_since(since))
        });
        running.collect()
    }
}

impl OnChange for Dispatcher {
    fn changed(&self, what: Changed) {
        self.rates_changes.fetch_add(usize::from(what != Changed::Slots), Ordering::Release);
        self.limits_changes.fetch_add(1, Ordering::Release);
        let mut schedule = self.change();
        schedule.limits_changed();
        if what == Changed::Resumed {
            schedule.resume();
        }
        drop(schedule);
        self.signal();
    }
}

impl OnCancel for Dispatcher {
    fn cancelled(&self) {
        self.close(Some(StopReason::Cancelled));
    }
}

/// A dispatcher, where the tokens and limits of the batch reach it.
#[allow(clippy::large_enum_variant, reason = "there is one for each batch, and a box would be an allocation")]
pub(super) enum Held {
    Alone(Dispatcher),
    Shared(
        Arc<Dispatcher>,
        #[expect(dead_code, reason = "held until the batch is over")] (Vec<Watching>, Vec<Following>),
    ),
}

impl Held {
    pub(super) fn new<I, T, E>(
        schedule: Schedule,
        since: Instant,
        hears: Hears,
        settings: &Settings<'_, I, T, E>,
        engine: &Engine,
    ) -> Self {
        let (deadline, grows) = (settings.deadline_since(since), schedule.grows());
        let mut dispatcher = Dispatcher::new(schedule, since, deadline, hears, engine.clock.clone());
        dispatcher.running = (!settings.controls.is_empty()).then(Mutex::default);
        dispatcher.foreseen = settings.foreseen;
        if settings.tokens.is_empty()
            && settings.controls.is_empty()
            && engine.limiter.is_none()
            && settings.limits.is_empty()
            && !grows
        {
            return Held::Alone(dispatcher);
        }
        let dispatcher = Arc::new(dispatcher);
        let tokens = settings.controls.iter().map(Control::token).chain(&settings.tokens);
        let watching = tokens.map(|token| token.watch(dispatcher.clone())).collect();
        let following = settings.controls.iter().map(|control| control.watch(dispatcher.clone())).collect();
        Held::Shared(dispatcher, (watching, following))
    }

    pub(super) fn dispatcher(&self) -> &Dispatcher {
        match self {
            Held::Alone(dispatcher) => dispatcher,
            Held::Shared(dispatcher, _) => dispatcher,
        }
    }

    /// For items that push others. None for a batch of which nothing else is to hear.
    pub(super) fn share(&self) -> Option<Arc<Dispatcher>> {
        match self {
            Held::Alone(_) => None,
            Held::Shared(dispatcher, _) => Some(Arc::clone(dispatcher)),
        }
    }

    /// What hears of changes that are not the batch's own.
    pub(super) fn listener(&self) -> Option<Listener> {
        match self {
            Held::Alone(_) => None,
            Held::Shared(dispatcher, _) => Some(Listener::new(dispatcher)),
        }
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::thread;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_signal_that_was_given_twice_is_one() {
        let (signal, long) = (Signal::new(), Some(Duration::from_secs(3600)));
        signal.give();
        signal.give();
        signal.wait(long);
        let since = Instant::now();
        signal.wait(Some(MOMENT));
        assert!(since.elapsed() >= MOMENT, "no other was given since");
        thread::scope(|scope| {
            let giver = scope.spawn(|| {
                thread::sleep(MOMENT);
                let given = Instant::now();
                signal.give();
                given
            });
            signal.wait(None);
            let seen = Instant::now();
            assert!(giver.join().unwrap() <= seen);
        });
    }
}
