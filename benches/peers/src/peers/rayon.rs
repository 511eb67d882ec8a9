//! rayon: a pool with as many threads as there are workers, entered through `install`. The calling thread waits outside
//! of it, where ours is one of the workers.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{Peer, all_ok};
use crate::work::{Op, Outcome};

fn pool(workers: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(workers).build().expect("threads for a pool")
}

fn collect(items: Vec<u64>, op: impl Op) -> Vec<Outcome> {
    items.into_par_iter().map(|id| op(&id)).collect()
}

/// As rayon is mostly used. Does less than ours: keeps no ids, and a panic ends the whole batch.
pub struct Plain(ThreadPool);

impl Plain {
    pub fn new(workers: usize) -> Self {
        Plain(pool(workers))
    }
}

impl<O: Op> Peer<O> for Plain {
    type Results = Vec<Outcome>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        self.0.install(|| collect(items, op))
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results)
    }
}

/// The global pool, called from outside. With one item it runs it where it is called and wakes no thread, so it is
/// measured for that row alone; otherwise it has a thread for every core, which need not be the row's worker count.
pub struct Global;

impl<O: Op> Peer<O> for Global {
    type Results = Vec<Outcome>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        collect(items, op)
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results)
    }
}

/// What our `BatchItem` holds.
pub struct Item {
    id: u64,
    outcome: Result<Outcome, Box<dyn Any + Send>>,
}

/// rayon made to hand back what ours does: every outcome with its id, a panic being one of them. Still does less: it
/// counts nothing and could not stop early.
pub struct EqualWork(ThreadPool);

impl EqualWork {
    pub fn new(workers: usize) -> Self {
        EqualWork(pool(workers))
    }
}

impl<O: Op> Peer<O> for EqualWork {
    type Results = Vec<Item>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        let run = |id| Item { id, outcome: catch_unwind(AssertUnwindSafe(|| op(&id))) };
        self.0.install(|| items.into_par_iter().map(run).collect())
    }

    fn values(results: Self::Results) -> Vec<u64> {
        let value = |item: Item| item.outcome.is_ok_and(|outcome| outcome == Ok(item.id)).then_some(item.id);
        results.into_iter().filter_map(value).collect()
    }
}
