//! tokio and futures: `spawn_blocking` for each item, `buffered` by the window, which keeps the order. The runtime is made
//! beforehand and drives the stream on the calling thread; its blocking threads are kept. Keeps no ids.

use std::ops::Range;

use futures::stream::{self, StreamExt};
use tokio::runtime::{Builder, Runtime};

use super::{Order, Stream, value};
use crate::work::Op;

pub struct Buffered {
    runtime: Runtime,
    window: usize,
}

impl Buffered {
    pub fn new(workers: usize, window: usize) -> Self {
        let runtime = Builder::new_current_thread().max_blocking_threads(workers).build();
        Buffered { runtime: runtime.expect("a runtime"), window }
    }

    fn stream(&self, items: Range<u64>, op: impl Op) -> impl stream::Stream<Item = u64> {
        let run = move |id| self.runtime.spawn_blocking(move || op(&id));
        stream::iter(items).map(run).buffered(self.window).map(|ended| value(ended.expect("no item panics")))
    }
}

impl<O: Op> Stream<O> for Buffered {
    const ORDER: Order = Order::Kept;

    fn sum(&self, items: Range<u64>, op: O) -> u64 {
        self.runtime.block_on(self.stream(items, op).fold(0, |sum, value| async move { sum + value }))
    }

    fn values(&self, items: Range<u64>, op: O) -> Vec<u64> {
        self.runtime.block_on(self.stream(items, op).collect())
    }
}
