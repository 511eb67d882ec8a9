//! What the calling thread does when there is something to do beside the work: it reports progress,
//! ticks, waits for what the consumer of a stream asks for, and opens seats when the limit of
//! workers rises. It leaves the work to helpers while there are some.

use std::mem;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use crate::clock;
use crate::counts::Counts;
use crate::error::Outcome;
use crate::panic::{self, Panic};
use crate::pool::Invitation;
use crate::result::BatchItem;
use crate::sync::moment;
use crate::thread_meter::Watch;

use super::operation::Kinds;
use super::parking::Signal;
use super::report::Report;
use super::schedule::{Role, Status};
use super::shared::Job;
use super::worker::{Turn, Worker};
use crate::slots::Reader;

/// How long a consumer waits for several quick items, and not for one.
const MOMENT: Duration = moment(200);

/// How long the caller waits before it looks again whether helpers come.
const GLANCE: Duration = Duration::from_millis(1);

/// How often it looks while they seem to come. Then it works itself, whatever keeps them; and does not see that the number of
/// workers is raised until its item ends. Under a model checker, whose clock knows only sooner and later, once is enough.
const PATIENCE: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 10_000 };

pub(super) struct Caller<'c, 'j, K: Kinds> {
    pub(super) job: &'c Job<'j, K>,
    seats: Seats<'c>,
    report: Option<Report<'c>>,
    pub(super) worker: Worker<'c, 'j, K>,
    /// What it has done by itself, while it runs the items of a stream one after the other.
    pub(super) solo: Option<Counts>,
    /// Whether it has asked for the iterator, to do so.
    pub(super) asks: bool,
}

pub(super) type ItemOf<K> = BatchItem<<K as Kinds>::Item, Outcome<<K as Kinds>::Value, <K as Kinds>::Error>>;

impl<'c, 'j, K: Kinds> Caller<'c, 'j, K> {
    /// With this many seats for workers.
    pub(super) fn new(
        job: &'c Job<'j, K>,
        helpers: Option<&'c Invitation<'c>>,
        seats: usize,
        report: Option<Report<'c>>,
    ) -> Self {
        Caller {
            job,
            seats: Seats::new(helpers, seats),
            report,
            worker: Worker::new(job, Role::Caller),
            solo: None,
            asks: false,
        }
    }

    /// Until no worker is there any more and nothing is left. A panic of `on_progress` stops the batch and is handed back; helpers
    /// may then still be running.
    pub(super) fn watch_to_the_end(&mut self) -> Result<(), Panic> {
        self.end_solo();
        self.watch(None).map(|_| ())
    }

    /// Until the next item is ready, or will never be.
    pub(super) fn watch_for(&mut self, reader: &mut Reader) -> Result<Option<ItemOf<K>>, Panic> {
        self.watch(Some(reader))
    }

    fn watch(&mut self, mut reader: Option<&mut Reader>) -> Result<Option<ItemOf<K>>, Panic> {
        let watched = panic::catch(|| self.look_and_wait(&mut reader));
        if watched.is_err() {
            self.job.dispatcher.close(None);
            if let Some(Err(panic)) = self.report.take().map(Report::end) {
                self.job.fail(panic);
            }
        }
        watched
    }

    fn look_and_wait(&mut self, reader: &mut Option<&mut Reader>) -> Option<ItemOf<K>> {
        let Some(signal) = &self.job.dispatcher.signal else {
            unreachable!("a caller that coordinates has a signal")
        };
        loop {
            if self.report.is_none() {
                if let Break(found) = self.find(reader) {
                    return found; // with nothing else to look after
                }
                if let Some(item) =
                    reader.as_mut().and_then(|reader| self.run_solo(self.job.operation, reader))
                {
                    return Some(item);
                }
            }
            let status = self.look();
            if !self.report.as_mut().is_none_or(|report| report.tell(&status)) {
                continue; // calls are left to make, but not before another look
            }
            if let Break(found) = self.find(reader) {
                return found;
            }
            let tick_in =
                self.report.as_ref().and_then(Report::tick_in).into_iter().chain(status.tick_in).min();
            if status.tick_in.is_some_and(|wait| wait.is_zero()) {
                self.job.look_around(status.wants_runnable);
            } else if status.is_looked_after {
                self.job.wait(signal, reader, status.window, self.job.until_next_look(None, tick_in));
            } else if status.is_over {
                return None;
            } else if self.seats.take(status.tick_in, |time| self.job.glance(signal, reader, time)) {
                self.take_turn(signal, reader, tick_in);
            }
        }
    }

    /// Whether there is no other worker.
    pub(super) fn is_alone(&self) -> bool {
        self.seats.helpers.is_none()
    }

    /// The next item, if it is ready; none if it is not wanted, since an item below it has stopped the stream.
    fn find(&self, reader: &mut Option<&mut Reader>) -> ControlFlow<Option<ItemOf<K>>> {
        let Some(reader) = reader else { return Continue(()) };
        let (slots, line) = (self.job.slots, self.job.dispatcher.line_of_failures());
        if slots.is_in_order() && reader.taken() >= line {
            return Break(None);
        }
        let taken = slots.take(reader);
        taken.map_or(Continue(()), |(index, item, outcome)| Break(Some(BatchItem { index, item, outcome })))
    }

    /// How far the batch is; and sees to it that there are as many seats as there should be.
    fn look(&mut self) -> Status {
        let dispatcher = self.job.dispatcher;
        dispatcher.look_at_deadline();
        let is_timed = self.job.adapts() || self.report.is_some();
        let status =
            dispatcher.status(if is_timed { clock::since(dispatcher.since) } else { Duration::ZERO });
        if self.seats.makes_way(&status) {
            self.job.discard(self.worker.state.take()); // the helper that takes the seat makes its own
        }
        self.seats.follow(&status);
        if let Some(workers) = self.seats.refused() {
            dispatcher.change().refused(clock::since(dispatcher.since), workers);
        }
        status
    }

    fn take_turn(&mut self, signal: &Signal, reader: &Option<&mut Reader>, tick_in: Option<Duration>) {
        let Caller { job, seats, report, worker, .. } = self;
        let may_change = job.is_careful || seats.helpers.is_some();
        let mut tell = |counts| {
            let load = may_change.then(|| job.dispatcher.load_of_others());
            if let Some(report) = report {
                if job.dispatcher.grows() {
                    let known = job.dispatcher.schedule().known_after_item(); // it may have pushed some
                    report.knows(known);
                }
                report.add(counts, load);
            }
        };
        match worker.take_turn(&mut tell) {
            Turn::Worked => {}
            Turn::Leave => {
                seats.seated = false;
                job.discard(worker.state.take());
            }
            Turn::Wait(due) => job.wait(signal, reader, 0, job.until_next_look(due, tick_in)),
        }
    }

    /// Lets go of what it worked with, and of the callback, which may own something whose destructor panics.
    pub(super) fn leave(self) -> Result<(), Panic> {
        drop(self.worker);
        self.report.map_or(Ok(()), Report::end)
    }
}

/// What the caller looks after.
impl<K: Kinds> Job<'_, K> {
    /// How long the caller may sleep before it looks around, if a retry is due then, or it is to tick.
    fn until_next_look(&self, due: Option<Duration>, tick_in: Option<Duration>) -> Option<Duration> {
        let (dispatcher, now) = (self.dispatcher, clock::now());
        let due_in = due.map(|due| due.saturating_sub(dispatcher.since(now)));
        let wait = [due_in, tick_in].into_iter().flatten().min();
        let until_deadline = dispatcher.until_deadline(now, wait.unwrap_or(Duration::MAX));
        (until_deadline < Duration::MAX).then_some(until_deadline)
    }

    /// Waits for a signal, unless the item that the consumer waits for has become ready. Where items are quick it waits a moment for
    /// several of them first.
    fn wait(&self, signal: &Signal, reader: &Option<&mut Reader>, window: usize, limit: Option<Duration>) {
        let by_the_clock = |limit| self.dispatcher.wait_for_signal(signal, limit);
        let a_moment = limit.map_or(MOMENT, |limit| limit.min(MOMENT));
        let ahead = if self.has_quick_items() { window / 16 } else { 0 };
        let is_first = reader.is_some() && self.dispatcher.clock.is_none();
        if !is_first || !self.wait_once(reader, ahead, || by_the_clock(Some(a_moment))) {
            self.wait_once(reader, 0, || by_the_clock(limit));
        }
    }

    /// The same, shortly, and not by a test's clock: while helpers come, time goes on.
    fn glance(&self, signal: &Signal, reader: &Option<&mut Reader>, time: Duration) {
        self.wait_once(reader, 0, || signal.wait(Some(time)));
    }

    /// Waits, unless the item that the consumer waits for is ready, or one so far ahead of it. Whether that is so, or what it waits for
    /// came.
    fn wait_once(&self, reader: &Option<&mut Reader>, ahead: usize, wait: impl FnOnce() -> bool) -> bool {
        let Some(reader) = reader else { return wait() };
        let is_ready = !self.slots.will_wait(reader, ahead);
        self.dispatcher.hand_on(reader.taken()); // a worker may wait for room since the last time
        let has_come = is_ready || wait();
        self.slots.waits_no_longer();
        has_come
    }

    /// Has the limit of workers follow what there is to see now.
    fn look_around(&self, wants_runnable: bool) {
        let runnable = self.watch.as_ref().filter(|_| wants_runnable).and_then(Watch::runnable);
        self.dispatcher.tick(runnable);
    }
}

/// The caller's claim to a seat among the workers, so that it and the helpers together never exceed the limit.
struct Seats<'p> {
    /// None for a batch that has the caller alone.
    helpers: Option<&'p Invitation<'p>>,
    seated: bool,
    patience: u32,
    /// Seats that are open or taken, the caller's among them.
    granted: usize,
    sent_away: usize,
    refusals: usize,
}

impl<'p> Seats<'p> {
    fn new(helpers: Option<&'p Invitation<'p>>, seats: usize) -> Self {
        let refusals = helpers.map_or(0, Invitation::refusals);
        Seats {
            helpers,
            seated: helpers.is_none(),
            patience: PATIENCE,
            granted: seats,
            sent_away: 0,
            refusals,
        }
    }

    /// Gives the caller's seat up when a helper works, and opens seats when the limit has risen. One that has fallen closes
    /// none: workers too many are sent away.
    fn follow(&mut self, status: &Status) {
        if self.makes_way(status) {
            self.yield_seat();
        }
        let Some(helpers) = self.helpers else { return };
        self.granted = self.granted.saturating_sub(status.sent_away - self.sent_away);
        self.sent_away = status.sent_away;
        if status.limit > self.granted {
            helpers.add_seats(status.limit - self.granted);
            self.granted = status.limit;
        }
    }

    /// Whether a helper works now, and the caller has a seat to give up.
    fn makes_way(&self, status: &Status) -> bool {
        status.is_looked_after && self.seated && self.helpers.is_some()
    }

    /// How many workers there are, if a thread could not be had since the last time.
    fn refused(&mut self) -> Option<usize> {
        let helpers = self.helpers?;
        let before = mem::replace(&mut self.refusals, helpers.refusals());
        (self.refusals != before).then(|| helpers.inside().max(1))
    }

    /// A helper works: it is the caller's turn no longer.
    fn yield_seat(&mut self) {
        if let (Some(helpers), true) = (self.helpers, self.seated) {
            self.seated = false;
            helpers.add_seats(1);
        }
    }

    /// Whether the caller is to work. It waits for helpers that come, but not beyond the next tick, and has to look again
    /// then.
    fn take(&mut self, tick_in: Option<Duration>, wait: impl FnOnce(Duration)) -> bool {
        let Some(helpers) = self.helpers else { return self.seated };
        if !self.seated && self.patience > 0 && helpers.are_coming() {
            let glance = tick_in.map_or(GLANCE, |tick_in| tick_in.min(GLANCE));
            self.patience -= u32::from(glance == GLANCE);
            wait(glance);
            return false;
        }
        self.seated = self.seated || helpers.take_seat();
        if !self.seated {
            // Every seat is taken by a helper that has not claimed anything yet.
            wait(GLANCE);
        }
        self.seated
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::pool::{Pool, PoolConfig};

    fn pool(max_threads: usize) -> Pool {
        let (thread_name, keep_alive) = ("coordinate".to_owned(), Duration::ZERO);
        Pool::new(PoolConfig { thread_name, stack_size: None, keep_alive, max_threads })
    }

    /// An invitation with this many seats, into a pool that has no thread.
    fn invited(seats: usize, test: impl FnOnce(&Invitation<'_>)) {
        pool(0).lend(seats, &|| (), test);
    }

    /// Takes all seats that are free; how many there were.
    fn drain(helpers: &Invitation<'_>) -> usize {
        std::iter::from_fn(|| helpers.take_seat().then_some(())).count()
    }

    fn status(helpers: usize, limit: usize, sent_away: usize) -> Status {
        Status { known: (0, true), is_looked_after: helpers > 0, limit, sent_away, ..Status::default() }
    }

    #[test]
    fn as_many_seats_are_open_or_taken_as_the_limit_says() {
        invited(2, |helpers| {
            let mut seats = Seats::new(Some(helpers), 2);
            let mut opened = |limit, sent_away| {
                seats.follow(&status(0, limit, sent_away));
                drain(helpers)
            };
            assert_eq!(opened(2, 0), 2, "those to begin with");
            assert_eq!(opened(5, 0), 3, "the limit has risen");
            assert_eq!(opened(3, 0), 0, "one that falls opens none");
            assert_eq!(opened(3, 2), 0, "two have gone, three are left");
            assert_eq!(opened(4, 3), 2, "another has gone, two are left");
            assert_eq!(opened(4, 3), 0, "that one is made up for");
        });
    }

    #[test]
    fn the_callers_seat_is_free_again_once_a_helper_works() {
        invited(1, |helpers| {
            let (mut seats, signal) = (Seats::new(Some(helpers), 1), Signal::new());
            assert!(seats.take(None, |limit| _ = signal.wait(Some(limit))));
            seats.follow(&status(0, 1, 0));
            assert!(seats.seated && drain(helpers) == 0);
            seats.follow(&status(1, 1, 0));
            assert!(!seats.seated && drain(helpers) == 1);
            seats.follow(&status(1, 1, 0));
            assert_eq!(drain(helpers), 0, "it has one to give up, and no more");
        });
    }

    #[test]
    fn a_caller_without_helpers_keeps_its_seat() {
        let (mut seats, signal) = (Seats::new(None, 1), Signal::new());
        seats.follow(&status(1, 1, 0));
        assert!(seats.take(None, |limit| _ = signal.wait(Some(limit))));
    }

    #[test]
    fn where_every_seat_is_taken_the_caller_waits_a_moment_and_does_not_work() {
        invited(1, |helpers| {
            let (mut seats, signal) = (Seats::new(Some(helpers), 1), Signal::new());
            assert!(helpers.take_seat(), "a helper's");
            signal.give();
            assert!(!seats.take(None, |limit| _ = signal.wait(Some(limit))));
            let since = Instant::now();
            signal.wait(Some(GLANCE));
            assert!(since.elapsed() >= GLANCE, "the bell has been heard already");
            helpers.add_seats(1);
            assert!(seats.take(None, |limit| _ = signal.wait(Some(limit))));
            assert!(seats.take(None, |limit| _ = signal.wait(Some(limit))), "it is seated already");
            assert_eq!(seats.patience, PATIENCE, "no helper seemed to come");
        });
    }

    #[test]
    fn the_caller_waits_for_helpers_that_come_but_not_for_ever() {
        let (over, since) = (AtomicBool::new(false), Instant::now());
        let work = || {
            while !over.load(Ordering::Relaxed) && since.elapsed() < Duration::from_secs(20) {
                thread::yield_now();
            }
        };
        pool(1).lend(2, &work, |helpers| {
            let (mut seats, signal) =
                (Seats { patience: 100, ..Seats::new(Some(helpers), 2) }, Signal::new());
            let waits =
                (0..=100).take_while(|_| !seats.take(None, |limit| _ = signal.wait(Some(limit)))).count();
            over.store(true, Ordering::Relaxed);
            assert_eq!((waits, seats.seated), (100, true));
        });
    }
}
