//! Failures that stop, permits that come late, and callbacks that get in the way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{ItemError, RateLimit, RateLimiter, StopReason, limiter_fn};

use crate::common::{
    Census, Gate, MEANT, Meeting, Register, assert_still_works, assert_survived, builder, collecting,
    parallel_settings, ran_to_its_end, settings, silence_meant_panics, stopped, stopping, within_a_minute,
};

/// F57
#[test]
fn of_many_failures_at_once_the_lowest_is_the_reason_and_none_is_lost() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = stopping(workers);
            let together = executor.workers_for(1_000);
            for _ in 0..50 {
                let (meeting, census, errors) = (Meeting::default(), Census::of(1_000), Register::default());
                let result = executor.run(0..1_000usize, |&n| {
                    census.count(n);
                    if n < together {
                        meeting.of(together);
                    }
                    Err::<(), _>((n, errors.make()))
                });
                let (reason, partial) = stopped(result);
                assert_eq!(reason, StopReason::ItemFailed { index: 0 });
                assert!(partial.failed() >= together);
                assert_eq!((errors.made(), errors.dropped()), (partial.failed(), 0));
                for (item, runs) in partial.iter().zip(census.runs()) {
                    match item.outcome {
                        Err(ItemError::Failed((n, _))) => assert_eq!((*n, runs), (item.index, 1)),
                        Err(ItemError::Skipped) => assert_eq!(runs, 0),
                        other => panic!("{:?}", other.is_ok()),
                    }
                }
                let made = errors.made();
                drop(partial);
                errors.assert_all_dropped(made);
            }
            assert_survived(executor);
        }
    });
}

/// A limiter that gives `first` permits at once, and lets the worker that asks for a later one wait for `wait`; it opens the gate
/// when a worker asks for one of those.
pub(crate) fn late_after(first: usize, wait: Duration, late: &Arc<Gate>) -> impl RateLimiter + 'static {
    let (asked, late) = (AtomicUsize::new(0), Arc::clone(late));
    limiter_fn(move || {
        if asked.fetch_add(1, Ordering::SeqCst) < first {
            return Ok(Duration::ZERO);
        }
        late.open();
        Ok(wait)
    })
}

/// F33, F08: neither an hour nor an endless wait outlives a failure below, be it an error or a panic.
#[test]
fn a_worker_that_waits_for_a_permit_is_let_go_when_the_batch_stops() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in parallel_settings() {
            for wait in [Duration::from_secs(3600), Duration::MAX] {
                for panics in [false, true] {
                    let late = Arc::new(Gate::default());
                    let together = stopping(workers).workers_for(100);
                    let builder = builder().workers(workers);
                    let executor = builder.rate_limiter(late_after(together, wait, &late)).build().unwrap();
                    let (meeting, census) = (Meeting::default(), Census::of(100));
                    let result = executor.run(0..100usize, |&n| {
                        census.count(n);
                        meeting.of(together);
                        if n == 0 {
                            // By now a worker waits for a permit for an item above.
                            late.pass();
                            thread::sleep(Duration::from_millis(5));
                            assert!(!panics, "{MEANT}the first");
                            return Err("the first");
                        }
                        Ok(())
                    });
                    let (reason, partial) = stopped(result);
                    assert_eq!(reason, StopReason::ItemFailed { index: 0 }, "{workers:?}");
                    assert_eq!(
                        (partial.succeeded(), partial.failed(), partial.skipped()),
                        (together - 1, 1, 100 - together),
                        "{workers:?}"
                    );
                    assert_eq!(census.total(), together);
                    // I5: the limiter gives nothing more.
                }
            }
        }
    });
}

/// F33, F07
#[test]
fn a_worker_that_waits_for_a_permit_is_let_go_when_the_callback_panics() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in parallel_settings() {
            let late = Arc::new(Gate::default());
            let builder = builder().workers(workers).stop_on_error(false);
            let executor = builder.rate_limiter(late_after(1, Duration::MAX, &late)).build().unwrap();
            let text = crate::common::panic_of(|| {
                executor
                    .batch(0..100)
                    .on_progress(|_| {
                        late.pass();
                        thread::sleep(Duration::from_millis(5));
                        panic!("{MEANT}the callback")
                    })
                    .run(|_| Ok::<_, String>(()))
            });
            assert_eq!(text, "meant: the callback");
            // I5: the limiter gives nothing more.
        }
    });
}

/// F59: an item below waits for its permit while others fail above and wake it; it starts no sooner for that.
#[test]
fn a_worker_that_is_woken_too_early_goes_on_waiting() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let (asked, due) = (AtomicUsize::new(0), Arc::new(Mutex::new(Vec::new())));
            let dues = Arc::clone(&due);
            let limiter = limiter_fn(move || {
                let wait = Duration::from_millis(10 * (asked.fetch_add(1, Ordering::SeqCst) as u64 % 5));
                dues.lock().unwrap().push(Instant::now() + wait);
                Ok(wait)
            });
            let executor = builder().workers(workers).stop_after_failures(3).rate_limiter(limiter).build();
            let started = Mutex::new(Vec::new());
            let executor = executor.unwrap();
            let result = executor.run(0..60usize, |&n| {
                started.lock().unwrap().push(Instant::now());
                if n > 1 { Err(n) } else { Ok(n) }
            });
            assert_eq!(result.stopped(), Some(StopReason::TooManyFailures { limit: 3 }));
            // I5: at this limiter's pace a batch more would take seconds.
            drop(executor);
            // The k-th start is no earlier than the k-th permit, in order of time.
            let (mut due, mut started) = (due.lock().unwrap().clone(), started.into_inner().unwrap());
            due.sort();
            started.sort();
            assert!(started.iter().zip(&due).all(|(started, due)| started >= due), "{workers:?}");
        }
    });
}

/// F59: the k-th permit of all comes no sooner than rate and burst allow, however many threads ask at once. The time of
/// use is known between two bounds; the later one is compared, so that a slow machine breaks nothing.
#[test]
fn a_rate_limit_under_contention_never_exceeds_rate_and_burst() {
    within_a_minute(|| {
        for burst in [1u32, 5] {
            let interval = Duration::from_micros(50);
            let since = Instant::now();
            let limit = RateLimit::every(interval).burst(burst);
            let used = Mutex::new(Vec::new());
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let mut own = Vec::new();
                        for _ in 0..2_000 {
                            let wait = limit.reserve().unwrap();
                            own.push(since.elapsed() + wait);
                        }
                        used.lock().unwrap().extend(own);
                    });
                }
            });
            let mut used = used.into_inner().unwrap();
            used.sort();
            for (k, used) in (0u32..).zip(&used) {
                let earliest = interval * (k + 1).saturating_sub(burst);
                assert!(*used >= earliest, "permit {k} at {used:?}, and not before {earliest:?}");
            }
        }
    });
}

/// F59
#[test]
fn a_limiter_that_says_now_or_later_or_never_the_same_gives_every_item_its_turn() {
    within_a_minute(|| {
        for workers in settings() {
            let asked = AtomicUsize::new(0);
            let limiter = limiter_fn(move || {
                let asked = asked.fetch_add(1, Ordering::SeqCst) as u64;
                Ok(Duration::from_nanos([0, 1, 50_000, 3, 1_000_000][usize::try_from(asked % 5).unwrap()]))
            });
            let executor = builder().workers(workers).rate_limiter(limiter).build().unwrap();
            let census = Census::of(200);
            let result = executor.run(0..200usize, |&n| {
                census.count(n);
                Ok::<_, String>(())
            });
            assert!(ran_to_its_end(result).is_success());
            census.assert_each_ran_once();
            assert_survived(executor);
        }
    });
}

/// F62: the callback wants a lock that items hold, and runs batches, while nothing of ours is locked.
#[test]
fn a_callback_that_blocks_and_runs_batches_deadlocks_nothing() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let (lock, census) = (Mutex::new(0usize), Census::of(200));
            let mut told = Vec::new();
            let result = executor
                .batch(0..200usize)
                .on_progress(|p| {
                    *lock.lock().unwrap() += 1;
                    if p.completed % 50 == 1 {
                        assert_still_works(&executor);
                        thread::sleep(Duration::from_millis(2));
                    }
                    told.push(*p);
                })
                .run(|&n| {
                    let _held = lock.lock().unwrap();
                    census.count(n);
                    if n % 3 == 0 { Err(n) } else { Ok(n) }
                });
            let result = ran_to_its_end(result);
            census.assert_each_ran_once();
            assert_eq!(lock.into_inner().unwrap(), 200);
            assert!(told.iter().map(|p| p.completed).eq(1..=200), "{workers:?}");
            let last = told.last().unwrap();
            assert_eq!((last.succeeded, last.failed), (result.succeeded(), result.failed()));
            assert_survived(executor);
        }
    });
}
