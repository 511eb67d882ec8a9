//! This crate.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{iter, thread};

use batch_executor::{
    BatchExecutor, BatchItem, BatchResult, CancelToken, ItemError, Journal, Outcome, Plan, RateLimit, Retry,
};

use crate::candidate::{Candidate, Endless, Op, Seen, Stopped};

pub struct Ours;

fn executor(workers: usize, stop_on_error: bool) -> BatchExecutor {
    let builder = BatchExecutor::builder().workers(workers).stop_on_error(stop_on_error);
    builder.build().expect("a valid configuration")
}

fn seen(item: BatchItem<u64, Outcome<u64, String>>) -> Option<Seen> {
    match item.outcome {
        Ok(value) => Some(Seen::Value(value)),
        Err(ItemError::Failed(error)) => Some(Seen::Failed(error)),
        Err(ItemError::Panicked(panic)) => Some(Seen::Panicked(panic.message().to_owned())),
        Err(_) => None,
    }
}

fn stopped(result: &BatchResult<u64, u64, String>) -> Stopped {
    if result.stopped().is_none() {
        return Stopped::default();
    }
    let error = result.failures().next().map(|failure| failure.error.to_string());
    Stopped { error, values: result.values().copied().collect() }
}

/// The result, if nothing stopped the batch.
fn whole<I, T, E>(result: BatchResult<I, T, E>) -> Option<BatchResult<I, T, E>> {
    result.stopped().is_none().then_some(result)
}

impl Candidate for Ours {
    const NAME: &'static str = "batch-executor";
    const IDIOM: &'static str = "`executor.run(items, op)`, with `stop_on_error(false)` where all outcomes are wanted; \
        `.retry(..)` and `.cancel_on(&token)` on `executor.batch(items)`, and `.stream(op, consume)` for endless input.";

    fn collect(workers: usize, items: Vec<u64>, op: Op) -> Vec<Seen> {
        let result = executor(workers, false).run(items, |id| op(*id));
        whole(result).expect("a batch that does not stop").into_iter().filter_map(seen).collect()
    }

    fn stop(workers: usize, items: Vec<u64>, op: Op) -> Stopped {
        stopped(&executor(workers, true).run(items, |id| op(*id)))
    }

    fn nested(workers: usize) -> usize {
        let (executor, all_started) = (executor(workers, false), Barrier::new(workers));
        let inner = |_: &usize| {
            all_started.wait();
            let result = executor.run(0..4, |n| Ok::<_, String>(*n)).into_result();
            result.map(|result| result.succeeded()).map_err(|error| error.to_string())
        };
        whole(executor.run(0..workers, inner)).map_or(0, |result| result.values().sum())
    }

    fn borrow(words: &[String]) -> Option<usize> {
        let result = executor(2, true).run(words, |word| Ok::<_, String>(word.len()));
        Some(whole(result).map_or(0, |result| result.values().sum()))
    }

    fn progress(items: u64) -> Option<u64> {
        let mut calls = 0;
        let result =
            executor(2, true).batch(0..items).on_progress(|_| calls += 1).run(|id| Ok::<_, String>(*id));
        whole(result).map(|_| calls)
    }

    fn paced(items: u64, gap: Duration) -> Option<Duration> {
        let builder = BatchExecutor::builder().workers(2).rate_limiter(RateLimit::every(gap));
        let result = builder.build().ok()?.run(0..items, |id| Ok::<_, String>(*id));
        whole(result).map(|result| result.elapsed())
    }

    fn backed_off(items: u64, delay: Duration) -> Option<Duration> {
        let executor = executor(2, true);
        let batch = executor.batch(0..items).retry(Retry::delays(|| iter::once(delay)));
        let result =
            batch.run_with(|id, cx| if cx.attempt() == 1 { Err("busy".to_owned()) } else { Ok(*id) });
        whole(result).map(|result| result.elapsed())
    }

    fn cancelled(items: Vec<u64>, op: Op, after: Duration) -> Option<()> {
        let token = CancelToken::new();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(after);
                token.cancel();
            });
            executor(2, true).batch(items).cancel_on(&token).run(|id| op(*id))
        });
        result.stopped().map(drop)
    }

    fn first_of(items: Endless, wanted: usize) -> Option<Vec<u64>> {
        let streamed = executor(2, true).batch(items).stream(
            |id| Ok::<_, String>(*id),
            |results| results.filter_map(|item| item.outcome.ok()).take(wanted).collect(),
        );
        Some(streamed.output)
    }

    fn resumed(items: u64, done: u64) -> Option<usize> {
        let path = std::env::temp_dir().join(format!("promises-{}.jsonl", std::process::id()));
        let calls = AtomicUsize::new(0);
        for limit in [done, items] {
            calls.store(0, Ordering::Relaxed);
            let journal = Journal::open(&path, Plan::of(0..items).ok()?).ok()?;
            let result = executor(2, false).batch(0..items).journal(&journal).run(|&id| {
                calls.fetch_add(1, Ordering::Relaxed);
                if id < limit { Ok(id) } else { Err("the power is gone") }
            });
            let _ = whole(result)?;
        }
        std::fs::remove_file(path).ok()?;
        Some(calls.into_inner())
    }

    fn recorded(items: u64) -> Option<usize> {
        let result = executor(2, true).batch(0..items).record_timeline().run(|id| Ok::<_, String>(*id));
        let result = whole(result)?;
        let spans = result.timeline()?.spans();
        Some(spans.iter().filter(|span| span.worker() < 2 && span.started() <= span.ended()).count())
    }

    fn bare() -> Vec<u64> {
        let result = BatchExecutor::new().run(0..3, |id| Ok::<_, String>(*id));
        result.into_values().unwrap_or_default()
    }
}
