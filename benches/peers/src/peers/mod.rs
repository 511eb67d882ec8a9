//! Those who are measured. Each takes the same items, runs the same operation on each of them, and hands back every
//! outcome in input order; what it does less or more than that stands at its type.

mod crossbeam;
mod handout;
mod orx;
mod ours;
mod pariter;
mod qubit;
mod rayon;
mod scope;
mod threadpool;
mod tokio;

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::contestant::{Contestant, Field, OURS, Run, ids};
use crate::row::Row;
use crate::table::{Column, Table, Unit};
use crate::work::{Op, Outcome};

/// Runs a batch. What can be kept from batch to batch is kept in `self`.
trait Peer<O> {
    /// Whatever it gives back.
    type Results;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results;

    /// The values, in the order of the results, to see that the work was done.
    fn values(results: Self::Results) -> Vec<u64>;
}

/// A peer that is given a vector of items.
struct Batches<P>(P);

impl<O: Op, P: Peer<O>> Run<O> for Batches<P> {
    /// Dropping the results is part of the time, building the items was not.
    fn time(&self, items: usize, op: O) -> Duration {
        let items = ids(items);
        let since = Instant::now();
        drop(black_box(self.0.run(items, op)));
        since.elapsed()
    }

    fn values(&self, items: usize, op: O) -> Vec<u64> {
        P::values(self.0.run(ids(items), op))
    }
}

/// The values of outcomes that are all there.
fn all_ok(outcomes: Vec<Outcome>) -> Vec<u64> {
    outcomes.into_iter().filter_map(Result::ok).collect()
}

/// Numbered outcomes, as they came, put into the order of their numbers.
fn in_order(items: usize, numbered: impl Iterator<Item = (usize, Outcome)>) -> Vec<Outcome> {
    let mut slots: Vec<Option<Outcome>> = vec![None; items];
    for (index, outcome) in numbered {
        slots[index] = Some(outcome);
    }
    slots.into_iter().flatten().collect()
}

pub const TABLE: Table = Table { what: "batch", unit: Unit::Micros, columns: COLUMNS };

/// The columns after ours.
pub const COLUMNS: &[Column] = &[
    Column { name: "rayon", package: Some("rayon") },
    Column { name: "rayon, equal work", package: Some("rayon") },
    Column { name: "orx-parallel", package: Some("orx-parallel") },
    Column { name: "qubit-batch", package: Some("qubit-batch") },
    Column { name: "pariter", package: Some("pariter") },
    Column { name: "threadpool, mpsc", package: Some("threadpool") },
    Column { name: "crossbeam-channel", package: Some("crossbeam-channel") },
    Column { name: "tokio, buffered", package: Some("tokio") },
    Column { name: "thread::scope, atomic", package: None },
];

/// Stands in no column but in a note, since it is comparable for a batch of one alone.
pub const RAYON_GLOBAL: &str = "rayon, global pool";

/// Ours, and everybody else.
pub struct Everybody;

impl Field for Everybody {
    fn contestants<O: Op>(&self, row: &Row) -> Vec<Contestant<O>> {
        let workers = row.workers;
        let mut all = vec![
            batches(OURS, ours::Ours::new(workers)),
            batches("rayon", rayon::Plain::new(workers)),
            batches("rayon, equal work", rayon::EqualWork::new(workers)),
            batches("qubit-batch", qubit::Qubit::new(row)),
            batches("pariter", pariter::Pariter::new(workers)),
            batches("threadpool, mpsc", threadpool::Jobs::new(workers)),
            batches("crossbeam-channel", crossbeam::Channels::new(workers)),
            batches("tokio, buffered", tokio::Buffered::new(workers)),
            batches("thread::scope, atomic", scope::Scope::new(workers)),
        ];
        all.extend(orx::Orx::new(workers).map(|orx| batches("orx-parallel", orx)));
        if row.items == 1 {
            all.push(batches(RAYON_GLOBAL, rayon::Global));
        }
        all
    }
}

/// What uneven batches of ours are compared with, each with the given number of threads.
pub fn rivals<O: Op>(workers: usize) -> Vec<Contestant<O>> {
    vec![
        batches("rayon", rayon::Plain::new(workers)),
        batches("thread::scope, atomic", scope::Scope::new(workers)),
        batches("thread::scope, mutex", handout::HandOut::new(workers)),
    ]
}

fn batches<O: Op>(name: &'static str, peer: impl Peer<O> + 'static) -> Contestant<O> {
    Contestant::new(name, Batches(peer))
}
