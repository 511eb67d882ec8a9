//! For `.ci/platforms wasm`: batches where no thread can be had.
use batch_executor::BatchExecutor;

fn main() {
    for workers in [1, 4] {
        let executor = BatchExecutor::builder().workers(workers).stop_on_error(false).build().unwrap();
        let mut told = 0;
        let result = executor
            .batch(0..100_usize)
            .on_progress(|_| told += 1)
            .run(|n| if n % 10 == 3 { Err("no") } else { Ok(n * n) });
        let counts = (result.succeeded(), result.failed(), result.workers(), told);
        assert_eq!(counts, (90, 10, 1, 100), "of {workers} workers");
        let stopped = BatchExecutor::builder().workers(workers).build().unwrap().run(0..9, |n| if *n == 4 { Err(*n) } else { Ok(()) });
        assert_eq!((stopped.succeeded(), stopped.skipped()), (4, 4));
    }
    let streamed = BatchExecutor::new().batch(1..=1_000_u64).stream(|n| Ok::<_, String>(*n), |results| {
        results.map(|item| item.outcome.unwrap()).sum::<u64>()
    });
    assert_eq!(streamed.output, 500_500);
    println!("batches and a stream ran to their ends");
}
