//! The rest of the batch, handed out.
//!
//! Behind one lock stand the items that nobody has taken yet, those that wait for their next attempt, and who is at
//! work; a worker takes a chunk off the front, or one of those that wait and are due. Claims run upwards: when a worker
//! holds an index, every lower one has been taken already.

use std::cell::Cell;
use std::mem;
use std::time::Duration;

use crate::adaptive::{Activity, Controller, Sample, Ticket};
use crate::result::{Counts, Trials};
use crate::senses::{Meter, Usage};
use crate::sync::{Instant, Mutex, MutexGuard};

use super::chunk::{Chunk, Held};
use super::numbers::Numbers;
use super::supply::{ItemOf, Supply};
use super::waiting::Waiting;

/// The batch as its workers see it. `P` is kept with an item that is tried again.
pub(super) struct Carve<S: Supply, P> {
    state: Mutex<State<S, P>>,
    since: Instant,
    /// Whether the limit moves while the batch runs.
    adapts: bool,
}

/// Who is to work on it.
pub(super) struct Team {
    /// How many to begin with.
    pub(super) workers: usize,
    /// Moves the limit; none for one that stays.
    pub(super) controller: Option<Box<Controller>>,
    /// Where somebody asks for them.
    pub(super) numbers: Option<Numbers>,
}

impl Team {
    pub(super) fn adapts(&self) -> bool {
        self.controller.is_some()
    }
}

/// An item that waits for its next attempt, and what is kept with it.
pub(super) type Waiter<S, P> = (Held<<S as Supply>::Places>, P);

/// What there is to tell of a batch that is over.
pub(super) struct Told {
    pub(super) counts: Counts,
    pub(super) most_running: usize,
    /// Of some items, in their order.
    pub(super) trials: Vec<Trials>,
}

struct State<S: Supply, P> {
    rest: S,
    waiting: Waiting<Waiter<S, P>>,
    /// Workers that have nothing to do until one of those is due.
    idle: usize,
    trials: Vec<Trials>,
    counts: Counts,
    running: usize,
    most_running: usize,
    /// Where somebody asks for them.
    numbers: Option<Numbers>,
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
    /// How many workers there may be.
    pub(super) limit: usize,
    /// How many workers went because there were too many.
    pub(super) sent_away: usize,
    /// Whether there is nothing left to claim, now or later.
    pub(super) exhausted: bool,
    /// The time until somebody is to look around, where the limit moves.
    pub(super) tick_in: Option<Duration>,
    /// Whether that needs to know how many workers compute.
    pub(super) wants_runnable: bool,
}

/// What a worker is to do next.
pub(super) enum Claim<'b, S: Supply, P> {
    /// These items, or one that has been tried before.
    Work(Chunk<'b, S::Places>, Option<P>),
    /// Nothing for so long, unless something changes.
    Wait(Duration),
    /// There is nothing left for it, or there are too many workers.
    Leave,
}

impl<S: Supply, P> Carve<S, P> {
    pub(super) fn new(rest: S, team: Team) -> Self {
        let adapts = team.adapts();
        let Team { workers, controller, numbers } = team;
        let state = State {
            rest,
            waiting: Waiting::new(),
            idle: 0,
            trials: Vec::new(),
            counts: Counts::default(),
            running: 0,
            most_running: 0,
            numbers,
            limit: workers,
            controller,
            sent_away: 0,
        };
        Carve { state: Mutex::new(state), since: Instant::now(), adapts }
    }

    pub(super) fn worker(&self) -> Worker<'_, S, P> {
        Worker {
            carve: self,
            running: false,
            idle: false,
            number: 0,
            done: Counts::default(),
            trials: None,
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

    /// How many items have a value, as far as workers have told.
    pub(super) fn succeeded(&self) -> usize {
        self.state.lock().counts.succeeded
    }

    /// Looks around: so many workers compute, if that is known, and so many wait for a permit.
    pub(super) fn tick(&self, end: usize, runnable: Option<usize>, paced: usize) {
        let now = self.since.elapsed();
        let mut state = self.state.lock();
        let queued = if state.has_fresh(end) { state.rest.len() } else { 0 };
        state.control(|controller| controller.tick(now, Activity { runnable, queued, paced }));
    }

    /// A thread could not be had: there will be no more than so many workers.
    pub(super) fn refused(&self, workers: usize) {
        self.state.lock().control(|controller| controller.refused(workers));
    }

    /// Somebody said that there are too many requests.
    pub(super) fn overload(&self) {
        self.state.lock().control(Controller::overload);
    }

    /// The item is to be taken up again when it is due. Whether that concerns those who wait.
    pub(super) fn put_back(&self, due: Instant, waiter: Waiter<S, P>) -> bool {
        let mut state = self.state.lock();
        state.waiting.push(due, waiter.0.index(), waiter);
        state.idle > 0
    }

    /// When nobody works any more: the items that still wait, and what there is to tell.
    pub(super) fn left(&mut self) -> (Vec<Waiter<S, P>>, Told) {
        let state = self.state.get_mut();
        let mut trials = mem::take(&mut state.trials);
        trials.sort_unstable_by_key(|trials| trials.index);
        let told = Told { counts: state.counts, most_running: state.most_running, trials };
        (state.waiting.take_all(), told)
    }
}

impl<S: Supply, P> State<S, P> {
    /// Whether there are items that nobody has taken yet.
    fn has_fresh(&self, end: usize) -> bool {
        self.rest.len() > 0 && self.rest.next() < end
    }

    fn is_exhausted(&self, end: usize) -> bool {
        !self.has_fresh(end) && self.waiting.len() == 0
    }

    /// What somebody who comes now is to do.
    fn next<'b>(
        &mut self,
        now: Instant,
        size: usize,
        end: usize,
        buffer: &'b mut Vec<ItemOf<S>>,
    ) -> Claim<'b, S, P> {
        if let Some((held, past)) = self.waiting.take(now, end) {
            return Claim::Work(held.into_chunk(buffer), Some(past));
        }
        if self.has_fresh(end) {
            let size = self.fair_size(size);
            return Claim::Work(self.rest.take(size, buffer), None);
        }
        match self.waiting.next_due() {
            Some(due) if self.idle < self.waiting.len() => Claim::Wait(due.saturating_duration_since(now)),
            _ => Claim::Leave, // others wait for all that are left
        }
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
            workers => asked.min(self.rest.shared() / (2 * workers)).max(1),
        }
    }
}

/// One worker's side of the lock.
pub(super) struct Worker<'c, S: Supply, P> {
    carve: &'c Carve<S, P>,
    /// Whether it counts as running: from its first claim until it leaves.
    running: bool,
    /// Whether it counts as idle, too.
    idle: bool,
    /// Its own among those that run, where somebody asks for that.
    pub(super) number: usize,
    /// What it did since it last held the lock.
    done: Counts,
    trials: Option<Trials>,
    /// Whether its last claim moved the limit.
    pub(super) moved_limit: bool,
    /// Its claim as the controller knows it, and what was counted for this thread when it began, if that is wanted.
    ticket: Option<Ticket>,
    meter: Option<Meter>,
    before: Option<Usage>,
    /// When its claim began; with a limiter, when the item had its permit.
    started: Cell<Instant>,
}

impl<'c, S: Supply, P> Worker<'c, S, P> {
    /// Notes what was done; it shows with the next claim.
    pub(super) fn did(&mut self, counts: Counts) {
        self.done.add(counts);
    }

    /// Notes what there is to tell of the item of its claim.
    pub(super) fn tried(&mut self, trials: Trials) {
        self.trials = Some(trials);
    }

    /// Notes that the item has its permit, if anybody wants to know.
    pub(super) fn is_permitted(&self) {
        if self.ticket.is_some() {
            self.started.set(Instant::now());
        }
    }

    /// Hands in what was done, and takes the next items, about so many; `buffer` is lent for them. Items from `end` on may
    /// not start; those of them that wait for another attempt are handed out to be decided.
    pub(super) fn claim<'b>(
        &mut self,
        now: Instant,
        size: usize,
        end: usize,
        buffer: &'b mut Vec<ItemOf<S>>,
    ) -> Claim<'b, S, P> {
        let mut state = self.hand_in(now);
        let others = state.running - usize::from(self.running);
        let may_work = others < state.limit;
        let claim = if may_work { state.next(now, size, end, buffer) } else { Claim::Leave };
        state.sent_away += usize::from(!may_work && !state.is_exhausted(end));
        self.count(&mut state, &claim);
        if let Claim::Work(chunk, _) = &claim {
            let (at, items) = (now - self.carve.since, chunk.len());
            self.moved_limit |= state.control(|controller| self.ticket = Some(controller.start(at, items)));
            drop(state);
            self.started.set(now);
            self.before = self.ticket.filter(Ticket::measure).and_then(|_| self.usage());
        }
        claim
    }

    /// Takes the lock, with what was done.
    fn hand_in(&mut self, now: Instant) -> MutexGuard<'c, State<S, P>> {
        let completed = self.sample(now);
        let mut state = self.carve.state.lock();
        state.counts.add(mem::take(&mut self.done));
        if let Some(trials) = self.trials.take() {
            state.trials.push(trials);
        }
        state.idle -= usize::from(mem::take(&mut self.idle));
        self.moved_limit = completed
            .is_some_and(|(ticket, sample)| state.control(|controller| controller.complete(ticket, sample)));
        state
    }

    /// Counts itself among those that run and those that are idle, or among neither.
    fn count(&mut self, state: &mut State<S, P>, claim: &Claim<'_, S, P>) {
        self.idle = matches!(claim, Claim::Wait(_));
        state.idle += usize::from(self.idle);
        match (self.running, !matches!(claim, Claim::Leave)) {
            (false, true) => {
                state.running += 1;
                state.most_running = state.most_running.max(state.running);
                self.number = state.numbers.as_mut().map_or(0, Numbers::take);
            }
            (true, false) => {
                state.running -= 1;
                state.numbers.iter_mut().for_each(|numbers| numbers.give_back(self.number));
            }
            _ => {}
        }
        self.running = !matches!(claim, Claim::Leave);
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

impl<S: Supply, P> Drop for Worker<'_, S, P> {
    fn drop(&mut self) {
        if self.running {
            let mut state = self.hand_in(Instant::now());
            self.count(&mut state, &Claim::Leave);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::{Rest, Slots};
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

    type Kept<'a> = Carve<Rest<'a, (), (), ()>, &'static str>;

    fn carve(slots: &mut Slots<(), (), ()>, workers: usize, controller: Option<Box<Controller>>) -> Kept<'_> {
        Carve::new(slots.rest(), Team { workers, controller, numbers: Some(Numbers::default()) })
    }

    impl<S: Supply, P> Claim<'_, S, P> {
        /// How many there are to be worked on.
        fn items(&self) -> Option<usize> {
            match self {
                Claim::Work(chunk, _) => Some(chunk.len()),
                Claim::Wait(_) | Claim::Leave => None,
            }
        }
    }

    /// The sizes of all claims that one of `workers` makes when it asks for `size` each time.
    fn claims(items: usize, workers: usize, size: usize) -> Vec<usize> {
        let mut slots = slots(items);
        let carve = carve(&mut slots, workers, None);
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        std::iter::from_fn(|| worker.claim(Instant::now(), size, EVERYTHING, &mut buffer).items()).collect()
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
        let carve = carve(&mut slots, 2, None);
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        assert!(worker.claim(Instant::now(), 1, 1, &mut buffer).items().is_some());
        assert!(worker.claim(Instant::now(), 1, 1, &mut buffer).items().is_none());
        assert!(carve.status(1).exhausted);
        assert!(!carve.status(2).exhausted);
    }

    #[test]
    fn more_workers_than_the_limit_are_sent_away() {
        let mut slots = slots(9);
        let carve = carve(&mut slots, 2, controller(2, 2));
        let (mut one, mut two, mut three) = (carve.worker(), carve.worker(), carve.worker());
        let mut buffer = Vec::new();
        assert!(one.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_some());
        assert!(two.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_some());
        assert!(three.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_none());
        assert!(two.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_some());
        let status = carve.status(EVERYTHING);
        assert_eq!((status.running, status.sent_away), (2, 1));
    }

    #[test]
    fn items_that_wait_raise_the_limit_as_they_complete() {
        let mut slots = slots(1000);
        let carve = carve(&mut slots, 1, controller(1, 64));
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        let mut moves = 0;
        for number in 0..20 {
            let before = carve.status(EVERYTHING).limit;
            let now = carve.since + Duration::from_millis(10 * number);
            assert!(worker.claim(now, 1, EVERYTHING, &mut buffer).items().is_some());
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
        let carve = carve(&mut slots, 8, controller(8, 64));
        carve.refused(2);
        assert_eq!(carve.status(EVERYTHING).limit, 2);
    }

    #[test]
    fn a_worker_runs_from_its_first_claim_until_it_finds_nothing() {
        let mut slots = slots(2);
        let mut carve = carve(&mut slots, 2, None);
        let running = || carve.status(EVERYTHING).running;
        let (mut one, mut two, mut late) = (carve.worker(), carve.worker(), carve.worker());
        let mut buffer = Vec::new();
        assert_eq!(running(), 0);
        one.claim(Instant::now(), 1, EVERYTHING, &mut buffer);
        two.claim(Instant::now(), 1, EVERYTHING, &mut buffer);
        assert_eq!(running(), 2);
        assert!(late.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_none());
        one.did(Counts { succeeded: 1, failed: 0 });
        assert_eq!(carve.status(EVERYTHING).counts.decided(), 0);
        assert!(one.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_none());
        drop(two);
        let status = carve.status(EVERYTHING);
        assert_eq!((status.running, status.counts.decided()), (0, 1));
        drop((one, late));
        assert_eq!(carve.left().1.most_running, 2);
    }

    /// Takes the next item and has it wait until `due`.
    fn put_off<'a>(
        carve: &Kept<'a>,
        worker: &mut Worker<'_, Rest<'a, (), (), ()>, &'static str>,
        due: Instant,
    ) -> bool {
        let mut buffer = Vec::new();
        let Claim::Work(mut chunk, _) = worker.claim(carve.since, 1, EVERYTHING, &mut buffer) else {
            panic!("there is an item")
        };
        let held = chunk.hold().unwrap();
        carve.put_back(due, (held, "kept"))
    }

    #[test]
    fn an_item_that_waits_is_handed_out_when_it_is_due_and_not_before() {
        let mut slots = slots(1);
        let mut carve = carve(&mut slots, 2, None);
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        let early = carve.since + Duration::from_secs(5);
        let due = early + Duration::from_secs(4);
        assert!(!put_off(&carve, &mut worker, due), "nobody waits yet");
        assert!(!carve.status(EVERYTHING).exhausted);
        assert!(matches!(
            worker.claim(early, 1, EVERYTHING, &mut buffer),
            Claim::Wait(time) if time == Duration::from_secs(4)
        ));
        assert!(matches!(
            worker.claim(due, 1, EVERYTHING, &mut buffer),
            Claim::Work(chunk, Some("kept")) if chunk.next() == 0
        ));
        worker.tried(Trials { index: 0, attempts: 2, panic: None });
        assert!(matches!(worker.claim(due, 1, EVERYTHING, &mut buffer), Claim::Leave));
        drop(worker);
        let trials = carve.left().1.trials;
        assert!(matches!(trials[..], [Trials { index: 0, attempts: 2, panic: None }]));
    }

    #[test]
    fn fresh_items_are_worked_on_while_others_wait() {
        let mut slots = slots(3);
        let carve = carve(&mut slots, 1, None);
        let (mut worker, mut buffer) = (carve.worker(), Vec::new());
        put_off(&carve, &mut worker, carve.since + Duration::from_secs(9));
        for index in [1, 2] {
            let claim = worker.claim(carve.since, 1, EVERYTHING, &mut buffer);
            assert!(matches!(claim, Claim::Work(chunk, None) if chunk.next() == index));
        }
        assert!(matches!(worker.claim(carve.since, 1, EVERYTHING, &mut buffer), Claim::Wait(_)));
    }

    #[test]
    fn no_more_workers_wait_than_items_and_who_waits_is_told_of_another() {
        let mut slots = slots(3);
        let carve = carve(&mut slots, 3, None);
        let (mut one, mut two, mut three) = (carve.worker(), carve.worker(), carve.worker());
        let due = carve.since + Duration::from_secs(9);
        let mut buffer = Vec::new();
        put_off(&carve, &mut one, due);
        put_off(&carve, &mut two, due);
        assert!(two.claim(carve.since, 1, EVERYTHING, &mut buffer).items().is_some());
        assert!(matches!(one.claim(carve.since, 1, EVERYTHING, &mut buffer), Claim::Wait(_)));
        assert!(matches!(two.claim(carve.since, 1, EVERYTHING, &mut buffer), Claim::Wait(_)));
        assert!(matches!(three.claim(carve.since, 1, EVERYTHING, &mut buffer), Claim::Leave));
        let status = carve.status(EVERYTHING);
        assert_eq!((status.running, status.sent_away, status.exhausted), (2, 0, false));
        assert!(matches!(two.claim(due, 1, EVERYTHING, &mut buffer), Claim::Work(..)));
        assert!(matches!(two.claim(due, 1, EVERYTHING, &mut buffer), Claim::Work(..)), "the other's");
        assert!(matches!(one.claim(due, 1, EVERYTHING, &mut buffer), Claim::Leave));
    }

    #[test]
    fn items_that_wait_above_the_end_are_handed_out_at_once() {
        let mut slots = slots(2);
        let carve = carve(&mut slots, 2, None);
        let (mut one, mut two, mut buffer) = (carve.worker(), carve.worker(), Vec::new());
        let (now, due) = (carve.since, carve.since + Duration::from_secs(9));
        put_off(&carve, &mut one, due);
        put_off(&carve, &mut one, due);
        assert!(matches!(two.claim(now, 1, EVERYTHING, &mut buffer), Claim::Wait(_)));
        assert!(matches!(
            one.claim(now, 1, 1, &mut buffer),
            Claim::Work(chunk, Some(_)) if chunk.next() == 1
        ));
        assert!(matches!(two.claim(now, 1, 1, &mut buffer), Claim::Wait(_)), "the one below waits on");
        assert!(matches!(one.claim(now, 1, 1, &mut buffer), Claim::Leave), "and no second worker for it");
    }

    #[test]
    fn those_that_run_have_numbers_of_their_own_as_low_as_can_be() {
        let mut slots = slots(9);
        let carve = carve(&mut slots, 3, None);
        let (mut one, mut two, mut three, mut buffer) =
            (carve.worker(), carve.worker(), carve.worker(), Vec::new());
        for (number, worker) in [&mut one, &mut two].into_iter().enumerate() {
            assert!(worker.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_some());
            assert_eq!(worker.number, number);
        }
        drop(one);
        assert!(three.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_some());
        assert_eq!((three.number, two.number), (0, 1));
    }
}
