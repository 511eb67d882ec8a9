//! What the calling thread does when there is something to do beside the work: it reports progress, opens seats when
//! the limit rises, and leaves the work to helpers.

use std::mem;
use std::time::Duration;

use crate::panic::{self, Panic};
use crate::pool::Invitation;

use super::carve::Status;
use super::job::{Job, SupplyFor};
use super::pace::Pace;
use super::shift::{Kit, Turn};
use super::tally::{Bell, Report};
use super::work::Work;

/// How long the caller waits before it looks again whether helpers come.
const GLANCE: Duration = Duration::from_millis(1);

/// How often it looks while they seem to come. Then it works itself, whatever keeps them: in a forked child they seem to
/// come for ever. Under a model checker, whose clock knows only sooner and later, once is enough.
const PATIENCE: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 100 };

/// Watches what helpers complete until the batch is over. A panic of `on_progress` stops the batch and is handed back; helpers
/// may then still be running.
pub(super) fn coordinate<W: Work, S: SupplyFor<W>>(
    job: &Job<'_, W, S>,
    helpers: Option<&Invitation<'_>>,
    seats: usize,
    report: Option<Report<'_>>,
) -> Result<(), Panic> {
    let mut coordinator = Coordinator::new(job, helpers, seats, report);
    let ended = coordinator.watch_to_the_end();
    ended.and(coordinator.leave())
}

/// The caller, while it does not simply work. While there is no helper, it works and reports by turns.
pub(super) struct Coordinator<'c, 'j, W: Work, S: SupplyFor<W>> {
    job: &'c Job<'j, W, S>,
    turns: Turns<'c>,
    report: Option<Report<'c>>,
    /// What it works with when it works.
    kit: Kit<'c, W>,
}

impl<'c, 'j, W: Work, S: SupplyFor<W>> Coordinator<'c, 'j, W, S> {
    pub(super) fn new(
        job: &'c Job<'j, W, S>,
        helpers: Option<&'c Invitation<'c>>,
        seats: usize,
        report: Option<Report<'c>>,
    ) -> Self {
        Coordinator { job, turns: Turns::new(helpers, seats), report, kit: Kit::new(job, Pace::new()) }
    }

    /// Until nobody works any more and nothing is left.
    pub(super) fn watch_to_the_end(&mut self) -> Result<(), Panic> {
        self.watch(|| None::<()>).map(|_| ())
    }

    /// Until there is what the caller looks for, or nobody works any more and nothing is left. A panic of `on_progress` stops
    /// the batch, and is not called again.
    pub(super) fn watch<F>(&mut self, find: impl Fn() -> Option<F>) -> Result<Option<F>, Panic> {
        let watched = panic::catch(|| self.look_and_wait(find));
        if watched.is_err() {
            self.job.stop.close(None);
            self.job.discard(self.report.take());
        }
        watched
    }

    fn look_and_wait<F>(&mut self, find: impl Fn() -> Option<F>) -> Option<F> {
        let Some(bell) = self.job.stop.bell() else { unreachable!("who is coordinated has a bell") };
        loop {
            if let Some(found) = self.report.is_none().then(&find).flatten() {
                return Some(found); // with nothing else to look after
            }
            let status = self.look();
            if !self.report.as_mut().is_none_or(|report| report.up_to(status.counts)) {
                continue; // calls are left to make, but not before another look
            }
            if let Some(found) = find() {
                return Some(found);
            }
            if status.tick_in.is_some_and(|wait| wait.is_zero()) {
                self.job.look_around(status.wants_runnable);
            } else if status.running > 0 {
                wait(bell, self.job.until_next_look(None, status.tick_in));
            } else if status.exhausted {
                return None;
            } else if self.turns.take_seat(bell, status.tick_in) {
                self.take_turn(bell, status.tick_in);
            }
        }
    }

    /// How far the batch is; and sees to it that there are as many seats as there should be.
    fn look(&mut self) -> Status {
        self.job.stop.look_at_deadline();
        let status = self.job.carve.status(self.job.stop.end());
        if self.turns.makes_way(&status) {
            self.job.discard(self.kit.desk.state.take()); // whoever takes the seat makes its own
        }
        self.turns.follow(&status);
        if let Some(workers) = self.turns.refused() {
            self.job.carve.refused(workers);
        }
        if let Some(report) = &mut self.report {
            report.knows(status.known);
        }
        status
    }

    fn take_turn(&mut self, bell: &Bell, tick_in: Option<Duration>) {
        let Coordinator { job, turns, report, kit } = self;
        let tell = |counts| report.iter_mut().for_each(|report| report.add(counts));
        match job.take_turn(kit, tell) {
            Turn::Worked => {}
            Turn::SentAway => {
                turns.seated = false;
                job.discard(kit.desk.state.take());
            }
            Turn::Wait(time) => wait(bell, job.until_next_look(Some(time), tick_in)),
        }
    }

    /// Lets go of what it worked with, and of the callback, which may own something whose destructor panics.
    pub(super) fn leave(self) -> Result<(), Panic> {
        self.job.discard(self.kit.desk.state);
        panic::catch(|| drop(self.report))
    }
}

fn wait(bell: &Bell, limit: Option<Duration>) {
    match limit {
        Some(limit) => bell.wait_for(limit),
        None => bell.wait(),
    }
}

/// The caller's claim to a seat among the workers, so that it and the helpers together never exceed the limit.
struct Turns<'p> {
    /// None for a batch that has the caller alone.
    helpers: Option<&'p Invitation<'p>>,
    seated: bool,
    patience: u32,
    /// Seats that are open or taken, the caller's among them.
    granted: usize,
    sent_away: usize,
    refusals: usize,
}

impl<'p> Turns<'p> {
    fn new(helpers: Option<&'p Invitation<'p>>, seats: usize) -> Self {
        let refusals = helpers.map_or(0, Invitation::refusals);
        Turns {
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
        self.granted -= status.sent_away - self.sent_away;
        self.sent_away = status.sent_away;
        if status.limit > self.granted {
            helpers.add_seats(status.limit - self.granted);
            self.granted = status.limit;
        }
    }

    /// Whether a helper works now, and the caller has a seat to give up.
    fn makes_way(&self, status: &Status) -> bool {
        status.running > 0 && self.seated && self.helpers.is_some()
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
    fn take_seat(&mut self, bell: &Bell, tick_in: Option<Duration>) -> bool {
        let Some(helpers) = self.helpers else { return self.seated };
        if !self.seated && self.patience > 0 && helpers.are_coming() {
            let glance = tick_in.map_or(GLANCE, |tick_in| tick_in.min(GLANCE));
            self.patience -= u32::from(glance == GLANCE);
            bell.wait_for(glance);
            return false;
        }
        self.seated = self.seated || helpers.take_seat();
        if !self.seated {
            // Every seat is taken by a helper that has not claimed anything yet.
            bell.wait_for(GLANCE);
        }
        self.seated
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::pool::{Pool, PoolConfig};
    use crate::result::Counts;

    fn pool(max_threads: usize) -> Pool {
        let (thread_name, keep_alive) = ("coordinate".to_owned(), Duration::ZERO);
        Pool::new(PoolConfig { thread_name, stack_size: None, keep_alive, max_threads })
    }

    /// An invitation with so many seats, into a pool that has no thread.
    fn invited(seats: usize, test: impl FnOnce(&Invitation<'_>)) {
        pool(0).lend(seats, &|| (), test);
    }

    /// Takes all seats that are free; how many there were.
    fn drain(helpers: &Invitation<'_>) -> usize {
        std::iter::from_fn(|| helpers.take_seat().then_some(())).count()
    }

    fn status(running: usize, limit: usize, sent_away: usize) -> Status {
        Status {
            counts: Counts::default(),
            known: (0, true),
            running,
            limit,
            sent_away,
            exhausted: false,
            tick_in: None,
            wants_runnable: false,
        }
    }

    #[test]
    fn as_many_seats_are_open_or_taken_as_the_limit_says() {
        invited(2, |helpers| {
            let mut turns = Turns::new(Some(helpers), 2);
            let mut opened = |limit, sent_away| {
                turns.follow(&status(0, limit, sent_away));
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
            let (mut turns, bell) = (Turns::new(Some(helpers), 1), Bell::new());
            assert!(turns.take_seat(&bell, None));
            turns.follow(&status(0, 1, 0));
            assert!(turns.seated && drain(helpers) == 0);
            turns.follow(&status(1, 1, 0));
            assert!(!turns.seated && drain(helpers) == 1);
            turns.follow(&status(1, 1, 0));
            assert_eq!(drain(helpers), 0, "it has one to give up, and no more");
        });
    }

    #[test]
    fn a_caller_without_helpers_keeps_its_seat() {
        let (mut turns, bell) = (Turns::new(None, 1), Bell::new());
        turns.follow(&status(1, 1, 0));
        assert!(turns.take_seat(&bell, None));
    }

    #[test]
    fn where_every_seat_is_taken_the_caller_waits_a_moment_and_does_not_work() {
        invited(1, |helpers| {
            let (mut turns, bell) = (Turns::new(Some(helpers), 1), Bell::new());
            assert!(helpers.take_seat(), "somebody else's");
            bell.ring();
            assert!(!turns.take_seat(&bell, None));
            let since = Instant::now();
            bell.wait_for(GLANCE);
            assert!(since.elapsed() >= GLANCE, "the bell has been heard already");
            helpers.add_seats(1);
            assert!(turns.take_seat(&bell, None));
            assert!(turns.take_seat(&bell, None), "it is seated already");
            assert_eq!(turns.patience, PATIENCE, "nobody seemed to come");
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
            let (mut turns, bell) = (Turns::new(Some(helpers), 2), Bell::new());
            let waits = (0..=PATIENCE).take_while(|_| !turns.take_seat(&bell, None)).count();
            over.store(true, Ordering::Relaxed);
            assert_eq!((waits, turns.seated), (100, true));
        });
    }
}
