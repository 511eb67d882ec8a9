//! Promise 8: when the system gives no thread, the batch runs on those it has, down to the caller's.
//!
//! The system is made to refuse in three ways: by a stack that no address space has room for; by a limit on the address
//! space that leaves room for a few; and, where `strace` may trace, by a failing `clone3`.

#![cfg(any(target_os = "linux", windows))]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{AdaptiveWorkers, BatchExecutor, BatchExecutorBuilder, StopReason, Workers};

use common::{
    AT_THE_END, Census, Meeting, NO_ROOM, NO_THREAD, PROBE, assert_each_outcome_at_its_index,
    assert_ends_well, behind_strace, child, ended, probe, ran_to_its_end, stopped, strace_works, told_to,
    within_a_minute,
};

fn builder(workers: impl Into<Workers>) -> BatchExecutorBuilder {
    BatchExecutor::builder().workers(workers).stop_on_error(false)
}

/// Batches of every kind give what they should, whatever threads there are.
#[track_caller]
fn assert_works(executor: &BatchExecutor) {
    for reports in [false, true, false, true] {
        let (census, calls) = (Census::of(300), AtomicUsize::new(0));
        let batch = executor.batch(0..300usize);
        let batch = if reports {
            batch.on_progress(|p| assert_eq!(p.completed, calls.fetch_add(1, Ordering::SeqCst) + 1))
        } else {
            batch
        };
        let result = batch.run(|&n| {
            census.count(n);
            if n % 7 == 3 { Err(n) } else { Ok(n * 2) }
        });
        let result = ran_to_its_end(result);
        census.assert_each_ran_once();
        assert_each_outcome_at_its_index(&result, |&n| (n % 7 != 3).then_some(n * 2));
        assert_eq!(calls.into_inner(), if reports { 300 } else { 0 });
    }
    let nested = executor.run(0..10, |_| {
        let inner = executor.batch(0..10).on_progress(|_| {}).run(|&n| Ok::<_, String>(n));
        inner.into_values().map(|values| values.iter().sum::<i32>()).map_err(|error| error.to_string())
    });
    assert_eq!(ran_to_its_end(nested).values().sum::<i32>(), 450);
}

/// The caller works, and no other thread does.
#[track_caller]
fn assert_the_caller_works_alone(executor: &BatchExecutor) {
    let caller = thread::current().id();
    for reports in [false, true] {
        let batch = executor.batch(0..50);
        let batch = if reports { batch.on_progress(|_| {}) } else { batch };
        let result = batch.run(|_| {
            // Time for another thread to come.
            thread::sleep(Duration::from_micros(200));
            Ok::<_, String>(thread::current().id())
        });
        let result = ran_to_its_end(result);
        assert_eq!(result.workers(), 1, "there were threads after all");
        assert!(result.values().all(|&thread| thread == caller));
    }
}

#[test]
fn without_any_thread_the_caller_runs_everything() {
    within_a_minute(|| {
        for workers in [Workers::Fixed(2), Workers::Fixed(8), Workers::auto(), Workers::adaptive()] {
            for stack in [NO_ROOM, NO_ROOM.max(usize::MAX / 4 + 1), usize::MAX - 4096, usize::MAX] {
                let executor = builder(workers).stack_size(stack).build().unwrap();
                assert_works(&executor);
                assert_the_caller_works_alone(&executor);
            }
        }
    });
}

/// What is told of the number of workers comes down to those that there are.
#[test]
fn adaptive_workers_are_no_more_than_the_threads_that_could_be_had() {
    within_a_minute(|| {
        let executor = builder(AdaptiveWorkers::new().min(1).max(16)).stack_size(NO_ROOM).build().unwrap();
        let mut seen = Vec::new();
        let batch = executor.batch(0..300).on_progress(|p| seen.push(p.workers));
        let result = batch.run(|n| {
            thread::sleep(Duration::from_micros(100));
            Ok::<_, String>(*n)
        });
        assert!(ran_to_its_end(result).is_success());
        assert!(seen[200..].iter().all(|workers| *workers == 1), "{seen:?}");
    });
}

/// A machine that lends memory without counting it has room for three of these, any other for none.
#[test]
fn a_stack_of_a_quarter_of_the_address_space_gives_few_threads_or_none() {
    within_a_minute(|| {
        let executor = builder(8).stack_size(NO_ROOM / 4).build().unwrap();
        assert_works(&executor);
        let result = executor.run(0..100, |_| {
            thread::sleep(Duration::from_micros(200));
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).workers() <= 4);
    });
}

#[test]
fn without_any_thread_a_stop_is_where_a_loop_would_stop() {
    within_a_minute(|| {
        let executor = BatchExecutor::builder().workers(8).stack_size(NO_ROOM).build().unwrap();
        let census = Census::of(100);
        let result = executor.run(0..100usize, |&n| {
            census.count(n);
            if n >= 30 { Err(n) } else { Ok(n) }
        });
        let (reason, partial) = stopped(result);
        assert_eq!(reason, StopReason::ItemFailed { index: 30 });
        assert_eq!(partial.failures().next().unwrap().index, 30);
        assert_eq!(census.total(), 31);
    });
}

#[test]
#[cfg(unix)]
fn threads_that_the_memory_limit_still_allows_are_used() {
    const TEST: &str = "threads_that_the_memory_limit_still_allows_are_used";
    if told_to().is_some() {
        let executor = builder(8).stack_size(256 << 20).build().unwrap();
        assert_works(&executor);
        let meeting = Meeting::default();
        let result = executor.run(0..200usize, |&n| {
            if n < 2 {
                meeting.of(2);
            }
            thread::sleep(Duration::from_micros(200));
            Ok::<_, String>(())
        });
        let result = ran_to_its_end(result);
        assert!(result.is_success(), "not even one thread came");
        assert!((2..8).contains(&result.workers()), "{} workers", result.workers());
        println!("{AT_THE_END} with {} workers", result.workers());
        return;
    }
    // In KiB: room for four or five such stacks, and not for seven.
    assert_ends_well(child(&["sh", "-c", r#"ulimit -v 1500000 && exec "$0" "$@""#], TEST, "run"));
}

const ALL_REFUSED: &str = "when_every_thread_is_refused_the_caller_runs_everything";

#[test]
fn when_every_thread_is_refused_the_caller_runs_everything() {
    if let Some(told) = told_to() {
        probe();
        if told == PROBE {
            return;
        }
        let executor = builder(8).build().unwrap();
        assert_works(&executor);
        assert_the_caller_works_alone(&executor);
        println!("{AT_THE_END}");
        return;
    }
    if !strace_works(ALL_REFUSED) {
        return;
    }
    let printed = assert_ends_well(behind_strace("1+", ALL_REFUSED, "run"));
    assert!(printed.contains(NO_THREAD), "{printed}");
}

#[test]
fn when_later_threads_are_refused_those_before_are_used() {
    const TEST: &str = "when_later_threads_are_refused_those_before_are_used";
    if let Some(allowed) = told_to() {
        if allowed == PROBE {
            return probe();
        }
        // Each executor wants one thread, and the caller is the one that asks for it.
        let allowed: usize = allowed.parse().unwrap();
        let executors: Vec<BatchExecutor> = (0..5).map(|_| builder(2).build().unwrap()).collect();
        for (number, executor) in executors.iter().enumerate() {
            let expected = if number < allowed { 2 } else { 1 };
            let meeting = Meeting::default();
            let result = executor.run(0..10usize, |&n| {
                if n < expected {
                    meeting.of(expected);
                }
                // Time for another thread to come.
                thread::sleep(Duration::from_millis(1));
                Ok::<_, String>(())
            });
            let result = ran_to_its_end(result);
            assert!(result.is_success(), "thread {number} did not come");
            assert_eq!(result.workers(), expected, "workers of executor {number}");
        }
        for executor in &executors {
            assert_works(executor);
        }
        println!("{AT_THE_END}");
        return;
    }
    if !strace_works(TEST) {
        return;
    }
    for allowed in 0..=5 {
        assert_ends_well(behind_strace(&format!("{}+", allowed + 1), TEST, &allowed.to_string()));
    }
}

#[test]
fn a_thread_that_is_refused_once_is_asked_for_again() {
    const TEST: &str = "a_thread_that_is_refused_once_is_asked_for_again";
    if let Some(told) = told_to() {
        if told == PROBE {
            return probe();
        }
        let executor = builder(2).build().unwrap();
        assert_works(&executor);
        let meeting = Meeting::default();
        let result = executor.run(0..2, |_| {
            meeting.of(2);
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).is_success(), "no second worker came");
        println!("{AT_THE_END}");
        return;
    }
    if !strace_works(TEST) {
        return;
    }
    assert_ends_well(behind_strace("1..2", TEST, "run"));
    assert_ends_well(behind_strace("1..3", TEST, "run"));
}

#[test]
fn a_child_that_fails_is_noticed() {
    const TEST: &str = "a_child_that_fails_is_noticed";
    assert!(told_to().is_none(), "as it should");
    let (status, printed) = ended(child(&[], TEST, "fail"));
    assert!(!status.success() && printed.contains("as it should"), "{status}: {printed}");
}
