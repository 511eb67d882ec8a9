//! The rest of the batch, handed out.
//!
//! Behind one lock stands a slice of slots that nobody has taken yet; a worker splits a chunk off its front and fills it
//! where it lies. So results are in input order by construction, and a slot has one owner by its type. Claims run
//! upwards: when a worker holds an index, every lower one is taken already.

use std::time::Instant;

use crate::adaptive::Controller;
use crate::result::Counts;
use crate::sync::Mutex;

/// The batch as its workers see it.
pub(super) struct Carve<'a, S> {
    rest: Mutex<Rest<'a, S>>,
    workers: usize,
    since: Instant,
}

struct Rest<'a, S> {
    slots: &'a mut [S],
    /// The index of the first of them in the batch.
    next: usize,
    counts: Counts,
    running: usize,
    most_running: usize,
    /// Moves the limit while the batch runs; none for a limit that stays.
    controller: Option<Controller>,
    /// How many workers went because the limit had fallen, or had not risen yet.
    sent_away: usize,
}

/// Slots that one worker owns.
pub(super) struct Chunk<'a, S> {
    /// The index of the first of them in the batch.
    pub(super) start: usize,
    pub(super) slots: &'a mut [S],
}

/// How far the batch is, at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status {
    pub(super) counts: Counts,
    /// Workers that have claimed something and are not done.
    pub(super) running: usize,
    pub(super) most_running: usize,
    /// How many workers there may be, where that moves.
    pub(super) limit: Option<usize>,
    /// How many workers went because there were too many.
    pub(super) sent_away: usize,
    /// Whether there is nothing left to claim.
    pub(super) exhausted: bool,
}

impl<'a, S> Carve<'a, S> {
    /// `workers` are those to begin with.
    pub(super) fn new(slots: &'a mut [S], workers: usize, controller: Option<Controller>) -> Self {
        let rest = Rest {
            slots,
            next: 0,
            counts: Counts::default(),
            running: 0,
            most_running: 0,
            controller,
            sent_away: 0,
        };
        Carve { rest: Mutex::new(rest), workers, since: Instant::now() }
    }

    pub(super) fn worker(&self) -> Worker<'_, 'a, S> {
        Worker { carve: self, running: false, done: Counts::default(), moved_limit: false }
    }

    /// How far the batch is, if items from `end` on may not start.
    pub(super) fn status(&self, end: usize) -> Status {
        let rest = self.rest.lock();
        Status {
            counts: rest.counts,
            running: rest.running,
            most_running: rest.most_running,
            limit: rest.limit(),
            sent_away: rest.sent_away,
            exhausted: rest.is_exhausted(end),
        }
    }
}

impl<'a, S> Rest<'a, S> {
    fn is_exhausted(&self, end: usize) -> bool {
        self.slots.is_empty() || self.next >= end
    }

    fn limit(&self) -> Option<usize> {
        self.controller.as_ref().map(Controller::limit)
    }

    /// Takes completions into account; whether that moved the limit.
    fn count(&mut self, done: Counts, since: Instant) -> bool {
        self.counts.add(done);
        match &mut self.controller {
            Some(controller) if done.decided() > 0 => {
                let before = controller.limit();
                controller.completed(since.elapsed(), done.decided());
                controller.limit() != before
            }
            _ => false,
        }
    }

    fn split_off(&mut self, size: usize) -> Chunk<'a, S> {
        let (slots, rest) = std::mem::take(&mut self.slots).split_at_mut(size);
        self.slots = rest;
        let start = self.next;
        self.next += size;
        Chunk { start, slots }
    }

    /// As many as asked for, within what leaves something for the others. The first items go one to a worker.
    fn fair_size(&self, asked: usize, workers: usize) -> usize {
        match self.limit().unwrap_or(workers) {
            1 => asked.min(self.slots.len()),
            workers if self.next < workers => 1,
            workers => asked.min(self.slots.len() / (2 * workers)).max(1),
        }
    }
}

/// One worker's side of the lock.
pub(super) struct Worker<'c, 'a, S> {
    carve: &'c Carve<'a, S>,
    /// Whether it counts as running: from its first claim until it leaves.
    running: bool,
    /// What it did since it last held the lock.
    done: Counts,
    /// Whether its last claim moved the limit.
    pub(super) moved_limit: bool,
}

impl<'a, S> Worker<'_, 'a, S> {
    /// Notes what was done; it shows with the next claim.
    pub(super) fn did(&mut self, counts: Counts) {
        self.done.add(counts);
    }

    /// Hands in what was done, and takes the next slots, about so many. `None` sends the worker away: there is nothing
    /// left below `end`, or there are too many workers.
    pub(super) fn claim(&mut self, size: usize, end: usize) -> Option<Chunk<'a, S>> {
        let mut rest = self.carve.rest.lock();
        self.moved_limit = rest.count(std::mem::take(&mut self.done), self.carve.since);
        let others = rest.running - usize::from(self.running);
        let exhausted = rest.is_exhausted(end);
        if exhausted || rest.limit().is_some_and(|limit| others >= limit) {
            rest.sent_away += usize::from(!exhausted);
            rest.running = others;
            self.running = false;
            return None;
        }
        self.running = true;
        rest.running = others + 1;
        rest.most_running = rest.most_running.max(rest.running);
        let size = rest.fair_size(size, self.carve.workers);
        Some(rest.split_off(size))
    }
}

impl<S> Drop for Worker<'_, '_, S> {
    fn drop(&mut self) {
        if self.running {
            self.claim(0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::AdaptiveWorkers;

    /// The sizes of all claims that one of `workers` makes when it asks for `size` each time.
    fn claims(slots: usize, workers: usize, size: usize) -> Vec<usize> {
        let mut slots = vec![(); slots];
        let carve = Carve::new(&mut slots, workers, None);
        let mut worker = carve.worker();
        std::iter::from_fn(|| worker.claim(size, usize::MAX).map(|chunk| chunk.slots.len())).collect()
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
    }

    #[test]
    fn a_single_worker_takes_what_it_asks_for() {
        assert_eq!(claims(100, 1, 64), [64, 36]);
        assert_eq!(claims(0, 1, 64), []);
    }

    #[test]
    fn chunks_know_their_place() {
        let mut slots: Vec<usize> = (0..50).collect();
        let carve = Carve::new(&mut slots, 3, None);
        let mut worker = carve.worker();
        while let Some(chunk) = worker.claim(5, 40) {
            assert_eq!(chunk.slots.first(), Some(&chunk.start));
        }
        assert!(carve.status(40).exhausted);
        assert!(!carve.status(usize::MAX).exhausted);
    }

    #[test]
    fn more_workers_than_the_limit_are_sent_away() {
        let mut slots = [(); 9];
        let carve = Carve::new(&mut slots, 2, Some(Controller::new(AdaptiveWorkers::new(), 2)));
        let (mut one, mut two, mut three) = (carve.worker(), carve.worker(), carve.worker());
        assert!(one.claim(1, usize::MAX).is_some());
        assert!(two.claim(1, usize::MAX).is_some());
        assert!(three.claim(1, usize::MAX).is_none());
        assert!(two.claim(1, usize::MAX).is_some());
        let status = carve.status(usize::MAX);
        assert_eq!((status.running, status.most_running, status.sent_away), (2, 2, 1));
    }

    #[test]
    fn a_worker_runs_from_its_first_claim_until_it_finds_nothing() {
        let mut slots = [(); 2];
        let carve = Carve::new(&mut slots, 2, None);
        let running = || carve.status(usize::MAX).running;
        let (mut one, mut two, mut late) = (carve.worker(), carve.worker(), carve.worker());
        assert_eq!(running(), 0);
        one.claim(1, usize::MAX);
        two.claim(1, usize::MAX);
        assert_eq!(running(), 2);
        assert!(late.claim(1, usize::MAX).is_none());
        one.did(Counts { succeeded: 1, failed: 0 });
        assert_eq!(carve.status(usize::MAX).counts.decided(), 0);
        assert!(one.claim(1, usize::MAX).is_none());
        drop(two);
        let status = carve.status(usize::MAX);
        assert_eq!((status.running, status.most_running, status.counts.decided()), (0, 2, 1));
    }
}
