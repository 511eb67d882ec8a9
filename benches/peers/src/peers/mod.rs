//! Those who are measured. Each takes the same items, runs the same operation on each of them, and hands back every
//! outcome in input order; what it does less or more than that stands at its type.

mod crossbeam;
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

use crate::row::Row;
use crate::work::{Op, Outcome};

/// Runs a batch. What can be kept from batch to batch is kept in `self`.
trait Peer<O> {
    /// Whatever it gives back.
    type Results;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results;

    /// The values, in the order of the results, to see that the work was done.
    fn values(results: Self::Results) -> Vec<u64>;
}

/// A [`Peer`] without its type.
trait Run<O> {
    fn time(&self, items: Vec<u64>, op: O) -> Duration;
    fn values_of(&self, items: Vec<u64>, op: O) -> Vec<u64>;
}

impl<O, P: Peer<O>> Run<O> for P {
    /// Dropping the results is part of the time, building the items was not.
    fn time(&self, items: Vec<u64>, op: O) -> Duration {
        let since = Instant::now();
        drop(black_box(self.run(items, op)));
        since.elapsed()
    }

    fn values_of(&self, items: Vec<u64>, op: O) -> Vec<u64> {
        P::values(self.run(items, op))
    }
}

/// A peer that takes part in a row.
pub struct Contestant<O> {
    pub name: &'static str,
    peer: Box<dyn Run<O>>,
}

impl<O: Op> Contestant<O> {
    fn new(name: &'static str, peer: impl Run<O> + 'static) -> Self {
        Contestant { name, peer: Box::new(peer) }
    }

    /// One batch of so many items, timed.
    pub fn time(&self, items: usize, op: O) -> Duration {
        self.peer.time(ids(items), op)
    }

    /// # Panics
    ///
    /// If the outcomes are not those of a plain loop, in input order.
    pub fn check(&self, items: usize, op: O) {
        assert!(
            self.peer.values_of(ids(items), op) == ids(items),
            "{} lost or misplaced outcomes",
            self.name
        );
    }
}

fn ids(items: usize) -> Vec<u64> {
    (0..items as u64).collect()
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

/// A column of the table.
pub struct Column {
    pub name: &'static str,
    /// The crate whose version it has; none for the standard library.
    pub package: Option<&'static str>,
}

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

/// The first contestant.
pub const OURS: &str = "ours";

/// Stands in no column but in a note, since it is comparable for a batch of one alone.
pub const RAYON_GLOBAL: &str = "rayon, global pool";

/// Ours, then everybody who takes part in this row.
pub fn contestants<O: Op>(row: &Row) -> Vec<Contestant<O>> {
    let workers = row.workers;
    let mut all = vec![
        Contestant::new(OURS, ours::Ours::new(workers)),
        Contestant::new("rayon", rayon::Plain::new(workers)),
        Contestant::new("rayon, equal work", rayon::EqualWork::new(workers)),
        Contestant::new("qubit-batch", qubit::Qubit::new(row)),
        Contestant::new("pariter", pariter::Pariter::new(workers)),
        Contestant::new("threadpool, mpsc", threadpool::Jobs::new(workers)),
        Contestant::new("crossbeam-channel", crossbeam::Channels::new(workers)),
        Contestant::new("tokio, buffered", tokio::Buffered::new(workers)),
        Contestant::new("thread::scope, atomic", scope::Scope::new(workers)),
    ];
    all.extend(orx::Orx::new(workers).map(|orx| Contestant::new("orx-parallel", orx)));
    if row.items == 1 {
        all.push(Contestant::new(RAYON_GLOBAL, rayon::Global));
    }
    all
}
