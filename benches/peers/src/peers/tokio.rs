//! tokio and futures: `spawn_blocking` for each item, `buffered` by the worker count, which also keeps the order. The
//! runtime is made beforehand and drives the stream on the calling thread; its blocking threads are kept. Keeps no ids;
//! a panic is an outcome, as with ours.

use futures::stream::{self, StreamExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinError;

use super::{Peer, all_ok};
use crate::work::{Op, Outcome};

pub struct Buffered {
    runtime: Runtime,
    workers: usize,
}

impl Buffered {
    pub fn new(workers: usize) -> Self {
        let runtime = Builder::new_current_thread().max_blocking_threads(workers).build();
        Buffered { runtime: runtime.expect("a runtime"), workers }
    }
}

impl<O: Op> Peer<O> for Buffered {
    type Results = Vec<Result<Outcome, JoinError>>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        let run = |id| self.runtime.spawn_blocking(move || op(&id));
        self.runtime.block_on(stream::iter(items).map(run).buffered(self.workers).collect())
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results.into_iter().filter_map(Result::ok).collect())
    }
}
