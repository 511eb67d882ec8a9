//! How long retries take when nobody sleeps through a back-off, and how long a cancel when everybody sleeps.

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, Instant};
use std::{iter, thread};

use batch_executor::{BatchError, BatchExecutor, CancelToken, RateLimit, Retry, StopReason};

const WORKERS: u32 = 8;
const BACK_OFF: Duration = Duration::from_millis(100);

type Ended = Result<(), Box<dyn Error>>;

fn main() -> Ended {
    println!("{WORKERS} workers; each item fails once and is tried again after {BACK_OFF:?}:");
    waiting_in_the_queue(1_000)?;
    sleeping_on_the_worker(100)?;
    let holding = BACK_OFF * 1_000 / WORKERS;
    println!("   1000 items would take {holding:.1?}: 1000 × {BACK_OFF:?} / {WORKERS}, computed");

    println!("{WORKERS} workers at a limiter of one a second:");
    cancelled_at_the_limiter(10_000)
}

/// With `.retry`: items wait, and workers do not.
fn waiting_in_the_queue(items: usize) -> Ended {
    let executor = BatchExecutor::builder().workers(WORKERS as usize).build()?;
    let result = executor
        .batch(0..items)
        .retry(Retry::new(|| iter::once(BACK_OFF)))
        .run_with(|n, cx| if cx.attempt() == 1 { Err("busy") } else { Ok(*n) })?;
    let attempts: usize = (0..items).map(|index| result.attempts(index)).sum();
    println!("   {items} items in {:.1?}, {attempts} attempts", result.elapsed());
    Ok(())
}

/// By hand, in the operation.
fn sleeping_on_the_worker(items: usize) -> Ended {
    let executor = BatchExecutor::builder().workers(WORKERS as usize).build()?;
    let result = executor.run(0..items, |n| {
        thread::sleep(BACK_OFF);
        Ok::<_, Infallible>(*n)
    })?;
    println!("a worker that sleeps through it instead:");
    println!("   {items} items in {:.1?}, measured", result.elapsed());
    Ok(())
}

fn cancelled_at_the_limiter(items: usize) -> Ended {
    let limit = RateLimit::per_second(1);
    let executor = BatchExecutor::builder().workers(WORKERS as usize).rate_limiter(limit).build()?;
    let token = CancelToken::new();
    let (cancelled_at, ended) = thread::scope(|scope| {
        let canceller = scope.spawn(|| {
            thread::sleep(Duration::from_millis(500));
            let now = Instant::now();
            token.cancel();
            now
        });
        let ended = executor.batch(0..items).cancel_on(&token).run(|n| Ok::<_, Infallible>(*n));
        (canceller.join(), (ended, Instant::now()))
    });
    let (Err(error @ BatchError::Stopped { reason: StopReason::Cancelled, .. }), returned_at) = ended else {
        return Err("the batch was not cancelled".into());
    };
    let took = returned_at - cancelled_at.map_err(|_| "the canceller panicked")?;
    println!("   {error}");
    println!("   returned {took:.1?} after the cancel");
    Ok(())
}
