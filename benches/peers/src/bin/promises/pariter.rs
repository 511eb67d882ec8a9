//! pariter, of which dpc-pariter is the old name: `parallel_map` on an iterator.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use pariter::{IteratorExt, scope};

use crate::candidate::{Candidate, Endless, Op, Seen, Stopped};

pub struct Pariter;

fn outcomes(workers: usize, items: Vec<u64>, op: Op) -> impl Iterator<Item = Result<u64, String>> {
    items.into_iter().parallel_map_custom(|builder| builder.threads(workers), move |id| op(id))
}

impl Candidate for Pariter {
    const NAME: &'static str = "dpc-pariter";
    const IDIOM: &'static str = "`items.into_iter().parallel_map(op)`, then `collect::<Vec<Result<_, _>>>()` where all \
        outcomes are wanted; a loop that ends at the first error to stop. A batch inside an item has threads of its own, \
        beyond the worker count.";

    fn collect(workers: usize, items: Vec<u64>, op: Op) -> Vec<Seen> {
        outcomes(workers, items, op).map(Seen::from).collect()
    }

    fn stop(workers: usize, items: Vec<u64>, op: Op) -> Stopped {
        let mut stopped = Stopped::default();
        for outcome in outcomes(workers, items, op) {
            match outcome {
                Ok(value) => stopped.values.push(value),
                Err(error) => return Stopped { error: Some(error), ..stopped },
            }
        }
        stopped
    }

    fn nested(workers: usize) -> usize {
        let all_started = Barrier::new(workers);
        let inner: Op = Arc::new(move |_| {
            all_started.wait();
            Ok(outcomes(workers, (0..4).collect(), Arc::new(Ok)).count() as u64)
        });
        outcomes(workers, (0..workers as u64).collect(), inner).flatten().sum::<u64>() as usize
    }

    fn borrow(words: &[String]) -> Option<usize> {
        scope(|scope| words.iter().parallel_map_scoped(scope, String::len).sum()).ok()
    }

    fn progress(_: u64) -> Option<u64> {
        None
    }

    fn paced(_: u64, _: Duration) -> Option<Duration> {
        None
    }

    fn first_of(items: Endless, wanted: usize) -> Option<Vec<u64>> {
        Some(items.parallel_map_custom(|builder| builder.threads(2), |id| id).take(wanted).collect())
    }

    fn bare() -> Vec<u64> {
        (0..3).parallel_map(|id| id).collect()
    }
}
