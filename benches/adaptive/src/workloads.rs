//! Every workload, in the order of the table. Each is large enough that the best fixed number needs 0.1 to 1.5 s.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use batch_executor::{RateLimit, RateLimiter};

use crate::backend::{Backend, Refusing};
use crate::machine::cores;
use crate::row::{Group, Op, Row, ms, op};
use crate::spin::{rounds_in, spin};

pub fn all() -> Vec<Row> {
    let groups =
        [waiting(), computing(), mixed(), locked(), served(), refusing(), limited(), changing(), tiny()];
    groups.into_iter().flatten().collect()
}

fn wait(time: Duration) {
    thread::sleep(time);
}

fn compute(time: Duration) {
    spin(rounds_in(time));
}

fn waiting() -> Vec<Row> {
    let about = |time| move || op(move |dice, _| wait(dice.about(time)));
    vec![
        Row::new(Group::Waiting, "waiting 1 ms", 12_800, about(ms(1.0))),
        Row::new(Group::Waiting, "waiting 10 ms", 2_560, about(ms(10.0))).pictured(),
        Row::new(Group::Waiting, "waiting 100 ms", 1_280, about(ms(100.0))),
        Row::new(Group::Waiting, "waiting 10 ms, exponential", 2_560, || {
            op(|dice, _| wait(dice.exponential(ms(10.0))))
        }),
    ]
}

fn computing() -> Vec<Row> {
    let about = |time| move || op(move |dice, _| compute(dice.about(time)));
    vec![
        Row::new(Group::Cpu, "CPU 50 µs", 10_000 * cores(), about(ms(0.05))),
        Row::new(Group::Cpu, "CPU 1 ms", 500 * cores(), about(ms(1.0))).pictured(),
    ]
}

fn mixed() -> Vec<Row> {
    let both = |cpu, pause| {
        move || {
            op(move |dice, _| {
                compute(dice.about(cpu));
                wait(dice.about(pause));
            })
        }
    };
    let by_turns = || {
        op(|dice, index| match index % 2 {
            0 => compute(dice.about(ms(1.0))),
            _ => wait(dice.about(ms(20.0))),
        })
    };
    vec![
        Row::new(Group::Mixed, "mixed, CPU 1 ms and waiting 1 ms", 400 * cores(), both(ms(1.0), ms(1.0))),
        Row::new(Group::Mixed, "mixed, CPU 0.5 ms and waiting 10 ms", 800 * cores(), both(ms(0.5), ms(10.0))),
        Row::new(Group::Mixed, "mixed, by turns CPU 1 ms or waiting 20 ms", 800 * cores(), by_turns),
    ]
}

fn locked() -> Vec<Row> {
    let holding = |before: fn(Duration), first, held| {
        move || {
            let lock = Mutex::new(());
            op(move |dice, _| {
                before(dice.about(first));
                let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
                compute(dice.about(held));
            })
        }
    };
    vec![
        Row::new(Group::Lock, "mutex, CPU 0.2 ms and 0.2 ms held", 2_000, holding(compute, ms(0.2), ms(0.2))),
        Row::new(Group::Lock, "mutex, waiting 10 ms and 0.5 ms held", 800, holding(wait, ms(10.0), ms(0.5))),
    ]
}

/// This many seats, and how long a request takes; then by how much longer for as many again that queue.
fn served() -> Vec<Row> {
    let behind = |seats, service, decline| {
        move || {
            let backend = Backend::new(seats, service, decline);
            op(move |_, _| backend.request())
        }
    };
    vec![
        Row::new(Group::Flat, "flat backend, 8 × 10 ms", 400, behind(8, ms(10.0), 0.0)).pictured(),
        Row::new(Group::Flat, "flat backend, 32 × 20 ms", 800, behind(32, ms(20.0), 0.0)),
        Row::new(Group::Declining, "declining backend 0.1, 8 × 5 ms", 800, behind(8, ms(5.0), 0.1))
            .pictured(),
        Row::new(Group::Declining, "declining backend 0.2, 4 × 5 ms", 300, behind(4, ms(5.0), 0.2)),
        Row::new(Group::Declining, "backend of 6, .12 for each above, 6 ms", 600, behind(6, ms(6.0), 0.72)),
        Row::new(
            Group::Declining,
            "backend of 16, .03 for each above, 10 ms",
            500,
            behind(16, ms(10.0), 0.48),
        ),
        Row::new(
            Group::Declining,
            "backend of 24, .06 for each above, 12 ms",
            700,
            behind(24, ms(12.0), 1.44),
        ),
    ]
}

/// The server runs a fixed number of requests at once, and fails all others after a while.
fn refusing() -> Vec<Row> {
    let server = |seats, service: Duration, after| {
        move || -> Op {
            let server = Refusing::new(seats, after);
            Box::new(move |dice, _| server.request(dice.about(service)))
        }
    };
    let row = |name, items, server| Row::new(Group::Refusing, name, items, server);
    vec![
        row("refusing server, 16 × 20 ms", 800, server(16, ms(20.0), ms(0.0))),
        row("refusing server, 32 × 10 ms", 1_500, server(32, ms(10.0), ms(0.0))),
        row("server for 16 × 20 ms, others fail after 40 ms", 800, server(16, ms(20.0), ms(40.0))),
    ]
}

fn limited() -> Vec<Row> {
    let hidden = || {
        let server = RateLimit::per_second(500).burst(5);
        op(move |dice, _| {
            server.acquire().expect("a permit a request");
            wait(dice.about(ms(20.0)));
        })
    };
    vec![
        Row::new(Group::Rate, "server that takes 500 a second, 20 ms", 300, hidden),
        Row::new(Group::Rate, "RateLimit of 200 a second, 20 ms", 100, || {
            op(|dice, _| wait(dice.about(ms(20.0))))
        })
        .limit(200),
    ]
}

/// One kind of items and then another.
fn changing() -> Vec<Row> {
    let phases = |first: (usize, fn(Duration), Duration), then: (usize, fn(Duration), Duration)| {
        let item = move || -> Op {
            op(move |dice, index| {
                let (_, work, time) = if index < first.0 { first } else { then };
                work(dice.about(time));
            })
        };
        (first.0 + then.0, item)
    };
    let cpu = (100 * cores(), compute as fn(Duration), ms(2.0));
    let waits = (1_280, wait as fn(Duration), ms(10.0));
    let (short, long) = ((2_560, wait as fn(Duration), ms(2.0)), (1_280, wait as fn(Duration), ms(20.0)));
    let row = |name, (items, item)| Row::new(Group::Phases, name, items, item);
    vec![
        row("phases, CPU 2 ms, then waiting 10 ms", phases(cpu, waits)),
        row("phases, waiting 10 ms, then CPU 2 ms", phases(waits, cpu)),
        row("phases, waiting 2 ms, then 20 ms", phases(short, long)),
    ]
}

fn tiny() -> Vec<Row> {
    let batch = |items: usize| {
        let name = format!("tiny, {items} waiting 1 to 10 ms");
        Row::new(Group::Tiny, name, items, || op(|dice, _| wait(ms(dice.between(1.0, 10.0))))).batches(20)
    };
    [1, 4, 16, 50].map(batch).into()
}
