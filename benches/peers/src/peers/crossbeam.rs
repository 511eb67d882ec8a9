//! crossbeam-channel and scoped threads: workers take items from one channel and send outcomes into another, the
//! calling thread puts them in order. New threads for every batch. Does less than ours: a panic ends the whole batch.

use std::thread;

use crossbeam_channel::unbounded;

use super::{Peer, all_ok, in_order};
use crate::work::{Op, Outcome};

pub struct Channels {
    workers: usize,
}

impl Channels {
    pub fn new(workers: usize) -> Self {
        Channels { workers }
    }
}

impl<O: Op> Peer<O> for Channels {
    type Results = Vec<Outcome>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        let count = items.len();
        let (to_workers, jobs) = unbounded();
        let (to_caller, outcomes) = unbounded();
        thread::scope(|scope| {
            for _ in 0..self.workers {
                let (jobs, to_caller) = (jobs.clone(), to_caller.clone());
                scope.spawn(move || {
                    for (index, id) in jobs {
                        let _ = to_caller.send((index, op(&id)));
                    }
                });
            }
            drop(to_caller);
            for job in items.into_iter().enumerate() {
                let _ = to_workers.send(job);
            }
            drop(to_workers);
            in_order(count, outcomes.iter())
        })
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results)
    }
}
