//! What a permit costs, what a limit costs an item, and whether many workers at one limit get what it gives, in equal shares.
//!
//! `cargo bench --bench limiter`

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use batch_executor::{Batch, BatchExecutor, Limit, RateLimit, RateLimiter};
use criterion::Criterion;

const PER_SECOND: u32 = 2_000;
const PERMITS: u32 = 6_000;
const WORKERS: usize = 16;

fn one_permit() {
    let limit = RateLimit::per_second(1_000_000_000);
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("RateLimit::reserve", |bencher| bencher.iter(|| black_box(limit.reserve())));
}

fn many_workers() {
    let executor = BatchExecutor::builder()
        .workers(WORKERS)
        .rate_limiter(RateLimit::per_second(PER_SECOND))
        .build()
        .expect("good settings");
    let shares: Mutex<HashMap<ThreadId, u32>> = Mutex::default();
    let since = Instant::now();
    let result = executor.run(0..PERMITS, |_| {
        let mut shares = shares.lock().unwrap_or_else(PoisonError::into_inner);
        *shares.entry(thread::current().id()).or_default() += 1;
        Ok::<_, String>(())
    });
    let rate = f64::from(PERMITS - 1) / since.elapsed().as_secs_f64(); // the first needs no wait
    assert!(result.is_success(), "{result}");
    let shares = shares.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (least, most) = (shares.values().min().unwrap_or(&0), shares.values().max().unwrap_or(&0));
    println!(
        "{WORKERS} workers at {PER_SECOND} a second: {rate:.0} a second ({:.1} %), {least} to {most} items for each of {} threads",
        100.0 * rate / f64::from(PER_SECOND),
        shares.len(),
    );
}

const ITEMS: usize = 100_000;
const ROUNDS: usize = 7;

type Batch1<'a> = Batch<'a, std::ops::Range<usize>, (), String>;
type Step = for<'a> fn(Batch1<'a>) -> Batch1<'a>;

/// A rate and slots that are large enough for no item to wait.
fn rate<'a, I>() -> Limit<'a, I> {
    Limit::rate(RateLimit::per_second(1_000_000_000))
}

fn slots<'a, I>() -> Limit<'a, I> {
    Limit::at_once(1_000)
}

/// What each limit adds to an item that does nothing, in nanoseconds: rounds by turns, medians.
fn limits() {
    let steps: [(&str, Step); 9] = [
        ("none", |batch| batch),
        ("one rate", |batch| batch.limit(rate())),
        ("a rate that learns", |batch| batch.limit(Limit::rate(RateLimit::learning(1_000_000_000)))),
        ("one at_once", |batch| batch.limit(slots())),
        ("both", |batch| batch.limit(rate()).limit(slots())),
        ("per_key, 1 key", |batch| batch.limit(Limit::per_key(|_: &usize| 0, |_| slots()))),
        ("per_key, 1,000 keys", |batch| batch.limit(Limit::per_key(|n: &usize| n % 1_000, |_| slots()))),
        ("per_key, 100,000 keys", |batch| batch.limit(Limit::per_key(|n: &usize| *n, |_| slots()))),
        ("per_key, 100,000 keys, rates", |batch| batch.limit(Limit::per_key(|n: &usize| *n, |_| rate()))),
    ];
    println!("| limit | 1 worker, ns an item | 2 workers |\n|---|--:|--:|");
    let executors =
        [1, 2].map(|workers| BatchExecutor::builder().workers(workers).build().expect("good settings"));
    let mut times = vec![[(); 2].map(|()| Vec::new()); steps.len()];
    for _ in 0..ROUNDS {
        for ((_, step), times) in steps.iter().zip(&mut times) {
            for (executor, times) in executors.iter().zip(times) {
                let since = Instant::now();
                let result = step(executor.batch(0..ITEMS)).run(|n| {
                    black_box(n);
                    Ok(())
                });
                times.push(since.elapsed());
                assert!(result.is_success(), "{result}");
            }
        }
    }
    for ((name, _), times) in steps.iter().zip(times) {
        let [one, two] = times.map(|mut times: Vec<Duration>| {
            times.sort_unstable();
            times[ROUNDS / 2].as_nanos() / ITEMS as u128
        });
        println!("| {name} | {one} | {two} |");
    }
}

fn main() {
    one_permit();
    limits();
    many_workers();
}
