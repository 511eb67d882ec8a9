//! The schedule alone, in every order of calls: small batches, whose workers go step by step, from each state on in every way that
//! threads could go on. A step is what a thread does while it has the lock; between two steps any other thread may take one,
//! and time may pass.
//!
//! No state is left out: an order is followed until it comes to a state that is known, and then the last choice with another way
//! is made anew, from the beginning. So each state can be looked at, and at last the whole graph: whether the end can be reached from
//! everywhere.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};

use super::super::*;

/// What becomes of an item, each time it is tried.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Succeeds,
    Fails,
    /// This many times it is to be tried again, after this many milliseconds. Then it succeeds.
    Retried(usize, u64),
    /// This many times it asks for a pause of this many milliseconds. Then it succeeds.
    Refused(usize, u64),
}

use Fate::{Fails, Refused, Retried, Succeeds};

impl Fate {
    fn attempts(self) -> usize {
        match self {
            Succeeds | Fails => 1,
            Retried(times, _) | Refused(times, _) => times + 1,
        }
    }
}

/// One small batch.
#[derive(Debug, Clone)]
struct Case {
    fates: Vec<Fate>,
    workers: usize,
    /// How many of them may be busy.
    limit: usize,
    /// How many items a worker asks for.
    size: usize,
    on_failure: OnFailure,
    /// Of a stream: how many items may be under way.
    window: Option<usize>,
    /// This many keys, each with this many slots: items wait for these. With one key all wait for the same.
    slots: Option<(usize, usize)>,
    /// Whether a cancel may come, and a control may have nothing start for a time.
    is_cancelled: bool,
    is_held: bool,
}

impl Case {
    fn of(fates: &[Fate], workers: usize) -> Self {
        Case {
            fates: fates.to_vec(),
            workers,
            limit: workers,
            size: 1,
            on_failure: OnFailure::Stop,
            window: None,
            slots: None,
            is_cancelled: false,
            is_held: false,
        }
    }
}

/// What a worker of the model holds.
#[derive(Debug)]
enum Holds {
    Nothing,
    /// A claim whose first item is to start next.
    Claim(Claim, bool),
    /// The first item of the claim runs. How many pauses there had been when it started.
    Running(Claim, usize),
    /// It pulls items: the next index, and how many more.
    Source(usize, usize),
    /// It has found nothing when there had been this many changes, and is about to sleep.
    Tired(usize, Option<Duration>),
    /// It sleeps, at most until then; whether it was woken.
    Asleep(Option<Duration>, bool),
    Gone,
}

#[derive(Debug)]
struct Thread {
    member: Member,
    holds: Holds,
    done: Done,
    /// The key of which it has a slot.
    slot: Option<usize>,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Step(usize),
    /// Until the next moment at which something is due.
    TimePasses,
    Consume,
    Cancel,
    Hold,
    Release,
}

/// A choice that was made: which way was taken, and of how many. Of what may happen, also what that was.
struct Choice {
    way: usize,
    ways: usize,
    acts: Vec<Act>,
}

/// The choices that lead to a state.
#[derive(Default)]
struct Path {
    choices: Vec<Choice>,
    at: usize,
}

impl Path {
    fn choose(&mut self, ways: usize) -> usize {
        self.make(|| Choice { way: 0, ways, acts: Vec::new() }).way
    }

    fn choose_act(&mut self, acts: impl FnOnce() -> Vec<Act>) -> Act {
        let choice = self.make(|| {
            let acts = acts();
            Choice { way: 0, ways: acts.len(), acts }
        });
        choice.acts[choice.way]
    }

    fn make(&mut self, new: impl FnOnce() -> Choice) -> &Choice {
        if !self.is_known() {
            self.choices.push(new());
        }
        self.at += 1;
        &self.choices[self.at - 1]
    }

    fn is_known(&self) -> bool {
        self.at < self.choices.len()
    }

    /// Turns to the last choice that has another way.
    fn turn(&mut self) -> bool {
        self.at = 0;
        while let Some(last) = self.choices.last_mut() {
            last.way += 1;
            if last.way < last.ways {
                return true;
            }
            self.choices.pop();
        }
        false
    }
}

/// The items that wait for slots, in the order in which they came, as the turnstile has them.
#[derive(Debug)]
struct Lines {
    free: Vec<usize>,
    parked: VecDeque<(Claim, bool)>,
    stopped_at: usize,
}

impl Lines {
    fn key(&self, index: usize) -> usize {
        index % self.free.len()
    }

    fn has_line(&self, key: usize) -> bool {
        self.parked.iter().any(|(claim, _)| self.key(claim.index()) == key)
    }

    fn startable(&self) -> Option<usize> {
        self.parked.iter().position(|(claim, _)| self.free[self.key(claim.index())] > 0)
    }

    fn waiting(&self) -> Waiting {
        Waiting {
            parked: self.parked.len(),
            below: self.stopped_at,
            is_ready: self.startable().is_some(),
            due: None,
            is_closed: self.free.len() == 1 && !self.parked.is_empty(),
        }
    }
}

/// What there is to know of an item.
#[derive(Debug, Clone, Default)]
struct Item {
    tried: usize,
    is_decided: bool,
    has_failed: bool,
    /// How many claims there had been when it could be claimed first.
    came: usize,
    was_claimed: bool,
    refusal: Option<Refusal>,
}

struct World<'c> {
    case: &'c Case,
    schedule: Schedule,
    threads: Vec<Thread>,
    items: Vec<Item>,
    lines: Option<Lines>,
    now: Duration,
    changes: usize,
    handed_on: usize,
    /// How many claims there were, and how many items were handed back.
    claims: usize,
    handed_back: usize,
    is_closed: bool,
    may_cancel: bool,
    may_hold: bool,
}

impl<'c> World<'c> {
    fn new(case: &'c Case) -> Self {
        let team = Team::new(case.limit, None, false, false);
        let schedule = match case.window {
            None => Schedule::of_batch(Claim::of(0..case.fates.len()), case.on_failure, team),
            Some(size) => Schedule::of_stream(Window::new(size, size), case.on_failure, team),
        };
        let thread = |_| Thread {
            member: Member::new(Role::Helper),
            holds: Holds::Nothing,
            done: Done::default(),
            slot: None,
        };
        let lines = |(keys, slots)| Lines {
            free: vec![slots; keys],
            parked: VecDeque::new(),
            stopped_at: usize::MAX,
        };
        World {
            case,
            schedule,
            threads: (0..case.workers).map(thread).collect(),
            items: vec![Item::default(); case.fates.len()],
            lines: case.slots.map(lines),
            now: Duration::ZERO,
            changes: 0,
            handed_on: 0,
            claims: 0,
            handed_back: 0,
            is_closed: false,
            may_cancel: case.is_cancelled,
            may_hold: case.is_held,
        }
    }

    fn is_at_end(&self) -> bool {
        self.threads.iter().all(|thread| matches!(thread.holds, Holds::Gone))
    }

    fn acts(&self) -> Vec<Act> {
        let mut acts: Vec<Act> = Vec::new();
        for (number, thread) in self.threads.iter().enumerate() {
            // Of workers in the same state, which of them goes on is no matter.
            let text = format!("{thread:?}");
            let is_new = !self.threads[..number].iter().any(|other| format!("{other:?}") == text);
            acts.extend((self.can_step(thread) && is_new).then_some(Act::Step(number)));
        }
        let ready = self.items.get(self.handed_on).is_some_and(|item| item.is_decided);
        acts.extend((self.case.window.is_some() && ready).then_some(Act::Consume));
        acts.extend(self.next_moment().map(|_| Act::TimePasses));
        acts.extend(self.schedule.is_held().then_some(Act::Release));
        assert!(!acts.is_empty() || self.is_at_end(), "workers sleep for ever: {:?}", self.schedule);
        acts.extend(self.may_cancel.then_some(Act::Cancel));
        acts.extend(self.may_hold.then_some(Act::Hold));
        acts
    }

    fn can_step(&self, thread: &Thread) -> bool {
        match thread.holds {
            Holds::Asleep(until, was_woken) => was_woken || until.is_some_and(|until| until <= self.now),
            Holds::Gone => false,
            _ => true,
        }
    }

    /// When the next of what the schedule or a sleeper waits for is due.
    fn next_moment(&self) -> Option<Duration> {
        let alarms = self.threads.iter().filter_map(|thread| match thread.holds {
            Holds::Tired(_, until) | Holds::Asleep(until, _) => until,
            _ => None,
        });
        alarms.chain(self.schedule.next_due()).filter(|at| *at > self.now).min()
    }

    fn act(&mut self, act: Act, path: &mut Path) {
        match act {
            Act::Step(number) => self.step(number, path),
            Act::TimePasses => self.now = self.next_moment().unwrap_or(self.now),
            Act::Consume => {
                self.handed_on += 1;
                if self.handed_on >= self.schedule.wants_room() {
                    self.release(path);
                }
            }
            Act::Cancel => {
                (self.may_cancel, self.is_closed) = (false, true);
                self.schedule.close(Some(StopReason::Cancelled));
                self.release(path);
            }
            Act::Hold | Act::Release => {
                self.may_hold = false;
                self.schedule.hold(0, act == Act::Hold);
                self.release(path);
            }
        }
        let busy = |thread: &&Thread| matches!(thread.holds, Holds::Claim(..) | Holds::Running(..));
        let busy = self.threads.iter().filter(busy).count();
        assert!(busy <= self.case.limit, "{busy} are busy");
        let load = self.schedule.load(self.now);
        let parked = self.lines.as_ref().map_or(0, |lines| lines.parked.len());
        assert!(load.running <= self.case.limit && load.waiting >= load.retrying);
        assert!(load.waiting == load.retrying + self.schedule.at_limits.parked && parked <= self.items.len());
    }

    /// As a dispatcher gives up the lock: which of the sleepers is woken is the system's choice.
    fn release(&mut self, path: &mut Path) {
        if !self.schedule.has_idle() || !self.schedule.concerns_idle(self.handed_on) {
            return;
        }
        self.changes += 1;
        let wake = self.schedule.call();
        let asleep = |thread: &&mut Thread| matches!(thread.holds, Holds::Asleep(_, false));
        let mut sleepers: Vec<_> = self.threads.iter_mut().filter(asleep).collect();
        if wake == Wake::One && !sleepers.is_empty() {
            let chosen = path.choose(sleepers.len());
            sleepers = vec![sleepers.swap_remove(chosen)];
        }
        for thread in sleepers.into_iter().filter(|_| wake != Wake::None) {
            if let Holds::Asleep(_, was_woken) = &mut thread.holds {
                *was_woken = true;
            }
        }
    }

    fn step(&mut self, number: usize, path: &mut Path) {
        let holds = mem::replace(&mut self.threads[number].holds, Holds::Nothing);
        self.threads[number].holds = match holds {
            Holds::Nothing if self.lines.is_some() => self.ask_limits(number, path),
            Holds::Nothing => self.ask(number, path),
            Holds::Claim(claim, is_retry) => self.start(number, claim, is_retry, path),
            Holds::Running(claim, pauses) => self.finish(number, claim, pauses, path),
            Holds::Source(index, most) => self.pull(index, most, path),
            Holds::Tired(seen, until) => {
                self.schedule.falls_asleep();
                if seen == self.changes {
                    Holds::Asleep(until, false)
                } else {
                    self.schedule.wakes_up();
                    Holds::Nothing
                }
            }
            Holds::Asleep(..) => {
                self.schedule.wakes_up();
                Holds::Nothing
            }
            Holds::Gone => unreachable!("it has gone"),
        };
    }
}

/// What a worker asks for.
impl World<'_> {
    fn ask(&mut self, number: usize, path: &mut Path) -> Holds {
        let (now, handed_on) = (self.now, self.handed_on);
        let Thread { member, done, .. } = &mut self.threads[number];
        self.schedule.done(member, now, mem::take(done));
        let ask = Ask { now, size: self.case.size, handed_on, is_limited: false };
        let (next, seen) = (self.schedule.next(member, ask), self.changes);
        let holds = match next {
            Next::Run { claim, is_retry } => self.claimed(claim, is_retry),
            Next::Pull { index, most } => Holds::Source(index, most),
            Next::Wait(until) => Holds::Tired(seen, until),
            Next::Oversee | Next::Leave => Holds::Gone,
        };
        self.release(path);
        holds
    }

    /// The same through a turnstile, which one worker passes at a time.
    fn ask_limits(&mut self, number: usize, path: &mut Path) -> Holds {
        let now = self.now;
        let Thread { member, done, slot, .. } = &mut self.threads[number];
        self.schedule.done(member, now, mem::take(done));
        let freed = slot.take();
        self.release(path);
        let Some(mut lines) = self.lines.take() else { unreachable!("there are limits") };
        if let Some(key) = freed {
            lines.free[key] += 1;
        }
        self.sort_out(&mut lines, path);
        let holds = loop {
            let mut may_start = false;
            if !lines.parked.is_empty() {
                let due;
                (may_start, due) = self.schedule.ask_for_due(&mut self.threads[number].member, now);
                self.release(path);
                if let Some(claim) = due {
                    match self.passes(number, &mut lines, (claim, true), path) {
                        Some(holds) => break holds,
                        None => continue,
                    }
                }
            }
            if let Some(at) = lines.startable().filter(|_| may_start) {
                let Some((claim, is_retry)) = lines.parked.remove(at) else { unreachable!("it is there") };
                break self.begin(number, &mut lines, (claim, is_retry), path);
            }
            self.schedule.wait_at_limits(lines.waiting());
            let ask = Ask { now, size: 1, handed_on: self.handed_on, is_limited: true };
            let (next, seen) = (self.schedule.next(&mut self.threads[number].member, ask), self.changes);
            self.release(path);
            match next {
                Next::Run { claim, is_retry } => {
                    if let Some(holds) = self.passes(number, &mut lines, (claim, is_retry), path) {
                        break holds;
                    }
                }
                Next::Pull { index, most } => break Holds::Source(index, most),
                Next::Wait(until) => break Holds::Tired(seen, until),
                Next::Oversee | Next::Leave => break Holds::Gone,
            }
        };
        self.lines = Some(lines);
        holds
    }

    /// What was claimed starts, or waits.
    fn passes(
        &mut self,
        number: usize,
        lines: &mut Lines,
        (claim, is_retry): (Claim, bool),
        path: &mut Path,
    ) -> Option<Holds> {
        let Holds::Claim(claim, _) = self.claimed(claim, is_retry) else { unreachable!("a claim") };
        let key = lines.key(claim.index());
        if lines.free[key] > 0 && !lines.has_line(key) {
            return Some(self.begin(number, lines, (claim, is_retry), path));
        }
        lines.parked.push_back((claim, is_retry));
        None
    }

    fn begin(
        &mut self,
        number: usize,
        lines: &mut Lines,
        (claim, is_retry): (Claim, bool),
        path: &mut Path,
    ) -> Holds {
        let Thread { member, slot, .. } = &mut self.threads[number];
        let key = lines.key(claim.index());
        lines.free[key] -= 1;
        *slot = Some(key);
        self.schedule.wait_at_limits(lines.waiting());
        self.schedule.begin(member, self.now, claim.index(), is_retry);
        self.release(path);
        Holds::Claim(claim, is_retry)
    }

    /// The stop line has moved: what is parked behind it does not start.
    fn sort_out(&mut self, lines: &mut Lines, path: &mut Path) {
        let line = self.schedule.stop.line();
        if line >= lines.stopped_at {
            return;
        }
        lines.stopped_at = line;
        let (stopped, parked): (Vec<_>, Vec<_>) =
            mem::take(&mut lines.parked).into_iter().partition(|(claim, _)| claim.index() >= line);
        lines.parked = parked.into();
        if !stopped.is_empty() {
            self.schedule.leave_undecided(stopped.into_iter().map(|(claim, _)| claim).collect());
            self.release(path);
        }
    }

    /// Nothing starves: an item is claimed after at most 2 × (lower + handed back) + 1 other claims. Each claim that is no retry has
    /// an item of a lower index or one that was handed back, which comes alone. Between two of these comes at most one retry,
    /// and one before them.
    fn claimed(&mut self, claim: Claim, is_retry: bool) -> Holds {
        assert!(self.schedule.stop.allows(claim.index()), "it may not start");
        for index in claim.index()..claim.index() + claim.len() {
            let item = &mut self.items[index];
            let (others, most) = (self.claims - item.came, 2 * (index + self.handed_back) + 1);
            assert!(item.was_claimed || others <= most, "item {index} comes after {others} others");
            assert_eq!(is_retry, item.tried > 0, "item {index} was tried {} times", item.tried);
            item.was_claimed = true;
        }
        self.claims += 1;
        Holds::Claim(claim, is_retry)
    }
}

/// What a worker does with what it has.
impl World<'_> {
    /// The next item of a claim starts, if it may.
    fn start(&mut self, number: usize, mut claim: Claim, is_retry: bool, path: &mut Path) -> Holds {
        let index = claim.index();
        if index >= self.schedule.gate() {
            let Thread { member, done, .. } = &mut self.threads[number];
            if index >= self.schedule.stop.line() {
                done.left = Some(claim);
                return Holds::Nothing;
            }
            if self.schedule.is_held() {
                self.handed_back += claim.len();
                self.schedule.hand_all_back(member, self.now, claim, is_retry);
                self.release(path);
                return Holds::Nothing;
            }
            if claim.len() > 1 && self.schedule.wants_rests() {
                let rest = claim.split_rest();
                self.handed_back += rest.len();
                self.schedule.hand_back(member, self.now, rest);
                self.release(path);
            }
        }
        let runs =
            |thread: &Thread| matches!(&thread.holds, Holds::Running(other, _) if other.index() == index);
        assert!(!self.threads.iter().any(runs), "item {index} runs already");
        let item = &mut self.items[index];
        assert!(!item.is_decided, "item {index} is decided already");
        item.tried += 1;
        assert!(item.tried <= self.case.fates[index].attempts(), "item {index} is tried once too often");
        Holds::Running(claim, self.schedule.pause.number())
    }

    fn finish(&mut self, number: usize, mut claim: Claim, pauses: usize, path: &mut Path) -> Holds {
        let (index, fate) = (claim.index(), self.case.fates[claim.index()]);
        let is_last = self.items[index].tried == fate.attempts();
        match fate {
            Retried(_, millis) | Refused(_, millis) if !is_last => {
                let time = Duration::from_millis(millis);
                let waits_alone = if matches!(fate, Refused(..)) {
                    let last = self.items[index].refusal;
                    let answer = self.schedule.refuse(self.now, (time, pauses), last);
                    self.release(path);
                    self.items[index].refusal = Some(answer.refusal);
                    answer.waits_alone
                } else {
                    true
                };
                if !self.schedule.stop.allows(index) {
                    self.threads[number].done.left = Some(claim);
                    return Holds::Nothing;
                }
                let (due, item) = (self.now + time, claim.split_first(1));
                if waits_alone {
                    self.schedule.later(due, item);
                } else {
                    self.schedule.later_or_resumed(due, item);
                }
                self.release(path);
            }
            _ => self.decide(number, &mut claim, matches!(fate, Fails), path),
        }
        if claim.len() > 0 { Holds::Claim(claim, false) } else { Holds::Nothing }
    }

    fn decide(&mut self, number: usize, claim: &mut Claim, has_failed: bool, path: &mut Path) {
        let index = claim.index();
        if has_failed {
            self.schedule.failed(index);
            self.release(path);
        }
        let item = &mut self.items[index];
        (item.is_decided, item.has_failed) = (true, has_failed);
        let _ = claim.split_first(1);
        let counts = &mut self.threads[number].done.counts;
        counts.add(if has_failed { Counts::FAILED } else { Counts::SUCCEEDED });
    }

    fn pull(&mut self, index: usize, most: usize, path: &mut Path) -> Holds {
        let has_ended = index == self.case.fates.len();
        let mut goes_on = false;
        if !has_ended {
            let window = self.case.window.unwrap_or(0);
            assert!(index < self.handed_on + window, "the window is exceeded");
            self.items[index].came = self.claims;
            goes_on = self.schedule.add(Claim::of(index..index + 1));
            self.release(path);
        }
        if goes_on && most > 1 {
            return Holds::Source(index + 1, most - 1);
        }
        self.schedule.give_back_source(has_ended);
        self.release(path);
        Holds::Nothing
    }
}

/// What must hold in the end.
impl World<'_> {
    fn check_the_end(mut self) {
        assert!(self.schedule.is_over(), "items are left: {:?}", self.schedule);
        let limit = match self.case.on_failure {
            OnFailure::GoOn => usize::MAX,
            OnFailure::Stop => 1,
            OnFailure::StopAfter(limit) => limit,
        };
        let mut failures = (0..self.items.len()).filter(|index| self.items[*index].has_failed);
        let line = failures.nth(limit - 1).map_or(usize::MAX, |last| last + 1);
        assert_eq!(self.schedule.stop.line_of_failures(), line, "the lowest failures decide");
        if !self.is_closed {
            let missed = self.items.iter().take(line).position(|item| !item.is_decided);
            assert_eq!(missed, None, "before the line every item is decided");
        }
        let known = self.schedule.known().0;
        let (counts, most_busy, _, mut left) = self.schedule.end();
        left.extend(self.lines.into_iter().flat_map(|lines| lines.parked).map(|(claim, _)| claim));
        assert!(most_busy <= self.case.limit);
        let mut outcomes: Vec<usize> = left.iter().flat_map(|c| c.index()..c.index() + c.len()).collect();
        outcomes.extend((0..self.items.len()).filter(|index| self.items[*index].is_decided));
        outcomes.sort_unstable();
        assert!(outcomes.into_iter().eq(0..known), "each item is decided or left, and none is both");
        assert_eq!(counts.decided(), self.items.iter().filter(|item| item.is_decided).count());
        assert_eq!(counts.failed, self.items.iter().filter(|item| item.has_failed).count());
        for (item, fate) in self.items.iter().zip(&self.case.fates) {
            assert!(!item.is_decided || item.tried == fate.attempts());
        }
    }

    /// Two states with the same number go on in the same ways.
    fn state(&self) -> u64 {
        let mut threads: Vec<_> = self.threads.iter().map(|thread| self.text_of(thread)).collect();
        threads.sort_unstable(); // which worker is which is no matter
        let schedule = (&self.schedule, threads, &self.items, &self.lines, self.now, self.handed_on);
        let rest = (self.claims, self.handed_back, self.is_closed, self.may_cancel, self.may_hold);
        let mut hasher = DefaultHasher::new();
        hasher.write(format!("{schedule:?}{rest:?}").as_bytes());
        hasher.finish()
    }

    fn text_of(&self, thread: &Thread) -> String {
        match thread.holds {
            Holds::Tired(seen, until) => {
                let is_same = seen == self.changes;
                format!("{:?} {:?} {is_same} {until:?}", thread.member, thread.done)
            }
            _ => format!("{thread:?}"),
        }
    }
}

/// All states of a case, and which follow which.
#[derive(Default)]
struct Graph {
    numbers: HashMap<u64, usize>,
    /// Of each state, those from which it is reached.
    before: Vec<Vec<usize>>,
    ends: Vec<usize>,
}

impl Graph {
    /// The number of the state, and whether it is new.
    fn reach(&mut self, state: u64, from: Option<usize>) -> (usize, bool) {
        let next = self.before.len();
        let number = *self.numbers.entry(state).or_insert(next);
        if number == next {
            self.before.push(Vec::new());
        }
        self.before[number].extend(from);
        (number, number == next)
    }

    /// How many states there are from which no end is reached.
    fn lost(&self) -> usize {
        let mut is_saved = vec![false; self.before.len()];
        let mut to_do = self.ends.clone();
        while let Some(number) = to_do.pop() {
            if !mem::replace(&mut is_saved[number], true) {
                to_do.extend(&self.before[number]);
            }
        }
        is_saved.iter().filter(|is_saved| !**is_saved).count()
    }
}

/// Goes through all orders of a case; how many states there are.
fn explore(case: &Case) -> usize {
    let (mut graph, mut path, mut trail) = (Graph::default(), Path::default(), Vec::new());
    loop {
        let (mut world, mut depth) = (World::new(case), 0_usize);
        loop {
            if !path.is_known() {
                let from = depth.checked_sub(1).map(|before| trail[before]);
                let (number, is_new) = graph.reach(world.state(), from);
                trail.truncate(depth);
                trail.push(number);
                if !is_new {
                    break;
                }
            }
            depth += 1;
            if world.is_at_end() {
                graph.ends.push(trail[depth - 1]);
                world.check_the_end();
                break;
            }
            let act = path.choose_act(|| world.acts());
            world.act(act, &mut path);
        }
        if !path.turn() {
            assert_eq!(graph.lost(), 0, "no end is reached from these states");
            return graph.before.len();
        }
    }
}

/// Goes through all orders of these cases, and names the one that fails.
fn explore_all(cases: impl IntoIterator<Item = Case>) {
    for case in cases {
        let explored = std::panic::catch_unwind(|| explore(&case));
        match explored {
            Ok(states) => println!("{states} states of {case:?}"), // for a look at how many there are
            Err(panic) => {
                eprintln!("in {case:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// With `BATCH_EXECUTOR_TEST_DEEP=1` there may be a worker more: an hour instead of seconds.
fn more() -> usize {
    std::env::var("BATCH_EXECUTOR_TEST_DEEP").map_or(0, |deep| deep.parse().unwrap_or(1))
}

/// What items of a few kinds come to, in every order of these kinds.
fn mixtures(kinds: &[Fate], items: usize) -> Vec<Vec<Fate>> {
    let mut mixtures = vec![Vec::new()];
    for _ in 0..items {
        let longer = |fates: &Vec<Fate>| {
            let fates = fates.clone();
            kinds.iter().map(move |kind| fates.iter().copied().chain([*kind]).collect()).collect::<Vec<_>>()
        };
        mixtures = mixtures.iter().flat_map(longer).collect();
    }
    mixtures
}

#[test]
fn in_every_order_the_lowest_failures_decide() {
    for workers in 1..=2 + more() {
        for fates in mixtures(&[Succeeds, Fails, Retried(1, 1)], 3) {
            for on_failure in [OnFailure::Stop, OnFailure::StopAfter(2), OnFailure::GoOn] {
                explore_all([Case { on_failure, ..Case::of(&fates, workers) }]);
            }
        }
    }
    explore_all([Case::of(&[Retried(1, 1), Fails, Succeeds, Fails], 3)]);
}

#[test]
fn in_every_order_neither_retries_nor_fresh_items_starve() {
    let stubborn = Retried(4, 0);
    for workers in 1..=2 + more() {
        explore_all([
            Case::of(&[stubborn, Succeeds, Succeeds, Succeeds], workers),
            Case::of(&[stubborn, stubborn, Succeeds, Succeeds], workers),
            Case::of(&[Succeeds, stubborn, stubborn, Succeeds], workers),
        ]);
    }
    explore_all([Case::of(&[Retried(2, 0), Retried(1, 3), Succeeds, Succeeds], 3)]);
}

#[test]
fn in_every_order_pauses_end() {
    for workers in 1..=2 + more() {
        explore_all([
            Case::of(&[Refused(2, 2), Succeeds, Succeeds], workers),
            Case::of(&[Refused(1, 2), Refused(1, 5), Succeeds], workers),
            Case::of(&[Succeeds, Refused(2, 1), Fails], workers),
            Case::of(&[Refused(2, 1), Retried(1, 1), Succeeds], workers),
        ]);
    }
}

/// One of several workers may be busy at a time, so its claims are large, and it hands them back when another is idle.
#[test]
fn in_every_order_what_is_handed_back_is_run() {
    for workers in 2..=3 + more() {
        for (limit, size) in [(1, 4), (1, 2), (2, 4)] {
            let of = |fates: &[Fate]| Case { limit, size, ..Case::of(fates, workers) };
            explore_all([
                of(&[Succeeds; 4]),
                of(&[Succeeds, Succeeds, Fails, Succeeds]),
                of(&[Retried(1, 1), Fails, Succeeds, Succeeds]),
                Case { is_cancelled: true, ..of(&[Succeeds; 4]) },
            ]);
        }
    }
    explore_all([Case { size: 3, ..Case::of(&[Succeeds; 16], 2) }]);
}

/// A window of 4 is large enough for claims and pulls of two items.
#[test]
fn in_every_order_a_stream_keeps_its_window() {
    for workers in 1..=2 + more() {
        for (window, size) in [(1, 1), (2, 1), (4, 4)] {
            let of = |fates: &[Fate]| Case { window: Some(window), size, ..Case::of(fates, workers) };
            explore_all([
                of(&[Succeeds; 4]),
                of(&[Fails, Succeeds, Fails]),
                of(&[Retried(1, 2), Succeeds]),
                of(&[Refused(1, 1), Succeeds]),
                Case { is_cancelled: true, ..of(&[Succeeds; 2]) },
            ]);
        }
    }
}

#[test]
fn in_every_order_items_that_wait_for_limits_start() {
    for workers in 1..=2 + more() {
        for slots in [(1, 1), (2, 1), (1, 2)] {
            let of = |fates: &[Fate]| Case { slots: Some(slots), ..Case::of(fates, workers) };
            explore_all([
                of(&[Succeeds; 4]),
                of(&[Succeeds, Fails, Succeeds, Succeeds]),
                of(&[Retried(1, 1), Succeeds, Fails]),
                of(&[Refused(1, 1), Succeeds, Succeeds]),
                Case { is_cancelled: true, ..of(&[Succeeds; 3]) },
                Case { window: Some(2), ..of(&[Succeeds; 3]) },
            ]);
        }
    }
    explore_all([Case { slots: Some((1, 1)), ..Case::of(&[Succeeds; 3], 3) }]);
}

#[test]
fn in_every_order_a_control_holds_all_and_a_cancel_ends_all() {
    for workers in 1..=2 + more() {
        for slots in [None, Some((1, 1)), Some((2, 1))] {
            let of = |fates: &[Fate]| Case {
                is_held: true,
                is_cancelled: true,
                slots,
                ..Case::of(fates, workers)
            };
            explore_all([of(&[Succeeds; 3]), of(&[Retried(1, 1), Succeeds]), of(&[Fails, Succeeds])]);
        }
    }
    let large =
        Case { limit: 1, size: 4, is_held: true, ..Case::of(&[Retried(1, 1), Succeeds, Succeeds], 2) };
    explore_all([large]);
}
