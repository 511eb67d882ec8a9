//! Promise 9: bad input is refused with words, before anything runs. The words are part of the contract.

use std::error::Error;
use std::time::Duration;

use batch_executor::{
    AdaptiveWorkers, AutoWorkers, BatchExecutor, BatchExecutorBuilder, CancelToken, Concurrency, ConfigError,
    ItemError, Limit, LimiterError, MAX_WORKERS, RateLimit, Retry, RetryDecision, StopReason, Workers,
};

use crate::common::{
    Census, MEANT, collecting, panic_of, ran_to_its_end, settings, silence_meant_panics, stopped, stopping,
};

#[track_caller]
fn assert_refused(builder: BatchExecutorBuilder, error: &ConfigError, text: &str) {
    let refused = builder.build().expect_err("a bad setting");
    assert_eq!(refused, *error);
    assert_eq!(refused.to_string(), text);
    assert!(refused.source().is_none());
}

fn workers(workers: impl Into<Workers>) -> BatchExecutorBuilder {
    BatchExecutor::builder().workers(workers)
}

#[test]
fn zero_workers_are_refused() {
    let text = "the worker count is 0; a batch needs at least 1 worker";
    assert_refused(workers(0), &ConfigError::ZeroWorkers, text);
    assert_refused(workers(Workers::Fixed(0)), &ConfigError::ZeroWorkers, text);
}

#[test]
fn too_many_workers_are_refused_and_the_most_are_not() {
    let too_many = |requested| ConfigError::TooManyWorkers { requested, most: MAX_WORKERS };
    assert_eq!(MAX_WORKERS, 65_536);
    assert_refused(workers(65_537), &too_many(65_537), "65537 workers are too many; the most is 65536");
    assert_refused(
        workers(usize::MAX),
        &too_many(usize::MAX),
        &format!("{} workers are too many; the most is 65536", usize::MAX),
    );
    assert_refused(
        workers(AdaptiveWorkers::new().max(70_000)),
        &too_many(70_000),
        "70000 workers are too many; the most is 65536",
    );
    assert_refused(
        workers(AutoWorkers::new().cpus(40_000).cap(usize::MAX)),
        &too_many(80_000),
        "80000 workers are too many; the most is 65536",
    );
    assert_eq!(workers(65_536).build().unwrap().workers_for(1_000_000), 65_536);
}

#[test]
fn a_factor_of_zero_is_refused_by_its_name() {
    let (auto, adaptive) = (AutoWorkers::new, AdaptiveWorkers::new);
    for (builder, setting) in [
        (workers(auto().cpus(0)), "AutoWorkers::cpus"),
        (workers(auto().per_cpu(0)), "AutoWorkers::per_cpu"),
        (workers(auto().cap(0)), "AutoWorkers::cap"),
        (workers(adaptive().min(0)), "AdaptiveWorkers::min"),
        (workers(adaptive().max(0)), "AdaptiveWorkers::max"),
    ] {
        let text = format!("{setting} is 0; the worker count would be 0");
        assert_refused(builder, &ConfigError::ZeroSetting { setting }, &text);
    }
}

#[test]
fn a_range_of_workers_the_wrong_way_round_is_refused() {
    assert_refused(
        workers(AdaptiveWorkers::new().min(9).max(3)),
        &ConfigError::EmptyWorkerRange { min: 9, max: 3 },
        "AdaptiveWorkers::min(9) is above max(3)",
    );
}

#[test]
fn what_the_builder_refuses_a_batch_refuses_with_the_same_words() {
    let executor = BatchExecutor::new();
    let batch = || executor.batch::<(), String, _>(0..9);
    let too_many = "65537 workers are too many; the most is 65536";
    assert_eq!(panic_of(|| batch().workers(65_537)), too_many);
    let none = "the worker count is 0; a batch needs at least 1 worker";
    assert_eq!(panic_of(|| batch().workers(0)), none);
    let range = "AdaptiveWorkers::min(9) is above max(3)";
    assert_eq!(panic_of(|| batch().workers(AdaptiveWorkers::new().min(9).max(3))), range);
    let setting = "AutoWorkers::cap is 0; the worker count would be 0";
    assert_eq!(panic_of(|| batch().workers(AutoWorkers::new().cap(0))), setting);
    let failures = "stop_after_failures is 0; a batch can stop after 1 failure at the earliest";
    assert_eq!(panic_of(|| batch().stop_after_failures(0)), failures);
    assert_eq!(panic_of(|| batch().window(0)), "a window of 0 items would never let anything start");
    assert_eq!(panic_of(|| batch().timeline_spans(0)), "a timeline of 0 spans would show nothing");
}

#[test]
fn a_failure_limit_of_zero_is_refused() {
    assert_refused(
        BatchExecutor::builder().stop_after_failures(0),
        &ConfigError::ZeroFailures,
        "stop_after_failures is 0; a batch can stop after 1 failure at the earliest",
    );
    assert!(BatchExecutor::builder().stop_after_failures(0).stop_on_error(true).build().is_ok());
}

#[test]
fn a_stack_of_no_bytes_is_refused() {
    assert_refused(
        BatchExecutor::builder().stack_size(0),
        &ConfigError::ZeroStackSize,
        "the stack size is 0 bytes; leave it unset for the platform's default",
    );
}

#[test]
fn a_thread_name_with_a_nul_byte_is_refused() {
    assert_refused(
        BatchExecutor::builder().thread_name("a\0b"),
        &ConfigError::ThreadName { name: "a\0b".to_owned() },
        r#"the thread name "a\0b" contains a NUL byte"#,
    );
}

#[test]
fn a_rate_of_nothing_is_refused() {
    let second = Duration::from_secs(1);
    let error = RateLimit::new(0, second).unwrap_err();
    assert_eq!(error, ConfigError::ZeroPermits);
    assert_eq!(error.to_string(), "a rate limit of 0 permits would never let anything start");
    let error = RateLimit::new(1, Duration::ZERO).unwrap_err();
    assert_eq!(error, ConfigError::ZeroPeriod);
    assert_eq!(error.to_string(), "the period of the rate limit is 0; it must be longer");

    let zero = "a rate limit of 0 permits would never let anything start";
    assert_eq!(panic_of(|| RateLimit::per_second(0)), zero);
    assert_eq!(panic_of(|| RateLimit::per_minute(0)), zero);
    assert_eq!(
        panic_of(|| RateLimit::every(Duration::ZERO)),
        "the period of the rate limit is 0; it must be longer"
    );
    assert_eq!(
        panic_of(|| RateLimit::per_second(1).burst(0)),
        "a burst of 0 permits would never let anything start"
    );
    assert_eq!(
        panic_of(|| RateLimit::per_second(1).split(0)),
        "a rate limit has no share for one of 0 machines"
    );
}

#[test]
fn lengths_that_differ_are_refused_before_anything_runs() {
    for workers in settings() {
        for (tasks, ids) in [(2, 3), (3, 2), (0, 1), (1, 0)] {
            let census = Census::of(3);
            let all = || {
                (0..tasks).map(|n| {
                    let census = &census;
                    move || {
                        census.count(n);
                        Ok::<_, String>(())
                    }
                })
            };
            let executor = collecting(workers);
            let (reason, partial) = stopped(executor.batch(0..ids).run_tasks(all()));
            assert_eq!(reason, StopReason::LengthMismatch { tasks, items: ids });
            let words = format!("{tasks} tasks but {ids} item ids; nothing was run");
            assert_eq!(reason.to_string(), words);
            assert_eq!((partial.total(), partial.skipped(), partial.workers()), (ids, ids, 0), "{workers:?}");
            assert!(partial.outcomes().iter().all(|outcome| matches!(outcome, Err(ItemError::Skipped))));
            assert_eq!(partial.items(), (0..ids).collect::<Vec<_>>());

            let error = executor.execute_batch(all(), 0..ids).unwrap_err();
            assert_eq!((error.stopped(), error.index(), error.skipped()), (Some(reason), None, ids));
            assert!(error.to_string().starts_with(&format!("{words} (0 of {ids} succeeded")), "{error}");
            assert!(error.source().is_none());
            assert_eq!(census.total(), 0, "something ran, {workers:?}");
        }
    }
}

/// In the first edition this was a type error; now that steps keep the type, it is refused before anything runs.
#[test]
fn a_retry_for_tasks_is_refused_before_anything_runs() {
    for workers in settings() {
        let (executor, census) = (collecting(workers), Census::of(1));
        let retry = Retry::exponential(Duration::ZERO, Duration::ZERO, 1);
        let batch = executor.batch([1]).retry(retry);
        let task = || {
            census.count(0);
            Ok::<_, String>(1)
        };
        let words = "a task can run only once, so a batch of tasks cannot have a retry";
        assert_eq!(panic_of(|| batch.run_tasks([task])), words);
        assert_eq!(census.total(), 0, "{workers:?}");
    }
}

#[test]
fn a_stop_reason_says_which_item_or_how_many() {
    let text = |reason: StopReason| reason.to_string();
    assert_eq!(text(StopReason::ItemFailed { index: 0 }), "item 0 failed");
    assert_eq!(text(StopReason::TooManyFailures { limit: 1 }), "stopped after 1 failure");
    assert_eq!(text(StopReason::TooManyFailures { limit: 12 }), "stopped after 12 failures");
    assert_eq!(text(StopReason::OutOfMemory), "there is no memory for this number of items");
    assert_eq!(text(StopReason::Cancelled), "cancelled");
    assert_eq!(text(StopReason::DeadlineExceeded), "the deadline has passed");
    let mismatch = StopReason::LengthMismatch { tasks: 2, items: 3 };
    assert_eq!(text(mismatch), "2 tasks but 3 item ids; nothing was run");
}

/// The text without the time that the batch took, which stands at its end.
#[track_caller]
fn before_the_time(text: &str) -> &str {
    let (before, time) = text.rsplit_once(" in ").expect("a time");
    let unit = time.trim_end_matches(')').rsplit(' ').next();
    assert!(matches!(unit, Some("s" | "ms" | "µs")), "{time}");
    before
}

#[test]
fn a_batch_error_says_why_what_and_how_far() {
    silence_meant_panics();
    let fails = |from: usize| move |&n: &usize| if n >= from { Err(format!("error {n}")) } else { Ok(n) };

    let error = stopping(1).run(0..9usize, fails(3)).into_result().unwrap_err();
    assert_eq!(
        before_the_time(&error.to_string()),
        "item 3 failed: error 3 (3 of 9 succeeded, 1 failed, 5 skipped"
    );

    let twice = BatchExecutor::builder().stop_after_failures(2).build().unwrap();
    let error = twice.run(0..9usize, fails(3)).into_result().unwrap_err();
    assert_eq!(
        before_the_time(&error.to_string()),
        "stopped after 2 failures, the first: error 3 (3 of 9 succeeded, 2 failed, 4 skipped"
    );

    let panics = |_: &i32| -> Result<(), String> { panic!("{MEANT}no") };
    let error = stopping(1).run(0..2, panics).into_result().unwrap_err();
    let text = error.to_string();
    assert_eq!(
        before_the_time(&text),
        "item 0 failed: panicked: meant: no (0 of 2 succeeded, 1 failed, 1 skipped"
    );
    let boxed: Box<dyn Error> = Box::new(error);
    assert!(boxed.source().is_none());
    assert_eq!(boxed.to_string(), text);

    let error = collecting(1).run(0..9usize, fails(7)).into_values().unwrap_err();
    assert_eq!(before_the_time(&error.to_string()), "item 7 failed: error 7 (7 of 9 succeeded, 2 failed");

    let token = CancelToken::new();
    let cancelled = stopping(1).batch(0..9usize).cancel_on(&token).run(|&n| {
        token.cancel();
        Ok::<_, String>(n)
    });
    let error = cancelled.into_result().unwrap_err();
    assert_eq!(before_the_time(&error.to_string()), "cancelled (1 of 9 succeeded, 8 skipped");

    let late = collecting(1).batch(0..9usize).timeout(Duration::ZERO).run(fails(0));
    let error = late.into_result().unwrap_err();
    assert_eq!(before_the_time(&error.to_string()), "the deadline has passed (0 of 9 succeeded, 9 skipped");
}

#[test]
fn an_item_error_says_what_became_of_the_item() {
    silence_meant_panics();
    assert_eq!(ItemError::Failed("no such file").to_string(), "no such file");
    let refused: ItemError<String> = ItemError::RateLimiter(LimiterError::new("the quota is used up"));
    assert_eq!(refused.to_string(), "no permit from the rate limiter: the quota is used up");
    assert_eq!(
        ItemError::<String>::Skipped.to_string(),
        "skipped: the batch stopped before this item started"
    );
    let panicked = BatchExecutor::new().execute(|| -> Result<(), String> { panic!("{MEANT}a text") });
    assert_eq!(panicked.unwrap_err().to_string(), "panicked: meant: a text");
    let panicked = BatchExecutor::new().execute(|| -> Result<(), String> { std::panic::panic_any(42) });
    assert_eq!(panicked.unwrap_err().to_string(), "panicked: non-string panic payload");
    assert_eq!(
        ItemError::Interrupted(Some("busy")).to_string(),
        "interrupted: the batch stopped before the next attempt; the last one failed: busy"
    );
    let causes = anyhow::anyhow!("HTTP 503").context("page 7");
    assert_eq!(
        ItemError::Interrupted(Some(causes)).to_string(),
        "interrupted: the batch stopped before the next attempt; the last one failed: page 7: HTTP 503"
    );
    assert_eq!(
        ItemError::<String>::Interrupted(None).to_string(),
        "interrupted: the batch stopped before this item was done"
    );
    assert_eq!(ItemError::<String>::FailedEarlier("as recorded".to_owned()).to_string(), "as recorded");
    assert!(Error::source(&ItemError::Failed("no such file")).is_none());
    assert!(ItemError::Failed("").is_failure() && !ItemError::<String>::Skipped.is_failure());
    assert!(!ItemError::Interrupted(Some("busy")).is_failure());
    assert!(!ItemError::<String>::Interrupted(None).is_failure());
    assert!(ItemError::<String>::FailedEarlier(String::new()).is_failure());
}

#[test]
fn a_limiter_error_speaks_for_the_error_inside() {
    let error = LimiterError::new(std::io::Error::other("connection refused"));
    assert_eq!(error.to_string(), "connection refused");
    assert!(error.source().unwrap().is::<std::io::Error>());
    let boxed: Box<dyn Error + Send + Sync> = "a text".into();
    assert_eq!(LimiterError::from(boxed).to_string(), "a text");
}

#[test]
fn a_result_says_how_it_went_in_one_line() {
    let result = ran_to_its_end(collecting(2).run(0..10, |&n| if n < 3 { Err("low") } else { Ok(n) }));
    assert_eq!(before_the_time(&result.to_string()), "7 of 10 succeeded, 3 failed");
    let result = ran_to_its_end(collecting(2).run(0..10, |&n| Ok::<_, String>(n)));
    assert_eq!(before_the_time(&result.to_string()), "10 of 10 succeeded");
}

/// The debug text without the time that the batch took.
fn without_the_time(text: &str) -> String {
    let (before, rest) = text.split_once("elapsed: ").expect("a time");
    let (_, after) = rest.split_once(", ").expect("something behind the time");
    [before, after].concat()
}

#[test]
fn what_unwrap_prints_of_a_batch_error_tells_the_first_failure_and_the_counts() {
    struct Plain; // items and values need no text
    let result = stopping(1)
        .run([1, 2, 3, 4].map(|n| (n, Plain)), |item| if item.0 == 3 { Err("three") } else { Ok(Plain) });
    assert_eq!(
        without_the_time(&format!("{result:?}")),
        "BatchResult { total: 4, succeeded: 2, failed: 1, skipped: 1, \
         stopped: Some(ItemFailed { index: 2 }), workers: 1, .. }"
    );
    assert_eq!(
        format!("{:?}", result.into_result().map(drop).unwrap_err()),
        "BatchError { stopped: Some(ItemFailed { index: 2 }), index: Some(2), error: Some(\"three\"), \
         total: 4, succeeded: 2, failed: 1, skipped: 1 }"
    );
    let error = BatchExecutor::new().execute_batch([|| Ok::<_, String>(())], [1, 2]).unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "BatchError { stopped: Some(LengthMismatch { tasks: 1, items: 2 }), index: None, error: None, \
         total: 2, succeeded: 0, failed: 0, skipped: 2 }"
    );
}

#[test]
fn settings_can_be_read_in_the_debug_text() {
    let builder = BatchExecutor::builder().workers(3).stop_after_failures(2).stack_size(65_536);
    let builder = builder.rate_limiter(RateLimit::per_second(5)).thread_name("mine");
    let builder = builder.keep_alive(Duration::from_secs(7));
    assert_eq!(
        format!("{builder:?}"),
        "BatchExecutorBuilder { workers: Fixed(3), on_failure: StopAfter(2), rate_limited: true, \
         thread_name: \"mine\", stack_size: Some(65536), keep_alive: 7s, clock: None }"
    );
    let executor = builder.build().unwrap();
    assert_eq!(
        format!("{executor:?}"),
        "BatchExecutor { workers: Fixed(3), on_failure: StopAfter(2), rate_limited: true, .. }"
    );
    let batch = executor.batch::<(), String, _>(0..9);
    assert_eq!(
        format!("{batch:?}"),
        "Batch { reports_progress: false, records_timeline: false, retries: false, has_journal: false, .. }"
    );
    let retry = Retry::exponential(Duration::ZERO, Duration::ZERO, 1);
    assert_eq!(
        format!("{:?}", batch.on_progress(|_| {}).record_timeline().retry(retry)),
        "Batch { reports_progress: true, records_timeline: true, retries: true, has_journal: false, .. }"
    );
}

#[test]
fn limits_and_retries_can_be_read_in_the_debug_text() {
    let rate = RateLimit::per_minute(90).burst(2);
    assert_eq!(format!("{rate:?}"), "RateLimit { permits: 90, per: 60s, burst: 2, .. }");
    assert_eq!(format!("{:?}", Concurrency::new(3)), "Concurrency { slots: 3, in_use: 0 }");
    let limit = Limit::<u64>::at_once(3).cost(|n| *n);
    assert_eq!(format!("{limit:?}"), "Limit { kind: \"at_once\", name: None, has_cost: true }");
    let retry = Retry::exponential(Duration::from_millis(1), Duration::from_secs(2), 5);
    let delays = "Retry { delays: Exponential { first: 1ms, max: 2s, retries: 5 }, asks: ";
    assert_eq!(format!("{retry:?}"), format!("{delays}false, .. }}"));
    let retry = retry.when(|_: &String| RetryDecision::Retry);
    assert_eq!(format!("{retry:?}"), format!("{delays}true, .. }}"));
}

#[test]
fn without_settings_everything_is_as_documented() {
    let builder = "BatchExecutorBuilder { workers: Sequential, on_failure: Stop, rate_limited: false, \
                   thread_name: \"batch-executor\", stack_size: None, keep_alive: 10s, clock: None }";
    assert_eq!(format!("{:?}", BatchExecutor::builder()), builder);
    let executor = "BatchExecutor { workers: Sequential, on_failure: Stop, rate_limited: false, .. }";
    assert_eq!(format!("{:?}", BatchExecutor::new()), executor);
    assert_eq!(Workers::auto(), Workers::from(AutoWorkers::new()));
    assert_eq!(Workers::adaptive(), Workers::from(AdaptiveWorkers::new()));
    assert_eq!(AutoWorkers::default(), AutoWorkers::new().per_cpu(2).cap(32));
    assert_eq!(AdaptiveWorkers::default(), AdaptiveWorkers::new().min(1));
}

#[test]
fn a_panic_shows_its_message() {
    silence_meant_panics();
    let error = BatchExecutor::new().execute(|| -> Result<(), String> { panic!("{MEANT}a text") });
    let Err(ItemError::Panicked(panic)) = error else { panic!("it panicked") };
    assert_eq!(format!("{panic} {panic:?}"), "meant: a text Panic { message: \"meant: a text\", .. }");
    assert_eq!(panic.message(), "meant: a text");
}
