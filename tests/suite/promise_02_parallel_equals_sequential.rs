//! Promise 2: any number of workers returns what one worker returns, and the error is that of the lowest failure.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, BatchResult, ItemError, StopReason, Workers};
use proptest::prelude::*;

use crate::common::{
    Census, Gate, MEANT, Meeting, assert_counts_add_up, parallel_settings, ran_to_its_end, settings,
    silence_meant_panics, stopped, stopping, within_a_minute,
};

/// What an item does; its outcome depends on nothing else.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Succeed,
    Fail,
    Panic,
}

/// When the batch is to stop.
#[derive(Debug, Clone, Copy)]
enum Stops {
    Never,
    OnError,
    After(usize),
}

impl Stops {
    fn executor(self, workers: Workers) -> BatchExecutor {
        let builder = BatchExecutor::builder().workers(workers);
        let builder = match self {
            Stops::Never => builder.stop_on_error(false),
            Stops::OnError => builder.stop_on_error(true),
            Stops::After(failures) => builder.stop_after_failures(failures),
        };
        builder.build().expect("good settings")
    }

    /// The index at which a plain loop would leave, and what it would say.
    fn end_of(self, all: &[Does]) -> Option<(usize, StopReason)> {
        let mut failures = all.iter().enumerate().filter(|(_, does)| **does != Does::Succeed).map(|(k, _)| k);
        match self {
            Stops::Never => None,
            Stops::OnError => failures.next().map(|index| (index, StopReason::ItemFailed { index })),
            Stops::After(limit) => {
                failures.nth(limit - 1).map(|index| (index, StopReason::TooManyFailures { limit }))
            }
        }
    }
}

fn run(executor: &BatchExecutor, all: &[Does], census: &Census) -> BatchResult<usize, String, String> {
    executor.run(0..all.len(), |&n| {
        census.count(n);
        match all[n] {
            Does::Succeed => Ok(format!("value {n}")),
            Does::Fail => Err(format!("error {n}")),
            Does::Panic => panic!("{MEANT}{n}"),
        }
    })
}

/// The outcome as a text, so that it can be compared; none for an item that was skipped.
fn told(outcome: &Result<String, ItemError<String>>) -> Option<String> {
    match outcome {
        Ok(value) => Some(value.clone()),
        Err(ItemError::Skipped) => None,
        Err(error) => Some(error.to_string()),
    }
}

fn expected(does: Does, index: usize) -> String {
    match does {
        Does::Succeed => format!("value {index}"),
        Does::Fail => format!("error {index}"),
        Does::Panic => format!("panicked: {MEANT}{index}"),
    }
}

/// Runs with these workers and compares with what a plain loop would have done.
#[track_caller]
fn assert_equals_a_plain_loop(all: &[Does], stops: Stops, workers: Workers) {
    let census = Census::of(all.len());
    let result = run(&stops.executor(workers), all, &census);
    census.assert_none_ran_twice();
    let end = stops.end_of(all);
    assert_eq!(result.stopped(), end.map(|(_, reason)| reason), "the reason, {stops:?}, {workers:?}");
    assert_counts_add_up(&result);
    assert_eq!(result.total(), all.len());
    let decided_to = end.map_or(all.len(), |(last, _)| last + 1);
    for (index, item) in result.iter().enumerate() {
        let told = told(item.outcome);
        if index < decided_to || told.is_some() {
            assert_eq!(
                told,
                Some(expected(all[index], index)),
                "item {index} of {} with the end at {decided_to}, {stops:?}, {workers:?}",
                all.len()
            );
        }
        let ran = census.runs()[index];
        assert_eq!(ran, usize::from(told.is_some()), "runs of item {index}, {stops:?}, {workers:?}");
    }
    if matches!(workers, Workers::Sequential | Workers::Fixed(1)) {
        assert_eq!(result.skipped(), all.len() - decided_to, "one worker goes no further than a loop");
    }
}

fn any_item() -> impl Strategy<Value = Does> {
    prop_oneof![12 => Just(Does::Succeed), 2 => Just(Does::Fail), 1 => Just(Does::Panic)]
}

fn any_stop() -> impl Strategy<Value = Stops> {
    prop_oneof![Just(Stops::Never), Just(Stops::OnError), (1..9usize).prop_map(Stops::After)]
}

fn any_workers() -> impl Strategy<Value = Workers> {
    let fixed = (2..9usize).prop_map(Workers::Fixed);
    prop_oneof![1 => Just(Workers::Sequential), 1 => Just(Workers::auto()), 1 => Just(Workers::adaptive()), 5 => fixed]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_batch_returns_what_a_plain_loop_returns(
        all in prop::collection::vec(any_item(), 0..120),
        stops in any_stop(),
        workers in any_workers(),
    ) {
        silence_meant_panics();
        assert_equals_a_plain_loop(&all, stops, workers);
    }
}

#[test]
fn every_setting_and_every_stop_agrees_with_a_plain_loop() {
    silence_meant_panics();
    within_a_minute(|| {
        let all: Vec<Does> = (0..300)
            .map(|n| match n {
                n if n % 41 == 40 => Does::Panic,
                n if n % 29 == 28 => Does::Fail,
                _ => Does::Succeed,
            })
            .collect();
        for workers in settings() {
            for stops in [Stops::Never, Stops::OnError, Stops::After(1), Stops::After(5), Stops::After(1_000)]
            {
                assert_equals_a_plain_loop(&all, stops, workers);
            }
        }
    });
}

/// Quick items are taken several at a time. The failure comes while another worker still has many below it in hand.
#[test]
fn items_below_a_failure_are_run_even_if_they_had_not_started_when_it_came() {
    within_a_minute(|| {
        for workers in [Workers::Fixed(2), Workers::Fixed(8)] {
            for _ in 0..10 {
                let failed = AtomicBool::new(false);
                let census = Census::of(4_000);
                let (reason, partial) = stopped(stopping(workers).run(0..4_000usize, |&n| {
                    census.count(n);
                    if n == 1_000 {
                        // Another worker fails above, unless this worker has all of it in hand.
                        let deadline = Instant::now() + Duration::from_millis(200);
                        while !failed.load(Ordering::SeqCst) && Instant::now() < deadline {
                            thread::yield_now();
                        }
                        thread::sleep(Duration::from_millis(2));
                    }
                    if n >= 1_500 {
                        failed.store(true, Ordering::SeqCst);
                        return Err(n);
                    }
                    Ok(n)
                }));
                assert_eq!(reason, StopReason::ItemFailed { index: 1_500 }, "{workers:?}");
                assert_eq!(partial.failures().next().unwrap().index, 1_500);
                assert!(partial.iter().take(1_500).all(|item| item.outcome.is_ok()), "{workers:?}");
                census.assert_none_ran_twice();
            }
        }
    });
}

#[test]
fn a_lower_failure_that_comes_later_is_the_reason() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = stopping(workers);
            let together = executor.workers_for(100);
            let (meeting, failures) = (Meeting::default(), AtomicUsize::new(0));
            let (reason, partial) = stopped(executor.run(0..100usize, |&n| {
                if n >= together {
                    return Ok(());
                }
                // All of them fail, from the highest down.
                meeting.of(together);
                let turn = together - 1 - n;
                crate::common::wait_until("those above have failed", || {
                    failures.load(Ordering::SeqCst) == turn
                });
                failures.fetch_add(1, Ordering::SeqCst);
                Err(format!("error {n}"))
            }));
            assert_eq!(reason, StopReason::ItemFailed { index: 0 });
            let first = partial.failures().next().unwrap();
            assert_eq!((*first.item, first.error.to_string()), (0, "error 0".to_owned()));
            assert_eq!(partial.failed(), together, "no error erased another, {workers:?}");
        }
    });
}

#[test]
fn a_failure_limit_counts_from_below_whatever_comes_first() {
    within_a_minute(|| {
        for limit in [1, 2, 3] {
            let executor = BatchExecutor::builder()
                .workers(4)
                .stop_after_failures(limit)
                .build()
                .expect("good settings");
            let (meeting, failures) = (Meeting::default(), AtomicUsize::new(0));
            let (reason, partial) = stopped(executor.run(0..50usize, |&n| {
                if n >= 4 {
                    return Ok(());
                }
                meeting.of(4);
                crate::common::wait_until("those above have failed", || {
                    failures.load(Ordering::SeqCst) == 3 - n
                });
                failures.fetch_add(1, Ordering::SeqCst);
                Err("all four fail")
            }));
            assert_eq!(reason, StopReason::TooManyFailures { limit });
            assert_eq!(partial.failed(), 4);
        }
    });
}

#[test]
fn fewer_failures_than_the_limit_stop_nothing() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = BatchExecutor::builder().workers(workers).stop_after_failures(4).build().unwrap();
            let result = executor.run(0..200usize, |&n| if n % 60 == 1 { Err(n) } else { Ok(n) });
            // 1, 61, 121, 181: the fourth is the limit, and what is above it may be skipped.
            let (reason, partial) = stopped(result);
            assert_eq!(reason, StopReason::TooManyFailures { limit: 4 }, "{workers:?}");
            let decided = &partial.outcomes()[..182];
            assert!(!decided.iter().any(|outcome| matches!(outcome, Err(ItemError::Skipped))), "{workers:?}");
            let result =
                ran_to_its_end(executor.run(0..180usize, |&n| if n % 60 == 1 { Err(n) } else { Ok(n) }));
            assert_eq!((result.failed(), result.skipped()), (3, 0), "{workers:?}");
        }
    });
}

/// The callback is told of the failure, so the executor knows it; all other workers stand at the gate meanwhile.
#[test]
fn nothing_above_a_failure_starts_once_it_is_known() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = stopping(workers);
            let together = executor.workers_for(1_000);
            let (meeting, known, census) = (Meeting::default(), Gate::default(), Census::of(1_000));
            let (_, partial) = stopped(
                executor
                    .batch(0..1_000usize)
                    .on_progress(|p| {
                        if p.failed > 0 {
                            known.open();
                        }
                    })
                    .run(|&n| {
                        census.count(n);
                        if n < together {
                            meeting.of(together);
                            if n == 0 {
                                return Err("the first");
                            }
                            known.pass();
                        }
                        Ok(n)
                    }),
            );
            assert_eq!(census.total(), together, "items that ran, {workers:?}");
            assert_eq!((partial.succeeded(), partial.failed()), (together - 1, 1), "{workers:?}");
            assert_eq!(partial.skipped(), 1_000 - together);
        }
    });
}

#[test]
fn one_worker_stops_where_a_loop_would() {
    for workers in [Workers::Sequential, Workers::Fixed(1)] {
        let census = Census::of(10);
        let (_, partial) = stopped(stopping(workers).run(0..10usize, |&n| {
            census.count(n);
            if n >= 6 { Err(n) } else { Ok(n) }
        }));
        assert_eq!(census.runs(), [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(partial.skipped(), 3);
    }
}

#[test]
fn the_last_call_of_the_two_stop_settings_wins() {
    let fails =
        |executor: &BatchExecutor| executor.run(0..4, |&n| Err::<(), _>(format!("error {n}"))).into_result();
    let builder = || BatchExecutor::builder();
    let collects = builder().stop_after_failures(2).stop_on_error(false).build().unwrap();
    assert_eq!(fails(&collects).unwrap().failed(), 4);
    let after_two = builder().stop_on_error(true).stop_after_failures(2).build().unwrap();
    assert!(fails(&after_two).unwrap_err().to_string().starts_with("stopped after 2 failures, the first: "));
    let on_first = builder().stop_after_failures(2).stop_on_error(true).build().unwrap();
    assert!(fails(&on_first).unwrap_err().to_string().starts_with("item 0 failed"));
}
