//! The standard library alone: scoped threads that take the next index from an atomic counter, each with a list of its
//! own, put in order at the end. New threads for every batch. Does less than ours: keeps no ids, and a panic ends the
//! whole batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Peer, all_ok, in_order};
use crate::work::{Op, Outcome};

pub struct Scope {
    workers: usize,
}

impl Scope {
    pub fn new(workers: usize) -> Self {
        Scope { workers }
    }
}

impl<O: Op> Peer<O> for Scope {
    type Results = Vec<Outcome>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        let next = AtomicUsize::new(0);
        let claim = || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            items.get(index).map(|id| (index, op(id)))
        };
        thread::scope(|scope| {
            let work = || std::iter::from_fn(claim).collect::<Vec<_>>();
            let workers: Vec<_> = (0..self.workers).map(|_| scope.spawn(work)).collect();
            let lists = workers.into_iter().map(|worker| worker.join().expect("no item panics"));
            in_order(items.len(), lists.flatten())
        })
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results)
    }
}
