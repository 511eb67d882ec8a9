//! orx-parallel: parallel iterators on a pool of its own, adaptive chunks. Does less than ours: keeps no ids, and a
//! panic ends the whole batch. (It can also stop at the first error, `into_fallible`; here every outcome is wanted.)

use std::thread;

use orx_parallel::{BasicPool, IntoParIter, Par, Pool, Runner};

use super::{Peer, all_ok};
use crate::work::{Op, Outcome};

pub struct Orx(BasicPool);

impl Orx {
    /// Its pools have no more threads than there are cores, so it has no part in rows that ask for more.
    pub fn new(workers: usize) -> Option<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        (workers <= cores).then(|| Orx(Pool::basic(workers)))
    }
}

impl<O: Op> Peer<O> for Orx {
    type Results = Vec<Outcome>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        items.into_par().map(|id| op(&id)).runner(Runner::adaptive_with_pool(&self.0)).collect()
    }

    fn values(results: Self::Results) -> Vec<u64> {
        all_ok(results)
    }
}
