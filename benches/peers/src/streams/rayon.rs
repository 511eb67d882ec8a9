//! rayon's `par_bridge`, in a pool with as many threads as there are workers. It has no window since it has no consumer: what is
//! done with values is done where they were made, in any order. Keeps no ids, and a panic ends the whole stream.

use std::ops::Range;

use rayon::iter::{ParallelBridge, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{Order, Stream, value};
use crate::work::Op;

fn pool(workers: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(workers).build().expect("threads for a pool")
}

fn bridged(items: Range<u64>, op: impl Op) -> impl ParallelIterator<Item = u64> {
    items.par_bridge().map(move |id| value(op(&id)))
}

fn collect(pool: &ThreadPool, items: Range<u64>, op: impl Op) -> Vec<u64> {
    pool.install(|| bridged(items, op).collect())
}

/// Added up by the workers.
pub struct Summed(ThreadPool);

impl Summed {
    pub fn new(workers: usize) -> Self {
        Summed(pool(workers))
    }
}

impl<O: Op> Stream<O> for Summed {
    const ORDER: Order = Order::Lost;

    fn sum(&self, items: Range<u64>, op: O) -> u64 {
        self.0.install(|| bridged(items, op).sum())
    }

    fn values(&self, items: Range<u64>, op: O) -> Vec<u64> {
        collect(&self.0, items, op)
    }
}

/// Added up by the caller, from a vector of all values: its memory grows with the input.
pub struct Collected(ThreadPool);

impl Collected {
    pub fn new(workers: usize) -> Self {
        Collected(pool(workers))
    }
}

impl<O: Op> Stream<O> for Collected {
    const ORDER: Order = Order::Lost;

    fn sum(&self, items: Range<u64>, op: O) -> u64 {
        collect(&self.0, items, op).into_iter().sum()
    }

    fn values(&self, items: Range<u64>, op: O) -> Vec<u64> {
        collect(&self.0, items, op)
    }
}
