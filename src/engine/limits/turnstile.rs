//! Which item may start, where items wait for limits: one item at a time passes here, in the order in which they come. Items
//! that are tried again take turns with those that have not started.
//!
//! An item that may not start yet is parked in the line of one limit, the first that it lacks, and holds no slot meanwhile. The
//! first of a line is tried when its time has come or slots were given back. Then it gets all that it needs at once, or it moves to
//! the line of another limit. No item passes another in its line, so one that needs many slots is not starved by others that need
//! few: while it is the first, they wait behind it.
//!
//! Since a parked item holds no slot, no two items can wait for each other: there is no deadlock. An item that has moved from line
//! to line often, while later items got what it lacked, stands in the lines of all its limits at once. Then only items that
//! came before it can start before it, and these are finitely many: there is no starvation.
//!
//! A rate that can tell how long a permit takes is asked that first, and its permit is taken when it is due. Of one that cannot
//! tell, a few items take their permits ahead, and wait until these are due.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::error::LimiterError;
use crate::limit::{MakeMeter, Scarce};
use crate::listeners::Listener;
use crate::panic::{self, Panic};
use crate::rate_limit::{RateLimiter, Ticket};
use crate::slots::Claim;
use crate::sync::Instant;

use super::Turn;
use super::meter::{Demand, Meters, Reserved};

/// Permits are taken this long before they may be used, so that a thread that wakes a little late loses none. Slots that an item
/// needs besides are kept for it so long.
const AHEAD: Duration = Duration::from_millis(1);

/// An item that has moved between lines this often stands in all of them.
const PATIENCE: u8 = 8;

/// After this many waits for a rate that others use, too, an item takes its permit and waits with it.
const TRIES: u8 = 2;

/// How many more items than there are workers may have permits ahead, of a rate that can tell how long they take.
const MORE_RESERVED: usize = 3;

/// An item, with what it needs.
#[derive(Debug)]
struct Asked {
    claim: Claim,
    is_retry: bool,
    demands: Vec<Demand>,
    /// When it came.
    since: Duration,
    /// How often it has moved from one line to another.
    moves: u8,
    /// When its permits are due, if it has them and waits for that.
    alarm: Option<Duration>,
    has_slots: bool,
    /// The meter that it waits for now, and since when.
    waits: Option<(usize, Duration)>,
}

impl Asked {
    /// From now on it waits for this meter.
    fn waits_for(&mut self, meter: Option<usize>, now: Duration) {
        if let Some((before, since)) = mem::replace(&mut self.waits, meter.map(|meter| (meter, now))) {
            if let Some(demand) = self.demands.iter_mut().find(|demand| demand.meter == before) {
                demand.waited += now.saturating_sub(since);
            }
        }
    }

    /// The meter of the permit that is due last.
    fn due_last(&self) -> Option<usize> {
        let dues = self.demands.iter().filter_map(|demand| Some((demand.reserved?.due, demand.meter)));
        dues.max().map(|(_, meter)| meter)
    }
}

/// What a running item has. It has to be given back.
#[derive(Debug)]
#[must_use]
pub(in crate::engine) struct Permit {
    demands: Vec<Demand>,
}

/// An item that may start now, or fails before it starts.
pub(super) struct Start {
    pub(super) claim: Claim,
    pub(super) is_retry: bool,
    /// When it came.
    pub(super) since: Duration,
    /// The meter for which it has waited longest, if it has waited.
    pub(super) waited_for: Option<usize>,
    pub(super) permit: Result<Permit, Refused>,
}

/// What a limiter did instead of an answer.
pub(super) enum Refused {
    Error(LimiterError),
    Panicked(Panic),
}

enum Verdict {
    /// It has all that it needs, and may start then.
    Granted(Duration),
    /// It has its permits, which are due then, and no slots.
    Reserved(Duration),
    /// It lacks this meter, which is to be looked at again then, or when something changes.
    Lacks(usize, Option<Duration>),
}

/// How often something else has changed what items wait for.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::engine) struct Changes {
    pub(in crate::engine) all: usize,
    pub(in crate::engine) of_rates: usize,
}

/// The meters of whose changes the batch hears.
#[derive(Default)]
struct Heard {
    slots: BTreeSet<usize>,
    rates: BTreeSet<usize>,
}

impl Heard {
    fn of(&self, meter: usize) -> bool {
        self.slots.contains(&meter) || self.rates.contains(&meter)
    }

    fn forget(&mut self, meter: usize) {
        self.slots.remove(&meter);
        self.rates.remove(&meter);
    }
}

pub(in crate::engine) struct Turnstile<'a> {
    /// When the batch began.
    began: Instant,
    meters: Meters<'a>,
    parked: BTreeMap<Turn, Asked>,
    /// How many fresh items have come, and how many others.
    fresh: u64,
    retries: u64,
    /// Meters whose first item may have become able to start, by the turns of these.
    ready: BTreeSet<(Turn, usize)>,
    /// When meters are ready by themselves.
    timers: BTreeSet<(Duration, usize)>,
    /// Parked items that have their permits, by the time when these are due.
    alarms: BTreeSet<(Duration, Turn)>,
    /// How many items may have a permit of one limiter before it is due.
    most_reserved: usize,
    /// Nothing at or above this index waits.
    stopped_at: usize,
    /// Meters of which the batch hears when something else changes them.
    heard: Heard,
    /// What hears of that.
    listener: Option<Listener>,
    changes: Changes,
}

impl Turnstile<'_> {
    /// `listener` hears of changes that are not the batch's own.
    pub(super) fn new(began: Instant, most_reserved: usize, listener: Option<Listener>) -> Self {
        Turnstile {
            began,
            meters: Meters::default(),
            parked: BTreeMap::new(),
            fresh: 0,
            retries: 0,
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            alarms: BTreeSet::new(),
            most_reserved,
            stopped_at: usize::MAX,
            heard: Heard::default(),
            listener,
            changes: Changes::default(),
        }
    }

    /// An item comes. It starts, or is parked.
    pub(super) fn admit(
        &mut self,
        claim: Claim,
        is_retry: bool,
        mut demands: Vec<Demand>,
        now: Duration,
    ) -> Option<Start> {
        self.meters.join(&mut demands);
        let turn = if is_retry { self.turn_of_retry(&demands) } else { self.turn_of_fresh() };
        for demand in &demands {
            self.meters.get_mut(demand.meter).users += 1;
        }
        let mut asked = Asked {
            claim,
            is_retry,
            demands,
            since: now,
            moves: 0,
            alarm: None,
            has_slots: false,
            waits: None,
        };
        let tried = self.try_take(turn, &mut asked, now);
        self.settle(turn, asked, tried, now)
    }

    /// A parked item that may start now: of the first ones of their lines, the one that came first.
    pub(super) fn next_parked(&mut self, now: Duration) -> Option<Start> {
        while let Some((_, meter)) = self.timers.first().copied().filter(|(until, _)| *until <= now) {
            self.set_timer(meter, None);
            self.set_ready(meter, true);
        }
        loop {
            let due = self.alarms.first().copied().filter(|(at, _)| *at <= now);
            let started = if let Some((_, turn)) = due {
                self.try_reserved(turn, now)
            } else {
                let (turn, meter) = self.ready.first().copied()?;
                self.try_first(turn, meter, now)
            };
            if started.is_some() {
                return started;
            }
        }
    }

    /// The permits of this item are due. It starts if there are slots, too.
    fn try_reserved(&mut self, turn: Turn, now: Duration) -> Option<Start> {
        let mut asked = self.parked.remove(&turn)?;
        self.alarms.remove(&(asked.alarm.take()?, turn));
        let tried =
            if asked.has_slots { Ok(Verdict::Granted(now)) } else { self.try_take(turn, &mut asked, now) };
        self.settle(turn, asked, tried, now)
    }

    /// Tries the first item of the line. It starts, stays, or moves to another line.
    fn try_first(&mut self, turn: Turn, meter: usize, now: Duration) -> Option<Start> {
        let mut asked = self.parked.remove(&turn)?;
        let tried = self.try_take(turn, &mut asked, now);
        match tried {
            Ok(Verdict::Lacks(lacking, until)) if lacking == meter || asked.moves >= PATIENCE => {
                self.set_ready(meter, false);
                self.stays_first(turn, lacking, until);
                asked.waits_for(Some(lacking), now);
                self.parked.insert(turn, asked);
                return None;
            }
            Ok(Verdict::Lacks(..)) => asked.moves += 1,
            _ => {}
        }
        self.leave_lines(turn, &asked);
        self.settle(turn, asked, tried, now)
    }

    /// The item, which is in no line, starts or is parked.
    fn settle(
        &mut self,
        turn: Turn,
        mut asked: Asked,
        tried: Result<Verdict, Refused>,
        now: Duration,
    ) -> Option<Start> {
        match tried {
            Ok(Verdict::Granted(at)) if at <= now => return Some(self.start(asked, None, now)),
            Ok(Verdict::Granted(at) | Verdict::Reserved(at)) => {
                let is_news = at > now + AHEAD && self.hear_of_rates(&asked.demands);
                let at = if is_news { self.due_of(&mut asked, now) } else { None }.unwrap_or(at);
                self.alarms.insert((at, turn));
                asked.alarm = Some(at);
                asked.waits_for(asked.due_last(), now);
            }
            Ok(Verdict::Lacks(lacking, until)) => {
                self.join_lines(turn, &asked, lacking, until);
                asked.waits_for(Some(lacking), now);
            }
            Err(refused) => return Some(self.start(asked, Some(refused), now)),
        }
        self.parked.insert(turn, asked);
        None
    }

    fn start(&mut self, mut asked: Asked, refused: Option<Refused>, now: Duration) -> Start {
        asked.waits_for(None, now);
        self.use_permits(&mut asked.demands);
        let Asked { claim, is_retry, demands, since, .. } = asked;
        let waited = demands.iter().filter(|demand| !demand.waited.is_zero());
        let waited_for = waited.max_by_key(|demand| demand.waited).map(|demand| demand.meter);
        let permit = match refused {
            None => Ok(Permit { demands }),
            Some(refused) => {
                self.forget(&demands);
                Err(refused)
            }
        };
        Start { claim, is_retry, since, waited_for, permit }
    }
}

/// What an item takes.
impl Turnstile<'_> {
    /// Takes all that the item needs, or no slot.
    fn try_take(&mut self, turn: Turn, asked: &mut Asked, now: Duration) -> Result<Verdict, Refused> {
        for demand in asked.demands.iter().filter(|demand| demand.reserved.is_none()) {
            let meter = self.meters.get(demand.meter);
            let is_behind = meter.line.first().is_some_and(|first| first < turn);
            let lacks_room = matches!(&meter.scarce, Scarce::Slots(slots) if !slots.has_room(demand.cost));
            if is_behind || lacks_room {
                return Ok(Verdict::Lacks(demand.meter, None));
            }
        }
        if let Some(lacks) = self.longest_wait(asked, now) {
            return Ok(lacks);
        }
        let at = match self.reserve(&mut asked.demands, now)? {
            Verdict::Granted(at) if at <= now + AHEAD => at,
            Verdict::Granted(at) => return Ok(Verdict::Reserved(at)),
            lacks => return Ok(lacks),
        };
        let lacking = self.take_slots(&asked.demands);
        asked.has_slots = lacking.is_none();
        Ok(lacking.map_or(Verdict::Granted(at), |meter| Verdict::Lacks(meter, None)))
    }

    /// The rate that lets the item wait longest, if it can tell, and the wait is worth it.
    fn longest_wait(&self, asked: &mut Asked, now: Duration) -> Option<Verdict> {
        let mut longest = None;
        for demand in asked.demands.iter_mut().filter(|demand| demand.reserved.is_none()) {
            let Scarce::Permits(limiter) = &self.meters.get(demand.meter).scarce else { continue };
            let Some(limit) = limiter.as_rate_limit() else { continue };
            let wait = Some(limit.wait_for(demand.cost, self.began + now)).filter(|wait| *wait > AHEAD);
            if wait > longest.as_ref().map(|(wait, _)| *wait) {
                longest = wait.map(|wait| (wait, demand));
            }
        }
        let (wait, demand) = longest?;
        demand.tries = demand.tries.saturating_add(u8::from(now >= demand.told));
        // Half of that time is left to be woken.
        let until = now.saturating_add(wait.saturating_sub(AHEAD / 2));
        demand.told = until;
        (demand.tries <= TRIES).then_some(Verdict::Lacks(demand.meter, Some(until)))
    }

    /// Takes the permits that the item lacks; when the last of all is due.
    fn reserve(&mut self, demands: &mut [Demand], now: Duration) -> Result<Verdict, Refused> {
        let mut at = now;
        for demand in demands {
            let meter = self.meters.get_mut(demand.meter);
            let Scarce::Permits(limiter) = &meter.scarce else { continue };
            if demand.reserved.is_none() {
                // Of a rate that can tell, few are reserved, and the next may be while they wait for another limit.
                let limit = limiter.as_rate_limit();
                if meter.reserved >= self.most_reserved + limit.map_or(0, |_| MORE_RESERVED) {
                    return Ok(Verdict::Lacks(demand.meter, None));
                }
                let (ticket, wait) = match limit {
                    Some(limit) => {
                        let (ticket, wait) = limit.take(self.began + now, demand.cost);
                        (Some(ticket), wait)
                    }
                    None => (None, ask(|| limiter.reserve_many(demand.cost))?),
                };
                // Another limiter has counted from a time that is not before the one that was read for this look.
                let from = if limit.is_some() || wait.is_zero() { now } else { clock::since(self.began) };
                meter.reserved += 1;
                demand.reserved = Some(Reserved { due: from.saturating_add(wait), ticket });
            }
            at = demand.reserved.map_or(at, |reserved| at.max(reserved.due));
        }
        Ok(Verdict::Granted(at))
    }

    /// The permits are used from now on, or lost, so that other items may reserve some.
    fn use_permits(&mut self, demands: &mut [Demand]) {
        for demand in demands {
            if let Some(reserved) = demand.reserved.take() {
                demand.started_with = reserved.ticket;
                self.meters.get_mut(demand.meter).reserved -= 1;
                self.set_ready(demand.meter, true);
            }
        }
    }

    /// Takes all slots that are needed, or none; the meter that lacks some. Another batch may have taken them since they were there.
    fn take_slots(&self, demands: &[Demand]) -> Option<usize> {
        for (taken, demand) in demands.iter().enumerate() {
            let Scarce::Slots(slots) = &self.meters.get(demand.meter).scarce else { continue };
            if !slots.try_take(demand.cost) {
                self.give_slots_back(&demands[..taken]);
                return Some(demand.meter);
            }
        }
        None
    }

    fn give_slots_back(&self, demands: &[Demand]) {
        for demand in demands {
            if let Scarce::Slots(slots) = &self.meters.get(demand.meter).scarce {
                slots.give_back(demand.cost);
            }
        }
    }

    /// What the limit of this meter is called.
    pub(super) fn name(&mut self, meter: usize) -> Arc<str> {
        self.meters.get_mut(meter).name()
    }

    /// The attempt has ended: its slots are free.
    pub(super) fn give_back(&mut self, permit: Permit) {
        let Permit { demands } = permit;
        self.give_slots_back(&demands);
        self.forget(&demands);
    }

    /// The item needs nothing any more.
    fn forget(&mut self, demands: &[Demand]) {
        for demand in demands {
            self.meters.get_mut(demand.meter).users -= 1;
        }
        self.try_slots_of(demands);
    }

    /// There may be slots of these.
    fn try_slots_of(&mut self, demands: &[Demand]) {
        for demand in demands {
            if matches!(self.meters.get(demand.meter).scarce, Scarce::Slots(_)) {
                self.set_ready(demand.meter, true);
            }
        }
    }
}

/// The lines.
impl Turnstile<'_> {
    fn turn_of_fresh(&mut self) -> Turn {
        self.fresh += 1;
        Turn { number: self.fresh - 1, retry: 0 }
    }

    /// It takes turns with the fresh items of the line that is at the earliest of them. Where none waits, it is the last.
    fn turn_of_retry(&mut self, demands: &[Demand]) -> Turn {
        self.retries += 1;
        let first = |demand: &Demand| Some((self.meters.get(demand.meter).line.first_fresh()?, demand.meter));
        let earliest = demands.iter().filter_map(first).min();
        let shared = earliest.and_then(|(_, meter)| self.meters.get_mut(meter).line.share());
        let last = || demands.iter().filter_map(|demand| self.meters.get(demand.meter).line.last());
        let number = shared.or_else(|| last().map(|turn| turn.number).max()).unwrap_or(self.fresh);
        Turn { number, retry: self.retries }
    }

    /// The item waits in the line of what it lacks; if it is impatient, in all its lines.
    fn join_lines(&mut self, turn: Turn, asked: &Asked, lacking: usize, until: Option<Duration>) {
        let is_impatient = asked.moves >= PATIENCE;
        for demand in asked.demands.iter().filter(|demand| is_impatient || demand.meter == lacking) {
            let was_ready = self.set_ready(demand.meter, false);
            let line = &mut self.meters.get_mut(demand.meter).line;
            line.insert(turn);
            let was_tried = demand.meter == lacking && line.first() == Some(turn);
            self.set_ready(demand.meter, was_ready && !was_tried);
        }
        self.stays_first(turn, lacking, until);
        self.hear_of(lacking);
    }

    /// The item was tried and lacks this. If it is the first there, it is tried again then, or when something changes.
    fn stays_first(&mut self, turn: Turn, lacking: usize, until: Option<Duration>) {
        if self.meters.get(lacking).line.first() == Some(turn) {
            self.set_timer(lacking, until);
        }
    }

    /// Another item is the first then, where this one was.
    fn leave_lines(&mut self, turn: Turn, asked: &Asked) {
        for demand in &asked.demands {
            if self.meters.get(demand.meter).line.contains(turn) {
                let was_ready = self.set_ready(demand.meter, false);
                let line = &mut self.meters.get_mut(demand.meter).line;
                let was_first = line.first() == Some(turn);
                line.remove(turn);
                if was_first {
                    self.set_timer(demand.meter, None);
                }
                self.set_ready(demand.meter, was_ready || was_first);
            }
        }
    }

    /// Has the first item of the line be tried, or not; whether it was to be.
    fn set_ready(&mut self, number: usize, is_ready: bool) -> bool {
        let first = self.meters.get(number).line.first();
        let was_ready = first.is_some_and(|turn| self.ready.remove(&(turn, number)));
        self.ready.extend(first.filter(|_| is_ready).map(|turn| (turn, number)));
        was_ready
    }

    fn set_timer(&mut self, number: usize, until: Option<Duration>) {
        if let Some(before) = mem::replace(&mut self.meters.get_mut(number).timer, until) {
            self.timers.remove(&(before, number));
        }
        self.timers.extend(until.map(|until| (until, number)));
    }

    /// From now on the batch hears when something else changes what is scarce. It may have changed already. Whether the batch has not
    /// heard of it before.
    fn hear_of(&mut self, number: usize) -> bool {
        let Some(listener) = self.listener.clone().filter(|_| !self.heard.of(number)) else { return false };
        match &self.meters.get(number).scarce {
            Scarce::Slots(slots) if !slots.is_shared() => return false,
            Scarce::Slots(slots) => {
                slots.listen(listener);
                self.heard.slots.insert(number);
            }
            Scarce::Permits(limiter) => match limiter.as_rate_limit() {
                Some(limit) => {
                    limit.listen(listener);
                    self.heard.rates.insert(number);
                }
                None => return false,
            },
        }
        self.set_ready(number, true);
        true
    }

    /// The same of all rates that are needed.
    fn hear_of_rates(&mut self, demands: &[Demand]) -> bool {
        let mut are_new = false;
        for demand in demands {
            if matches!(self.meters.get(demand.meter).scarce, Scarce::Permits(_)) {
                are_new |= self.hear_of(demand.meter);
            }
        }
        are_new
    }
}

/// What changes from outside, and what there is to tell.
impl<'a> Turnstile<'a> {
    /// How many changes from outside it has looked at.
    pub(super) fn changes(&self) -> usize {
        self.changes.all
    }

    /// There have been these.
    pub(super) fn look_at_changes(&mut self, changes: Changes, now: Duration) {
        let before = mem::replace(&mut self.changes, changes);
        if before.of_rates != changes.of_rates {
            self.rates_changed(now);
        }
        if before.all != changes.all {
            self.try_all(&self.heard.slots.clone());
        }
    }

    /// Something else has changed rates: items that wait for them look again.
    pub(super) fn rates_changed(&mut self, now: Duration) {
        for (at, turn) in mem::take(&mut self.alarms) {
            let Some(mut asked) = self.parked.remove(&turn) else { continue };
            let at = self.due_of(&mut asked, now).unwrap_or(at);
            asked.alarm = Some(at);
            if at > now + AHEAD && mem::take(&mut asked.has_slots) {
                self.give_slots_back(&asked.demands);
                self.try_slots_of(&asked.demands);
            }
            self.alarms.insert((at, turn));
            self.parked.insert(turn, asked);
        }
        self.try_all(&self.heard.rates.clone());
    }

    /// When the permits that it has are due by now.
    fn due_of(&self, asked: &mut Asked, now: Duration) -> Option<Duration> {
        let dues = asked.demands.iter_mut().filter_map(|demand| {
            let (reserved, meter) = (demand.reserved.as_mut()?, self.meters.get(demand.meter));
            let Scarce::Permits(limiter) = &meter.scarce else { return None };
            if let (Some(limit), Some(ticket)) = (limiter.as_rate_limit(), reserved.ticket) {
                reserved.due = now.saturating_add(limit.left(ticket, self.began + now));
            }
            Some(reserved.due)
        });
        dues.max()
    }

    fn try_all(&mut self, meters: &BTreeSet<usize>) {
        for number in meters {
            self.set_timer(*number, None);
            self.set_ready(*number, true);
        }
    }

    /// The batch hears of what is done to these limiters.
    pub(super) fn hear_of_limiters(&mut self, permit: &Permit) {
        self.hear_of_rates(&permit.demands);
    }

    /// The stop line has moved, so that these parked items do not start any more. It only ever falls, so each is sorted out once.
    pub(super) fn stop_at(&mut self, stop_at: usize, is_stopped: impl Fn(usize) -> bool) -> Vec<Turn> {
        if stop_at >= self.stopped_at {
            return Vec::new();
        }
        self.stopped_at = stop_at;
        self.parked_where(is_stopped)
    }

    pub(super) fn parked_where(&self, is_meant: impl Fn(usize) -> bool) -> Vec<Turn> {
        let parked = self.parked.iter().filter(|(_, asked)| is_meant(asked.claim.index()));
        parked.map(|(turn, _)| *turn).collect()
    }

    /// Takes these parked items out of everything. Batches that listen hear of slots that come back, this one, too: the caller does
    /// not hold the lock of its schedule.
    pub(super) fn remove_all(&mut self, turns: Vec<Turn>) -> Vec<Claim> {
        turns.into_iter().filter_map(|turn| self.remove(turn)).collect()
    }

    fn remove(&mut self, turn: Turn) -> Option<Claim> {
        let mut asked = self.parked.remove(&turn)?;
        if let Some(at) = asked.alarm {
            self.alarms.remove(&(at, turn));
        }
        if asked.has_slots {
            self.give_slots_back(&asked.demands);
        }
        self.leave_lines(turn, &asked);
        self.use_permits(&mut asked.demands);
        self.forget(&asked.demands);
        Some(asked.claim)
    }

    /// The limiters that gave the permit, with its number there, and have not heard of this pause.
    pub(super) fn limiters_to_pause(
        &mut self,
        permit: &Permit,
        (number, time): (usize, Duration),
    ) -> Vec<(Arc<dyn RateLimiter + 'a>, Option<Ticket>)> {
        let limiter = |demand: &Demand| {
            let meter = self.meters.get_mut(demand.meter);
            let Scarce::Permits(limiter) = &meter.scarce else { return None };
            let limiter = Arc::clone(limiter);
            meter.hears_of_pause(number, time).then_some((limiter, demand.started_with))
        };
        permit.demands.iter().filter_map(limiter).collect()
    }

    pub(super) fn stopped_at(&self) -> usize {
        self.stopped_at
    }

    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Whether fresh items wait for this limit.
    pub(super) fn has_fresh(&self, number: usize) -> bool {
        self.meters.get(number).line.has_fresh()
    }

    /// Whether a parked item may be able to start now.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When one may be able to start by itself.
    pub(super) fn due(&self) -> Option<Duration> {
        let timer = self.timers.first().map(|(until, _)| *until);
        timer.into_iter().chain(self.alarms.first().map(|(at, _)| *at)).min()
    }
}

impl<'a> MakeMeter<'a> for Turnstile<'a> {
    fn make(&mut self, scarce: Scarce<'a>, name: Option<Arc<str>>) -> usize {
        self.meters.add(scarce, name)
    }

    fn drop_if_unused(&mut self, meter: usize) -> bool {
        let is_unused = self.meters.get(meter).is_unused();
        if is_unused {
            self.heard.forget(meter);
            self.meters.remove(meter);
        }
        is_unused
    }
}

/// Asks a limiter, which may be the user's.
fn ask<R>(question: impl FnOnce() -> Result<R, LimiterError>) -> Result<R, Refused> {
    panic::catch(question).map_err(Refused::Panicked)?.map_err(Refused::Error)
}
