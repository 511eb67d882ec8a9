//! Those who are measured. Each takes the same items, runs the same operation on each of them, and hands back every
//! outcome in input order; what it does less or more than that stands at its type.

mod ours;
mod rayon;

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::row::Row;
use crate::work::Op;

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

/// The columns of the table: name, and the crate whose version it has.
pub const COLUMNS: &[(&str, &str)] = &[("rayon", "rayon"), ("rayon, equal work", "rayon")];

/// Ours, then everybody who takes part in this row.
pub fn contestants<O: Op>(row: &Row) -> Vec<Contestant<O>> {
    let workers = row.workers;
    let mut all = vec![
        Contestant::new("ours", ours::Ours::new(workers)),
        Contestant::new("rayon", rayon::Plain::new(workers)),
        Contestant::new("rayon, equal work", rayon::EqualWork::new(workers)),
    ];
    if row.items == 1 {
        all.push(Contestant::new("rayon, global pool", rayon::Global));
    }
    all
}
