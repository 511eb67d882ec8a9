//! qubit-batch, the nearest twin: outcomes with their indexes, panics caught, counts. Does what ours does, except that
//! values and failures come as two lists, each with the index instead of the item. Scoped threads for every batch: it
//! has no pool. It reports progress only after five seconds, so never here.

use std::convert::Infallible;

use qubit_batch::{BatchCallError, BatchCallResult, BatchExecutor, ParallelBatchExecutor};

use super::Peer;
use crate::row::Row;
use crate::work::{Op, Work};

pub struct Qubit(ParallelBatchExecutor);

impl Qubit {
    /// Up to 100 items it works on the calling thread alone, unless told otherwise, and its guide says to tell it only
    /// after measuring. With short work that default is the better one; with long work a user would change it.
    pub fn new(row: &Row) -> Self {
        let builder = ParallelBatchExecutor::builder().thread_count(row.workers);
        let builder = if is_long(row.work) { builder.sequential_threshold(0) } else { builder };
        Qubit(builder.build().expect("a valid configuration"))
    }
}

/// Whether a few items pay for a thread.
fn is_long(work: Work) -> bool {
    match work {
        Work::Nothing => false,
        Work::Spin(time) | Work::Skewed(time) | Work::Sleep(time) => time.as_micros() >= 10,
    }
}

impl<O: Op> Peer<O> for Qubit {
    type Results = Result<BatchCallResult<u64, String>, BatchCallError<u64, String, Infallible>>;

    fn run(&self, items: Vec<u64>, op: O) -> Self::Results {
        self.0.call(items.into_iter().map(|id| move || op(&id)))
    }

    fn values(results: Self::Results) -> Vec<u64> {
        let outputs = results.map_or_else(|_| Vec::new(), BatchCallResult::into_outputs);
        outputs.into_iter().map(qubit_batch::BatchCallOutput::into_value).collect()
    }
}
