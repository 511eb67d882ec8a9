//! What the engine knows of one limit: who waits for it, and when to look again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::limit::Scarce;
use crate::rate_limit::Ticket;

use super::Turn;

/// What an item takes of one limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    pub(super) meter: usize,
    pub(super) cost: u64,
    /// The permit that the item has, if it has one.
    pub(super) reserved: Option<Reserved>,
    /// The number of the permit with which it started, if it has one.
    pub(super) started_with: Option<Ticket>,
    /// How often the item has waited for it for as long as it was told.
    pub(super) tries: u8,
    /// Until when it was told to wait last.
    pub(super) told: Duration,
    /// For how long it has waited for it in all.
    pub(super) waited: Duration,
}

/// A permit that was taken, and may be used then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    pub(super) due: Duration,
    /// Its number, where it may become due earlier or later.
    pub(super) ticket: Option<Ticket>,
}

impl Demand {
    pub(super) fn new(meter: usize, cost: u64) -> Self {
        let (told, waited) = (Duration::ZERO, Duration::ZERO);
        Demand { meter, cost, reserved: None, started_with: None, tries: 0, told, waited }
    }
}

/// The items that wait for a limit; the first is tried first.
///
/// Fresh ones and those that are tried again take turns: each of these comes after the next fresh one behind which none was put
/// yet. So what comes before an item is finitely many: none starves.
#[derive(Debug, Default)]
pub(super) struct Line {
    turns: BTreeSet<Turn>,
    fresh: usize,
    /// Behind this fresh item one was put that is tried again.
    shared: Option<u64>,
}

impl Line {
    pub(super) fn first(&self) -> Option<Turn> {
        self.turns.first().copied()
    }

    pub(super) fn last(&self) -> Option<Turn> {
        self.turns.last().copied()
    }

    pub(super) fn contains(&self, turn: Turn) -> bool {
        self.turns.contains(&turn)
    }

    pub(super) fn insert(&mut self, turn: Turn) {
        self.fresh += usize::from(self.turns.insert(turn) && turn.retry == 0);
    }

    pub(super) fn remove(&mut self, turn: Turn) {
        self.fresh -= usize::from(self.turns.remove(&turn) && turn.retry == 0);
    }

    pub(super) fn has_fresh(&self) -> bool {
        self.fresh > 0
    }

    /// The first fresh item with at least this number.
    fn fresh_from(&self, number: u64) -> Option<u64> {
        if !self.has_fresh() {
            return None;
        }
        let mut from = self.turns.range(Turn { number, retry: 0 }..);
        from.find(|turn| turn.retry == 0).map(|turn| turn.number)
    }

    /// The first fresh item.
    pub(super) fn first_fresh(&self) -> Option<u64> {
        self.fresh_from(0)
    }

    /// Behind which fresh item the next is put that is tried again.
    pub(super) fn share(&mut self) -> Option<u64> {
        let after = self.shared.map_or(0, |number| number + 1);
        let number = self.fresh_from(after).or_else(|| self.first_fresh().map(|first| first.max(after)))?;
        self.shared = Some(number);
        Some(number)
    }
}

pub(super) struct Meter<'a> {
    pub(super) scarce: Scarce<'a>,
    name: Option<Arc<str>>,
    pub(super) line: Line,
    /// When the first is tried again.
    pub(super) timer: Option<Duration>,
    /// How many parked items have a permit of it.
    pub(super) reserved: usize,
    /// How many items wait that need it, or run with it.
    pub(super) users: usize,
    /// The last pause that its limiter was told of: the number, and the longest time.
    told_of: (usize, Duration),
}

impl<'a> Meter<'a> {
    pub(super) fn new(scarce: Scarce<'a>, name: Option<Arc<str>>) -> Self {
        let told_of = (0, Duration::ZERO);
        Meter { scarce, name, line: Line::default(), timer: None, reserved: 0, users: 0, told_of }
    }

    /// Whether its limiter is to be told of this pause. It is from now on.
    pub(super) fn hears_of_pause(&mut self, number: usize, time: Duration) -> bool {
        let is_news = self.told_of.0 != number || self.told_of.1 < time;
        if is_news {
            self.told_of = (number, time);
        }
        is_news
    }

    /// What its limit is called, by its user or by what it is.
    pub(super) fn name(&mut self) -> Arc<str> {
        let kind = match &self.scarce {
            Scarce::Permits(_) => "rate",
            Scarce::Slots(_) => "at_once",
        };
        Arc::clone(self.name.get_or_insert_with(|| kind.into()))
    }

    /// Whether it could be made anew and nothing would change.
    pub(super) fn is_unused(&self) -> bool {
        self.users == 0
            && match &self.scarce {
                Scarce::Permits(limiter) => {
                    limiter.as_rate_limit().is_some_and(|limit| limit.is_unused(clock::now()))
                }
                Scarce::Slots(slots) => !slots.is_shared(),
            }
    }
}

/// The meters of a batch, by their numbers.
#[derive(Default)]
pub(super) struct Meters<'a> {
    meters: Vec<Option<Meter<'a>>>,
    free: Vec<usize>,
}

impl<'a> Meters<'a> {
    pub(super) fn add(&mut self, scarce: Scarce<'a>, name: Option<Arc<str>>) -> usize {
        let meter = Some(Meter::new(scarce, name));
        if let Some(number) = self.free.pop() {
            self.meters[number] = meter;
            return number;
        }
        self.meters.push(meter);
        self.meters.len() - 1
    }

    pub(super) fn remove(&mut self, number: usize) {
        self.meters[number] = None;
        self.free.push(number);
    }

    /// Where the item needs the same slots by several limits, the first demand is for all of them: an item that took one part and
    /// lacked the other would never have both.
    pub(super) fn join(&self, demands: &mut Vec<Demand>) {
        let slots_of = |demand: &Demand| match &self.get(demand.meter).scarce {
            Scarce::Slots(slots) => Some(slots),
            Scarce::Permits(_) => None,
        };
        for last in (1..demands.len()).rev() {
            let Some(slots) = slots_of(&demands[last]) else { continue };
            let is_same = |demand| slots_of(demand).is_some_and(|other| other.is_same(slots));
            if let Some(first) = demands[..last].iter().position(is_same) {
                let cost = demands.remove(last).cost;
                demands[first].cost = demands[first].cost.saturating_add(cost);
            }
        }
    }

    pub(super) fn get(&self, number: usize) -> &Meter<'a> {
        self.meters[number].as_ref().unwrap_or_else(|| unreachable!("an item needs this limit"))
    }

    pub(super) fn get_mut(&mut self, number: usize) -> &mut Meter<'a> {
        self.meters[number].as_mut().unwrap_or_else(|| unreachable!("an item needs this limit"))
    }
}
