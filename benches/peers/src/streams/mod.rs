//! The third table: who takes an iterator, and never holds more of it than a window. The consumer adds up the values.

mod ours;
mod pariter;
mod rayon;
mod tokio;

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::contestant::{Contestant, Field, OURS, Run};
use crate::row::Row;
use crate::table::{Column, Table, Unit};
use crate::work::{Op, Outcome};

/// Runs a stream. What can be kept from stream to stream is kept in `self`.
trait Stream<O> {
    const ORDER: Order;

    /// Of the values. This is timed.
    fn sum(&self, items: Range<u64>, op: O) -> u64;

    /// As they come.
    fn values(&self, items: Range<u64>, op: O) -> Vec<u64>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// That of the input.
    Kept,
    Lost,
}

struct Streams<S>(S);

impl<O: Op, S: Stream<O>> Run<O> for Streams<S> {
    fn time(&self, items: usize, op: O) -> Duration {
        let items = items as u64;
        let since = Instant::now();
        let sum = self.0.sum(black_box(0..items), op);
        let time = since.elapsed();
        assert_eq!(sum, items * (items - 1) / 2, "a sum of other values");
        time
    }

    fn values(&self, items: usize, op: O) -> Vec<u64> {
        let mut values = self.0.values(0..items as u64, op);
        if S::ORDER == Order::Lost {
            values.sort_unstable();
        }
        values
    }
}

pub const TABLE: Table = Table {
    what: "stream",
    unit: Unit::NanosAnItem,
    columns: &[
        Column { name: "ours, unordered", package: None },
        Column { name: "pariter", package: Some("pariter") },
        Column { name: "pariter, same window", package: Some("pariter") },
        Column { name: "rayon par_bridge, summed", package: Some("rayon") },
        Column { name: "rayon par_bridge, collected", package: Some("rayon") },
        Column { name: "tokio, buffered", package: Some("tokio") },
    ],
};

/// Ours, and everybody else.
pub struct Everybody;

impl Field for Everybody {
    fn contestants<O: Op>(&self, row: &Row) -> Vec<Contestant<O>> {
        let (workers, window) = (row.workers, row.window);
        vec![
            streams(OURS, ours::Ordered::new(workers, window)),
            streams("ours, unordered", ours::Unordered::new(workers, window)),
            streams("pariter", pariter::Pariter { workers, window: None }),
            streams("pariter, same window", pariter::Pariter { workers, window: Some(window) }),
            streams("rayon par_bridge, summed", rayon::Summed::new(workers)),
            streams("rayon par_bridge, collected", rayon::Collected::new(workers)),
            streams("tokio, buffered", tokio::Buffered::new(workers, window)),
        ]
    }
}

fn streams<O: Op>(name: &'static str, stream: impl Stream<O> + 'static) -> Contestant<O> {
    Contestant::new(name, Streams(stream))
}

/// The value of an item, none of which fails.
fn value(outcome: Outcome) -> u64 {
    outcome.expect("no item fails")
}
