//! The schedule alone, against a model: workers that do anything in any order, and a plain list of what becomes of each item.

use std::collections::{BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::adaptive::{Controller, Setup};

use super::*;

/// A worker that asks for an item, in a stream whose consumer has none yet.
const ASK: Ask = Ask { now: MOMENT, size: 1, handed_on: 0, is_limited: false };

mod orders;

/// What a worker of the model holds.
#[derive(Debug)]
enum Holds {
    Nothing,
    Claim(Claim),
    /// It pulls items: the next index, and how many more.
    Source(usize, usize),
    /// It sleeps, at most until then.
    Sleep(Option<Duration>),
    /// It has left.
    Gone,
}

struct Worker {
    member: Member,
    holds: Holds,
    done: Done,
}

/// What becomes of an item, each time it is tried.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Succeeds,
    Fails,
    /// It is tried again after this many milliseconds, and then succeeds.
    Retries(u64),
    /// This many times it asks for a pause of this many milliseconds, and then succeeds.
    Refused(usize, u64),
}

/// Where items come from.
#[derive(Debug, Clone)]
enum Input {
    AtOnce,
    /// A stream: the window that it begins with, and the largest.
    Pulled(usize, usize),
    /// How many are there at first. Each other one comes from the one with this number, which is lower.
    Pushed(usize, Vec<usize>),
}

impl Input {
    fn window(&self) -> Option<usize> {
        if let Input::Pulled(_, most) = self { Some(*most) } else { None }
    }

    /// The items that this one pushes.
    fn children(&self, item: usize) -> Vec<usize> {
        let Input::Pushed(roots, parents) = self else { return Vec::new() };
        (0..parents.len()).filter(|child| parents[*child] == item).map(|child| roots + child).collect()
    }

    /// All items as a plain queue meets them.
    fn in_order(&self, items: usize) -> Vec<usize> {
        let mut queue: VecDeque<usize> =
            if let Input::Pushed(roots, _) = self { (0..*roots).collect() } else { (0..items).collect() };
        std::iter::from_fn(|| {
            let item = queue.pop_front()?;
            queue.extend(self.children(item));
            Some(item)
        })
        .collect()
    }
}

#[derive(Debug, Clone)]
struct Plan {
    fates: Vec<Fate>,
    workers: usize,
    limit: usize,
    on_failure: OnFailure,
    input: Input,
    /// When, in steps, a cancel comes.
    cancel: Option<usize>,
    /// When, in steps, a control has nothing start, and for how many.
    hold: Option<(usize, usize)>,
    /// Which worker takes the next step, and how many items it asks for.
    steps: Vec<(usize, usize)>,
}

struct Model {
    plan: Plan,
    schedule: Schedule,
    workers: Vec<Worker>,
    now: Duration,
    /// How often each item was tried, and those that are decided.
    tried: Vec<usize>,
    decided: BTreeSet<usize>,
    failed: BTreeSet<usize>,
    /// What is known of items that were refused, and how often each was.
    refusals: Vec<(usize, Option<Refusal>)>,
    /// Whether a retry was claimed last.
    retried_last: bool,
    handed_on: usize,
    is_closed: bool,
    /// Which item of the plan has this index in the schedule: another one only where items push others.
    items: Vec<usize>,
}

impl Model {
    fn new(plan: Plan) -> Self {
        let team = Team::new(plan.limit, None, true, false);
        let (items, on_failure) = (plan.fates.len(), plan.on_failure);
        let schedule = match plan.input {
            Input::AtOnce => Schedule::of_batch(Claim::of(0..items), on_failure, team),
            Input::Pulled(least, most) => Schedule::of_stream(Window::new(least, most), on_failure, team),
            Input::Pushed(roots, _) => {
                let growth = Growth::of(roots, plan.workers).expect("there is memory");
                Schedule::growing(Claim::of(0..roots), growth, on_failure, team)
            }
        };
        let items = if let Input::Pushed(roots, _) = plan.input { roots } else { items };
        let worker =
            |_| Worker { member: Member::new(Role::Helper), holds: Holds::Nothing, done: Done::default() };
        let workers = (0..plan.workers).map(worker).collect();
        let tried = vec![0; plan.fates.len()];
        let (decided, failed, refusals) =
            (BTreeSet::new(), BTreeSet::new(), vec![(0, None); plan.fates.len()]);
        Model {
            plan,
            schedule,
            workers,
            now: Duration::ZERO,
            tried,
            decided,
            failed,
            refusals,
            retried_last: false,
            handed_on: 0,
            is_closed: false,
            items: (0..items).collect(),
        }
    }

    /// As a dispatcher gives up the lock.
    fn release(&mut self) {
        if !self.schedule.has_idle() || !self.schedule.concerns_idle(self.handed_on) {
            return;
        }
        let woken = match self.schedule.call() {
            Wake::None => 0,
            Wake::One => 1,
            Wake::All => usize::MAX,
        };
        for asleep in 0..self.workers.len() {
            if self.sleepers() > 0 && asleep < woken && self.workers.len() > asleep {
                if let Some(worker) =
                    self.workers.iter_mut().find(|worker| matches!(worker.holds, Holds::Sleep(_)))
                {
                    self.schedule.wakes_up();
                    worker.holds = Holds::Nothing;
                }
            }
        }
    }

    fn sleepers(&self) -> usize {
        self.workers.iter().filter(|worker| matches!(worker.holds, Holds::Sleep(_))).count()
    }

    fn step(&mut self, number: usize, size: usize) {
        let holds = mem::replace(&mut self.workers[number].holds, Holds::Nothing);
        self.workers[number].holds = match holds {
            Holds::Nothing => self.ask(number, size),
            Holds::Claim(claim) => self.run_one(number, claim),
            Holds::Source(index, most) => self.pull_one(index, most),
            Holds::Sleep(Some(until)) if until <= self.now => {
                self.schedule.wakes_up();
                Holds::Nothing
            }
            holds @ (Holds::Sleep(_) | Holds::Gone) => holds,
        };
        self.consume();
        self.release();
        let busy = self.workers.iter().filter(|worker| matches!(worker.holds, Holds::Claim(_))).count();
        assert!(busy <= self.plan.limit, "{busy} are busy");
        let (load, counts) = (self.schedule.load(self.now), self.schedule.counts);
        assert!(load.running <= self.plan.limit && load.waiting == load.retrying);
        assert!(counts.decided() + load.running + load.waiting <= self.schedule.known().0, "{load:?}");
    }

    fn ask(&mut self, number: usize, size: usize) -> Holds {
        let Worker { member, done, .. } = &mut self.workers[number];
        self.schedule.done(member, self.now, mem::take(done));
        let size = if matches!(self.plan.input, Input::Pushed(..)) { 1 } else { size };
        let has_other =
            self.schedule.fresh.has_some(self.schedule.stop.line()) || !self.schedule.returned.is_empty();
        let ask = Ask { now: self.now, size, handed_on: self.handed_on, is_limited: false };
        match self.schedule.next(member, ask) {
            Next::Run { claim, is_retry } => {
                assert!(self.schedule.stop.allows(claim.index()), "it may not start");
                assert!(!(is_retry && self.retried_last && has_other), "no other had its turn");
                self.retried_last = is_retry;
                Holds::Claim(claim)
            }
            Next::Pull { index, most } => Holds::Source(index, most),
            Next::Wait(until) => {
                self.schedule.falls_asleep();
                Holds::Sleep(until)
            }
            Next::Oversee | Next::Leave => Holds::Gone,
        }
    }

    /// The next item of a claim, as an owner does it.
    fn run_one(&mut self, number: usize, mut claim: Claim) -> Holds {
        if claim.index() >= self.schedule.gate() {
            if claim.index() >= self.schedule.stop.line() {
                self.workers[number].done.left = Some(claim);
                return Holds::Nothing;
            }
            if self.schedule.is_held() {
                let is_retry = self.tried[self.items[claim.index()]] > 0;
                self.schedule.hand_all_back(&mut self.workers[number].member, self.now, claim, is_retry);
                return Holds::Nothing;
            }
            if claim.len() > 1 && self.schedule.wants_rests() {
                let rest = claim.split_rest();
                self.schedule.hand_back(&mut self.workers[number].member, self.now, rest);
            }
        }
        let (index, item) = (claim.index(), self.items[claim.index()]);
        self.tried[item] += 1;
        match self.plan.fates[item] {
            Fate::Refused(times, millis) if self.tried[item] <= times => {
                let time = Duration::from_millis(millis);
                self.refuse(item, time);
                self.schedule.later(self.now + time, claim.split_first(1));
            }
            Fate::Retries(millis) if self.tried[item] == 1 => {
                self.schedule.later(self.now + Duration::from_millis(millis), claim.split_first(1));
            }
            fate => {
                self.push_all(index, item);
                assert!(self.decided.insert(item), "item {item} was decided twice");
                let is_failure = matches!(fate, Fate::Fails);
                if is_failure {
                    self.failed.insert(item);
                    self.schedule.failed(index);
                }
                let counts = &mut self.workers[number].done.counts;
                counts.add(if is_failure { Counts::FAILED } else { Counts::SUCCEEDED });
                let _ = claim.split_first(1);
            }
        }
        if claim.len() > 0 { Holds::Claim(claim) } else { Holds::Nothing }
    }

    fn push_all(&mut self, index: usize, item: usize) {
        for child in self.plan.input.children(item) {
            let next = self.items.len();
            self.items.push(child);
            assert!(self.schedule.has_room_to_grow());
            self.schedule.push(index, Claim::of(next..next + 1));
            self.release();
        }
    }

    /// The first refusal is free, the others cost at most one delay each, and one for the first.
    fn refuse(&mut self, item: usize, time: Duration) {
        let (costs, last) = self.refusals[item];
        let pauses = self.schedule.pause.number();
        let answer = self.schedule.refuse(self.now, (time, pauses), last);
        let (costs, tried) = (costs + answer.costs, self.tried[item]);
        assert!(costs == tried || costs == tried - 1, "{costs} delays for {tried} refusals");
        assert!(answer.is_news || last.is_some(), "the first is a pause");
        self.refusals[item] = (costs, Some(answer.refusal));
    }

    fn pull_one(&mut self, index: usize, most: usize) -> Holds {
        let has_ended = index == self.plan.fates.len();
        let goes_on = !has_ended && self.schedule.add(Claim::of(index..index + 1));
        if let Some(window) = self.plan.input.window().filter(|_| !has_ended) {
            assert!(index < self.handed_on + window, "the window is exceeded");
        }
        if goes_on && most > 1 {
            return Holds::Source(index + 1, most - 1);
        }
        self.schedule.give_back_source(has_ended);
        Holds::Nothing
    }

    /// The consumer of a stream takes what is ready, in order.
    fn consume(&mut self) {
        if self.plan.input.window().is_some() {
            while self.decided.contains(&self.handed_on) {
                self.handed_on += 1;
            }
        }
    }

    fn cancel(&mut self) {
        self.is_closed = true;
        self.schedule.close(Some(StopReason::Cancelled));
        self.release();
    }

    fn hold(&mut self, is_held: bool) {
        self.schedule.hold(0, is_held);
        self.release();
    }

    /// Whether some worker can take a step now.
    fn can_step(&self, worker: &Worker) -> bool {
        match &worker.holds {
            Holds::Claim(_) | Holds::Nothing | Holds::Source(..) => true,
            Holds::Sleep(until) => until.is_some_and(|until| until <= self.now),
            Holds::Gone => false,
        }
    }

    fn run_to_the_end(&mut self) {
        let steps = self.plan.steps.clone();
        for (step, (number, size)) in steps.into_iter().enumerate() {
            if self.plan.cancel == Some(step) {
                self.cancel();
            }
            self.hold(self.plan.hold.is_some_and(|(from, steps)| (from..from + steps).contains(&step)));
            self.step(number % self.plan.workers, size);
            self.now += Duration::from_micros(300);
        }
        self.hold(false);
        for round in 0.. {
            assert!(round < 100_000, "it does not come to an end");
            let Some(number) = (0..self.workers.len()).find(|number| self.can_step(&self.workers[*number]))
            else {
                if !self.let_time_pass() {
                    break;
                }
                continue;
            };
            self.step(number, 4);
        }
    }

    /// No worker can take a step: the next alarm goes off. Whether there is one.
    fn let_time_pass(&mut self) -> bool {
        let alarms = self.workers.iter().filter_map(|worker| match worker.holds {
            Holds::Sleep(until) => until,
            Holds::Claim(_) => Some(self.schedule.pause.until()),
            _ => None,
        });
        let next = alarms.min();
        self.now = next.unwrap_or(self.now);
        next.is_some()
    }

    fn check_the_end(mut self) {
        assert_eq!(self.sleepers(), 0, "workers sleep for ever: {:?}", self.schedule);
        assert!(self.workers.iter().all(|worker| matches!(worker.holds, Holds::Gone)));
        assert!(self.schedule.is_over() || self.plan.limit == 0);
        let limit = match self.plan.on_failure {
            OnFailure::GoOn => usize::MAX,
            OnFailure::Stop => 1,
            OnFailure::StopAfter(limit) => limit,
        };
        let order = self.plan.input.in_order(self.plan.fates.len());
        let mut failed = (0..order.len()).filter(|place| self.failed.contains(&order[*place]));
        let line = failed.nth(limit - 1).map_or(usize::MAX, |last| last + 1);
        let last = order.get(line.wrapping_sub(1));
        let expected = last.and_then(|last| self.items.iter().position(|item| item == last));
        assert_eq!(self.schedule.stop.line_of_failures(), expected.map_or(usize::MAX, |last| last + 1));
        if !self.is_closed {
            let missed = order.iter().take(line).find(|item| !self.decided.contains(item));
            assert_eq!(missed, None, "before the line every item is decided");
        }
        if let Some(growth) = &self.schedule.stop.growth {
            let mut places: Vec<_> = growth.places().into_iter().zip(&self.items).collect();
            places.sort_unstable();
            let met: Vec<_> = order.iter().filter(|item| self.items.contains(item)).collect();
            assert_eq!(places.into_iter().map(|(_, item)| item).collect::<Vec<_>>(), met);
        }
        let (counts, most_busy, _, left) = self.schedule.end();
        assert_eq!((counts.decided(), counts.failed), (self.decided.len(), self.failed.len()));
        assert!(most_busy <= self.plan.limit);
        let pulled = self.plan.input.window().map(|_| self.schedule.known().0);
        let mut all = self.decided;
        for claim in left {
            for item in &self.items[claim.index()..claim.index() + claim.len()] {
                assert!(all.insert(*item), "item {item} is decided and left");
            }
        }
        self.items.truncate(pulled.unwrap_or(usize::MAX));
        self.items.sort_unstable();
        assert!(all.into_iter().eq(self.items), "an item is lost");
    }
}

/// How many items each claim of a lone worker has, where another has not come yet and items take this long.
fn claims_of(items: usize, nanos: u64) -> Vec<usize> {
    let mut schedule =
        Schedule::of_batch(Claim::of(0..items), OnFailure::GoOn, Team::new(2, None, true, false));
    let (mut member, mut pace, mut now) = (Member::new(Role::Helper), Pace::new(), Duration::ZERO);
    let mut claims = Vec::new();
    loop {
        let ask = Ask { now, size: pace.size(), handed_on: 0, is_limited: false };
        let Next::Run { claim, .. } = schedule.next(&mut member, ask) else { return claims };
        let took = Duration::from_nanos(nanos) * u32::try_from(claim.len()).expect("few");
        now += took;
        pace.learn(claim.len(), took);
        claims.push(claim.len());
        let counts = Counts { succeeded: claim.len(), ..Counts::default() };
        schedule.done(&mut member, now, Done { counts, ..Done::default() });
    }
}

#[test]
fn quick_items_go_together_however_few_are_left_and_slow_ones_go_one_by_one() {
    assert_eq!(claims_of(10, 50), [1, 1, 8]);
    assert_eq!(claims_of(10, 2_000), [1, 1, 2, 1, 1, 1, 1, 1, 1]);
    assert_eq!(claims_of(10, 1_000_000), [1; 10]);
}

fn claimed(schedule: &mut Schedule, member: &mut Member, now: Duration, size: usize) -> usize {
    let ask = Ask { now, size, handed_on: 0, is_limited: false };
    let Next::Run { claim, .. } = schedule.next(member, ask) else { return 0 };
    claim.len()
}

#[test]
fn while_the_last_slow_items_are_claimed_those_that_hold_several_hand_them_back() {
    let team = Team::new(4, None, true, false);
    let mut schedule = Schedule::of_batch(Claim::of(0..20), OnFailure::GoOn, team);
    let mut members = [Role::Helper, Role::Helper, Role::Caller].map(Member::new);
    let [owner, other, new] = &mut members;
    assert_eq!(claimed(&mut schedule, owner, MOMENT, 40), 5);
    assert_eq!(claimed(&mut schedule, other, MOMENT, 1), 1);
    for left in (4..14).rev() {
        schedule.done(other, MOMENT, Done { counts: Counts::SUCCEEDED, ..Done::default() });
        assert_eq!(claimed(&mut schedule, other, MOMENT, 1), 1);
        assert_eq!((schedule.fresh.queued(), schedule.gate()), (left, usize::MAX));
    }
    assert_eq!(claimed(&mut schedule, new, MOMENT, 1), 1, "of a worker that knows nothing of the items");
    assert_eq!(schedule.gate(), usize::MAX);
    schedule.done(other, MOMENT, Done { counts: Counts::SUCCEEDED, ..Done::default() });
    assert_eq!(claimed(&mut schedule, other, MOMENT, 1), 1);
    assert!(schedule.gate() == 0 && schedule.wants_rests() && !schedule.has_idle());
    schedule.hand_back(owner, MOMENT, Claim::of(1..5));
    assert_eq!(schedule.gate(), usize::MAX, "no other holds any");
    schedule.done(new, MOMENT, Done { counts: Counts::SUCCEEDED, ..Done::default() });
    assert_eq!(claimed(&mut schedule, new, MOMENT, 8), 1, "what came back goes one by one");
}

#[test]
fn an_adaptive_worker_that_is_alone_in_a_slow_item_hands_back_what_it_holds() {
    let setup = Setup { least: 1, most: 8, cpus: 1, items: Some(20) };
    let team = Team::new(1, Some(Box::new(Controller::new(setup))), true, false);
    let mut schedule = Schedule::of_batch(Claim::of(0..20), OnFailure::GoOn, team);
    let mut owner = Member::new(Role::Helper);
    assert_eq!(claimed(&mut schedule, &mut owner, MOMENT, 20), 20);
    assert!(schedule.status(MOMENT).tick_in.is_some(), "it holds some");
    schedule.tick(MOMENT + LONGEST_SILENCE, 0, Some(1));
    assert_eq!(schedule.gate(), usize::MAX, "not for long");
    schedule.tick(MOMENT + LONGEST_SILENCE + MOMENT, 0, Some(1));
    assert_eq!(schedule.gate(), 0);
    schedule.hand_back(&mut owner, MOMENT, Claim::of(1..20));
    assert_eq!((schedule.gate(), schedule.load(MOMENT).workers), (usize::MAX, 1));
    assert!(schedule.status(MOMENT).tick_in.is_some(), "some are left");
}

#[test]
fn a_window_grows_with_quick_items_and_shrinks_with_slow_ones() {
    let mut window = Window::new(8, 1_000);
    for _ in 0..20 {
        window.adapt(100, 100);
    }
    assert_eq!(window.size, 1_000);
    for _ in 0..200 {
        window.adapt(1, 100);
    }
    assert!(window.size < 16, "by a sixteenth each time: {}", window.size);
}

#[test]
fn the_window_of_a_stream_grows_as_its_workers_pull_quick_items() {
    let window = Window::new(8, 1_000);
    let mut schedule = Schedule::of_stream(window, OnFailure::GoOn, Team::new(3, None, true, false));
    let [mut other, mut helper] = [Role::Helper; 2].map(Member::new);
    assert_eq!(pull_and_run(&mut schedule, &mut other, Ask { size: 1, ..ASK }), 1);
    for handed_on in 1..30 {
        pull_and_run(&mut schedule, &mut helper, Ask { size: 100, handed_on, ..ASK });
        schedule.done(&mut helper, MOMENT, Done { counts: Counts::SUCCEEDED, ..Done::default() });
    }
    assert!(schedule.window.size >= 100, "{}", schedule.window.size);
}

/// How many items the worker has pulled, if it could, before it runs some.
fn pull_and_run(schedule: &mut Schedule, member: &mut Member, ask: Ask) -> usize {
    let Next::Pull { index, most } = schedule.next(member, ask) else { return 0 };
    schedule.add(Claim::of(index..index + most));
    schedule.give_back_source(false);
    assert!(matches!(schedule.next(member, ask), Next::Run { .. }));
    most
}

/// Else the consumer waits for the input, though outcomes are there.
#[test]
fn the_caller_pulls_only_where_no_helper_can() {
    let window = Window::new(8, 8);
    let mut schedule = Schedule::of_stream(window, OnFailure::GoOn, Team::new(2, None, true, false));
    let [mut caller, mut helper] = [Role::Caller, Role::Helper].map(Member::new);
    assert!(matches!(schedule.next(&mut helper, ASK), Next::Pull { index: 0, .. }));
    assert!(schedule.add(Claim::of(0..1)));
    schedule.give_back_source(false);
    assert!(matches!(schedule.next(&mut helper, ASK), Next::Run { .. }));
    assert!(!matches!(schedule.next(&mut caller, ASK), Next::Pull { .. }), "the helper will");
    schedule.done(&mut helper, MOMENT, Done { counts: Counts::SUCCEEDED, ..Done::default() });
    schedule.leave(&mut helper);
    assert!(matches!(schedule.next(&mut caller, ASK), Next::Pull { index: 1, .. }));
}

/// An item waits for the next one, for which the consumer makes room while it wants to run by itself; then it is busy itself. Else the
/// other worker sleeps on.
#[test]
fn what_was_kept_for_the_caller_in_vain_is_there_for_a_worker_that_sleeps() {
    let mut schedule =
        Schedule::of_stream(Window::new(1, 1), OnFailure::GoOn, Team::new(2, None, true, false));
    let [mut caller, mut helper, mut sleeper] = [Role::Caller, Role::Helper, Role::Helper].map(Member::new);
    assert!(matches!(schedule.next(&mut helper, ASK), Next::Pull { index: 0, .. }));
    assert!(schedule.add(Claim::of(0..1)));
    schedule.give_back_source(false);
    assert!(matches!(schedule.next(&mut helper, ASK), Next::Run { .. }));
    assert!(matches!(schedule.next(&mut sleeper, ASK), Next::Wait(Some(_))), "the consumer may come soon");
    assert!(matches!(schedule.next(&mut sleeper, ASK), Next::Wait(None)), "it has not");
    assert_eq!(schedule.lend_solo(&mut caller, MOMENT, 0, true), None);
    assert!(schedule.concerns_idle(1), "one of the workers has to wake by itself");
    let look = |now| Ask { now, handed_on: 1, ..ASK };
    assert!(matches!(schedule.next(&mut sleeper, look(MOMENT)), Next::Wait(Some(at)) if at == MOMENT + KEPT));
    assert!(!schedule.concerns_idle(1), "it is kept for the caller");
    assert!(matches!(schedule.next(&mut sleeper, look(MOMENT + KEPT)), Next::Pull { index: 1, .. }));
}

/// A stream, its caller and two helpers. The first of these has the first item under way.
fn with_an_item_under_way() -> (Schedule, [Member; 3]) {
    let window = Window::new(8, 8);
    let mut schedule = Schedule::of_stream(window, OnFailure::GoOn, Team::new(3, None, true, false));
    let [caller, mut helper, other] = [Role::Caller, Role::Helper, Role::Helper].map(Member::new);
    assert_eq!(pull_and_run(&mut schedule, &mut helper, ASK), 1);
    (schedule, [caller, helper, other])
}

#[test]
fn an_iterator_is_kept_for_the_caller_only_as_long_as_it_asks_for_it() {
    let (mut schedule, [mut caller, _, mut other]) = with_an_item_under_way();
    assert_eq!(schedule.lend_solo(&mut caller, MOMENT, 0, true), None);
    assert!(matches!(schedule.next(&mut other, ASK), Next::Wait(Some(_))));
    schedule.forget_solo();
    assert!(matches!(schedule.next(&mut other, ASK), Next::Pull { index: 1, .. }));
}

/// A caller that has asked in vain is refused for a while: else the workers would wait for it again and again.
#[test]
fn an_iterator_that_was_kept_in_vain_is_not_kept_again_at_once() {
    let (mut schedule, [mut caller, _, mut other]) = with_an_item_under_way();
    let late = |time| Ask { now: MOMENT + time, ..ASK };
    assert_eq!(schedule.lend_solo(&mut caller, MOMENT, 0, true), None);
    for time in [KEPT, 2 * KEPT] {
        assert_eq!(pull_and_run(&mut schedule, &mut other, late(time)), 1);
        schedule.done(&mut other, MOMENT + time, Done { counts: Counts::SUCCEEDED, ..Done::default() });
        assert_eq!(schedule.lend_solo(&mut caller, MOMENT + time, 0, true), None);
    }
    assert_eq!(schedule.lend_solo(&mut caller, MOMENT + KEPT + REFUSED, 0, true), None);
    assert!(matches!(schedule.next(&mut other, late(KEPT + REFUSED)), Next::Wait(Some(_))), "kept once more");
}

#[test]
fn one_helper_oversees_a_caller_that_runs_by_itself() {
    let window = Window::new(8, 8);
    let mut schedule = Schedule::of_stream(window, OnFailure::GoOn, Team::new(3, None, true, false));
    let [mut caller, mut helper, mut other] = [Role::Caller, Role::Helper, Role::Helper].map(Member::new);
    assert_eq!(schedule.lend_solo(&mut caller, MOMENT, 0, true), Some(0));
    assert!(matches!(schedule.next(&mut helper, ASK), Next::Oversee));
    assert!(matches!(schedule.next(&mut other, ASK), Next::Wait(_)));
    schedule.end_solo(5, false);
    assert!(matches!(schedule.next(&mut other, ASK), Next::Pull { index: 5, .. }));
}

/// Else a caller that looks at this moment would say that no more items come.
#[test]
fn an_item_that_asks_its_limits_may_push_others() {
    let growth = Growth::of(1, 1).expect("there is memory");
    let team = Team::new(1, None, true, false);
    let mut schedule = Schedule::growing(Claim::of(0..1), growth, OnFailure::GoOn, team);
    let mut member = Member::new(Role::Helper);
    let ask = Ask { now: Duration::ZERO, size: 1, handed_on: 0, is_limited: true };
    assert!(matches!(schedule.next(&mut member, ask), Next::Run { .. }));
    assert_eq!(schedule.known(), (1, false), "it asks");
    schedule.begin(&mut member, Duration::ZERO, 0, false);
    assert_eq!(schedule.known(), (1, false), "it runs");
    schedule.done(&mut member, Duration::ZERO, Done { counts: Counts::SUCCEEDED, ..Done::default() });
    assert_eq!(schedule.known(), (1, true), "it has ended");
}

/// An item is refused again and again. Of the others one has failed in an earlier run, and another one succeeds in this.
#[test]
fn failures_that_were_recorded_hide_no_success() {
    let mut schedule = Schedule::of_batch(Claim::of(0..3), OnFailure::GoOn, Team::new(1, None, true, false));
    let mut member = Member::new(Role::Helper);
    let mut done = |schedule: &mut Schedule, counts| {
        schedule.done(&mut member, Duration::ZERO, Done { counts, ..Done::default() });
    };
    let first = schedule.refuse(Duration::ZERO, (MOMENT, 0), None);
    done(&mut schedule, Counts { recorded: 1, ..Counts::FAILED });
    done(&mut schedule, Counts::SUCCEEDED);
    let second = schedule.refuse(Duration::ZERO, (MOMENT, 1), Some(first.refusal));
    assert_eq!(second.costs, 2, "it is the item that is refused");
}

/// A control has paused the batch between the claim of a retry and its start. Nothing is left but this item, for which the controller
/// looks around no more.
#[test]
fn a_retry_that_was_handed_back_is_no_item_more() {
    let setup = Setup { least: 1, most: 8, cpus: 1, items: Some(1) };
    let team = Team::new(1, Some(Box::new(Controller::new(setup))), true, false);
    let mut schedule = Schedule::of_batch(Claim::of(0..1), OnFailure::GoOn, team);
    let mut member = Member::new(Role::Helper);
    let Next::Run { claim, .. } = schedule.next(&mut member, ASK) else { panic!("there is an item") };
    schedule.later(MOMENT, claim);
    schedule.done(&mut member, MOMENT, Done::default());
    for _ in 0..3 {
        let Next::Run { claim, is_retry: true } = schedule.next(&mut member, ASK) else {
            panic!("it is due")
        };
        schedule.hold(0, true);
        schedule.hand_all_back(&mut member, MOMENT, claim, true);
        schedule.done(&mut member, MOMENT, Done::default());
        schedule.hold(0, false);
    }
    assert!(schedule.status(MOMENT).tick_in.is_none());
}

/// A control has paused the batch between its claim and its start.
#[test]
fn an_item_that_was_handed_back_may_push_others() {
    let growth = Growth::of(1, 1).expect("there is memory");
    let team = Team::new(1, None, true, false);
    let mut schedule = Schedule::growing(Claim::of(0..1), growth, OnFailure::GoOn, team);
    let mut member = Member::new(Role::Helper);
    let ask = Ask { now: Duration::ZERO, size: 1, handed_on: 0, is_limited: false };
    let Next::Run { claim, .. } = schedule.next(&mut member, ask) else { panic!("there is an item") };
    schedule.hold(0, true);
    schedule.hand_all_back(&mut member, Duration::ZERO, claim, false);
    assert_eq!(schedule.known(), (1, false));
}

fn plans() -> impl Strategy<Value = Plan> {
    let fate = prop_oneof![
        12 => Just(Fate::Succeeds),
        1 => Just(Fate::Fails),
        2 => (0_u64..4).prop_map(Fate::Retries),
        1 => (1_usize..4, 0_u64..4).prop_map(|(times, millis)| Fate::Refused(times, millis)),
    ];
    let on_failure = prop_oneof![
        Just(OnFailure::GoOn),
        Just(OnFailure::Stop),
        (1_usize..4).prop_map(OnFailure::StopAfter)
    ];
    let inputs = |items: usize| {
        let pulled = (1_usize..9, 0_usize..30).prop_map(|(least, more)| Input::Pulled(least, least + more));
        let roots = items.min(3);
        let parents: Vec<_> = (roots..items).map(|child| 0..child).collect();
        let pushed = parents.prop_map(move |parents| Input::Pushed(roots, parents));
        prop_oneof![Just(Input::AtOnce), pulled, pushed]
    };
    let fates = vec(fate, 0..60).prop_flat_map(move |fates| (inputs(fates.len()), Just(fates)));
    let at_steps = (prop::option::of(0_usize..80), prop::option::of((0_usize..80, 1_usize..40)));
    (fates, 1_usize..6, 1_usize..6, on_failure, at_steps).prop_flat_map(
        |((input, fates), workers, limit, on_failure, (cancel, hold))| {
            vec((0..workers, 1_usize..20), 0..150).prop_map(move |steps| Plan {
                fates: fates.clone(),
                workers,
                limit,
                on_failure,
                input: input.clone(),
                cancel,
                hold,
                steps,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// For any order of calls: no item is run by two at a time, decided twice or lost; limits, stop line and window hold; and no
    /// worker sleeps for ever.
    #[test]
    fn whatever_workers_do_every_item_below_the_line_is_decided_once(plan in plans()) {
        let mut model = Model::new(plan);
        model.run_to_the_end();
        model.check_the_end();
    }
}
