//! threadpool and an mpsc channel, as in threadpool's documentation.

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use threadpool::ThreadPool;

use crate::candidate::{Candidate, Op, Seen, Stopped};

pub struct Jobs;

/// One job for each item, which sends what came of it.
fn outcomes(pool: &ThreadPool, items: Vec<u64>, op: &Op) -> Receiver<Result<u64, String>> {
    let (sender, receiver) = mpsc::channel();
    for id in items {
        let (sender, op) = (sender.clone(), Arc::clone(op));
        pool.execute(move || drop(sender.send(op(id))));
    }
    receiver
}

impl Candidate for Jobs {
    const NAME: &'static str = "threadpool + mpsc";
    const IDIOM: &'static str = "a job for each item sends its outcome, `receiver.iter()` as they come, left at the first \
        error to stop. Order could be had by sending an index and sorting.";

    fn collect(workers: usize, items: Vec<u64>, op: Op) -> Vec<Seen> {
        outcomes(&ThreadPool::new(workers), items, &op).iter().map(Seen::from).collect()
    }

    fn stop(workers: usize, items: Vec<u64>, op: Op) -> Stopped {
        let mut stopped = Stopped::default();
        for outcome in outcomes(&ThreadPool::new(workers), items, &op) {
            match outcome {
                Ok(value) => stopped.values.push(value),
                Err(error) => return Stopped { error: Some(error), ..stopped },
            }
        }
        stopped
    }

    fn nested(workers: usize) -> usize {
        let (pool, all_started) = (ThreadPool::new(workers), Barrier::new(workers));
        let same_pool = pool.clone();
        let inner: Op = Arc::new(move |_| {
            all_started.wait();
            Ok(outcomes(&same_pool, (0..4).collect(), &(Arc::new(Ok) as Op)).iter().count() as u64)
        });
        let counts = outcomes(&pool, (0..workers as u64).collect(), &inner);
        counts.iter().flatten().sum::<u64>() as usize
    }

    /// `ThreadPool::execute` asks for `FnOnce() + Send + 'static`.
    fn borrow(_: &[String]) -> Option<usize> {
        None
    }

    fn progress(_: u64) -> Option<u64> {
        None
    }

    fn paced(_: u64, _: Duration) -> Option<Duration> {
        None
    }

    /// With one worker, so that the order that it does not promise plays no part.
    fn bare() -> Vec<u64> {
        let op: Op = Arc::new(Ok);
        outcomes(&ThreadPool::new(1), (0..3).collect(), &op).iter().flatten().collect()
    }
}
