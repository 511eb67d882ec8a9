//! One worker's side of the carve: what it claims, and what it hands in.

use std::cell::Cell;
use std::mem;
use std::time::Duration;

use crate::adaptive::{Sample, Ticket};
use crate::result::{Counts, Trials};
use crate::senses::{Meter, Usage};
use crate::sync::{Instant, MutexGuard};

use super::carve::{Carve, Claim, State};
use super::crew::{Role, Standing};
use super::supply::{ItemOf, Pulled, Supply};

/// Who waits for so long in vain while somebody pulls more than one item takes those that are there: the source keeps them.
const STALL: Duration = Duration::from_millis(1);

/// Who of those who are idle is to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    Nobody,
    One,
    /// There is nothing left, and they can go.
    All,
}

/// One worker's side of the lock.
pub(super) struct Worker<'c, S: Supply, P> {
    carve: &'c Carve<S, P>,
    pub(super) role: Role,
    standing: Standing,
    /// Its own among those that run, where somebody asks for that.
    pub(super) number: usize,
    /// What it did since it last held the lock.
    done: Counts,
    trials: Vec<Trials>,
    /// Whether its last claim moved the limit.
    pub(super) moved_limit: bool,
    /// Who of the idle is to be called.
    pub(super) calls: Calls,
    /// When it comes by itself, while it is idle.
    alarm: Option<Instant>,
    /// Whether it has waited as long as it was to, and nobody has called it.
    pub(super) waited_in_vain: bool,
    /// Its claim as the controller knows it, and what was counted for this thread when it began, if that is wanted.
    ticket: Option<Ticket>,
    meter: Option<Meter>,
    before: Option<Usage>,
    /// When its claim began; with a limiter, when the item had its permit.
    started: Cell<Instant>,
}

impl<'c, S: Supply, P> Worker<'c, S, P> {
    pub(super) fn new(carve: &'c Carve<S, P>, role: Role) -> Self {
        Worker {
            carve,
            role,
            standing: Standing::Away,
            number: 0,
            done: Counts::default(),
            trials: Vec::new(),
            moved_limit: false,
            calls: Calls::Nobody,
            alarm: None,
            waited_in_vain: false,
            ticket: None,
            meter: carve.adapts().then(Meter::new),
            before: None,
            started: Cell::new(carve.since),
        }
    }

    /// Notes what was done; it shows with the next claim.
    pub(super) fn did(&mut self, counts: Counts) {
        self.done.add(counts);
    }

    /// Notes what there is to tell of an item of its claim.
    pub(super) fn tried(&mut self, trials: Trials) {
        if !S::IS_STREAM {
            self.trials.push(trials);
        }
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
        let tray = if mem::take(&mut self.waited_in_vain) { state.rest.relieve() } else { None };
        if let Some(tray) = tray {
            return self.relieve(state, now, tray, buffer);
        }
        let may_work = state.may_work(self.standing);
        let size = state.size_for(self.role, self.standing, size);
        let mut claim = if may_work { state.next(now, size, end, buffer) } else { Claim::Leave };
        state.crew.sent_away += usize::from(!may_work && !state.is_exhausted(end));
        self.turn(&mut state, &claim);
        match &mut claim {
            Claim::Wait(time) => *time = self.sleep(&mut state, now),
            Claim::Leave if state.is_exhausted(end) && state.crew.idle() > 0 => self.calls = Calls::All,
            _ => self.look_for_idle(&mut state, end),
        }
        if let Claim::Work(chunk, _) = &claim {
            self.begin(state, now, chunk.len());
        }
        claim
    }

    /// How long it is to be idle. Of all who are, one comes when the next item is due, and calls others if more are.
    fn sleep(&mut self, state: &mut State<S, P>, now: Instant) -> Duration {
        self.alarm = state.waiting.next_due().filter(|due| state.is_before_alarm(*due));
        state.alarm = self.alarm.or(state.alarm);
        let time = self.alarm.map_or(Duration::MAX, |due| due.saturating_duration_since(now));
        if state.rest.is_lent_for_many() { time.min(STALL) } else { time }
    }

    /// Takes what somebody has pulled who is kept waiting.
    fn relieve<'b>(
        &mut self,
        mut state: MutexGuard<'_, State<S, P>>,
        now: Instant,
        tray: S::Tray,
        buffer: &'b mut Vec<ItemOf<S>>,
    ) -> Claim<'b, S, P> {
        self.stand(&mut state, Standing::AtWork);
        drop(state);
        let chunk = S::take(tray, buffer);
        if self.carve.adapts() {
            self.begin(self.carve.state.lock(), now, chunk.len());
        }
        Claim::Work(chunk, None)
    }

    /// It has pulled, and begins to work on what others have left it of that. Others may pull now.
    pub(super) fn give_back(&mut self, source: S::Source, pulled: Pulled, items: usize, end: usize) {
        let now = self.carve.now();
        let mut state = self.carve.state.lock();
        state.rest.give_back(source, pulled);
        self.calls = Calls::Nobody;
        self.look_for_idle(&mut state, end);
        self.begin(state, now, items);
    }

    fn look_for_idle(&mut self, state: &mut State<S, P>, end: usize) {
        if state.wants_idle(end) {
            state.crew.call();
            self.calls = Calls::One;
        }
    }

    /// It begins to work on so many items.
    fn begin(&mut self, mut state: MutexGuard<'_, State<S, P>>, now: Instant, items: usize) {
        if items == 0 || !self.carve.adapts() {
            return;
        }
        let at = now - self.carve.since;
        self.moved_limit |= state.control(|controller| self.ticket = Some(controller.start(at, items)));
        drop(state);
        self.started.set(now);
        self.before = self.ticket.filter(Ticket::measure).and_then(|_| self.usage());
    }

    /// Takes the lock, with what was done.
    fn hand_in(&mut self, now: Instant) -> MutexGuard<'c, State<S, P>> {
        let completed = self.sample(now);
        let mut state = self.carve.state.lock();
        state.counts.add(mem::take(&mut self.done));
        state.trials.append(&mut self.trials);
        state.crew.comes(self.standing);
        if self.alarm.take().is_some_and(|alarm| state.alarm == Some(alarm)) {
            state.alarm = None;
        }
        self.calls = Calls::Nobody;
        self.moved_limit = completed
            .is_some_and(|(ticket, sample)| state.control(|controller| controller.complete(ticket, sample)));
        state
    }

    /// Turns to what the claim says.
    fn turn(&mut self, state: &mut State<S, P>, claim: &Claim<'_, S, P>) {
        let standing = match claim {
            Claim::Work(..) | Claim::Pull(..) | Claim::GiveUp(_) => Standing::AtWork,
            Claim::Wait(_) if state.rest.is_lent_for_many() => Standing::Watching,
            Claim::Wait(_) => Standing::Idle,
            Claim::Leave => return self.leave(state),
        };
        self.stand(state, standing);
    }

    fn stand(&mut self, state: &mut State<S, P>, standing: Standing) {
        let before = mem::replace(&mut self.standing, standing);
        self.number = state.crew.turns(self.role, before, standing).unwrap_or(self.number);
    }

    fn leave(&mut self, state: &mut State<S, P>) {
        let before = mem::replace(&mut self.standing, Standing::Away);
        state.crew.goes(self.role, before, self.number);
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

    fn usage(&mut self) -> Option<Usage> {
        self.meter.as_mut()?.read()
    }
}

impl<S: Supply, P> Drop for Worker<'_, S, P> {
    fn drop(&mut self) {
        if self.standing != Standing::Away {
            let mut state = self.hand_in(self.carve.now());
            self.leave(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::carve::Team;
    use super::super::numbers::Numbers;
    use super::super::slots::{Rest, Slots};
    use super::*;
    use crate::adaptive::{Controller, Setup};

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
        Carve::new(
            slots.rest(),
            Team { workers, controller, numbers: Some(Numbers::default()), limits: None },
        )
    }

    impl<S: Supply, P> Claim<'_, S, P> {
        /// How many there are to be worked on.
        fn items(&self) -> Option<usize> {
            match self {
                Claim::Work(chunk, _) => Some(chunk.len()),
                _ => None,
            }
        }
    }

    /// The sizes of all claims that one of `workers` makes when it asks for `size` each time.
    fn claims(items: usize, workers: usize, size: usize) -> Vec<usize> {
        let mut slots = slots(items);
        let carve = carve(&mut slots, workers, None);
        let (mut worker, mut buffer) = (Worker::new(&carve, Role::Helper), Vec::new());
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
        let (mut worker, mut buffer) = (Worker::new(&carve, Role::Helper), Vec::new());
        assert!(worker.claim(Instant::now(), 1, 1, &mut buffer).items().is_some());
        assert!(worker.claim(Instant::now(), 1, 1, &mut buffer).items().is_none());
        assert!(carve.status(1).exhausted);
        assert!(!carve.status(2).exhausted);
    }

    #[test]
    fn more_workers_than_the_limit_are_sent_away() {
        let mut slots = slots(9);
        let carve = carve(&mut slots, 2, controller(2, 2));
        let (mut one, mut two, mut three) = (
            Worker::new(&carve, Role::Helper),
            Worker::new(&carve, Role::Helper),
            Worker::new(&carve, Role::Helper),
        );
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
        let (mut worker, mut buffer) = (Worker::new(&carve, Role::Helper), Vec::new());
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
        let (mut one, mut two, mut late) = (
            Worker::new(&carve, Role::Helper),
            Worker::new(&carve, Role::Helper),
            Worker::new(&carve, Role::Helper),
        );
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
        assert_eq!(carve.left(Duration::ZERO).1.most_running, 2);
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
        let (mut worker, mut buffer) = (Worker::new(&carve, Role::Helper), Vec::new());
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
        let trials = carve.left(Duration::ZERO).1.trials;
        assert!(matches!(trials[..], [Trials { index: 0, attempts: 2, panic: None }]));
    }

    #[test]
    fn fresh_items_are_worked_on_while_others_wait() {
        let mut slots = slots(3);
        let carve = carve(&mut slots, 1, None);
        let (mut worker, mut buffer) = (Worker::new(&carve, Role::Helper), Vec::new());
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
        let (mut one, mut two, mut three) = (
            Worker::new(&carve, Role::Helper),
            Worker::new(&carve, Role::Helper),
            Worker::new(&carve, Role::Helper),
        );
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
        let (mut one, mut two, mut buffer) =
            (Worker::new(&carve, Role::Helper), Worker::new(&carve, Role::Helper), Vec::new());
        let (now, due) = (carve.since, carve.since + Duration::from_secs(9));
        put_off(&carve, &mut one, due);
        put_off(&carve, &mut one, due);
        assert!(matches!(two.claim(now, 1, EVERYTHING, &mut buffer), Claim::Wait(_)));
        assert!(matches!(
            one.claim(now, 1, 1, &mut buffer),
            Claim::GiveUp(waiters) if waiters.len() == 1 && waiters[0].0.index() == 1
        ));
        assert!(matches!(two.claim(now, 1, 1, &mut buffer), Claim::Wait(_)), "the one below waits on");
        assert!(matches!(one.claim(now, 1, 1, &mut buffer), Claim::Leave), "and no second worker for it");
    }

    #[test]
    fn those_that_run_have_numbers_of_their_own_as_low_as_can_be() {
        let mut slots = slots(9);
        let carve = carve(&mut slots, 3, None);
        let (mut one, mut two, mut three, mut buffer) = (
            Worker::new(&carve, Role::Helper),
            Worker::new(&carve, Role::Helper),
            Worker::new(&carve, Role::Helper),
            Vec::new(),
        );
        for (number, worker) in [&mut one, &mut two].into_iter().enumerate() {
            assert!(worker.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_some());
            assert_eq!(worker.number, number);
        }
        drop(one);
        assert!(three.claim(Instant::now(), 1, EVERYTHING, &mut buffer).items().is_some());
        assert_eq!((three.number, two.number), (0, 1));
    }
}
