//! threadpool and a channel, as in threadpool's own documentation: one job for each item, outcomes through an mpsc
//! channel, here with their index so that they can be put in order. The pool is kept. Does less than ours: a panicked
//! item is just missing.

use std::sync::mpsc;

use threadpool::ThreadPool;

use super::{Peer, all_ok, in_order};
use crate::work::{Op, Outcome};

pub struct Jobs(ThreadPool);

impl Jobs {
    pub fn new(workers: usize) -> Self {
        Jobs(ThreadPool::new(workers))
    }
}

impl<O: Op> Peer<O> for Jobs {
    type Results = Vec<Outcome>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        let (sender, receiver) = mpsc::channel();
        let count = items.len();
        for (index, id) in items.into_iter().enumerate() {
            let sender = sender.clone();
            self.0.execute(move || drop(sender.send((index, op(&id)))));
        }
        drop(sender);
        in_order(count, receiver.iter())
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results)
    }
}
