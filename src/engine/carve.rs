//! The rest of the batch, handed out.
//!
//! Behind one lock stand the items that nobody has taken yet, and who is at work; a worker takes a chunk off the front.
//! Claims run upwards: when a worker holds an index, every lower one is taken already.

use crate::adaptive::Controller;
use crate::result::Counts;
use crate::sync::{Instant, Mutex};

use super::slots::{Chunk, Rest};

/// The batch as its workers see it.
pub(super) struct Carve<'a, I, T, E> {
    state: Mutex<State<'a, I, T, E>>,
    workers: usize,
    since: Instant,
}

struct State<'a, I, T, E> {
    rest: Rest<'a, I, T, E>,
    counts: Counts,
    running: usize,
    most_running: usize,
    /// Moves the limit while the batch runs; none for a limit that stays.
    controller: Option<Controller>,
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
    /// How many workers there may be, where that moves.
    pub(super) limit: Option<usize>,
    /// How many workers went because there were too many.
    pub(super) sent_away: usize,
    /// Whether there is nothing left to claim.
    pub(super) exhausted: bool,
}

impl<'a, I, T, E> Carve<'a, I, T, E> {
    /// `workers` are those to begin with.
    pub(super) fn new(rest: Rest<'a, I, T, E>, workers: usize, controller: Option<Controller>) -> Self {
        let state =
            State { rest, counts: Counts::default(), running: 0, most_running: 0, controller, sent_away: 0 };
        Carve { state: Mutex::new(state), workers, since: Instant::now() }
    }

    pub(super) fn worker(&self) -> Worker<'_, 'a, I, T, E> {
        Worker { carve: self, running: false, done: Counts::default(), moved_limit: false }
    }

    /// How far the batch is, if items from `end` on may not start.
    pub(super) fn status(&self, end: usize) -> Status {
        let state = self.state.lock();
        Status {
            counts: state.counts,
            running: state.running,
            most_running: state.most_running,
            limit: state.limit(),
            sent_away: state.sent_away,
            exhausted: state.is_exhausted(end),
        }
    }
}

impl<I, T, E> State<'_, I, T, E> {
    fn is_exhausted(&self, end: usize) -> bool {
        self.rest.len() == 0 || self.rest.next() >= end
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

    /// As many as asked for, within what leaves something for the others. The first items go one to a worker.
    fn fair_size(&self, asked: usize, workers: usize) -> usize {
        match self.limit().unwrap_or(workers) {
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
}

impl<'a, I, T, E> Worker<'_, 'a, I, T, E> {
    /// Notes what was done; it shows with the next claim.
    pub(super) fn did(&mut self, counts: Counts) {
        self.done.add(counts);
    }

    /// Hands in what was done, and takes the next items, about so many; `buffer` is lent for them. `None` sends the worker
    /// away: there is nothing left below `end`, or there are too many workers.
    pub(super) fn claim<'b>(
        &mut self,
        size: usize,
        end: usize,
        buffer: &'b mut Vec<I>,
    ) -> Option<Chunk<'b, 'a, I, T, E>> {
        let mut state = self.carve.state.lock();
        self.moved_limit = state.count(std::mem::take(&mut self.done), self.carve.since);
        let others = state.running - usize::from(self.running);
        let exhausted = state.is_exhausted(end);
        if exhausted || state.limit().is_some_and(|limit| others >= limit) {
            state.sent_away += usize::from(!exhausted);
            state.running = others;
            self.running = false;
            return None;
        }
        self.running = true;
        state.running = others + 1;
        state.most_running = state.most_running.max(state.running);
        let size = state.fair_size(size, self.carve.workers);
        Some(state.rest.take(size, buffer))
    }
}

impl<I, T, E> Drop for Worker<'_, '_, I, T, E> {
    fn drop(&mut self) {
        if self.running {
            self.claim(0, 0, &mut Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Slots;
    use super::*;
    use crate::workers::AdaptiveWorkers;

    const EVERYTHING: usize = usize::MAX;

    fn slots(items: usize) -> Slots<(), (), ()> {
        Slots::new(vec![(); items]).unwrap()
    }

    /// The sizes of all claims that one of `workers` makes when it asks for `size` each time.
    fn claims(items: usize, workers: usize, size: usize) -> Vec<usize> {
        let mut slots = slots(items);
        let carve = Carve::new(slots.rest(), workers, None);
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        std::iter::from_fn(|| worker.claim(size, EVERYTHING, &mut buffer).map(|chunk| chunk.len())).collect()
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
        assert!(worker.claim(1, 1, &mut buffer).is_some());
        assert!(worker.claim(1, 1, &mut buffer).is_none());
        assert!(carve.status(1).exhausted);
        assert!(!carve.status(2).exhausted);
    }

    #[test]
    fn more_workers_than_the_limit_are_sent_away() {
        let mut slots = slots(9);
        let carve = Carve::new(slots.rest(), 2, Some(Controller::new(AdaptiveWorkers::new(), 2)));
        let (mut one, mut two, mut three) = (carve.worker(), carve.worker(), carve.worker());
        let mut buffer = Vec::new();
        assert!(one.claim(1, EVERYTHING, &mut buffer).is_some());
        assert!(two.claim(1, EVERYTHING, &mut buffer).is_some());
        assert!(three.claim(1, EVERYTHING, &mut buffer).is_none());
        assert!(two.claim(1, EVERYTHING, &mut buffer).is_some());
        let status = carve.status(EVERYTHING);
        assert_eq!((status.running, status.most_running, status.sent_away), (2, 2, 1));
    }

    #[test]
    fn completions_move_the_limit_and_claims_alone_do_not() {
        let mut slots = slots(1000);
        let carve = Carve::new(slots.rest(), 1, Some(Controller::new(AdaptiveWorkers::new(), 1)));
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        let limit = || carve.status(EVERYTHING).limit;
        let mut moves_after = |done| {
            let before = limit();
            worker.did(Counts { succeeded: done, failed: 0 });
            worker.claim(1, EVERYTHING, &mut buffer).expect("it has a place");
            assert_eq!(worker.moved_limit, limit() != before, "from {before:?} to {:?}", limit());
            worker.moved_limit
        };
        let moved = (0..300).any(|_| {
            let moved = moves_after(1) || moves_after(1);
            std::thread::sleep(std::time::Duration::from_millis(2));
            assert!(!moves_after(0), "by no item");
            moved
        });
        assert!(moved, "the limit stands although items wait");
    }

    #[test]
    fn a_worker_runs_from_its_first_claim_until_it_finds_nothing() {
        let mut slots = slots(2);
        let carve = Carve::new(slots.rest(), 2, None);
        let running = || carve.status(EVERYTHING).running;
        let (mut one, mut two, mut late) = (carve.worker(), carve.worker(), carve.worker());
        let mut buffer = Vec::new();
        assert_eq!(running(), 0);
        one.claim(1, EVERYTHING, &mut buffer);
        two.claim(1, EVERYTHING, &mut buffer);
        assert_eq!(running(), 2);
        assert!(late.claim(1, EVERYTHING, &mut buffer).is_none());
        one.did(Counts { succeeded: 1, failed: 0 });
        assert_eq!(carve.status(EVERYTHING).counts.decided(), 0);
        assert!(one.claim(1, EVERYTHING, &mut buffer).is_none());
        drop(two);
        let status = carve.status(EVERYTHING);
        assert_eq!((status.running, status.most_running, status.counts.decided()), (0, 2, 1));
    }
}
