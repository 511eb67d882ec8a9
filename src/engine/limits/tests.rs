//! The turnstile alone, against a model: items come and end in any order, time goes on, and slots and permits are counted beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::clock::{self, TestClock};
use crate::error::LimiterError;
use crate::limit::{Concurrency, MakeMeter, Scarce};
use crate::listeners::{Changed, Listener, OnChange};
use crate::rate_limit::RateLimit;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicUsize, Ordering};
use turnstile::{Changes, Permit, Start};

const MS: Duration = Duration::from_millis(1);

#[derive(Debug, Clone)]
struct Plan {
    /// How many slots each limit has.
    slots: Vec<u64>,
    /// Milliseconds between the permits of each rate.
    rates: Vec<u64>,
    /// What each item costs of each limit, and whether it needs each rate.
    items: Vec<(Vec<u64>, Vec<bool>)>,
    /// How often each fails before it succeeds.
    fails: Vec<usize>,
    /// Whether an item comes next, if there is one, or one that runs ends, and which.
    steps: Vec<(bool, usize)>,
}

struct Model {
    plan: Plan,
    turnstile: Turnstile<'static>,
    slots: Vec<Concurrency>,
    rates: Vec<Arc<RateLimit>>,
    clock: TestClock,
    come: usize,
    /// They have failed, and come again later.
    failed: Vec<usize>,
    running: BTreeMap<usize, Permit>,
    started: Vec<usize>,
}

impl Model {
    /// The thread goes by this clock.
    fn new(plan: Plan, clock: &TestClock) -> Self {
        let mut turnstile = Turnstile::new(clock::now(), 2, None);
        let slots: Vec<_> = plan.slots.iter().map(|slots| Concurrency::new(*slots)).collect();
        for (number, slots) in slots.iter().enumerate() {
            assert_eq!(turnstile.make(Scarce::Slots(slots.clone()), None), number);
        }
        let rate = |every: &u64| Arc::new(RateLimit::every(Duration::from_millis(*every)));
        let rates: Vec<_> = plan.rates.iter().map(rate).collect();
        for rate in &rates {
            turnstile.make(Scarce::Permits(Arc::new(rate.clone())), None);
        }
        let (clock, running, started) = (clock.clone(), BTreeMap::new(), Vec::new());
        Model { plan, turnstile, slots, rates, clock, come: 0, failed: Vec::new(), running, started }
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn cost(&self, item: usize, limit: usize) -> u64 {
        self.plan.items[item].0[limit]
    }

    /// An item that has failed comes again, or a fresh one comes.
    fn comes(&mut self) {
        if let Some(item) = self.failed.pop() {
            self.asks(item, true);
        } else {
            self.come += 1;
            self.asks(self.come - 1, false);
        }
        self.look();
    }

    fn asks(&mut self, item: usize, is_retry: bool) {
        let (costs, needs) = &self.plan.items[item];
        let slots = costs.iter().enumerate().filter(|(_, cost)| **cost > 0);
        let rates = needs.iter().enumerate().filter(|(_, needs)| **needs);
        let demands = slots
            .map(|(limit, cost)| Demand::new(limit, *cost))
            .chain(rates.map(|(rate, _)| Demand::new(self.slots.len() + rate, 1)))
            .collect();
        let start = self.turnstile.admit(Claim::of(item..item + 1), is_retry, demands, self.now());
        self.starts(start);
    }

    fn starts(&mut self, start: Option<Start>) -> bool {
        let Some(start) = start else { return false };
        let Ok(permit) = start.permit else { panic!("no limiter refuses") };
        self.started.push(start.claim.index());
        assert!(self.running.insert(start.claim.index(), permit).is_none(), "it started twice");
        for (limit, slots) in self.slots.iter().enumerate() {
            let users = self.running.keys().filter(|item| self.cost(**item, limit) > 0).count();
            let used: u64 = self.running.keys().map(|item| self.cost(*item, limit)).sum();
            assert!(used <= self.plan.slots[limit] || users == 1, "{used} of limit {limit}");
            assert!(slots.in_use() >= used);
        }
        for (rate, every) in self.plan.rates.iter().enumerate() {
            let permits = self.started.iter().filter(|item| self.plan.items[**item].1[rate]).count() as u128;
            let most = self.now().as_millis() / u128::from(*every) + 1;
            assert!(permits <= most, "{permits} started of rate {rate} when {most} were due");
        }
        true
    }

    /// As idle workers do, as long as something may start.
    fn look(&mut self) {
        loop {
            let start = self.turnstile.next_parked(self.now());
            if !self.starts(start) {
                assert!(!self.turnstile.is_ready(), "what may start was looked at");
                return;
            }
        }
    }

    fn ends(&mut self, which: usize) {
        let Some(item) = self.running.keys().nth(which % self.running.len().max(1)).copied() else {
            return self.waits();
        };
        if let Some(permit) = self.running.remove(&item) {
            self.turnstile.give_back(permit);
        }
        let starts = self.started.iter().filter(|started| **started == item).count();
        match starts <= self.plan.fails[item] {
            true if which % 2 == 0 => self.asks(item, true), // before others look what has become free
            true => self.failed.push(item),
            false => {}
        }
        self.look();
    }

    /// Time goes on, up to when something is due, and a little later.
    fn waits(&mut self) {
        let left = self.turnstile.due().unwrap_or_default().saturating_sub(self.now());
        clock::sleep(left.max(MS / 4));
        self.look();
    }

    fn run(mut self) {
        for (comes, which) in self.plan.steps.clone() {
            if comes && self.has_some() {
                self.comes();
            } else {
                self.ends(which);
            }
        }
        let mut idle = 0;
        let starts = self.plan.items.len() + self.plan.fails.iter().sum::<usize>();
        while self.started.len() < starts || !self.running.is_empty() {
            let before = (self.started.len(), self.running.len());
            if self.has_some() {
                self.comes();
            }
            self.ends(0);
            idle = if before == (self.started.len(), self.running.len()) { idle + 1 } else { 0 };
            assert!(idle < 50, "nothing starts any more: {:?} of {starts}", self.started);
        }
        self.check();
    }

    fn has_some(&self) -> bool {
        !self.failed.is_empty() || self.come < self.plan.items.len()
    }

    fn check(&mut self) {
        for (limit, slots) in self.slots.iter().enumerate() {
            assert_eq!(slots.in_use(), 0, "slots of limit {limit} are lost");
        }
        for (number, rate) in self.rates.iter().enumerate() {
            let needed = self.started.iter().filter(|item| self.plan.items[**item].1[number]).count() as u128;
            assert_eq!(rate.take(clock::now(), 1).0, needed, "one permit for each start");
        }
        assert_eq!((self.turnstile.parked(), self.turnstile.due()), (0, None));
        // Items that need the very same, and only one thing, start in the order in which they came.
        let needs_one = |item: &usize| {
            let (costs, needs) = &self.plan.items[*item];
            costs.iter().filter(|cost| **cost > 0).count() + needs.iter().filter(|needs| **needs).count() == 1
        };
        let mut singles: Vec<usize> = self.started.iter().copied().filter(needs_one).collect();
        let mut seen = BTreeSet::new();
        singles.retain(|item| seen.insert(*item)); // their first attempts
        for first in &singles {
            let same = singles.iter().filter(|item| {
                let (costs, needs) = &self.plan.items[**item];
                let uses = |costs: &[u64]| costs.iter().map(|cost| *cost > 0).collect::<Vec<_>>();
                (uses(costs), needs) == (uses(&self.plan.items[*first].0), &self.plan.items[*first].1)
            });
            assert!(same.is_sorted(), "{:?}", self.started);
        }
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    (vec(1..6u64, 1..4), vec(1..20u64, 0..3)).prop_flat_map(|(slots, rates)| {
        let cost = prop_oneof![3 => Just(0u64), 5 => 1..4u64, 1 => 5..9u64];
        let item = (vec(cost, slots.len()), vec(prop::bool::weighted(0.4), rates.len()));
        let fails = prop_oneof![4 => Just(0usize), 1 => 1..3usize];
        let items = vec((item, fails), 0..40);
        (Just(slots), Just(rates), items, vec((any::<bool>(), 0..8usize), 0..120)).prop_map(
            |(slots, rates, items, steps)| {
                let (items, fails) = items.into_iter().unzip();
                Plan { slots, rates, items, fails, steps }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_and_ends_every_attempt_starts_once_and_no_limit_is_exceeded(plan in plans()) {
        let clock = TestClock::new();
        let _entered = clock::enter(Some(&clock));
        Model::new(plan, &clock).run();
    }
}

/// Whenever one of its two limits is free, a later item that needs just the other has taken that.
#[test]
fn an_item_that_needs_two_limits_is_not_starved_by_items_that_need_one_each() {
    const BOTH: usize = 1;
    let items: Vec<_> = (0..200)
        .map(|item| match item {
            BOTH => vec![1, 1],
            item if item == 0 || item % 2 == 1 => vec![1, 0],
            _ => vec![0, 1],
        })
        .map(|costs| (costs, vec![]))
        .collect();
    let fails = vec![0; items.len()];
    let plan = Plan { slots: vec![1, 1], rates: vec![], items, fails, steps: vec![] };
    let mut model = Model::new(plan, &TestClock::new());
    (0..3).for_each(|_| model.comes());
    while !model.started.contains(&BOTH) {
        assert!(model.come < 200, "it starved");
        model.ends(0);
        model.comes();
    }
    assert!(model.come > 6, "it was passed");
}

/// 10 fresh items wait for a slot when three come that are tried again, and one more when one of those has started.
#[test]
fn items_that_are_tried_again_take_turns_with_fresh_ones() {
    let mut turnstile = Turnstile::new(Instant::now(), 1, None);
    let meter = turnstile.make(Scarce::Slots(Concurrency::new(1)), None);
    let come = |turnstile: &mut Turnstile<'_>, item: usize, is_retry| {
        turnstile.admit(Claim::of(item..item + 1), is_retry, vec![Demand::new(meter, 1)], MS)
    };
    let mut running = come(&mut turnstile, 0, false);
    assert!((1..=10).all(|item| come(&mut turnstile, item, false).is_none()));
    assert!((101..=103).all(|item| come(&mut turnstile, item, true).is_none()));
    let mut started = Vec::new();
    while let Some(start) = running {
        started.push(start.claim.index());
        if started.last() == Some(&101) {
            assert!(come(&mut turnstile, 104, true).is_none());
        }
        turnstile.give_back(start.permit.ok().unwrap());
        running = turnstile.next_parked(MS);
    }
    assert_eq!(started, [0, 1, 101, 2, 102, 3, 103, 4, 104, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn an_item_whose_start_was_refused_leaves_nothing_behind() {
    let mut turnstile = Turnstile::new(Instant::now(), 1, None);
    let refuses = crate::rate_limit::limiter_fn(|| Err(LimiterError::from(Box::from("down"))));
    let meter = turnstile.make(Scarce::Permits(Arc::new(refuses)), None);
    let start = turnstile.admit(Claim::of(0..1), false, vec![Demand::new(meter, 1)], MS);
    assert!(start.is_some_and(|start| start.permit.is_err()));
    assert_eq!(turnstile.parked(), 0);
}

/// A limiter that is asked after the slots were seen to be there, and before they are taken.
#[test]
fn an_item_that_another_batch_leaves_a_part_of_its_slots_takes_none() {
    let [kept, contested] = [1, 1].map(Concurrency::new);
    let other_batch = contested.clone();
    let mut turnstile = Turnstile::new(Instant::now(), 1, None);
    let limiter = crate::rate_limit::limiter_fn(move || {
        other_batch.try_take(1);
        Ok::<_, LimiterError>(Duration::ZERO)
    });
    let scarce =
        [Scarce::Slots(kept.clone()), Scarce::Slots(contested.clone()), Scarce::Permits(Arc::new(limiter))];
    let demands = scarce.map(|scarce| Demand::new(turnstile.make(scarce, None), 1));
    assert!(turnstile.admit(Claim::of(0..1), false, demands.to_vec(), MS).is_none());
    assert_eq!((kept.in_use(), contested.in_use()), (0, 1));
}

#[test]
fn stopped_items_give_back_what_they_have() {
    let slots = Concurrency::new(1);
    let mut turnstile = Turnstile::new(Instant::now(), 1, None);
    let meter = turnstile.make(Scarce::Slots(slots.clone()), None);
    let first = turnstile.admit(Claim::of(0..1), false, vec![Demand::new(meter, 1)], MS);
    assert!(turnstile.admit(Claim::of(1..2), false, vec![Demand::new(meter, 1)], MS).is_none());
    assert!(turnstile.admit(Claim::of(2..3), false, vec![Demand::new(meter, 1)], MS).is_none());
    let stopped = turnstile.stop_at(2, |index| index >= 2);
    let stopped: Vec<_> = turnstile.remove_all(stopped).iter().map(Claim::index).collect();
    assert_eq!((stopped, turnstile.parked()), (vec![2], 1));
    turnstile.give_back(first.unwrap().permit.ok().unwrap());
    let next = turnstile.next_parked(MS).unwrap();
    assert_eq!((next.claim.index(), slots.in_use()), (1, 1));
}

#[test]
fn a_start_says_for_which_limit_the_item_has_waited_longest() {
    const SECOND: Duration = Duration::from_secs(1);
    for (freed_at, expected) in [(3, "tokens"), (20, "at_once")] {
        let mut turnstile = Turnstile::new(Instant::now(), 1, None);
        let slow = crate::rate_limit::limiter_fn(|| Ok::<_, LimiterError>(10 * SECOND));
        let slot = turnstile.make(Scarce::Slots(Concurrency::new(1)), None);
        let tokens = turnstile.make(Scarce::Permits(Arc::new(slow)), Some("tokens".into()));
        let both = vec![Demand::new(slot, 1), Demand::new(tokens, 1)];
        let first = turnstile.admit(Claim::of(0..1), false, vec![Demand::new(slot, 1)], Duration::ZERO);
        assert!(turnstile.admit(Claim::of(1..2), false, both, Duration::ZERO).is_none());
        let first = first.unwrap();
        assert_eq!(first.waited_for, None);
        turnstile.give_back(first.permit.ok().unwrap());
        let next = turnstile.next_parked(freed_at * SECOND).or_else(|| turnstile.next_parked(20 * SECOND));
        assert_eq!(&*turnstile.name(next.unwrap().waited_for.unwrap()), expected);
    }
}

#[test]
fn two_waits_for_one_limit_count_as_one() {
    const SECOND: Duration = Duration::from_secs(1);
    let mut turnstile = Turnstile::new(Instant::now(), 1, None);
    let slow = crate::rate_limit::limiter_fn(|| Ok::<_, LimiterError>(13 * SECOND));
    let slot = turnstile.make(Scarce::Slots(Concurrency::new(1)), Some("slot".into()));
    let tokens = turnstile.make(Scarce::Permits(Arc::new(slow)), Some("tokens".into()));
    let a_slot = || vec![Demand::new(slot, 1)];
    let first = turnstile.admit(Claim::of(0..1), false, a_slot(), Duration::ZERO).unwrap();
    let both = vec![Demand::new(slot, 1), Demand::new(tokens, 1)];
    assert!(turnstile.admit(Claim::of(1..2), false, both, Duration::ZERO).is_none());
    // It waits 5 s for the slot, 9 s for the tokens, which are due after a little more than 13 s, and 6 s for the slot again.
    turnstile.give_back(first.permit.ok().unwrap());
    assert!(turnstile.next_parked(5 * SECOND).is_none());
    let other = turnstile.admit(Claim::of(2..3), false, a_slot(), 6 * SECOND).unwrap();
    assert!(turnstile.next_parked(14 * SECOND).is_none());
    turnstile.give_back(other.permit.ok().unwrap());
    let next = turnstile.next_parked(20 * SECOND).unwrap();
    assert_eq!((next.claim.index(), &*turnstile.name(next.waited_for.unwrap())), (1, "slot"));
}

#[derive(Default)]
struct Heard(AtomicUsize);

impl OnChange for Heard {
    fn changed(&self, _: Changed) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A turnstile with a limit, which it knows by this number.
fn with_a_permit_a_second(listener: Option<Listener>) -> (Turnstile<'static>, Arc<RateLimit>, usize) {
    let mut turnstile = Turnstile::new(clock::now(), 1, listener);
    let limit = Arc::new(RateLimit::every(1_000 * MS));
    let rate = turnstile.make(Scarce::Permits(Arc::new(limit.clone())), None);
    (turnstile, limit, rate)
}

/// The rate of a key is forgotten, and its number goes to the limit of another key.
#[test]
fn a_limit_with_the_number_of_another_one_is_listened_to() {
    let clock = TestClock::new();
    let _entered = clock::enter(Some(&clock));
    let heard = Arc::new(Heard::default());
    let mut turnstile = Turnstile::new(clock::now(), 1, Some(Listener::new(&heard)));
    let rate = turnstile.make(Scarce::Permits(Arc::new(RateLimit::every(10 * MS))), None);
    for item in 0..2 {
        let start =
            turnstile.admit(Claim::of(item..item + 1), false, vec![Demand::new(rate, 1)], Duration::ZERO);
        assert_eq!(start.is_some(), item == 0, "the second waits");
        if let Some(start) = start {
            turnstile.give_back(start.permit.ok().unwrap());
        }
    }
    clock::sleep(10 * MS);
    let second = turnstile.next_parked(10 * MS).unwrap();
    turnstile.give_back(second.permit.ok().unwrap());
    clock::sleep(10 * MS);
    assert!(turnstile.drop_if_unused(rate));
    let slots = Concurrency::new(1);
    let (same, other) = (turnstile.make(Scarce::Slots(slots.clone()), None), slots.clone());
    assert_eq!(same, rate);
    slots.set(0);
    assert!(turnstile.admit(Claim::of(2..3), false, vec![Demand::new(same, 1)], 20 * MS).is_none());
    other.set(1);
    assert_eq!(heard.0.load(Ordering::SeqCst), 1);
}

/// The item has its slot half a millisecond before its permit is due. Then the rate falls.
#[test]
fn an_item_whose_permit_moves_away_gives_its_slots_back() {
    let clock = TestClock::new();
    let _entered = clock::enter(Some(&clock));
    let mut turnstile = Turnstile::new(clock::now(), 1, None);
    let (slots, limit) = (Concurrency::new(1), Arc::new(RateLimit::every(1_000 * MS)));
    let scarce = [Scarce::Slots(slots.clone()), Scarce::Permits(Arc::new(limit.clone()))];
    let demands = scarce.map(|scarce| Demand::new(turnstile.make(scarce, None), 1));
    limit.take(clock::now(), 1);
    assert!(turnstile.admit(Claim::of(0..1), false, demands.to_vec(), clock.elapsed()).is_none());
    clock::sleep(turnstile.due().unwrap());
    assert!(turnstile.next_parked(clock.elapsed()).is_none());
    assert_eq!(slots.in_use(), 1);
    limit.set(1, 3_600_000 * MS).unwrap();
    turnstile.rates_changed(clock.elapsed());
    assert_eq!(slots.in_use(), 0);
    clock::sleep(3_600_000 * MS);
    assert!(turnstile.next_parked(clock.elapsed()).is_some());
}

/// Before the batch looks again.
#[test]
fn slots_and_a_rate_may_change_together() {
    let clock = TestClock::new();
    let _entered = clock::enter(Some(&clock));
    let heard = Arc::new(Heard::default());
    let (mut turnstile, limit, rate) = with_a_permit_a_second(Some(Listener::new(&heard)));
    let slots = Concurrency::new(1);
    let (meter, _limit) = (turnstile.make(Scarce::Slots(slots.clone()), None), slots.clone());
    slots.set(0);
    let demands = vec![Demand::new(meter, 1), Demand::new(rate, 1)];
    assert!(turnstile.admit(Claim::of(0..1), false, demands, clock.elapsed()).is_none());
    assert!(turnstile.next_parked(clock.elapsed()).is_none(), "there is no slot");
    slots.set(1);
    limit.set(1_000, 1_000 * MS).unwrap();
    turnstile.look_at_changes(Changes { all: 2, of_rates: 1 }, clock.elapsed());
    clock::sleep(MS);
    assert!(turnstile.next_parked(clock.elapsed()).is_some());
}

/// It costs ten permits, takes them, and waits with them, in no line.
#[test]
fn the_batch_hears_of_a_rate_whose_permits_an_item_has_that_are_not_due() {
    let clock = TestClock::new();
    let _entered = clock::enter(Some(&clock));
    let heard = Arc::new(Heard::default());
    let (mut turnstile, limit, rate) = with_a_permit_a_second(Some(Listener::new(&heard)));
    assert!(turnstile.admit(Claim::of(0..1), false, vec![Demand::new(rate, 10)], Duration::ZERO).is_none());
    assert_eq!(turnstile.due(), Some(9_000 * MS));
    limit.set(1_000, 1_000 * MS).unwrap();
    assert_eq!(heard.0.load(Ordering::SeqCst), 1);
    turnstile.rates_changed(clock.elapsed());
    assert!(turnstile.due().unwrap() <= 10 * MS);
}

/// Others give slots back again and again, which is no wait.
#[test]
fn an_item_takes_no_permit_ahead_because_something_else_changes() {
    let clock = TestClock::new();
    let _entered = clock::enter(Some(&clock));
    let heard = Arc::new(Heard::default());
    let (mut turnstile, limit, rate) = with_a_permit_a_second(Some(Listener::new(&heard)));
    limit.take(clock::now(), 1);
    assert!(turnstile.admit(Claim::of(0..1), false, vec![Demand::new(rate, 1)], Duration::ZERO).is_none());
    for _ in 0..5 {
        turnstile.rates_changed(Duration::ZERO);
        assert!(turnstile.next_parked(Duration::ZERO).is_none());
    }
    assert_eq!(limit.wait_for(1, clock::now()), 1_000 * MS, "the next permit is free");
}

/// After some waits for a rate that others use, too, an item takes its permit, which comes earlier when the rate is raised.
#[test]
fn a_permit_that_comes_earlier_than_it_was_said_is_used_then() {
    let clock = TestClock::new();
    let _entered = clock::enter(Some(&clock));
    let (mut turnstile, limit, rate) = with_a_permit_a_second(None);
    limit.take(clock::now(), 1);
    assert!(turnstile.admit(Claim::of(0..1), false, vec![Demand::new(rate, 1)], clock.elapsed()).is_none());
    // Each time that it looks, others have taken the next permit.
    for _ in 0..2 {
        let due = turnstile.due().unwrap();
        clock::sleep(due.saturating_sub(clock.elapsed()));
        limit.take(clock::now(), 1);
        assert!(turnstile.next_parked(clock.elapsed()).is_none());
    }
    assert!(turnstile.due().unwrap() > clock.elapsed() + 100 * MS);
    limit.set(1_000, Duration::from_secs(1)).unwrap();
    turnstile.rates_changed(clock.elapsed());
    assert!(turnstile.due().unwrap() <= clock.elapsed() + 3 * MS);
}
