//! What a permit costs, and whether many workers at one limit get what it gives, in equal shares.
//!
//! `cargo bench --bench limiter`

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use batch_executor::{BatchExecutor, RateLimit, RateLimiter};
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

fn main() {
    one_permit();
    many_workers();
}
