//! rayon, in a pool of its own where the number of workers matters.

use std::sync::Barrier;
use std::time::Duration;

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::candidate::{Candidate, Op, Seen, Stopped};

pub struct Rayon;

fn pool(workers: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(workers).build().expect("threads for a pool")
}

impl Candidate for Rayon {
    const NAME: &'static str = "rayon";
    const IDIOM: &'static str = "`into_par_iter().map(op)`, then `collect::<Vec<Result<_, _>>>()` where all outcomes are \
        wanted and `collect::<Result<Vec<_>, _>>()` to stop. A `catch_unwind` in `op` would keep the panics. `par_bridge` \
        reads an endless input as it goes, and hands nothing on in order.";

    fn collect(workers: usize, items: Vec<u64>, op: Op) -> Vec<Seen> {
        let outcomes: Vec<Result<u64, String>> =
            pool(workers).install(|| items.into_par_iter().map(|id| op(id)).collect());
        outcomes.into_iter().map(Seen::from).collect()
    }

    fn stop(workers: usize, items: Vec<u64>, op: Op) -> Stopped {
        let all: Result<Vec<u64>, String> =
            pool(workers).install(|| items.into_par_iter().map(|id| op(id)).collect());
        all.map_or_else(|error| Stopped { error: Some(error), values: Vec::new() }, |_| Stopped::default())
    }

    fn nested(workers: usize) -> usize {
        let all_started = Barrier::new(workers);
        let inner = |_| {
            all_started.wait();
            (0..4).into_par_iter().map(|n: u64| n).count()
        };
        pool(workers).install(|| (0..workers).into_par_iter().map(inner).sum())
    }

    fn borrow(words: &[String]) -> Option<usize> {
        Some(words.par_iter().map(String::len).sum())
    }

    fn progress(_: u64) -> Option<u64> {
        None
    }

    fn paced(_: u64, _: Duration) -> Option<Duration> {
        None
    }

    fn bare() -> Vec<u64> {
        (0..3).into_par_iter().collect()
    }
}
