//! The batches that the controller is measured with.

use crate::machine::{Machine, Step::*};
use crate::rng::Rng;
use crate::simulation::Item;

pub(crate) const MOST: usize = 256;

/// What callers get who set none.
const DEFAULT: usize = 64;

const MS: f64 = 1e-3;

/// What an item does, from its index and the number of them.
type Make = Box<dyn Fn(&mut Rng, usize, usize) -> Item + Send + Sync>;

/// How long a batch lasts, in times of its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Tiny,
    /// Some item times for each worker that it could use.
    Medium,
    /// About twenty.
    Long,
    /// Whatever: has goals of its own.
    Any,
}

pub(crate) struct Workload {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) length: Length,
    pub(crate) machine: Machine,
    pub(crate) items: usize,
    /// The best fixed number, where it need not be found by trying.
    pub(crate) best: Option<usize>,
    /// The most workers that there may be.
    pub(crate) most: usize,
    make: Make,
}

impl Workload {
    pub(crate) fn items(&self, seed: u64) -> Vec<Item> {
        let mut rng = Rng::new(seed);
        (0..self.items).map(|index| (self.make)(&mut rng, index, self.items)).collect()
    }
}

/// Collects workloads for one number of cores.
pub(crate) struct Collection {
    pub(crate) cores: usize,
    group: &'static str,
    length: Length,
    most: usize,
    found: Vec<Workload>,
}

impl Collection {
    pub(crate) fn found(self) -> Vec<Workload> {
        self.found
    }

    pub(crate) fn new(cores: usize) -> Self {
        Collection { cores, group: "", length: Length::Long, most: MOST, found: Vec::new() }
    }

    pub(crate) fn group(&mut self, group: &'static str) -> &mut Self {
        self.group = group;
        self
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine::new(self.cores)
    }

    pub(crate) fn on(
        &mut self,
        machine: Machine,
        name: impl Into<String>,
        items: usize,
        make: impl Fn(&mut Rng, usize, usize) -> Item + Send + Sync + 'static,
    ) {
        let (name, make, best) = (name.into(), Box::new(make), None);
        let Collection { group, length, most, .. } = *self;
        self.found.push(Workload { group, name, length, machine, items, best, most, make });
    }

    /// The best number for the last one is known.
    pub(crate) fn best(&mut self, workers: usize) {
        self.found.last_mut().expect("a workload").best = Some(workers);
    }

    /// This many are served in this many ms, by turns from a queue or all at once; each above makes it slower by `decline`.
    pub(crate) fn declining(&mut self, seats: usize, decline: f64, ms: f64, items: usize) {
        let (each, share) = (decline * seats as f64, seats as f64);
        let name = |kind| format!("{kind} of {seats}, {decline} for each above, {ms} ms x {items}");
        let item = move |r: &mut Rng, _, _| vec![Compute(2e-5), Request(0, ms * MS * r.lognormal(0.2))];
        self.on(self.machine().queue(seats, each), name("queue"), items, item);
        self.on(self.machine().sharing(share, each), name("sharing"), items, item);
    }

    /// The server refuses all above this many, after this many ms; once for good, and once with other attempts.
    pub(crate) fn refusing(&mut self, seats: usize, ms: f64, after: f64, items: usize) {
        let name = |kind| format!("{seats} at once, {ms} ms, refuses in {after} ms, x {items}{kind}");
        let item = move |r: &mut Rng, _, _| vec![Compute(2e-5), Request(0, ms * MS * r.lognormal(0.2))];
        let machine = self.machine().refusing(seats, after * MS);
        self.on(machine.clone(), name(""), items, item);
        self.best(seats);
        self.on(machine.retry(ms * MS), name(", retried"), items, item);
        self.best(seats);
    }

    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        items: usize,
        make: impl Fn(&mut Rng, usize, usize) -> Item + Send + Sync + 'static,
    ) {
        self.on(self.machine(), name, items, make);
    }
}

pub(crate) fn all(cores: usize) -> Vec<Workload> {
    let mut all = Collection::new(cores);
    computing(&mut all);
    contended(&mut all);
    waiting(&mut all);
    mixed(&mut all);
    served(&mut all);
    limited(&mut all);
    changing(&mut all);
    skewed(&mut all);
    tiny(&mut all);
    medium(&mut all);
    declining(&mut all);
    refusing(&mut all);
    failing(&mut all);
    all.found()
}

fn computing(all: &mut Collection) {
    let c = all.cores;
    all.group("cpu");
    all.add("10 ms", 20 * c, |r, _, _| vec![Compute(10.0 * MS * r.lognormal(0.1))]);
    all.add("1 ms exponential", 100 * c, |r, _, _| vec![Compute(MS * r.exponential())]);
    all.add("100 us", 400 * c, |r, _, _| vec![Compute(0.1 * MS * r.lognormal(0.1))]);
    all.add("100 ms", 20 * c, |r, _, _| vec![Compute(100.0 * MS * r.lognormal(0.2))]);
    let busy = all.machine().background(c as f64 / 2.0);
    all.on(busy, "5 ms, half the cores busy", 40 * c, |r, _, _| vec![Compute(5.0 * MS * r.lognormal(0.3))]);
    let claims = all.machine().claims_of(10);
    all.on(claims, "5 us in claims of 10", 8_000 * c, |r, _, _| vec![Compute(5e-6 * r.exponential())]);
    all.group("child");
    all.add("20 ms of a child", 40 * c, |r, _, _| {
        vec![Compute(0.1 * MS), Child(20.0 * MS * r.lognormal(0.3))]
    });
    all.add("5 ms of a child, 20 ms wait", 20 * (5 * c).min(MOST), |r, _, _| {
        vec![Compute(0.1 * MS), Child(5.0 * MS * r.lognormal(0.3)), Sleep(20.0 * MS * r.lognormal(0.3))]
    });
}

fn contended(all: &mut Collection) {
    let c = all.cores;
    all.group("memory");
    let memory = all.machine().memory((c as f64 / 2.0).max(1.0), 0.03);
    all.on(memory, "2 ms, half the cores saturate", 60 * c, |r, _, _| {
        vec![Memory(2.0 * MS * r.lognormal(0.2))]
    });
    all.group("lock");
    for (name, convoy) in [("0.2 ms and 0.2 ms held", 0.0), ("convoy, 3 % a waiter", 0.03)] {
        all.on(all.machine().convoy(convoy), name, 1_000, |r, _, _| {
            vec![Compute(0.2 * MS * r.lognormal(0.3)), Locked(0.2 * MS)]
        });
    }
    all.add("10 ms wait and 0.5 ms held", 800, |r, _, _| {
        vec![Sleep(10.0 * MS * r.lognormal(0.3)), Locked(0.5 * MS)]
    });
    for (contention, coherency) in [(0.05, 0.02), (0.3, 0.15)] {
        let name = format!("spin {contention} {coherency}");
        let spin = all.machine().spin(contention, coherency);
        all.on(spin, name, 80 * c, |r, _, _| vec![Spin(MS * r.lognormal(0.3))]);
    }
}

fn waiting(all: &mut Collection) {
    let n = 20 * MOST;
    all.group("wait");
    for ms in [1.0, 10.0, 100.0] {
        all.add(format!("{ms} ms"), n, move |_, _, _| vec![Compute(1e-5), Sleep(ms * MS)]);
    }
    all.add("10 ms lognormal 0.5", n, |r, _, _| vec![Compute(1e-5), Sleep(10.0 * MS * r.lognormal(0.5))]);
    all.add("10 ms exponential", n, |r, _, _| vec![Compute(1e-5), Sleep(10.0 * MS * r.exponential())]);
    let busy = all.machine().background(all.cores as f64 * 0.9);
    all.on(busy, "10 ms, nine cores in ten busy", n, |r, _, _| {
        vec![Compute(1e-5), Sleep(10.0 * MS * r.lognormal(0.2))]
    });
}

fn mixed(all: &mut Collection) {
    let c = all.cores;
    all.group("mixed");
    all.add("1 ms cpu, 9 ms wait", 20 * (10 * c).min(MOST), |r, _, _| {
        vec![Compute(MS * r.lognormal(0.3)), Sleep(9.0 * MS * r.lognormal(0.3))]
    });
    all.add("2 ms cpu, 2 ms wait, exponential", 40 * c, |r, _, _| {
        vec![Compute(2.0 * MS * r.exponential()), Sleep(2.0 * MS * r.exponential())]
    });
    all.add("1 ms cpu, 50 ms wait, exponential", 20 * (50 * c).min(MOST), |r, _, _| {
        let wait = Sleep(50.0 * MS * r.exponential());
        vec![Compute(0.5 * MS * r.exponential()), wait, Compute(0.5 * MS * r.exponential())]
    });
    all.add("five times 1 ms cpu, 4 ms wait", 100 * c, |r, _, _| {
        let mut once = || [Compute(MS * r.lognormal(0.5)), Sleep(4.0 * MS * r.lognormal(0.5))];
        (0..5).flat_map(|_| once()).collect()
    });
}

fn served(all: &mut Collection) {
    all.group("backend");
    for seats in [4, 16, 64] {
        let name = format!("queue, {seats} seats");
        all.on(all.machine().queue(seats, 0.0), name, 20 * seats.max(8), |r, _, _| {
            vec![Compute(2e-5), Request(0, 10.0 * MS * r.lognormal(0.3))]
        });
    }
    let sharing =
        [(16, 0.0, 640), (16, 0.05, 640), (16, 0.2, 640), (64, 0.1, 2_560), (8, 0.1, 2_000), (8, 0.1, 160)];
    for (seats, decline, items) in sharing {
        let name = format!("sharing, {seats} seats, decline {decline}, {items} items");
        all.on(all.machine().sharing(f64::from(seats), decline), name, items, |r, _, _| {
            vec![Compute(2e-5), Request(0, 10.0 * MS * r.lognormal(0.5))]
        });
    }
}

fn limited(all: &mut Collection) {
    for (per_second, burst, ms, items) in [(500.0, 5.0, 20.0, 1_000), (2_000.0, 20.0, 50.0, 4_000)] {
        let name = format!("{per_second} a second, {ms} ms");
        all.group("rate");
        all.on(all.machine().hidden_rate(per_second, burst), name.clone(), items, move |r, _, _| {
            vec![Token, Sleep(ms * MS * r.lognormal(0.3))]
        });
        all.group("limiter");
        all.on(all.machine().limiter(per_second, burst), name, items, move |r, _, _| {
            vec![Sleep(ms * MS * r.lognormal(0.3))]
        });
    }
}

fn changing(all: &mut Collection) {
    let (c, n) = (all.cores, 10 * MOST);
    all.group("phase");
    let cpu = |r: &mut Rng| vec![Compute(2.0 * MS * r.lognormal(0.2))];
    let wait = |r: &mut Rng| vec![Sleep(10.0 * MS * r.lognormal(0.2))];
    all.add(
        "cpu 2 ms, then wait 10 ms",
        40 * c + n,
        move |r, i, _| if i < 40 * c { cpu(r) } else { wait(r) },
    );
    all.add("wait 10 ms, then cpu 2 ms", 40 * c + n, move |r, i, _| if i >= n { cpu(r) } else { wait(r) });
    all.add("wait 2 ms, then wait 50 ms", 4 * n, |r, i, n| {
        vec![Sleep(if i < n / 2 { 2.0 } else { 50.0 } * MS * r.lognormal(0.2))]
    });
    let two = all.machine().sharing(8.0, 0.1).sharing(64.0, 0.1);
    all.on(two.clone(), "sharing, 8 seats, then 64", 2_900, |r, i, _| {
        vec![Request(usize::from(i >= 400), 10.0 * MS * r.lognormal(0.3))]
    });
    all.on(two, "sharing, 64 seats, then 8", 2_900, |r, i, _| {
        vec![Request(usize::from(i < 2_500), 10.0 * MS * r.lognormal(0.3))]
    });
    all.add("cpu and wait by turns", 4 * (20 * c + 2 * MOST), |r, i, n| match (i * 8 / n) % 2 {
        0 => vec![Compute(3.0 * MS * r.lognormal(0.2))],
        _ => vec![Sleep(10.0 * MS * r.lognormal(0.2))],
    });
}

fn skewed(all: &mut Collection) {
    let (c, n) = (all.cores, 20 * MOST);
    all.group("skewed");
    all.add("wait pareto 1.5, 10 ms", n, |r, _, _| vec![Sleep(10.0 * MS * r.pareto(1.5))]);
    all.add("wait lognormal 1.5, 10 ms", n, |r, _, _| vec![Sleep(10.0 * MS * r.lognormal(1.5))]);
    all.add("wait 2 ms, one in twenty 100 ms", n, |r, _, _| {
        vec![Sleep(if r.uniform() < 0.95 { 2.0 } else { 100.0 } * MS * r.lognormal(0.1))]
    });
    all.add("cpu pareto 1.5, 3 ms", 100 * c, |r, _, _| vec![Compute(3.0 * MS * r.pareto(1.5))]);
    all.on(all.machine().queue(16, 0.1), "queue, 16 seats, decline 0.1, lognormal 1.5", 1_000, |r, _, _| {
        vec![Request(0, 10.0 * MS * r.lognormal(1.5))]
    });
    all.add("half cpu 2 ms, half wait 20 ms", 20 * (11 * c).min(MOST), |r, _, _| {
        if r.uniform() < 0.5 {
            vec![Compute(2.0 * MS * r.lognormal(0.2))]
        } else {
            vec![Sleep(20.0 * MS * r.lognormal(0.2))]
        }
    });
}

fn tiny(all: &mut Collection) {
    all.group("tiny");
    all.length = Length::Tiny;
    for n in [5, 10, 20, 50] {
        for ms in [100.0, 5.0] {
            all.add(format!("{n} waits of {ms} ms"), n, move |_, _, _| vec![Compute(1e-5), Sleep(ms * MS)]);
        }
        all.add(format!("{n} of 5 ms cpu"), n, |r, _, _| vec![Compute(5.0 * MS * r.lognormal(0.2))]);
        all.add(format!("{n} of 50 us cpu"), n, |r, _, _| vec![Compute(0.05 * MS * r.lognormal(0.2))]);
        all.add(format!("{n} of 1 ms cpu, 9 ms wait"), n, |r, _, _| {
            vec![Compute(MS * r.lognormal(0.3)), Sleep(9.0 * MS * r.lognormal(0.3))]
        });
    }
    for decline in [0.1, 0.02] {
        let name = format!("50, sharing, 8 seats, decline {decline}");
        all.on(all.machine().sharing(8.0, decline), name, 50, |r, _, _| {
            vec![Request(0, 10.0 * MS * r.lognormal(0.5))]
        });
    }
}

fn medium(all: &mut Collection) {
    all.group("medium");
    all.length = Length::Medium;
    all.most = DEFAULT;
    all.add("300 waits of 10 ms", 300, |_, _, _| vec![Compute(1e-5), Sleep(10.0 * MS)]);
    all.add("1000 waits of 10 ms, exponential", 1_000, |r, _, _| {
        vec![Compute(1e-5), Sleep(10.0 * MS * r.exponential())]
    });
    all.add("1000 waits of 1 ms", 1_000, |_, _, _| vec![Compute(1e-5), Sleep(MS)]);
    all.add("200 of 1 ms cpu, 9 ms wait", 200, |r, _, _| {
        vec![Compute(MS * r.lognormal(0.3)), Sleep(9.0 * MS * r.lognormal(0.3))]
    });
}

/// The more there are above its number, the slower a server is.
fn declining(all: &mut Collection) {
    all.most = MOST;
    all.group("declining");
    all.length = Length::Any;
    for (seats, decline, ms, items) in [
        (2, 0.03, 10.0, 600),
        (2, 0.2, 10.0, 200),
        (3, 0.1, 5.0, 300),
        (4, 0.2, 20.0, 300),
        (6, 0.12, 6.0, 600),
        (8, 0.05, 12.0, 400),
        (8, 0.2, 10.0, 2_000),
        (12, 0.1, 8.0, 1_000),
        (16, 0.03, 10.0, 500),
        (16, 0.15, 50.0, 1_500),
        (24, 0.03, 20.0, 2_000),
        (24, 0.06, 12.0, 700),
        (24, 0.2, 10.0, 200),
    ] {
        all.declining(seats, decline, ms, items);
    }
}

/// What is too much for a server fails.
fn refusing(all: &mut Collection) {
    all.group("refusing");
    all.length = Length::Any;
    for (seats, ms, after, items) in [
        (8, 20.0, 0.05, 400),
        (16, 20.0, 0.05, 800),
        (24, 5.0, 0.05, 1_000),
        (32, 10.0, 0.05, 1_500),
        (64, 20.0, 0.05, 3_000),
        (12, 5.0, 10.0, 600),
        (16, 20.0, 20.0, 800),
        (32, 20.0, 60.0, 1_500),
    ] {
        all.refusing(seats, ms, after, items);
    }
}

/// Items that fail at any number of workers.
fn failing(all: &mut Collection) {
    all.group("failing");
    all.length = Length::Any;
    let n = 10 * MOST;
    for (share, quick) in [(0.02, true), (0.02, false), (0.3, true), (0.3, false)] {
        let name = format!("10 ms, {share} fail{}", if quick { " at once" } else { "" });
        all.add(name, n, move |r, _, _| {
            let fails = r.uniform() < share;
            let wait = Sleep(if fails && quick { 0.1 } else { 10.0 } * MS * r.lognormal(0.2));
            if fails { vec![wait, Fail] } else { vec![wait] }
        });
    }
    all.add("2 ms cpu, 0.2 fail", 100 * all.cores, |r, _, _| {
        let work = Compute(2.0 * MS * r.lognormal(0.2));
        if r.uniform() < 0.2 { vec![work, Fail] } else { vec![work] }
    });
    all.best(all.cores);
}
