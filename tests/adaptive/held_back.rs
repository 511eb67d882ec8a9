//! Workloads with which nothing in the controller was chosen: other parameters, other mixtures, other numbers of cores.

use crate::machine::Step::*;
use crate::workloads::{Collection, Workload};

const MS: f64 = 1e-3;

pub(crate) fn all(cores: usize) -> Vec<Workload> {
    let mut all = Collection::new(cores);
    computing(&mut all);
    waiting(&mut all);
    served(&mut all);
    changing(&mut all);
    all.found()
}

fn computing(all: &mut Collection) {
    let c = all.cores;
    all.group("cpu");
    all.add("3 ms lognormal 0.8", 60 * c, |r, _, _| vec![Compute(3.0 * MS * r.lognormal(0.8))]);
    let busy = all.machine().background(c as f64 / 4.0);
    all.on(busy, "7 ms, a quarter of the cores busy", 30 * c, |r, _, _| {
        vec![Compute(7.0 * MS * r.exponential())]
    });
    all.group("memory");
    let memory = all.machine().memory((c as f64 / 3.0).max(1.0), 0.06);
    all.on(memory, "1 ms, a third of the cores saturate", 100 * c, |r, _, _| {
        vec![Memory(MS * r.lognormal(0.4))]
    });
    all.group("lock");
    all.on(all.machine().spin(0.1, 0.05), "spin 0.1 0.05", 100 * c, |r, _, _| {
        vec![Spin(2.0 * MS * r.lognormal(0.2))]
    });
    all.on(all.machine().convoy(0.015), "convoy, 1.5 % a waiter", 1_500, |r, _, _| {
        vec![Compute(0.4 * MS * r.lognormal(0.5)), Locked(0.1 * MS)]
    });
    all.add("3 ms wait and 0.1 ms held", 2_000, |r, _, _| {
        vec![Sleep(3.0 * MS * r.lognormal(0.5)), Locked(0.1 * MS)]
    });
    all.group("mixed");
    all.add("3 ms cpu, 12 ms wait", 20 * (5 * c).min(256), |r, _, _| {
        vec![Compute(3.0 * MS * r.lognormal(0.5)), Sleep(12.0 * MS * r.exponential())]
    });
    all.add("one in five 20 ms cpu, others wait 5 ms", 60 * c, |r, _, _| {
        if r.uniform() < 0.2 { vec![Compute(20.0 * MS * r.lognormal(0.3))] } else { vec![Sleep(5.0 * MS)] }
    });
}

fn waiting(all: &mut Collection) {
    all.group("wait");
    all.add("30 ms lognormal 1", 4_000, |r, _, _| vec![Compute(3e-5), Sleep(30.0 * MS * r.lognormal(1.0))]);
    all.add("3 ms uniform", 8_000, |r, _, _| vec![Compute(2e-5), Sleep(6.0 * MS * r.uniform())]);
    all.add("400 ms", 3_000, |r, _, _| vec![Sleep(400.0 * MS * r.lognormal(0.3))]);
    let claims = all.machine().claims_of(4);
    all.on(claims, "0.3 ms in claims of 4", 40_000, |r, _, _| {
        vec![Compute(5e-6), Sleep(0.24 * MS * r.lognormal(0.3))]
    });
    all.group("rate");
    all.on(all.machine().hidden_rate(150.0, 1.0), "150 a second, 100 ms", 900, |r, _, _| {
        vec![Token, Sleep(100.0 * MS * r.exponential())]
    });
    all.group("limiter");
    all.on(all.machine().limiter(150.0, 1.0), "150 a second, 100 ms", 900, |r, _, _| {
        vec![Sleep(100.0 * MS * r.exponential())]
    });
}

fn served(all: &mut Collection) {
    all.group("backend");
    for (seats, decline, sigma, items) in
        [(10, 0.05, 0.3, 800), (24, 0.15, 0.8, 1_500), (100, 0.03, 0.5, 3_000), (5, 0.05, 0.5, 600)]
    {
        let name = format!("sharing, {seats} seats, decline {decline}, lognormal {sigma}");
        all.on(all.machine().sharing(f64::from(seats), decline), name, items, move |r, _, _| {
            vec![Compute(5e-5), Request(0, 25.0 * MS * r.lognormal(sigma))]
        });
    }
    for (seats, decline, items) in [(30, 0.0, 900), (12, 0.05, 600), (120, 0.02, 3_000)] {
        let name = format!("queue, {seats} seats, decline {decline}");
        all.on(all.machine().queue(seats, decline), name, items, |r, _, _| {
            vec![Compute(5e-5), Request(0, 15.0 * MS * r.lognormal(0.5))]
        });
    }
    all.on(all.machine().sharing(12.0, 0.1), "2 ms cpu, then sharing, 12 seats", 1_000, |r, _, _| {
        vec![Compute(0.5 * MS * r.lognormal(0.3)), Request(0, 8.0 * MS * r.lognormal(0.3))]
    });
}

fn changing(all: &mut Collection) {
    let c = all.cores;
    all.group("phase");
    all.add("wait 30 ms, then half cpu", 2_000, move |r, i, n| {
        if i < n / 2 {
            vec![Sleep(30.0 * MS * r.lognormal(0.3))]
        } else {
            vec![Compute(MS), Sleep(4.0 * MS * r.exponential())]
        }
    });
    all.add("three waits of 5 ms, 40 ms, 1 ms", 6_000, |r, i, n| {
        vec![Sleep([5.0, 40.0, 1.0][(3 * i / n).min(2)] * MS * r.lognormal(0.3))]
    });
    all.on(all.machine().sharing(20.0, 0.1), "sharing, 20 seats, then cpu 3 ms", 800 + 60 * c, |r, i, _| {
        if i < 800 {
            vec![Request(0, 10.0 * MS * r.lognormal(0.4))]
        } else {
            vec![Compute(3.0 * MS * r.lognormal(0.2))]
        }
    });
}
