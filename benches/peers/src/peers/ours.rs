//! This crate.

use batch_executor::{BatchExecutor, BatchResult};

use super::Peer;
use crate::work::Op;

pub struct Ours(BatchExecutor);

impl Ours {
    pub fn new(workers: usize) -> Self {
        let built = BatchExecutor::builder().workers(workers).stop_on_error(false).build();
        Ours(built.expect("a valid worker count"))
    }
}

impl<O: Op> Peer<O> for Ours {
    type Results = BatchResult<u64, u64, String>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        self.0.batch(items).run(op)
    }

    fn values(results: Self::Results) -> Vec<u64> {
        results.values().copied().collect()
    }
}
