//! pariter (once dpc-pariter), made for this: an iterator whose `map` runs on other threads, in order. Does less than ours: keeps
//! no ids, and a panic ends the whole stream. New threads for every stream: it has no pool.

use std::ops::Range;

use pariter::IteratorExt;

use super::{Order, Stream, value};
use crate::work::Op;

pub struct Pariter {
    pub workers: usize,
    /// None for its own default, twice the threads.
    pub window: Option<usize>,
}

impl Pariter {
    fn stream(&self, items: Range<u64>, op: impl Op) -> impl Iterator<Item = u64> {
        let (workers, window) = (self.workers, self.window.unwrap_or(2 * self.workers));
        let map = move |id| op(&id);
        items.parallel_map_custom(|builder| builder.threads(workers).buffer_size(window), map).map(value)
    }
}

impl<O: Op> Stream<O> for Pariter {
    const ORDER: Order = Order::Kept;

    fn sum(&self, items: Range<u64>, op: O) -> u64 {
        self.stream(items, op).sum()
    }

    fn values(&self, items: Range<u64>, op: O) -> Vec<u64> {
        self.stream(items, op).collect()
    }
}
