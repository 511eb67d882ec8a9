//! The rest of the batch, handed out.
//!
//! Behind one lock stand the items that nobody has taken yet, and who is at work; a worker takes a chunk off the front.
//! Claims run upwards: when a worker holds an index, every lower one is taken already.

use std::cell::Cell;
use std::mem;
use std::time::Duration;

use crate::adaptive::{Activity, Controller, Sample, Ticket};
use crate::result::Counts;
use crate::senses::{Meter, Usage};
use crate::sync::{Instant, Mutex};

use super::slots::{Chunk, Rest};

/// The batch as its workers see it.
pub(super) struct Carve<'a, I, T, E> {
    state: Mutex<State<'a, I, T, E>>,
    since: Instant,
    /// Whether the limit moves while the batch runs.
    adapts: bool,
}

struct State<'a, I, T, E> {
    rest: Rest<'a, I, T, E>,
    counts: Counts,
    running: usize,
    most_running: usize,
    /// How many workers there may be.
    limit: usize,
    /// Moves the limit; none for one that stays.
    controller: Option<Box<Controller>>,
    /// How many workers went because the limit had fallen, or had not risen yet.
    sent_away: usize,
}

/// How far the batch is, at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status {
    pub(super) counts: Counts,
    /// Workers that have claimed something and are not done.
    pub(super) running: usize,
    pub(super) most_running: usize,
    /// How many workers there may be.
    pub(super) limit: usize,
    /// How many workers went because there were too many.
    pub(super) sent_away: usize,
    /// Whether there is nothing left to claim.
    pub(super) exhausted: bool,
    /// The time until somebody is to look around, where the limit moves.
    pub(super) tick_in: Option<Duration>,
    /// Whether that needs to know how many workers compute.
    pub(super) wants_runnable: bool,
}

impl<'a, I, T, E> Carve<'a, I, T, E> {
    /// `workers` are those to begin with.
    pub(super) fn new(rest: Rest<'a, I, T, E>, workers: usize, controller: Option<Box<Controller>>) -> Self {
        let adapts = controller.is_some();
        let counts = Counts::default();
        let state =
            State { rest, counts, running: 0, most_running: 0, limit: workers, controller, sent_away: 0 };
        Carve { state: Mutex::new(state), since: Instant::now(), adapts }
    }

    pub(super) fn worker(&self) -> Worker<'_, 'a, I, T, E> {
        Worker {
            carve: self,
            running: false,
            done: Counts::default(),
            moved_limit: false,
            ticket: None,
            meter: self.adapts.then(Meter::new),
            before: None,
            started: Cell::new(self.since),
        }
    }

    /// How far the batch is, if items from `end` on may not start.
    pub(super) fn status(&self, end: usize) -> Status {
        let now = self.since.elapsed();
        let state = self.state.lock();
        let controller = state.controller.as_deref();
        Status {
            counts: state.counts,
            running: state.running,
            most_running: state.most_running,
            limit: state.limit,
            sent_away: state.sent_away,
            exhausted: state.is_exhausted(end),
            tick_in: controller.and_then(Controller::next_tick).map(|at| at.saturating_sub(now)),
            wants_runnable: controller.is_some_and(|controller| controller.wants_runnable(now)),
        }
    }

    pub(super) fn adapts(&self) -> bool {
        self.adapts
    }

    /// Looks around: so many workers compute, if that is known, and so many wait for a permit.
    pub(super) fn tick(&self, end: usize, runnable: Option<usize>, paced: usize) {
        let now = self.since.elapsed();
        let mut state = self.state.lock();
        let queued = if state.is_exhausted(end) { 0 } else { state.rest.len() };
        state.control(|controller| controller.tick(now, Activity { runnable, queued, paced }));
    }

    /// A thread could not be had: there will be no more than so many workers.
    pub(super) fn refused(&self, workers: usize) {
        self.state.lock().control(|controller| controller.refused(workers));
    }
}

impl<I, T, E> State<'_, I, T, E> {
    fn is_exhausted(&self, end: usize) -> bool {
        self.rest.len() == 0 || self.rest.next() >= end
    }

    /// Tells the controller something; whether that moved the limit.
    fn control(&mut self, tell: impl FnOnce(&mut Controller)) -> bool {
        let Some(controller) = self.controller.as_deref_mut() else { return false };
        tell(controller);
        let before = mem::replace(&mut self.limit, controller.limit());
        self.limit != before
    }

    /// As many as asked for, within what leaves something for the others. The first items go one to a worker.
    fn fair_size(&self, asked: usize) -> usize {
        match self.limit {
            1 => asked,
            workers if self.rest.next() < workers => 1,
            workers => asked.min(self.rest.len() / (2 * workers)).max(1),
        }
    }
}

/// One worker's side of the lock.
pub(super) struct Worker<'c, 'a, I, T, E> {
    carve: &'c Carve<'a, I, T, E>,
    /// Whether it counts as running: from its first claim until it leaves.
    running: bool,
    /// What it did since it last held the lock.
    done: Counts,
    /// Whether its last claim moved the limit.
    pub(super) moved_limit: bool,
    /// Its claim as the controller knows it, and what was counted for this thread when it began, if that is wanted.
    ticket: Option<Ticket>,
    meter: Option<Meter>,
    before: Option<Usage>,
    /// When its claim began; with a limiter, when the item had its permit.
    started: Cell<Instant>,
}

impl<'a, I, T, E> Worker<'_, 'a, I, T, E> {
    /// Notes what was done; it shows with the next claim.
    pub(super) fn did(&mut self, counts: Counts) {
        self.done.add(counts);
    }

    /// Notes that the item has its permit, if anybody wants to know.
    pub(super) fn is_permitted(&self) {
        if self.ticket.is_some() {
            self.started.set(Instant::now());
        }
    }

    /// Hands in what was done, and takes the next items, about so many; `buffer` is lent for them. `None` sends the worker
    /// away: there is nothing left below `end`, or there are too many workers.
    pub(super) fn claim<'b>(
        &mut self,
        now: Instant,
        size: usize,
        end: usize,
        buffer: &'b mut Vec<I>,
    ) -> Option<Chunk<'b, 'a, I, T, E>> {
        let completed = self.sample(now);
        let mut state = self.carve.state.lock();
        state.counts.add(mem::take(&mut self.done));
        self.moved_limit = completed
            .is_some_and(|(ticket, sample)| state.control(|controller| controller.complete(ticket, sample)));
        let others = state.running - usize::from(self.running);
        let exhausted = state.is_exhausted(end);
        self.running = !exhausted && others < state.limit;
        state.running = others + usize::from(self.running);
        if !self.running {
            state.sent_away += usize::from(!exhausted);
            return None;
        }
        state.most_running = state.most_running.max(state.running);
        let size = state.fair_size(size);
        let chunk = state.rest.take(size, buffer);
        let (at, items) = (now - self.carve.since, chunk.len());
        self.moved_limit |= state.control(|controller| self.ticket = Some(controller.start(at, items)));
        drop(state);
        self.started.set(now);
        self.before = self.ticket.filter(Ticket::measure).and_then(|_| self.usage());
        Some(chunk)
    }

    /// What the claim took that is now done.
    fn sample(&mut self, now: Instant) -> Option<(Ticket, Sample)> {
        let ticket = self.ticket.take()?;
        let (started, ended) = (self.started.get() - self.carve.since, now - self.carve.since);
        let used = self.before.take().and_then(|before| Some((before, self.usage()?)));
        let cpu = used.map(|(before, after)| after.cpu.saturating_sub(before.cpu));
        let run_delay = used.and_then(|(before, after)| after.run_delay?.checked_sub(before.run_delay?));
        Some((ticket, Sample { started, ended, cpu, run_delay }))
    }

    fn usage(&self) -> Option<Usage> {
        self.meter.as_ref()?.read()
    }
}

impl<I, T, E> Drop for Worker<'_, '_, I, T, E> {
    fn drop(&mut self) {
        if self.running {
            self.claim(Instant::now(), 0, 0, &mut Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slots;
    use super::*;
    use crate::adaptive::Setup;

    const EVERYTHING: usize = usize::MAX;

    fn slots(items: usize) -> Slots<(), (), ()> {
        Slots::new(vec![(); items]).unwrap()
    }

    /// For a batch of many items, on so many cores.
    #[allow(clippy::unnecessary_wraps, reason = "as `Carve::new` takes it")]
    fn controller(cpus: usize, most: usize) -> Option<Box<Controller>> {
        Some(Box::new(Controller::new(Setup { least: 1, most, cpus, items: Some(1000) })))
    }

    /// The sizes of all claims that one of `workers` makes when it asks for `size` each time.
    fn claims(items: usize, workers: usize, size: usize) -> Vec<usize> {
        let mut slots = slots(items);
        let carve = Carve::new(slots.rest(), workers, None);
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        std::iter::from_fn(|| {
            worker.claim(Instant::now(), size, EVERYTHING, &mut buffer).map(|chunk| chunk.len())
        })
        .collect()
    }

    #[test]
    fn the_first_items_go_one_to_a_worker() {
        assert_eq!(claims(20, 4, 100)[..4], [1, 1, 1, 1]);
    }

    #[test]
    fn claims_shrink_towards_the_end_and_leave_nothing() {
        let sizes = claims(100, 2, 30);
        assert_eq!(sizes[..5], [1, 1, 24, 18, 14]);
        assert_eq!(sizes.iter().sum::<usize>(), 100);
        assert_eq!(sizes.last(), Some(&1));
        assert_eq!(claims(100, 5, 30)[5..7], [9, 8]);
    }

    #[test]
    fn a_single_worker_takes_what_it_asks_for() {
        assert_eq!(claims(100, 1, 64), [64, 36]);
        assert!(claims(0, 1, 64).is_empty());
    }

    #[test]
    fn nothing_from_the_end_on_is_claimed() {
        let mut slots = slots(9);
        let carve = Carve::new(slots.rest(), 2, None);
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        assert!(worker.claim(Instant::now(), 1, 1, &mut buffer).is_some());
        assert!(worker.claim(Instant::now(), 1, 1, &mut buffer).is_none());
        assert!(carve.status(1).exhausted);
        assert!(!carve.status(2).exhausted);
    }

    #[test]
    fn more_workers_than_the_limit_are_sent_away() {
        let mut slots = slots(9);
        let carve = Carve::new(slots.rest(), 2, controller(2, 2));
        let (mut one, mut two, mut three) = (carve.worker(), carve.worker(), carve.worker());
        let mut buffer = Vec::new();
        assert!(one.claim(Instant::now(), 1, EVERYTHING, &mut buffer).is_some());
        assert!(two.claim(Instant::now(), 1, EVERYTHING, &mut buffer).is_some());
        assert!(three.claim(Instant::now(), 1, EVERYTHING, &mut buffer).is_none());
        assert!(two.claim(Instant::now(), 1, EVERYTHING, &mut buffer).is_some());
        let status = carve.status(EVERYTHING);
        assert_eq!((status.running, status.most_running, status.sent_away), (2, 2, 1));
    }

    #[test]
    fn items_that_wait_raise_the_limit_as_they_complete() {
        let mut slots = slots(1000);
        let carve = Carve::new(slots.rest(), 1, controller(1, 64));
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        let mut moves = 0;
        for number in 0..20 {
            let before = carve.status(EVERYTHING).limit;
            let now = carve.since + Duration::from_millis(10 * number);
            assert!(worker.claim(now, 1, EVERYTHING, &mut buffer).is_some());
            worker.did(Counts { succeeded: 1, failed: 0 });
            let limit = carve.status(EVERYTHING).limit;
            assert_eq!(worker.moved_limit, limit != before, "from {before} to {limit}");
            moves += usize::from(limit > before);
        }
        assert!(moves > 0, "it stands although items wait");
    }

    #[test]
    fn a_refused_thread_is_one_that_will_not_come() {
        let mut slots = slots(1000);
        let carve = Carve::new(slots.rest(), 8, controller(8, 64));
        carve.refused(2);
        assert_eq!(carve.status(EVERYTHING).limit, 2);
    }

    #[test]
    fn a_worker_runs_from_its_first_claim_until_it_finds_nothing() {
        let mut slots = slots(2);
        let carve = Carve::new(slots.rest(), 2, None);
        let running = || carve.status(EVERYTHING).running;
        let (mut one, mut two, mut late) = (carve.worker(), carve.worker(), carve.worker());
        let mut buffer = Vec::new();
        assert_eq!(running(), 0);
        one.claim(Instant::now(), 1, EVERYTHING, &mut buffer);
        two.claim(Instant::now(), 1, EVERYTHING, &mut buffer);
        assert_eq!(running(), 2);
        assert!(late.claim(Instant::now(), 1, EVERYTHING, &mut buffer).is_none());
        one.did(Counts { succeeded: 1, failed: 0 });
        assert_eq!(carve.status(EVERYTHING).counts.decided(), 0);
        assert!(one.claim(Instant::now(), 1, EVERYTHING, &mut buffer).is_none());
        drop(two);
        let status = carve.status(EVERYTHING);
        assert_eq!((status.running, status.most_running, status.counts.decided()), (0, 2, 1));
    }
}
