//! A batch on a machine, in virtual time: what happens next, and who goes on with what.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::cores::{CHILD, Cores, MEMORY, PLAIN, SPIN};
use crate::machine::{Machine, Step};
use crate::server::{Entry, Lock, Permits, Server};
use crate::shared::At;
use crate::sizing::{Ended, Scene, Sizing, Ticket};

pub(crate) type Item = Vec<Step>;

/// Seconds: to start a thread, one after another; to wake one; and what a sleep takes longer than asked.
const SPAWN: f64 = 30e-6;
const WAKE: f64 = 5e-6;
const OVERSLEEP: f64 = 60e-6;

/// Seconds after which Linux counts what a thread has computed, at the latest: 1 to 10 ms, as it was built.
const SCHEDULER_TICK: f64 = 10e-3;

/// What comes at a time known beforehand, and to which worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Awake,
    Permitted,
    StepDone,
    /// The item fails.
    Failed,
    /// An item that failed is to be tried again.
    Due,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Calendar,
    Cores(usize),
    Server(usize),
    Tick,
}

/// What Linux's count of CPU time lacks, as `src/thread_meter.rs` makes it up: all since the thread last waited, up to the
/// first reading since then.
#[derive(Debug, Clone, Copy, Default)]
struct Untold {
    seconds: f64,
    was_read: bool,
}

impl Untold {
    fn waits(&mut self) {
        *self = Untold::default();
    }

    fn computes(&mut self, seconds: f64) {
        if !self.was_read {
            self.seconds = (self.seconds + seconds).min(SCHEDULER_TICK);
        }
    }

    fn read(&mut self) -> f64 {
        self.was_read = true;
        self.seconds
    }
}

#[derive(Debug, Default)]
struct Worker {
    /// The items that it has claimed and not done.
    item: usize,
    end: usize,
    step: usize,
    ticket: Ticket,
    /// How many items of the claim failed.
    failed: usize,
    started: f64,
    cpu: f64,
    runnable: f64,
    /// The thread's, across its claims: what it has computed of which nothing would be told, and what that was when its claim began.
    untold: Untold,
    untold_before: f64,
    /// When it began to compute, in time and by the cores' clock.
    computes_since: (f64, f64),
}

fn is_measured(ticket: Ticket) -> bool {
    ticket.is_some_and(|ticket| ticket.measure())
}

pub(crate) struct Simulation<'a> {
    machine: &'a Machine,
    items: &'a [Item],
    sizing: Sizing,
    now: f64,
    calendar: BinaryHeap<Reverse<(At, usize, Event, usize)>>,
    entries: usize,
    cores: Cores,
    servers: Vec<Server>,
    lock: Lock,
    hidden_rate: Option<Permits>,
    limiter: Option<Permits>,
    workers: Vec<Worker>,
    parked: Vec<usize>,
    spawner_free: f64,
    /// The first item that no worker has claimed.
    next: usize,
    /// Items that are to be tried again now.
    due: VecDeque<usize>,
    retried_last: bool,
    done: usize,
    pub(crate) values: usize,
    /// Attempts that failed.
    pub(crate) failures: usize,
    /// Workers with a claim, or on the way to one; those with a claim; those of them that wait for a permit.
    present: usize,
    claims: usize,
    paced: usize,
    pub(crate) most_present: usize,
    /// The limits, and since when.
    pub(crate) changes: Vec<(f64, usize)>,
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(machine: &'a Machine, items: &'a [Item], sizing: Sizing) -> Self {
        Simulation {
            machine,
            items,
            sizing,
            now: 0.0,
            calendar: BinaryHeap::new(),
            entries: 0,
            cores: Cores::default(),
            servers: machine.backends.iter().copied().map(Server::new).collect(),
            lock: Lock::default(),
            hidden_rate: machine.hidden_rate.map(Permits::new),
            limiter: machine.limiter.map(Permits::new),
            workers: Vec::new(),
            parked: Vec::new(),
            spawner_free: 0.0,
            next: 0,
            due: VecDeque::new(),
            retried_last: false,
            done: 0,
            values: 0,
            failures: 0,
            present: 0,
            claims: 0,
            paced: 0,
            most_present: 0,
            changes: Vec::new(),
        }
    }

    /// Runs the batch; how long it took.
    pub(crate) fn makespan(&mut self) -> f64 {
        while self.done < self.items.len() {
            self.call_workers();
            self.cores.set_speeds(self.machine);
            self.servers.iter_mut().for_each(Server::set_speed);
            let (seconds, source) = self.what_comes_next();
            assert!(seconds.is_finite(), "nothing moves at {} with {} done", self.now, self.done);
            self.advance(seconds);
            self.happen(source);
        }
        self.now
    }

    fn call_workers(&mut self) {
        let wanted = self.sizing.limit();
        if self.changes.last().is_none_or(|(_, limit)| *limit != wanted) {
            self.changes.push((self.now, wanted));
        }
        while self.present < wanted && self.present - self.claims < self.queued() {
            self.present += 1;
            self.most_present = self.most_present.max(self.present);
            match self.parked.pop() {
                Some(worker) => self.enter(self.now + WAKE, Event::Awake, worker),
                None => self.spawn(),
            }
        }
    }

    fn spawn(&mut self) {
        self.spawner_free = self.now.max(self.spawner_free) + SPAWN;
        self.workers.push(Worker::default());
        self.enter(self.spawner_free, Event::Awake, self.workers.len() - 1);
    }

    fn queued(&self) -> usize {
        self.items.len() - self.next + self.due.len()
    }

    fn enter(&mut self, at: f64, event: Event, worker: usize) {
        self.entries += 1;
        self.calendar.push(Reverse((At(at), self.entries, event, worker)));
    }

    fn what_comes_next(&self) -> (f64, Source) {
        let entry = self.calendar.peek().map_or(f64::INFINITY, |Reverse((at, ..))| at.0 - self.now);
        let (computed, kind) = self.cores.next();
        let mut next = (entry, Source::Calendar);
        let tick = self.sizing.next_tick().map_or(f64::INFINITY, |at| (at - self.now).max(1e-6));
        let served =
            self.servers.iter().enumerate().map(|(number, server)| (server.next(), Source::Server(number)));
        for other in served.chain([(computed, Source::Cores(kind)), (tick, Source::Tick)]) {
            if other.0 < next.0 {
                next = other;
            }
        }
        (next.0.max(0.0), next.1)
    }

    fn advance(&mut self, seconds: f64) {
        self.now += seconds;
        self.cores.advance(seconds);
        self.servers.iter_mut().for_each(|server| server.advance(seconds));
    }

    fn happen(&mut self, source: Source) {
        match source {
            Source::Tick => self.tick(),
            Source::Cores(kind) => {
                let worker = self.cores.leave(kind).expect("somebody computes");
                self.computed(worker, kind);
            }
            Source::Server(number) => {
                let worker = self.servers[number].leave().expect("somebody is served");
                self.step_done(worker);
            }
            Source::Calendar => {
                let Reverse((_, _, event, worker)) = self.calendar.pop().expect("an entry");
                match event {
                    Event::Awake => self.claim(worker),
                    Event::Permitted => self.permitted(worker),
                    Event::StepDone => self.slept(worker),
                    Event::Failed => self.failed(worker),
                    Event::Due => self.due.push_back(worker),
                }
            }
        }
    }

    fn tick(&mut self) {
        let scene = Scene { runnable: self.cores.runnable(), queued: self.queued(), paced: self.paced };
        self.sizing.tick(self.now, scene);
    }

    fn claim(&mut self, worker: usize) {
        if self.queued() == 0 || self.present > self.sizing.limit() {
            self.present -= 1;
            self.parked.push(worker);
            self.workers[worker].untold.waits();
            return;
        }
        let (first, end, fresh) = self.take_items();
        self.claims += 1;
        let ticket = self.sizing.start(self.now, fresh);
        let mut untold = self.workers[worker].untold;
        let untold_before = if is_measured(ticket) { untold.read() } else { 0.0 };
        let (item, started) = (first, self.now);
        let claimed = Worker { item, end, ticket, started, untold, untold_before, ..Worker::default() };
        self.workers[worker] = claimed;
        match &mut self.limiter {
            Some(permits) => {
                self.paced += 1;
                self.workers[worker].untold.waits();
                let at = permits.take(self.now);
                self.enter(at, Event::Permitted, worker);
            }
            None => self.go_on(worker),
        }
    }

    /// What is to be tried again and what is fresh, by turns: from where to where, and how many of it are fresh.
    fn take_items(&mut self) -> (usize, usize, usize) {
        let is_turn_of_fresh = self.retried_last && self.next < self.items.len();
        self.retried_last = !self.due.is_empty() && !is_turn_of_fresh;
        if self.retried_last {
            let item = self.due.pop_front().expect("one is due");
            return (item, item + 1, 0);
        }
        let first = self.next;
        self.next = (first + self.machine.claim).min(self.items.len());
        (first, self.next, self.next - first)
    }

    fn permitted(&mut self, worker: usize) {
        self.paced -= 1;
        self.workers[worker].started = self.now;
        self.go_on(worker);
    }

    fn step(&self, worker: usize) -> Step {
        let Worker { item, step, .. } = self.workers[worker];
        self.items[item][step]
    }

    fn go_on(&mut self, worker: usize) {
        if !matches!(self.step(worker), Step::Compute(_) | Step::Memory(_) | Step::Spin(_)) {
            self.workers[worker].untold.waits();
        }
        match self.step(worker) {
            Step::Compute(seconds) => self.compute(worker, PLAIN, seconds),
            Step::Memory(seconds) => self.compute(worker, MEMORY, seconds),
            Step::Spin(seconds) => self.compute(worker, SPIN, seconds),
            Step::Child(seconds) => self.compute(worker, CHILD, seconds),
            Step::Sleep(seconds) => self.enter(self.now + seconds + OVERSLEEP, Event::StepDone, worker),
            Step::Fail => self.failed(worker),
            Step::Request(number, seconds) => match self.servers[number].enter(worker, seconds) {
                Entry::Seat(seconds) => self.enter(self.now + seconds, Event::StepDone, worker),
                Entry::Waits => {}
                Entry::Refused(seconds) => self.enter(self.now + seconds, Event::Failed, worker),
            },
            Step::Locked(seconds) => {
                if self.lock.take(worker, seconds) {
                    self.compute(worker, PLAIN, seconds);
                }
            }
            Step::Token => {
                let at = self.hidden_rate.as_mut().expect("a rate limit").take(self.now);
                self.enter(at, Event::StepDone, worker);
            }
        }
    }

    fn compute(&mut self, worker: usize, kind: usize, seconds: f64) {
        self.workers[worker].computes_since = (self.now, self.cores.clock());
        self.cores.enter(kind, worker, seconds);
    }

    fn computed(&mut self, worker: usize, kind: usize) {
        if kind != CHILD {
            let Worker { computes_since: (now, clock), .. } = self.workers[worker];
            self.workers[worker].cpu += self.cores.clock() - clock;
            self.workers[worker].untold.computes(self.cores.clock() - clock);
            self.workers[worker].runnable += self.now - now;
        }
        if let Some((next, seconds)) = self.lock.pass_on(worker, self.machine.convoy) {
            self.compute(next, PLAIN, seconds);
        }
        self.step_done(worker);
    }

    fn slept(&mut self, worker: usize) {
        if let Step::Request(number, _) = self.step(worker) {
            if self.servers[number].has_seats() {
                if let Some((next, seconds)) = self.servers[number].next_seat() {
                    self.enter(self.now + seconds, Event::StepDone, next);
                }
            }
        }
        self.step_done(worker);
    }

    fn step_done(&mut self, worker: usize) {
        let it = &mut self.workers[worker];
        it.step += 1;
        if it.step < self.items[it.item].len() {
            return self.go_on(worker);
        }
        self.values += 1;
        self.done += 1;
        self.item_done(worker);
    }

    fn failed(&mut self, worker: usize) {
        self.failures += 1;
        let it = &mut self.workers[worker];
        it.failed += 1;
        match self.machine.retry {
            Some(after) => {
                let item = it.item;
                self.enter(self.now + after, Event::Due, item);
            }
            None => self.done += 1,
        }
        self.item_done(worker);
    }

    fn item_done(&mut self, worker: usize) {
        let it = &mut self.workers[worker];
        it.step = 0;
        it.item += 1;
        if it.item < it.end {
            return self.go_on(worker);
        }
        self.claims -= 1;
        let Worker { ticket, failed, started, cpu, runnable, untold_before, .. } = *it;
        let untold = if is_measured(ticket) { it.untold.read() } else { 0.0 };
        let (told, delay) = ((cpu + untold_before - untold).max(0.0), (runnable - cpu).max(0.0));
        self.sizing.complete(ticket, Ended { failed, started, at: self.now, cpu, told, delay });
        self.claim(worker);
    }
}
