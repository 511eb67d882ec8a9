//! tokio and futures: `spawn_blocking` and `buffered`, on a runtime with as many blocking threads as there are workers.

use std::any::Any;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, spawn_blocking};

use crate::candidate::{Candidate, Endless, Op, Seen, Stopped};

pub struct Tokio;

fn runtime(workers: usize) -> Runtime {
    Builder::new_current_thread().max_blocking_threads(workers).build().expect("a runtime")
}

fn outcomes(
    workers: usize,
    items: Vec<u64>,
    op: Op,
) -> impl Stream<Item = Result<Result<u64, String>, JoinError>> {
    let run = move |id| {
        let op = Arc::clone(&op);
        spawn_blocking(move || op(id))
    };
    stream::iter(items).map(run).buffered(workers)
}

fn message(panic: &(dyn Any + Send)) -> String {
    panic.downcast_ref::<&str>().map_or_else(String::new, |text| (*text).to_owned())
}

fn seen(outcome: Result<Result<u64, String>, JoinError>) -> Seen {
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => Seen::Panicked(message(&*error.into_panic())),
    }
}

impl Candidate for Tokio {
    const NAME: &'static str = "tokio + futures";
    const IDIOM: &'static str = "`stream::iter(items).map(|id| spawn_blocking(..)).buffered(workers)`, then `collect` \
        where all outcomes are wanted and `try_collect` to stop, under `block_on` of a runtime with \
        `max_blocking_threads(workers)`. tokio-stream has a `throttle` that paces a \
        stream. `stream::abortable` to cancel. Retries by hand, with `sleep` between two `spawn_blocking`, hold no thread, but a \
        place in `buffered`.";

    fn collect(workers: usize, items: Vec<u64>, op: Op) -> Vec<Seen> {
        runtime(workers).block_on(outcomes(workers, items, op).map(seen).collect())
    }

    fn stop(workers: usize, items: Vec<u64>, op: Op) -> Stopped {
        let flat = outcomes(workers, items, op)
            .map(|outcome| outcome.unwrap_or_else(|error| Err(error.to_string())));
        let all: Result<Vec<u64>, String> = runtime(workers).block_on(flat.try_collect());
        all.map_or_else(|error| Stopped { error: Some(error), values: Vec::new() }, |_| Stopped::default())
    }

    fn nested(workers: usize) -> usize {
        let all_started = Barrier::new(workers);
        let inner: Op = Arc::new(move |_| {
            all_started.wait();
            Ok(Handle::current().block_on(outcomes(workers, (0..4).collect(), Arc::new(Ok)).count()) as u64)
        });
        let counts = outcomes(workers, (0..workers as u64).collect(), inner);
        let sum = counts
            .map(|count| count.map_or(0, Result::unwrap_or_default))
            .fold(0, async |sum, count| sum + count);
        runtime(workers).block_on(sum) as usize
    }

    /// `spawn_blocking` asks for `FnOnce() -> R + Send + 'static`.
    fn borrow(_: &[String]) -> Option<usize> {
        None
    }

    fn progress(_: u64) -> Option<u64> {
        None
    }

    fn paced(_: u64, _: Duration) -> Option<Duration> {
        None
    }

    fn cancelled(items: Vec<u64>, op: Op, after: Duration) -> Option<()> {
        let (outcomes, handle) = stream::abortable(outcomes(2, items, op));
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(after);
                handle.abort();
            });
            runtime(2).block_on(outcomes.for_each(async |_| ()));
            Some(())
        })
    }

    fn first_of(items: Endless, wanted: usize) -> Option<Vec<u64>> {
        let outcomes = stream::iter(items).map(|id| spawn_blocking(move || id)).buffered(2).take(wanted);
        runtime(2).block_on(outcomes.try_collect()).ok()
    }

    /// Without a runtime, `spawn_blocking` panics, whichever thread drives the stream.
    fn bare() -> Vec<u64> {
        let outcomes = block_on(outcomes(2, (0..3).collect(), Arc::new(Ok)).collect::<Vec<_>>());
        outcomes.into_iter().flatten().flatten().collect()
    }
}
