//! pariter (once dpc-pariter): an iterator whose `map` runs on threads of its own, in order. Does less than ours: keeps
//! no ids, and a panic ends the whole batch. It is lazy and needs only a window of memory, which ours is not and does
//! not. New threads for every batch: it has no pool. The calling thread feeds them and collects.

use pariter::IteratorExt;

use super::{Peer, all_ok};
use crate::work::{Op, Outcome};

pub struct Pariter {
    workers: usize,
}

impl Pariter {
    pub fn new(workers: usize) -> Self {
        Pariter { workers }
    }
}

impl<O: Op> Peer<O> for Pariter {
    type Results = Vec<Outcome>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        let map = move |id| op(&id);
        items.into_iter().parallel_map_custom(|builder| builder.threads(self.workers), map).collect()
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results)
    }
}
