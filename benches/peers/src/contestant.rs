//! Who takes part in a row, whatever it is given and hands back.

use std::time::Duration;

use crate::row::Row;
use crate::work::Op;

/// The first contestant.
pub const OURS: &str = "ours";

/// Those whom a table compares.
pub trait Field {
    /// Ours, then everybody who takes part in this row.
    fn contestants<O: Op>(&self, row: &Row) -> Vec<Contestant<O>>;
}

/// Goes through this many items with this operation.
pub trait Run<O> {
    fn time(&self, items: usize, op: O) -> Duration;

    /// The values, in the order of the results; sorted for who promises none.
    fn values(&self, items: usize, op: O) -> Vec<u64>;
}

pub struct Contestant<O> {
    pub name: &'static str,
    peer: Box<dyn Run<O>>,
}

impl<O: Op> Contestant<O> {
    pub fn new(name: &'static str, peer: impl Run<O> + 'static) -> Self {
        Contestant { name, peer: Box::new(peer) }
    }

    /// This many items, timed.
    pub fn time(&self, items: usize, op: O) -> Duration {
        self.peer.time(items, op)
    }

    /// # Panics
    ///
    /// If the outcomes are not those of a plain loop, in input order where that is promised.
    pub fn check(&self, items: usize, op: O) {
        assert!(self.peer.values(items, op) == ids(items), "{} lost or misplaced outcomes", self.name);
    }
}

pub fn ids(items: usize) -> Vec<u64> {
    (0..items as u64).collect()
}
