//! Promise 5: never more at once than the worker count, never more started than there were permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{
    AdaptiveWorkers, AutoWorkers, BatchExecutor, BatchExecutorBuilder, ItemError, LimiterError, RateLimit,
    RateLimiter, StopReason, Workers, limiter_fn,
};

use crate::common::{
    Census, Gate, Meeting, Peak, collecting, ran_to_its_end, settings, stopped, wait_until, within_a_minute,
};

/// Settings with the most that may run at once.
fn limits() -> [(Workers, usize); 7] {
    [
        (Workers::Sequential, 1),
        (Workers::Fixed(1), 1),
        (Workers::Fixed(2), 2),
        (Workers::Fixed(8), 8),
        (Workers::from(AutoWorkers::new().cpus(2).per_cpu(2)), 4),
        (Workers::from(AutoWorkers::new().cpus(64).cap(3)), 3),
        (Workers::from(AdaptiveWorkers::new().min(2).max(4)), 4),
    ]
}

/// Stays until there is one worker too many inside, or for a moment.
fn linger(peak: &Peak, limit: usize) {
    let since = Instant::now();
    while peak.inside() <= limit && since.elapsed() < Duration::from_millis(2) {
        thread::yield_now();
    }
}

#[test]
fn no_more_items_run_at_once_than_there_are_workers() {
    within_a_minute(|| {
        for (workers, limit) in limits() {
            let executor = collecting(workers);
            let peak = Peak::default();
            let result = executor.run(0..30 * limit, |_| {
                let _inside = peak.enter();
                linger(&peak, limit);
                Ok::<_, String>(())
            });
            let result = ran_to_its_end(result);
            assert!(peak.most() <= limit, "{} at once, {workers:?}", peak.most());
            assert!((peak.most()..=limit).contains(&result.workers()), "workers() says {}", result.workers());
        }
    });
}

#[test]
fn no_more_items_run_at_once_with_a_callback_either() {
    within_a_minute(|| {
        for (workers, limit) in limits() {
            let executor = collecting(workers);
            // The first batch finds no threads, the second finds them: the caller takes and leaves its seat otherwise.
            for _ in 0..2 {
                let peak = Peak::default();
                let result = executor.batch(0..30 * limit).on_progress(|_| thread::yield_now()).run(|_| {
                    let _inside = peak.enter();
                    linger(&peak, limit);
                    Ok::<_, String>(())
                });
                let result = ran_to_its_end(result);
                assert!(peak.most() <= limit, "{} at once, {workers:?}", peak.most());
                assert!(result.workers() <= limit);
            }
        }
    });
}

#[test]
fn short_batches_with_a_callback_keep_the_limit() {
    within_a_minute(|| {
        for limit in [2, 3] {
            let executor = collecting(limit);
            for _ in 0..300 {
                let peak = Peak::default();
                let result = executor.batch(0..12).on_progress(|_| {}).run(|_| {
                    let _inside = peak.enter();
                    thread::yield_now();
                    Ok::<_, String>(())
                });
                assert!(peak.most() <= limit, "{} at once", peak.most());
                assert!(ran_to_its_end(result).workers() <= limit);
            }
        }
    });
}

/// The caller finds no thread and works itself; while it does, more threads become free than there are seats left. When
/// it is done with its item, a second thread takes its place.
#[test]
fn a_caller_that_works_while_it_reports_counts_as_a_worker_and_gives_its_place_up() {
    within_a_minute(|| {
        let executor = collecting(2);
        let (gate, held) = (Gate::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let result = executor.run(0..2, |_| {
                        held.fetch_add(1, Ordering::SeqCst);
                        gate.pass();
                        Ok::<_, String>(())
                    });
                    assert!(ran_to_its_end(result).is_success());
                });
            }
            // 20 callers, and the 16 threads that two workers may have.
            wait_until("every thread is held", || held.load(Ordering::SeqCst) == 36);
            let (peak, meeting, caller) = (Peak::default(), Meeting::default(), thread::current().id());
            let result = executor.batch(0..40).on_progress(|_| {}).run(|_| {
                let _inside = peak.enter();
                if thread::current().id() == caller {
                    gate.open();
                    // Long enough for all of them to come, if they may.
                    thread::sleep(Duration::from_millis(50));
                } else {
                    meeting.of(2);
                    thread::sleep(Duration::from_millis(5));
                }
                Ok::<_, String>(())
            });
            let result = ran_to_its_end(result);
            assert!(result.is_success(), "no second thread came");
            assert!(gate.is_open(), "the caller did not work");
            assert!(peak.most() <= 2, "{} at once", peak.most());
            assert!(result.workers() <= 2);
        });
    });
}

#[test]
fn the_limit_is_reached_with_and_without_a_callback() {
    within_a_minute(|| {
        for (workers, _) in limits() {
            let executor = collecting(workers);
            let together = executor.workers_for(100);
            for reports in [false, true] {
                let meeting = Meeting::default();
                let batch = executor.batch(0..100usize);
                let batch = if reports { batch.on_progress(|_| {}) } else { batch };
                let result = batch.run(|&n| {
                    if n < together {
                        meeting.of(together);
                    }
                    Ok::<_, String>(())
                });
                let result = ran_to_its_end(result);
                assert!(result.is_success(), "not all workers came, {workers:?}");
                assert!(result.workers() >= together);
            }
        }
    });
}

#[test]
fn a_batch_with_few_workers_takes_no_threads_from_the_next() {
    within_a_minute(|| {
        let (executor, meeting) = (collecting(16), Meeting::default());
        drop(ran_to_its_end(executor.batch(0..3).workers(1).run(|n| Ok::<_, String>(*n))));
        let result = executor.run(0..16, |_| {
            meeting.of(16);
            Ok::<_, String>(())
        });
        assert_eq!(result.workers(), 16);
    });
}

#[test]
fn the_limit_holds_for_each_batch_and_not_for_all_together() {
    within_a_minute(|| {
        let executor = collecting(3);
        let meeting = Meeting::default();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let peak = Peak::default();
                    let result = executor.run(0..60usize, |&n| {
                        let _inside = peak.enter();
                        if n < 3 {
                            meeting.of(6);
                        }
                        linger(&peak, 3);
                        Ok::<_, String>(())
                    });
                    assert!(ran_to_its_end(result).is_success());
                    assert!(peak.most() <= 3, "{} at once", peak.most());
                });
            }
        });
    });
}

#[test]
fn sequential_runs_on_the_calling_thread_in_order() {
    for workers in [Workers::Sequential, Workers::Fixed(1)] {
        for reports in [false, true] {
            let caller = thread::current().id();
            let next = AtomicUsize::new(0);
            let executor = collecting(workers);
            let batch = executor.batch(0..50usize);
            let batch = if reports { batch.on_progress(|_| {}) } else { batch };
            let result = batch.run(|&n| {
                assert_eq!(thread::current().id(), caller);
                assert_eq!(next.fetch_add(1, Ordering::SeqCst), n);
                Ok::<_, String>(())
            });
            assert!(ran_to_its_end(result).is_success(), "{workers:?}");
        }
    }
}

/// A limiter that counts its permits, refusing some.
fn counting(
    workers: Workers,
    refuses: fn(usize) -> bool,
) -> (BatchExecutorBuilder, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (asked, given) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&asked), Arc::clone(&given));
    let limiter = limiter_fn(move || {
        if refuses(counters.0.fetch_add(1, Ordering::SeqCst)) {
            return Err(LimiterError::new("refused"));
        }
        counters.1.fetch_add(1, Ordering::SeqCst);
        Ok(Duration::ZERO)
    });
    (BatchExecutor::builder().workers(workers).rate_limiter(limiter), asked, given)
}

#[test]
fn every_started_item_has_a_permit_of_its_own() {
    within_a_minute(|| {
        for workers in settings() {
            let (builder, asked, given) = counting(workers, |_| false);
            let (started, census) = (AtomicUsize::new(0), Census::of(500));
            let executor = builder.stop_on_error(false).build().unwrap();
            let result = executor.run(0..500usize, |&n| {
                let started = started.fetch_add(1, Ordering::SeqCst) + 1;
                let given = given.load(Ordering::SeqCst);
                assert!(started <= given, "{started} items started with {given} permits");
                census.count(n);
                if n % 9 == 0 { Err("a failure costs a permit too") } else { Ok(()) }
            });
            assert!(
                ran_to_its_end(result)
                    .iter()
                    .all(|item| !matches!(item.outcome, Err(ItemError::Panicked(_))))
            );
            census.assert_each_ran_once();
            assert_eq!(asked.load(Ordering::SeqCst), 500, "permits asked for, {workers:?}");
        }
    });
}

#[test]
fn an_item_without_a_permit_is_not_run() {
    within_a_minute(|| {
        for workers in settings() {
            let (builder, asked, given) = counting(workers, |n| n % 3 == 2);
            let census = Census::of(300);
            let executor = builder.stop_on_error(false).build().unwrap();
            let result = ran_to_its_end(executor.run(0..300usize, |&n| {
                census.count(n);
                Ok::<_, String>(())
            }));
            assert_eq!((asked.load(Ordering::SeqCst), given.load(Ordering::SeqCst)), (300, 200));
            assert_eq!((result.succeeded(), result.failed(), census.total()), (200, 100, 200), "{workers:?}");
            for (item, runs) in result.iter().zip(census.runs()) {
                assert_eq!(runs, usize::from(item.outcome.is_ok()), "item {}", item.item);
            }
        }
    });
}

#[test]
fn a_stopped_batch_uses_no_more_permits_than_it_took() {
    within_a_minute(|| {
        for workers in settings() {
            let (builder, asked, given) = counting(workers, |_| false);
            let census = Census::of(1_000);
            let executor = builder.build().unwrap();
            let result = executor.run(0..1_000usize, |&n| {
                census.count(n);
                if n == 40 { Err("forty") } else { Ok(()) }
            });
            let (reason, partial) = stopped(result);
            assert_eq!(reason, StopReason::ItemFailed { index: 40 });
            let started = partial.succeeded() + partial.failed();
            assert_eq!(census.total(), started);
            let (asked, given) = (asked.load(Ordering::SeqCst), given.load(Ordering::SeqCst));
            assert_eq!(asked, given);
            assert!(started <= given, "{started} started with {given} permits, {workers:?}");
            // One that was taken and not used for each other worker at most.
            assert!(given < started + executor.workers_for(1_000).max(256), "{given} permits for {started}");
            if matches!(workers, Workers::Sequential) {
                assert_eq!(given, 41);
            }
        }
    });
}

/// Each permit says when it may be used. At any moment, as many items have started as there were permits due.
#[test]
fn no_item_starts_before_its_permit_may_be_used() {
    const APART: Duration = Duration::from_millis(2);

    within_a_minute(|| {
        for workers in settings() {
            let since = Instant::now();
            let permits = AtomicUsize::new(0);
            let limiter = limiter_fn(move || {
                let number = u32::try_from(permits.fetch_add(1, Ordering::SeqCst)).unwrap();
                Ok((number * APART).saturating_sub(since.elapsed()))
            });
            let executor =
                BatchExecutor::builder().workers(workers).stop_on_error(false).rate_limiter(limiter);
            let started = AtomicUsize::new(0);
            let result = executor.build().unwrap().run(0..40, |_| {
                let started = started.fetch_add(1, Ordering::SeqCst) + 1;
                let due = since.elapsed().as_nanos() / APART.as_nanos() + 1;
                assert!(started as u128 <= due, "{started} started when {due} permits were due");
                Ok::<_, String>(())
            });
            let result = ran_to_its_end(result);
            assert!(result.is_success(), "{:?}, {workers:?}", result.failures().next().unwrap());
        }
    });
}

#[test]
fn executors_that_share_a_limiter_keep_one_limit_between_them() {
    within_a_minute(|| {
        let interval = Duration::from_millis(1);
        let limit = Arc::new(RateLimit::every(interval));
        let executor = || {
            let limit = Arc::clone(&limit);
            BatchExecutor::builder().workers(4).rate_limiter(limit).build().unwrap()
        };
        let (one, two) = (executor(), executor());
        let since = Instant::now();
        thread::scope(|scope| {
            for executor in [&one, &two] {
                scope.spawn(|| assert!(executor.run(0..30, |_| Ok::<_, String>(())).is_success()));
            }
        });
        // 60 permits, the first of them at once; a loaded machine only makes it longer.
        assert!(since.elapsed() >= 59 * interval);
    });
}

#[test]
fn a_task_run_alone_takes_a_permit_too() {
    let (builder, asked, _) = counting(Workers::Sequential, |n| n == 1);
    let executor = builder.build().unwrap();
    assert_eq!(executor.execute(|| Ok::<_, String>(1)).unwrap(), 1);
    let refused = executor.execute(|| -> Result<(), String> { unreachable!("it has no permit") });
    assert!(matches!(refused, Err(ItemError::RateLimiter(_))));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_limiter_may_stand_behind_any_pointer() {
    let limit = RateLimit::per_second(1_000_000);
    let boxed: Box<dyn RateLimiter> = Box::new(Arc::new(limit));
    let executor = BatchExecutor::builder().workers(2).rate_limiter(boxed).build().unwrap();
    assert!(ran_to_its_end(executor.run(0..50, |_| Ok::<_, String>(()))).is_success());
}

/// Knows what it was asked for.
#[derive(Default)]
struct Asked([AtomicUsize; 3]);

impl Asked {
    fn note(&self, which: usize) {
        self.0[which].fetch_add(1, Ordering::SeqCst);
    }

    fn told(&self) -> [usize; 3] {
        [0, 1, 2].map(|which| self.0[which].load(Ordering::SeqCst))
    }
}

impl RateLimiter for Asked {
    fn reserve(&self) -> Result<Duration, LimiterError> {
        self.note(0);
        Ok(Duration::from_millis(7))
    }

    fn acquire(&self) -> Result<(), LimiterError> {
        self.note(1);
        Err(LimiterError::new("its own way to wait"))
    }

    fn pause(&self, time: Duration) {
        assert_eq!(time, Duration::from_secs(9));
        self.note(2);
    }
}

/// Asks for each of the three things once.
fn ask(limiter: impl RateLimiter) {
    assert_eq!(limiter.reserve().ok(), Some(Duration::from_millis(7)));
    let waited = limiter.acquire().map_err(|error| error.to_string());
    assert_eq!(waited, Err("its own way to wait".to_owned()));
    limiter.pause(Duration::from_secs(9));
}

#[test]
fn a_limiter_is_asked_the_same_through_any_pointer() {
    let asked = Arc::new(Asked::default());
    ask(&*asked);
    assert_eq!(asked.told(), [1, 1, 1], "through a reference");
    ask(Arc::clone(&asked));
    assert_eq!(asked.told(), [2, 2, 2], "through an Arc");
    let boxed: Box<dyn RateLimiter> = Box::new(Arc::clone(&asked));
    ask(boxed);
    assert_eq!(asked.told(), [3, 3, 3], "through a Box");
}

#[test]
fn to_acquire_is_to_wait_for_what_was_reserved() {
    let since = Instant::now();
    let limiter = limiter_fn(|| Ok(Duration::from_millis(3)));
    limiter.pause(Duration::from_secs(3600)); // it has no way to pause
    limiter.acquire().unwrap();
    assert!(since.elapsed() >= Duration::from_millis(3));
    let refusing = limiter_fn(|| Err(LimiterError::new("the quota is used up")));
    assert_eq!(refusing.acquire().unwrap_err().to_string(), "the quota is used up");
}

#[test]
fn a_permit_comes_with_time_and_not_before() {
    let limit = RateLimit::every(Duration::from_millis(2));
    let since = Instant::now();
    for _ in 0..4 {
        limit.acquire().unwrap();
    }
    assert!(since.elapsed() >= Duration::from_millis(6));
    thread::sleep(Duration::from_millis(2));
    assert_eq!(limit.reserve().unwrap(), Duration::ZERO, "the next one has come meanwhile");
}
