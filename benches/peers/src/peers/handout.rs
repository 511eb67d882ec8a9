//! The standard library alone: scoped threads that take one item at a time from an iterator behind a mutex, each with a
//! list of its own, put in order at the end. New threads for every batch. Does less than ours: keeps no ids, and a panic
//! ends the whole batch.

use std::sync::Mutex;
use std::thread;

use super::{Peer, all_ok, in_order};
use crate::work::{Op, Outcome};

pub struct HandOut {
    workers: usize,
}

impl HandOut {
    pub fn new(workers: usize) -> Self {
        HandOut { workers }
    }
}

impl<O: Op> Peer<O> for HandOut {
    type Results = Vec<Outcome>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        let count = items.len();
        let left = Mutex::new(items.into_iter().enumerate());
        let take = || left.lock().expect("no panic while it is locked").next();
        let perform = || {
            let (index, id) = take()?;
            Some((index, op(&id)))
        };
        thread::scope(|scope| {
            let work = || std::iter::from_fn(perform).collect::<Vec<_>>();
            let workers: Vec<_> = (0..self.workers).map(|_| scope.spawn(work)).collect();
            let lists = workers.into_iter().map(|worker| worker.join().expect("no item panics"));
            in_order(count, lists.flatten())
        })
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results)
    }
}
