//! What the engine costs: batches of nothing, of a little, and of something; with progress, with a limiter, with a stop, with
//! retries and the other steps.
//!
//! `cargo bench` runs it. The comparison with other crates is a package of its own, `benches/peers`.

#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, BatchExecutorBuilder, BatchResult, CancelToken, Retry, limiter_fn};
use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};

type Ended = BatchResult<u64, u64, String>;

fn builder() -> BatchExecutorBuilder {
    BatchExecutor::builder().workers(2).stop_on_error(false)
}

fn executor() -> BatchExecutor {
    builder().build().expect("good settings")
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "operations get a reference")]
/// The result of one item; the error keeps the compiler from leaving the failing side out.
fn value_of(item: &u64) -> Result<u64, String> {
    if *item == u64::MAX { Err("none".to_owned()) } else { Ok(item + 1) }
}

fn busy(time: Duration) {
    let since = Instant::now();
    while since.elapsed() < time {
        spin_loop();
    }
}

/// Measures `run` on vectors of this many items. Making the vector is not part of it, dropping the result is.
fn row<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: BenchmarkId,
    items: u64,
    run: impl Fn(Vec<u64>) -> R,
) {
    group.throughput(Throughput::Elements(items));
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || (0..items).collect(),
            |input| drop(black_box(run(input))),
            BatchSize::LargeInput,
        );
    });
}

fn no_ops(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("no-op");
    let (plain, sequential) = (executor(), BatchExecutor::new());
    let limited = builder().rate_limiter(limiter_fn(|| Ok(Duration::ZERO))).build().expect("good settings");
    for items in [1, 10, 100, 1_000, 10_000, 1_000_000] {
        row(&mut group, BenchmarkId::new("2 workers", items), items, |input| plain.run(input, value_of));
    }
    for items in [1_000, 100_000] {
        row(&mut group, BenchmarkId::new("sequential", items), items, |input| {
            sequential.run(input, value_of)
        });
        row(&mut group, BenchmarkId::new("2 workers, progress", items), items, |input| {
            let mut calls = 0_u64;
            let result = plain.batch(input).on_progress(|_| calls += 1).run(value_of);
            (result.stopped(), calls)
        });
        row(&mut group, BenchmarkId::new("sequential, progress", items), items, |input| {
            let mut calls = 0_u64;
            let result = sequential.batch(input).on_progress(|_| calls += 1).run(value_of);
            (result.stopped(), calls)
        });
        row(&mut group, BenchmarkId::new("2 workers, limiter", items), items, |input| {
            limited.run(input, value_of)
        });
    }
    group.finish();
}

/// What the steps cost where nothing fails, nothing is cancelled and nothing is late.
fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("no-op, with steps");
    let (executor, token) = (executor(), CancelToken::new());
    let second = Duration::from_secs(1);
    for items in [1_000, 100_000] {
        let mut step = |name, run: &dyn Fn(Vec<u64>) -> Ended| {
            row(&mut group, BenchmarkId::new(name, items), items, run);
        };
        step("plain", &|input| executor.run(input, value_of));
        step("run_with", &|input| executor.batch(input).run_with(|item, _| value_of(item)));
        step("run_init", &|input| {
            executor.batch(input).run_init(
                || 0,
                |item, cx| {
                    *cx.state += 1;
                    value_of(item)
                },
            )
        });
        step("cancel_on", &|input| executor.batch(input).cancel_on(&token).run(value_of));
        step("timeout", &|input| executor.batch(input).timeout(3600 * second).run(value_of));
        step("record_timeline", &|input| executor.batch(input).record_timeline().run(value_of));
        step("retry", &|input| {
            executor.batch(input).retry(Retry::exponential(second, second, 3)).run(value_of)
        });
    }
    group.finish();
}

fn work(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("work");
    let (executor, stopping) = (executor(), builder().stop_on_error(true).build().expect("good settings"));
    for (items, micros) in [(10, 1), (100, 1), (1_000, 1), (20_000, 1), (200, 20), (16, 100)] {
        let name = BenchmarkId::new(format!("{micros} µs"), items);
        row(&mut group, name, items, |input| {
            executor.run(input, |item| {
                busy(Duration::from_micros(micros));
                value_of(item)
            })
        });
    }
    row(&mut group, BenchmarkId::new("1 in 64 takes 100 µs, at the end", 640), 640, |input| {
        executor.run(input, |item| {
            busy(Duration::from_micros(if *item >= 630 { 100 } else { 1 }));
            value_of(item)
        })
    });
    row(&mut group, BenchmarkId::new("stops half way, 1 µs", 1_000), 1_000, |input| {
        stopping.run(input, |item| {
            busy(Duration::from_micros(1));
            if *item == 500 { Err("half way".to_owned()) } else { Ok(*item) }
        })
    });
    group.finish();
}

fn waiting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sleep 1 ms");
    group.sample_size(10);
    let executor = builder().workers(32).build().expect("good settings");
    row(&mut group, BenchmarkId::new("32 workers", 1_024), 1_024, |input| {
        executor.run(input, |item| {
            thread::sleep(Duration::from_millis(1));
            value_of(item)
        })
    });
    group.finish();
}

criterion_group!(benches, no_ops, steps, work, waiting);
criterion_main!(benches);
