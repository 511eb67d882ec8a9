//! A rate limit that changes while batches wait for it: a pause that is ended, and another rate.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{nap, ran_to_its_end, wait_until, within_a_minute};
use batch_executor::{
    BatchExecutor, Concurrency, Limit, LimiterError, RateLimit, RateLimiter, Retry, RetryDecision, TestClock,
};

const YEARS: Duration = Duration::MAX;

/// An executor with this limit, and the limit.
fn limited(workers: usize, limit: RateLimit) -> (BatchExecutor, Arc<RateLimit>) {
    let limit = Arc::new(limit);
    let builder = BatchExecutor::builder().workers(workers).stop_on_error(false);
    (builder.rate_limiter(Arc::clone(&limit)).build().unwrap(), limit)
}

/// P9: the server says that nothing may come for years; an operator knows better.
#[test]
fn a_batch_that_stands_still_for_a_retry_after_of_years_goes_on_when_the_limit_is_resumed() {
    within_a_minute(|| {
        for workers in [1, 4] {
            for has_progress in [false, true] {
                // At the second, no item ever waits for the limit itself.
                for rate in [10_000, 1_000_000_000] {
                    assert_goes_on_when_resumed(workers, has_progress, rate);
                }
            }
        }
    });
}

#[track_caller]
fn assert_goes_on_when_resumed(workers: usize, has_progress: bool, rate: u32) {
    let (executor, limit) = limited(workers, RateLimit::per_second(rate));
    let (calls, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let retry =
        Retry::delays(|| [Duration::ZERO; 3].into_iter()).when(|_: &&str| RetryDecision::PauseAll(YEARS));
    thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("it is refused", || refused.load(Ordering::SeqCst) > 0);
            // The limit hears of the pause a little later than the operation returns.
            wait_until("the limit is paused", || limit.reserve().unwrap() > Duration::from_secs(9));
            limit.resume();
        });
        let mut batch = executor.batch(0..40).retry(retry);
        if has_progress {
            batch = batch.on_progress(|_| ());
        }
        let result = batch.run_with(|n, cx| {
            calls.fetch_add(1, Ordering::SeqCst);
            if *n == 5 && cx.attempt() == 1 {
                refused.fetch_add(1, Ordering::SeqCst);
                return Err("429");
            }
            Ok(*n)
        });
        let result = ran_to_its_end(result);
        assert!(result.is_success(), "{result}");
    });
    assert_eq!(calls.into_inner(), 41, "{workers} workers, {rate} a second");
}

/// P9: another batch, or a task of its own, that shares the limit.
#[test]
fn all_who_wait_at_a_paused_limit_go_on_when_it_is_resumed() {
    within_a_minute(|| {
        let (executor, limit) = limited(3, RateLimit::per_second(10_000));
        limit.pause(YEARS);
        limit.pause(Duration::from_millis(1)); // shortens nothing
        thread::scope(|scope| {
            let batches = [(); 2].map(|()| scope.spawn(|| executor.run(0..20, |n| Ok::<_, String>(*n))));
            let stream = scope.spawn(|| {
                executor.batch(0..20).stream(|n| Ok::<_, String>(*n), |results| results.count()).output
            });
            let task = scope.spawn(|| executor.execute(|| Ok::<_, String>(7)));
            let acquired = scope.spawn(|| limit.acquire());
            thread::sleep(Duration::from_millis(50));
            assert!(batches.iter().all(|batch| !batch.is_finished()), "nothing starts in a pause");
            assert!(!stream.is_finished() && !task.is_finished() && !acquired.is_finished());
            limit.resume();
            for batch in batches {
                assert!(ran_to_its_end(batch.join().unwrap()).is_success());
            }
            assert_eq!((stream.join().unwrap(), task.join().unwrap().unwrap()), (20, 7));
            acquired.join().unwrap().unwrap();
        });
    });
}

#[test]
fn those_that_wait_at_a_limit_go_on_at_the_rate_that_is_set() {
    within_a_minute(|| {
        let (executor, limit) = limited(4, RateLimit::every(Duration::from_secs(86_400)));
        let started = AtomicUsize::new(0);
        thread::scope(|scope| {
            let batch = scope.spawn(|| {
                executor.run(0..200, |n| {
                    started.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, String>(*n)
                })
            });
            wait_until("the first has its permit", || started.load(Ordering::SeqCst) == 1);
            thread::sleep(Duration::from_millis(20));
            assert_eq!(started.load(Ordering::SeqCst), 1);
            let since = Instant::now();
            limit.set(2_000, Duration::from_secs(1)).unwrap();
            assert!(ran_to_its_end(batch.join().unwrap()).is_success());
            assert!(since.elapsed() >= Duration::from_millis(99), "199 at 2,000 a second, no sooner");
        });
    });
}

/// It has taken its permits, which are due in hours, and no other item waits for any.
#[test]
fn an_item_that_waits_alone_goes_on_at_the_rate_that_is_set() {
    within_a_minute(|| {
        for workers in [1, 2] {
            let (executor, asked) =
                (BatchExecutor::builder().workers(workers).build().unwrap(), Barrier::new(2));
            let limit = RateLimit::every(Duration::from_secs(3_600));
            thread::scope(|scope| {
                scope.spawn(|| {
                    asked.wait();
                    thread::sleep(Duration::from_millis(5));
                    limit.set(1_000, Duration::from_secs(1)).unwrap();
                });
                let ten = Limit::rate(&limit).cost(|_| {
                    asked.wait();
                    10
                });
                assert!(executor.batch(0..1).limit(ten).run(|_| Ok::<_, String>(())).is_success());
            });
        }
    });
}

/// The rate holds behind a pause that was ended: what was given in the pause is not given again.
#[test]
fn behind_a_pause_that_is_ended_the_rate_holds() {
    within_a_minute(|| {
        let (executor, limit) = limited(8, RateLimit::every(Duration::from_millis(5)));
        limit.pause(YEARS);
        thread::scope(|scope| {
            let batch = scope.spawn(|| {
                let since = Instant::now();
                executor.run(0..40, move |_| Ok::<_, String>(since.elapsed()))
            });
            thread::sleep(Duration::from_millis(50));
            let resumed = Instant::now();
            limit.resume();
            assert!(ran_to_its_end(batch.join().unwrap()).is_success());
            assert!(resumed.elapsed() >= Duration::from_millis(39 * 5), "{:?}", resumed.elapsed());
        });
    });
}

/// Its first refusal waits for a pause of all, which is over. Its second waits an hour for itself.
#[test]
fn an_item_that_waits_alone_does_not_go_on_when_a_pause_is_ended() {
    within_a_minute(|| {
        for workers in [1, 2] {
            let (clock, limit) = (TestClock::new(), RateLimit::per_second(1_000));
            let executor = BatchExecutor::builder().workers(workers).clock(clock.clone()).build().unwrap();
            let hour = Duration::from_secs(3_600);
            let retry = Retry::delays(move || [hour; 3].into_iter()).when(|error: &&str| match *error {
                "429" => RetryDecision::PauseAll(Duration::from_secs(60)),
                "soon" => RetryDecision::RetryAfter(Duration::from_secs(600)),
                _ => RetryDecision::Retry,
            });
            let result = executor.batch(0..2).limit(Limit::rate(&limit)).retry(retry).run_with(|n, cx| {
                match (*n, cx.attempt()) {
                    (0, 1) => return Err("429"),
                    (0, 2) => return Err("busy"),
                    (1, 1) => return Err("soon"),
                    (1, 2) => limit.resume(),
                    _ => {}
                }
                Ok(clock.elapsed().as_secs())
            });
            assert_eq!(result.into_values().unwrap(), [3_660, 660], "{workers}");
        }
    });
}

/// It ends a pause as soon as it hears of it, when the item that has asked for it does not wait yet.
struct Resumes<'l>(&'l RateLimit);

impl RateLimiter for Resumes<'_> {
    fn reserve(&self) -> Result<Duration, LimiterError> {
        Ok(Duration::ZERO)
    }

    fn pause(&self, _: Duration) {
        self.0.resume();
    }
}

#[test]
fn an_item_does_not_wait_for_a_pause_that_was_ended_before() {
    within_a_minute(|| {
        for workers in [1, 2] {
            let (clock, limit) = (TestClock::new(), RateLimit::per_second(1_000));
            let executor = BatchExecutor::builder().workers(workers).clock(clock.clone()).build().unwrap();
            let retry =
                Retry::delays(iter::empty).when(|(): &()| RetryDecision::PauseAll(Duration::from_secs(3600)));
            let batch = executor.batch(0..2).limit(Limit::rate(&limit)).limit(Limit::rate(Resumes(&limit)));
            let result = batch
                .retry(retry)
                .run_with(|n, cx| if (*n, cx.attempt()) == (0, 1) { Err(()) } else { Ok(()) });
            assert!(ran_to_its_end(result).is_success());
            assert!(clock.elapsed() < Duration::from_secs(1), "{:?}", clock.elapsed());
        }
    });
}

#[test]
fn more_slots_do_not_end_a_pause() {
    within_a_minute(|| {
        let (clock, slots) = (TestClock::new(), Concurrency::new(2));
        let executor = BatchExecutor::builder().workers(3).clock(clock.clone()).build().unwrap();
        let retry = Retry::delays(|| [Duration::ZERO].into_iter());
        let retry = retry.when(|_: &&str| RetryDecision::PauseAll(Duration::from_secs(10)));
        let (starts, both_run) = (Mutex::new(Vec::new()), Barrier::new(2));
        let batch = executor.batch(0..4).limit(Limit::at_once(&slots)).retry(retry);
        let result = batch.run_with(|n, cx| {
            starts.lock().unwrap().push((*n, clock.elapsed().as_secs()));
            match (*n, cx.attempt()) {
                (0, 1) => {
                    both_run.wait();
                    Err("slow down")
                }
                (1, _) => {
                    both_run.wait();
                    nap(Duration::from_secs(3));
                    slots.set(3);
                    Ok(())
                }
                _ => Ok(()),
            }
        });
        assert!(result.is_success());
        let mut starts = starts.into_inner().unwrap();
        starts.sort_unstable();
        assert_eq!(starts, [(0, 0), (0, 10), (1, 0), (2, 10), (3, 10)]);
    });
}
