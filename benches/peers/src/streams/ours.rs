//! This crate.

use std::ops::Range;

use batch_executor::{Batch, BatchExecutor, BatchItem, Outcome};

use super::{Order, Stream};
use crate::work::Op;

fn executor(workers: usize) -> BatchExecutor {
    let built = BatchExecutor::builder().workers(workers).stop_on_error(false).build();
    built.expect("a valid worker count")
}

fn value(item: BatchItem<u64, Outcome<u64, String>>) -> u64 {
    item.outcome.expect("no item fails")
}

fn sum(batch: Batch<'_, Range<u64>, u64, String>, op: impl Op) -> u64 {
    batch.stream(op, |results| results.map(value).sum()).output
}

fn values(batch: Batch<'_, Range<u64>, u64, String>, op: impl Op) -> Vec<u64> {
    batch.stream(op, |results| results.map(value).collect()).output
}

pub struct Ordered {
    executor: BatchExecutor,
    window: usize,
}

impl Ordered {
    pub fn new(workers: usize, window: usize) -> Self {
        Ordered { executor: executor(workers), window }
    }
}

impl<O: Op> Stream<O> for Ordered {
    const ORDER: Order = Order::Kept;

    fn sum(&self, items: Range<u64>, op: O) -> u64 {
        sum(self.executor.batch(items).window(self.window), op)
    }

    fn values(&self, items: Range<u64>, op: O) -> Vec<u64> {
        values(self.executor.batch(items).window(self.window), op)
    }
}

pub struct Unordered(Ordered);

impl Unordered {
    pub fn new(workers: usize, window: usize) -> Self {
        Unordered(Ordered::new(workers, window))
    }

    fn batch(&self, items: Range<u64>) -> Batch<'_, Range<u64>, u64, String> {
        self.0.executor.batch(items).window(self.0.window).unordered()
    }
}

impl<O: Op> Stream<O> for Unordered {
    const ORDER: Order = Order::Lost;

    fn sum(&self, items: Range<u64>, op: O) -> u64 {
        sum(self.batch(items), op)
    }

    fn values(&self, items: Range<u64>, op: O) -> Vec<u64> {
        values(self.batch(items), op)
    }
}
