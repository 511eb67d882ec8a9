//! Times retries that hold no worker while they back off, beside workers that sleep. Then times a cancel of a batch
//! whose items all wait for the rate limiter.

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, Instant};
use std::{iter, thread};

use batch_executor::{BatchExecutor, CancelToken, RateLimit, Retry, StopReason};

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

/// With `.retry`: items wait in a queue, and workers go on.
fn waiting_in_the_queue(items: usize) -> Ended {
    let executor = BatchExecutor::builder().workers(WORKERS as usize).build()?;
    let result = executor
        .batch(0..items)
        .retry(Retry::delays(|| iter::once(BACK_OFF)))
        .run_with(|n, cx| if cx.attempt() == 1 { Err("busy") } else { Ok(*n) })
        .into_result()?;
    let attempts: usize = (0..items).map(|index| result.attempts(index)).sum();
    println!("   {items} items in {:.1?}, {attempts} attempts", result.elapsed());
    Ok(())
}

/// By hand: the operation sleeps.
fn sleeping_on_the_worker(items: usize) -> Ended {
    let executor = BatchExecutor::builder().workers(WORKERS as usize).build()?;
    let slow = |n: &usize| {
        thread::sleep(BACK_OFF);
        Ok::<_, Infallible>(*n)
    };
    let result = executor.run(0..items, slow).into_result()?;
    println!("a worker that sleeps through it instead:");
    println!("   {items} items in {:.1?}, measured", result.elapsed());
    Ok(())
}

fn cancelled_at_the_limiter(items: usize) -> Ended {
    let limit = RateLimit::per_second(1);
    let executor = BatchExecutor::builder().workers(WORKERS as usize).rate_limiter(limit).build()?;
    let token = CancelToken::new();
    let (cancelled_at, result, returned_at) = thread::scope(|scope| {
        let canceller = scope.spawn(|| {
            thread::sleep(Duration::from_millis(500));
            let now = Instant::now();
            token.cancel();
            now
        });
        let result = executor.batch(0..items).cancel_on(&token).run(|n| Ok::<_, Infallible>(*n));
        let returned_at = Instant::now();
        (canceller.join(), result, returned_at)
    });
    let Some(reason @ StopReason::Cancelled) = result.stopped() else {
        return Err("the batch was not cancelled".into());
    };
    let took = returned_at - cancelled_at.map_err(|_| "the canceller panicked")?;
    println!("   {reason}: {result}");
    println!("   returned {took:.1?} after the cancel");
    Ok(())
}
