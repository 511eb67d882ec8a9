//! A test clock: waits take no time, and what happens is what would have happened.

use std::iter;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{nap, within_a_minute};
use batch_executor::{
    BatchExecutor, BatchExecutorBuilder, CancelToken, Control, Limit, RateLimit, Retry, RetryDecision,
    StopReason, TestClock, limiter_fn,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn builder(workers: usize) -> (TestClock, BatchExecutorBuilder) {
    let clock = TestClock::new();
    (clock.clone(), BatchExecutor::builder().workers(workers).clock(clock))
}

#[test]
fn an_hour_of_back_off_takes_no_time() {
    within_a_minute(|| {
        for workers in [1, 2, 8] {
            let (clock, builder) = builder(workers);
            let result = builder
                .build()
                .unwrap()
                .batch(0..20)
                .retry(Retry::delays(|| [HOUR, 2 * HOUR].into_iter()))
                .run_with(|n, cx| if cx.attempt() < 3 && n % 2 == 0 { Err("down") } else { Ok(()) });
            assert!(result.is_success());
            assert_eq!((clock.elapsed(), result.elapsed()), (3 * HOUR, 3 * HOUR), "{workers}");
        }
    });
}

/// One item is decided while the other one waits for an hour.
#[test]
fn progress_is_told_before_the_clock_goes_on() {
    within_a_minute(|| {
        for _ in 0..5 {
            let ((_, builder), mut told) = (builder(2), Vec::new());
            let executor = builder.build().unwrap();
            let result = executor
                .batch(0..2)
                .retry(Retry::delays(|| [HOUR].into_iter()))
                .on_progress(|progress| told.push(progress.elapsed))
                .run_with(|n, cx| match (*n, cx.attempt()) {
                    (1, 1) => Err("down"),
                    (0, _) => {
                        std::thread::sleep(Duration::from_millis(8)); // the other one waits by now
                        Ok(())
                    }
                    _ => Ok(()),
                });
            assert!(result.is_success());
            assert_eq!(told, [Duration::ZERO, HOUR]);
        }
    });
}

#[test]
fn retries_that_have_waited_for_a_limit_count_as_retries() {
    within_a_minute(|| {
        for workers in [1, 3] {
            let (executor, mut retries) = (builder(workers).1.build().unwrap(), Vec::new());
            let batch = executor.batch(0..5).limit(Limit::rate(RateLimit::every(SECOND)));
            let batch = batch.retry(Retry::delays(|| [Duration::from_millis(1)].into_iter()));
            let result = batch
                .on_progress(|progress| retries.push(progress.retries))
                .run_with(|_, cx| if cx.attempt() == 1 { Err("down") } else { Ok(()) });
            assert!(result.is_success());
            assert_eq!(retries.last(), Some(&5), "{workers}: {retries:?}");
        }
    });
}

/// A batch of an executor without a clock, which waits for 2 ms; how long it took.
fn by_the_machines_clock(workers: usize) -> Duration {
    let executor = BatchExecutor::builder().workers(workers).build().expect("as many are fine");
    let batch = executor.batch(0..2).retry(Retry::delays(|| [Duration::from_millis(2)].into_iter()));
    let result = batch.run_with(|_, cx| if cx.attempt() == 1 { Err("down") } else { Ok(()) });
    assert!(result.is_success());
    result.elapsed()
}

#[test]
fn a_batch_inside_an_operation_goes_by_the_clock_of_its_own_executor() {
    within_a_minute(|| {
        for workers in [1, 2] {
            let (clock, builder) = builder(1);
            let result = builder.build().unwrap().run(0..1, |_| {
                nap(HOUR);
                let own = by_the_machines_clock(workers);
                assert!(own < HOUR);
                nap(HOUR);
                Ok::<_, String>(own)
            });
            assert!(result.into_values().unwrap().iter().all(|time| *time >= Duration::from_millis(2)));
            assert_eq!(clock.elapsed(), 2 * HOUR);
        }
    });
}

#[cfg(feature = "tokio")]
#[test]
fn a_batch_inside_a_task_or_of_a_task_inside_a_batch_goes_by_its_own_clock() {
    let paused =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    within_a_minute(move || {
        let in_a_task = BatchExecutor::new();
        let result = paused().block_on(in_a_task.batch([1]).run_async(async |workers| {
            tokio::time::sleep(HOUR).await;
            Ok::<_, String>(by_the_machines_clock(*workers))
        }));
        assert!(result.into_values().unwrap()[0] < HOUR);
        let (clock, builder) = builder(1);
        let result = builder.build().unwrap().run(0..1, |_| {
            let batch = in_a_task.batch(0..1).item_timeout(HOUR);
            let result = paused()
                .block_on(batch.run_async(async |_| std::future::pending::<Result<(), String>>().await));
            Ok::<_, String>(result.elapsed())
        });
        assert_eq!((result.into_values().unwrap(), clock.elapsed()), (vec![HOUR], Duration::ZERO));
    });
}

#[test]
fn a_rate_is_kept_to_the_nanosecond() {
    within_a_minute(|| {
        for workers in [1, 3] {
            let (clock, builder) = builder(workers);
            let executor = builder.rate_limiter(RateLimit::per_minute(60)).build().unwrap();
            let starts = Mutex::new(Vec::new());
            let result = executor.run(0..100u32, |n| {
                starts.lock().unwrap().push((*n, clock.elapsed()));
                Ok::<_, String>(())
            });
            assert!(result.is_success());
            let expected: Vec<_> = (0..100u32).map(|n| (n, SECOND * n)).collect();
            assert_eq!(*starts.lock().unwrap(), expected);
        }
    });
}

#[test]
fn tokens_and_requests_and_keys_take_the_time_that_the_scarcest_needs() {
    within_a_minute(|| {
        for workers in [1, 4, 16] {
            let (clock, builder) = builder(workers);
            let executor = builder.build().unwrap();
            let result = executor
                .batch(0..120u64)
                .limit(Limit::rate(RateLimit::per_second(4)))
                .limit(Limit::per_key(
                    |n: &u64| n % 2,
                    |odd| Limit::rate(RateLimit::per_second(if *odd == 1 { 20 } else { 1_000 })).cost(|_| 20),
                ))
                .run(|_| Ok::<_, String>(()));
            assert!(result.is_success());
            // 60 odd items: one a second. Meanwhile the even ones have three permits of four.
            let whole = clock.elapsed();
            assert!((59 * SECOND..63 * SECOND).contains(&whole), "{whole:?}, {workers} workers");
        }
    });
}

#[test]
fn a_pause_and_a_timeout_go_by_the_clock() {
    within_a_minute(|| {
        let (clock, builder) = builder(4);
        let executor = builder.build().unwrap();
        let tried = AtomicUsize::new(0);
        let pause = Retry::delays(|| [SECOND; 9].into_iter()).when(|_: &&str| RetryDecision::PauseAll(HOUR));
        let result = executor.batch(0..50).retry(pause).run_with(|n, cx| {
            tried.fetch_add(1, Ordering::Relaxed);
            if *n == 20 && cx.attempt() == 1 { Err("slow down") } else { Ok(()) }
        });
        assert!(result.is_success());
        assert_eq!((clock.elapsed(), tried.load(Ordering::Relaxed)), (HOUR, 51));

        let result = executor
            .batch(0..50)
            .timeout(10 * SECOND)
            .limit(Limit::rate(RateLimit::per_second(1)))
            .run(|_| Ok::<_, String>(()));
        assert_eq!(result.stopped(), Some(StopReason::DeadlineExceeded));
        assert_eq!((result.succeeded(), clock.elapsed()), (10, HOUR + 10 * SECOND));
    });
}

#[test]
fn a_stream_goes_by_the_clock() {
    within_a_minute(|| {
        for workers in [1, 4] {
            let (clock, builder) = builder(workers);
            let executor = builder.rate_limiter(RateLimit::per_second(1)).build().unwrap();
            let streamed = executor.batch(0..50).window(8).stream(
                |n| Ok::<_, String>(*n),
                |results| results.map(|item| (item.item, clock.elapsed())).collect::<Vec<_>>(),
            );
            assert_eq!(streamed.output.len(), 50);
            assert_eq!(clock.elapsed(), 49 * SECOND);
            assert!(streamed.output.iter().all(|(n, at)| *at >= SECOND * *n), "{:?}", streamed.output);
        }
    });
}

#[test]
fn a_batch_inside_an_item_goes_by_the_same_clock() {
    within_a_minute(|| {
        let (clock, builder) = builder(2);
        let executor = builder.build().unwrap();
        let retry = || Retry::delays(|| [HOUR].into_iter());
        let result = executor.batch(0..4).run(|_| {
            let inner = executor.batch(0..4).retry(retry());
            inner
                .run_with(|_, cx| if cx.attempt() == 1 { Err("down") } else { Ok(()) })
                .into_values()
                .map(drop)
        });
        assert!(result.is_success());
        assert!((HOUR..=4 * HOUR).contains(&clock.elapsed()), "{:?}", clock.elapsed());
    });
}

#[test]
fn one_task_waits_for_its_permit_by_the_clock() {
    within_a_minute(|| {
        let (clock, builder) = builder(1);
        let executor = builder.rate_limiter(RateLimit::every(HOUR)).build().unwrap();
        for _ in 0..3 {
            executor.execute(|| Ok::<_, String>(())).unwrap();
        }
        assert_eq!(clock.elapsed(), 2 * HOUR);
    });
}

/// What an item waits for its permit is no time of its own.
#[test]
fn the_time_of_an_item_begins_with_its_attempt() {
    within_a_minute(|| {
        for workers in [1, 3] {
            let (_, builder) = builder(workers);
            let executor = builder.rate_limiter(RateLimit::per_minute(1)).build().unwrap();
            let batch = executor.batch(0..4u32).item_timeout(30 * SECOND);
            let result = batch.run_with(|_, cx| Ok::<_, String>(cx.deadline().unwrap()));
            let deadlines = result.into_values().unwrap();
            let after: Vec<_> = deadlines.iter().map(|deadline| *deadline - deadlines[0]).collect();
            assert_eq!(after, [0, 60, 120, 180].map(|seconds| seconds * SECOND), "{workers}");
        }
    });
}

#[test]
fn retries_are_counted_with_limits_too() {
    within_a_minute(|| {
        for workers in [1, 4] {
            let (_, builder) = builder(workers);
            let mut retries = 0;
            let result = builder
                .build()
                .unwrap()
                .batch(0..30)
                .retry(Retry::delays(|| [SECOND; 2].into_iter()))
                .limit(Limit::at_once(2))
                .on_progress(|progress| retries = progress.retries)
                .run_with(|n, cx| if cx.attempt() <= n % 3 { Err("down") } else { Ok(()) });
            assert!(result.is_success());
            assert_eq!(retries, 30, "ten have one, ten have two");
        }
    });
}

#[test]
fn an_item_that_costs_nothing_waits_for_no_other() {
    within_a_minute(|| {
        for workers in [1, 3] {
            let (clock, builder) = builder(workers);
            let starts = Mutex::new(vec![Duration::MAX; 9]);
            let cost = |n: &usize| if n % 3 == 2 { 0 } else { 10 };
            let result = builder
                .build()
                .unwrap()
                .batch(0..9_usize)
                .limit(Limit::rate(RateLimit::per_second(1)).cost(cost))
                .run(|n| {
                    starts.lock().unwrap()[*n] = clock.elapsed();
                    Ok::<_, String>(())
                });
            assert!(result.is_success());
            let starts = starts.into_inner().unwrap();
            assert!((0..9).filter(|n| n % 3 == 2).all(|n| starts[n] == Duration::ZERO), "{starts:?}");
            assert_eq!(starts[7], 59 * SECOND, "six of them cost ten permits each");
        }
    });
}

#[test]
fn a_timeline_counts_what_was_decided_and_calls_no_back_off_a_queue() {
    within_a_minute(|| {
        for workers in [1, 3] {
            let ((_, builder), token) = (builder(workers), CancelToken::new());
            let result = builder
                .build()
                .unwrap()
                .batch(0..2)
                .retry(Retry::delays(|| [10 * SECOND; 2].into_iter()))
                .cancel_on(&token)
                .record_timeline()
                .run_with(|n, cx| match (n, cx.attempt()) {
                    (0, 2) => {
                        token.cancel();
                        Ok(())
                    }
                    _ => Err("down"),
                });
            assert_eq!((result.succeeded(), result.stopped()), (1, Some(StopReason::Cancelled)));
            let stats = result.timeline().unwrap().stats();
            assert_eq!((stats.items, stats.elapsed, stats.queue_wait.max), (2, 10 * SECOND, Duration::ZERO));
            assert!((stats.throughput - 0.1).abs() < 1e-9, "one in ten seconds: {}", stats.throughput);
        }
    });
}

/// All but the first two and the last of twelve are recorded.
#[cfg(feature = "journal")]
#[test]
fn a_snapshot_of_a_resumed_batch_counts_no_recorded_item_as_remaining() {
    use batch_executor::{Journal, Plan};

    within_a_minute(|| {
        let path = std::env::temp_dir().join(format!("snapshot-of-the-rest-{}", std::process::id()));
        let journal = Journal::open(&path, Plan::of(0..12).unwrap()).unwrap();
        let ((_, builder), control) = (builder(1), Control::new());
        let executor = builder.stop_on_error(false).build().unwrap();
        let op = |n: &i32| if [0, 1, 11].contains(n) { Err("down") } else { Ok(*n) };
        let first = executor.batch(0..12).journal(&journal).run(op);
        assert_eq!(first.failed(), 3);
        let etas = Mutex::new(Vec::new());
        let result = executor.batch(0..12).journal(&journal).control(&control).run(|n| {
            etas.lock().unwrap().push(control.snapshot().progress.eta());
            nap(SECOND);
            Ok::<_, String>(*n)
        });
        drop(journal); // Windows removes no open file
        std::fs::remove_file(&path).unwrap();
        assert!(result.is_success());
        let expected = [None, Some(2 * SECOND), Some(SECOND)];
        assert_eq!(etas.into_inner().unwrap(), expected, "the first has no rate to go by");
    });
}

#[test]
fn a_batch_of_tasks_goes_by_the_clock_from_its_beginning() {
    within_a_minute(|| {
        let (clock, builder) = builder(2);
        let executor = builder.rate_limiter(RateLimit::per_minute(60)).build().unwrap();
        let result = executor.batch(0..4).run_tasks((0..4).map(|n| move || Ok::<_, String>(n)));
        assert!(result.is_success());
        assert_eq!((clock.elapsed(), result.elapsed()), (3 * SECOND, 3 * SECOND));
    });
}

#[test]
fn a_batch_in_an_item_of_another_goes_by_the_same_clock() {
    within_a_minute(|| {
        for workers in [1, 3] {
            let (clock, builder) = builder(workers);
            let executor = builder.build().unwrap();
            let retry = || Retry::delays(|| iter::once(10 * SECOND));
            let down_once = |attempt| if attempt == 1 { Err("down") } else { Ok(()) };
            let result = executor.batch(0..3).retry(retry()).run_with(|_, outer| {
                let inner = executor.batch(0..2).retry(retry()).run_with(|_, cx| down_once(cx.attempt()));
                inner.into_values().expect("each comes through at its second attempt");
                down_once(outer.attempt())
            });
            assert!(result.is_success());
            assert_eq!(clock.elapsed(), if workers == 1 { 60 } else { 30 } * SECOND, "{workers}");
        }
    });
}

#[test]
fn a_cost_holds_for_a_limit_by_key_that_has_a_name() {
    within_a_minute(|| {
        let (clock, builder) = builder(2);
        let limit = || Limit::per_key(|_: &usize| (), |()| Limit::rate(RateLimit::per_second(1)));
        let executor = builder.build().unwrap();
        for limit in [limit().cost(|_| 5).named("tokens"), limit().named("tokens").cost(|_| 5)] {
            let before = clock.elapsed();
            assert!(executor.batch(0..4_usize).limit(limit).run(|_| Ok::<_, String>(())).is_success());
            assert_eq!(clock.elapsed(), before + 19 * SECOND, "twenty permits");
        }
    });
}

#[test]
fn a_snapshot_goes_by_the_test_clock() {
    within_a_minute(|| {
        let ((clock, builder), control) = (builder(2), Control::new());
        let executor = builder.build().unwrap();
        let retry = Retry::delays(|| iter::once(HOUR));
        let result = executor.batch(0..2).retry(retry).control(&control).run_with(|_, cx| {
            if cx.attempt() == 1 {
                return Err("down");
            }
            let snapshot = control.snapshot();
            assert_eq!((snapshot.progress.elapsed, clock.elapsed()), (HOUR, HOUR));
            assert!(snapshot.running.iter().all(|item| item.since == Duration::ZERO), "{snapshot:?}");
            Ok(())
        });
        assert!(result.is_success(), "{result}");
    });
}

#[test]
fn at_its_deadline_an_item_is_cancelled() {
    within_a_minute(|| {
        let (_, builder) = builder(1);
        let result = builder.build().unwrap().batch([0]).timeout(SECOND).run_with(|_, cx| {
            nap(Duration::from_nanos(999_999_999));
            let before = cx.is_cancelled();
            nap(Duration::from_nanos(1));
            if !before && cx.is_cancelled() { Ok(()) } else { Err(before) }
        });
        assert!(result.is_success(), "{:?}", result.outcomes());
    });
}

#[cfg(feature = "journal")]
#[test]
fn the_rate_of_a_resumed_batch_leaves_out_what_was_recorded() {
    use batch_executor::{Journal, Plan};

    within_a_minute(|| {
        let path = std::env::temp_dir().join(format!("rate-of-the-rest-{}", std::process::id()));
        let journal = Journal::open(&path, Plan::named("rate")).unwrap();
        let lone = BatchExecutor::new();
        let first = lone.batch(0..10).journal_as(&journal, ToString::to_string);
        assert!(first.run(|_| Ok::<_, String>(())).is_success());
        let ((_, builder), mut rate) = (builder(1), 0.0);
        let id = |n: &u32| {
            nap(SECOND); // to recall an item takes as long as to run one
            n.to_string()
        };
        let batch = builder.build().unwrap();
        let batch =
            batch.batch(0..12).journal_as(&journal, id).on_progress(|progress| rate = progress.rate());
        let result = batch.run(|_| {
            nap(SECOND);
            Ok::<_, String>(())
        });
        drop(journal); // Windows removes no open file
        std::fs::remove_file(&path).unwrap();
        assert!(result.is_success() && rate > 0.3, "two in a few seconds: {rate}");
    });
}

/// Item 1 fails while those behind it hold permits of later times, which are of no use any more.
#[test]
fn permits_of_items_behind_a_failure_keep_no_retry_before_it_waiting() {
    within_a_minute(|| {
        for workers in [1, 2, 3] {
            let (asked, (_, builder)) = (AtomicU32::new(0), builder(workers));
            let limiter = limiter_fn(move || Ok(SECOND * asked.fetch_add(1, Ordering::SeqCst)));
            let batch = builder.rate_limiter(limiter).build().unwrap();
            let result = batch
                .batch(0..9)
                .retry(Retry::delays(|| iter::once(10 * SECOND)).when(|error| match *error {
                    "for good" => RetryDecision::GiveUp,
                    _ => RetryDecision::Retry,
                }))
                .run_with(|n, cx| match (n, cx.attempt()) {
                    (0, 1) => Err("for now"),
                    (1, _) => Err("for good"),
                    _ => Ok(()),
                });
            assert_eq!((result.succeeded(), result.failed()), (1, 1), "{workers}: {result:?}");
        }
    });
}
