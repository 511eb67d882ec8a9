//! Whole batches under a model checker: every promise that hangs on who comes when.

mod control;
mod limits;
mod streams;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use crate::batch_error::StopReason;
use crate::error::{ItemError, LimiterError};
use crate::executor::BatchExecutor;
use crate::panic;
use crate::rate_limit::{RateLimit, RateLimiter, Ticket, limiter_fn};
use crate::sync::Instant;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::model::{Borrowed, check, check_long, let_time_pass, refuse_threads_after};
use crate::sync::thread;
use crate::workers::Workers;

fn executor(workers: impl Into<Workers>) -> BatchExecutor {
    BatchExecutor::builder().workers(workers).stop_on_error(false).build().unwrap()
}

/// How many run, and how many ran at most.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn during(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        thread::yield_now();
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a batch of this many items on memory of the caller's, and frees that. Every item runs once and is at its place.
fn run_once(executor: &BatchExecutor, items: usize) {
    let memory = Borrowed::new();
    let result = executor.run(0..items, |&item| {
        memory.touch();
        Ok::<_, &str>(item)
    });
    assert!(result.into_values().unwrap().into_iter().eq(0..items));
    memory.free();
}

/// Like `run_once`, with progress: one call for each item, and never more than `workers` at work.
fn report_once(executor: &BatchExecutor, items: usize, workers: usize) {
    let (memory, gauge) = (Borrowed::new(), Gauge::default());
    let mut calls = Vec::new();
    let batch = executor.batch(0..items).on_progress(|progress| calls.push(progress.completed));
    let result = batch.run(|&item| {
        memory.touch();
        gauge.during();
        Ok::<_, &str>(item)
    });
    assert!(result.into_values().unwrap().into_iter().eq(0..items));
    assert!(calls.into_iter().eq(1..=items));
    assert!(gauge.most.load(Ordering::Relaxed) <= workers);
    memory.free();
}

#[test]
fn every_item_runs_once_and_is_at_its_place() {
    check(|| run_once(&executor(2), 3));
}

#[test]
fn progress_is_told_item_by_item_within_the_limit() {
    check(|| report_once(&executor(2), 2, 2));
}

#[test]
fn a_caller_that_gets_no_thread_works_and_reports_by_turns() {
    check(|| {
        refuse_threads_after(0);
        report_once(&executor(2), 3, 2);
    });
}

/// The caller has lost patience and taken a seat when helpers come.
#[test]
fn helpers_that_come_late_do_not_break_the_limit() {
    check_long(|| {
        let_time_pass();
        let items = if cfg!(loom) { 2 } else { 4 }; // more take loom an hour
        report_once(&executor(2), items, 2);
    });
}

#[test]
fn the_lowest_failure_is_the_reason_whoever_comes_first() {
    check(|| {
        let executor = BatchExecutor::builder().workers(2).build().unwrap();
        let result = executor.run(0..3, |&item| if item > 0 { Err(item) } else { Ok(()) });
        assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 1 }));
        assert!(result.outcomes()[0].is_ok());
        assert!(matches!(result.outcomes()[1], Err(ItemError::Failed(1))));
    });
}

/// One item waits at the limiter for ever, unless it is told that the batch is stopped. Time stands still.
#[test]
fn who_waits_at_the_limiter_is_told_of_a_stop() {
    check(|| {
        let asked = AtomicUsize::new(0);
        let first_is_free = move || match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Ok::<_, LimiterError>(Duration::ZERO),
            _ => Ok(Duration::MAX),
        };
        let executor =
            BatchExecutor::builder().workers(2).rate_limiter(limiter_fn(first_is_free)).build().unwrap();
        let batch = executor.batch(0..2).on_progress(|_| resume_unwind(Box::new("the callback's")));
        assert!(panic::catch(|| batch.run(|_| Ok::<_, ()>(()))).is_err());
    });
}

#[test]
fn a_callback_that_panics_waits_for_who_is_inside() {
    check(|| {
        let (executor, memory) = (executor(2), Borrowed::new());
        let unwound = panic::catch(|| {
            let batch = executor.batch(0..2).on_progress(|_| resume_unwind(Box::new("the callback's")));
            batch.run(|_| {
                memory.touch();
                Ok::<_, ()>(())
            })
        });
        assert!(unwound.is_err());
        memory.free();
    });
}

#[test]
fn a_panic_of_an_item_is_its_outcome_and_costs_no_thread() {
    check(|| {
        let executor = executor(2);
        let result = executor.run(0..2, |&item| match item {
            0 => resume_unwind(Box::new("item 0")),
            _ => Ok::<_, ()>(item),
        });
        assert_eq!((result.failed(), result.succeeded()), (1, 1));
        run_once(&executor, 2);
    });
}

#[test]
fn an_executor_is_dropped_by_an_item_of_its_own() {
    check(|| {
        let outer = executor(2);
        let inner = crate::sync::Mutex::new(Some(executor(2)));
        run_once(&inner.lock().as_ref().unwrap().clone(), 2);
        let result = outer.run(0..2, |_| {
            let last = inner.lock().take();
            drop(last);
            Ok::<_, ()>(())
        });
        assert!(result.is_success());
    });
}

#[test]
fn permits_are_given_once() {
    check(|| {
        let limit = Arc::new(RateLimit::every(Duration::from_secs(1)));
        let other = Arc::clone(&limit);
        let taker = thread::spawn(move || other.reserve().unwrap());
        let mine = limit.reserve().unwrap();
        let mut waits = [mine, taker.join().unwrap()];
        waits.sort();
        assert_eq!(waits, [Duration::ZERO, Duration::from_secs(1)]);
    });
}

/// How long it is until these permits may be used, when all is said.
fn lefts(limit: &RateLimit, permits: &[Ticket]) -> Vec<Duration> {
    let mut lefts: Vec<Duration> = permits.iter().map(|permit| limit.left(*permit, Instant::now())).collect();
    lefts.sort();
    lefts
}

#[test]
fn permits_are_given_once_whatever_pauses_and_resumes() {
    check(|| {
        let limit = Arc::new(RateLimit::every(Duration::from_secs(1)));
        let take = |limit: &RateLimit| limit.reserve().unwrap();
        let (taker, pauser) = (Arc::clone(&limit), Arc::clone(&limit));
        let taker = thread::spawn(move || take(&taker));
        let pauser = thread::spawn(move || {
            pauser.pause(Duration::from_secs(9));
            pauser.resume();
        });
        let (mine, _) = limit.take(Instant::now(), 1);
        let other = taker.join().unwrap();
        pauser.join().unwrap();
        let (last, _) = limit.take(Instant::now(), 1);
        // That of the other thread is one of these, however long it was told to wait.
        assert!([0, 1, 9, 10].map(Duration::from_secs).contains(&other), "{other:?}");
        let lefts = lefts(&limit, &[mine, last]);
        assert_eq!(lefts[1], Duration::from_secs(2), "two were given before");
        assert!(lefts[0] <= Duration::from_secs(1));
    });
}

/// Time stands still, so each wait ends by the notification or never.
#[test]
fn those_that_wait_for_a_permit_hear_of_the_end_of_a_pause() {
    check(|| {
        let limit = Arc::new(RateLimit::per_second(1_000));
        limit.pause(Duration::MAX);
        let waiter = Arc::clone(&limit);
        let waiter = thread::spawn(move || waiter.acquire().unwrap());
        limit.resume();
        waiter.join().unwrap();
    });
}

#[test]
fn a_batch_that_waits_for_a_permit_hears_of_the_end_of_a_pause() {
    check_long(|| {
        let limit = Arc::new(RateLimit::per_second(1_000));
        limit.pause(Duration::MAX);
        let executor = BatchExecutor::builder().workers(1).rate_limiter(Arc::clone(&limit)).build().unwrap();
        let resumer = thread::spawn(move || limit.resume());
        assert!(executor.run(0..1, |_| Ok::<_, ()>(())).is_success());
        resumer.join().unwrap();
    });
}

/// Too many threads and steps for every interleaving: random ones.
#[cfg(shuttle)]
mod large {
    use super::*;
    use crate::workers::AdaptiveWorkers;

    #[test]
    fn batches_in_batches_end_at_full_occupancy() {
        check(|| {
            let executor = executor(3);
            let memory = Borrowed::new();
            let result = executor.run(0..3, |_| {
                let inner = executor.run(0..3, |_| {
                    run_once(&executor, 2);
                    memory.touch();
                    Ok::<_, ()>(())
                });
                Ok::<_, &str>(inner.succeeded())
            });
            assert_eq!(result.into_values().unwrap(), [3, 3, 3]);
            memory.free();
        });
    }

    #[test]
    fn many_callers_share_few_threads() {
        check(|| {
            let executor = executor(2);
            let callers: Vec<_> = (0..5)
                .map(|caller| {
                    let executor = executor.clone();
                    thread::spawn(move || {
                        for round in 0..2 {
                            if (caller + round) % 2 == 0 {
                                run_once(&executor, 3);
                            } else {
                                report_once(&executor, 3, 2);
                            }
                        }
                    })
                })
                .collect();
            drop(executor);
            for caller in callers {
                caller.join().unwrap();
            }
        });
    }

    #[test]
    fn threads_expire_while_batches_come_and_go() {
        check(|| {
            let_time_pass();
            let executor = executor(3);
            for _ in 0..3 {
                run_once(&executor, 4);
                report_once(&executor, 4, 3);
            }
        });
    }

    #[test]
    fn threads_are_refused_in_the_middle() {
        for started in 0..4 {
            check(move || {
                let_time_pass();
                refuse_threads_after(started);
                let executor = executor(4);
                report_once(&executor, 5, 4);
                run_once(&executor, 5);
            });
        }
    }

    #[test]
    fn an_adaptive_batch_stays_within_its_bounds() {
        check(|| {
            let_time_pass();
            let executor = executor(AdaptiveWorkers::new().min(1).max(3));
            report_once(&executor, 12, 3);
            run_once(&executor, 12);
        });
    }

    #[test]
    fn a_failure_meets_completions_and_waits() {
        check(|| {
            let limit = RateLimit::every(Duration::from_secs(1)).burst(2);
            let executor = BatchExecutor::builder().workers(3).rate_limiter(limit).build().unwrap();
            let_time_pass();
            let result = executor.run(0..6, |&item| if item >= 2 { Err(item) } else { Ok(item) });
            assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 2 }));
            assert_eq!(result.succeeded(), 2);
            assert_eq!(result.succeeded() + result.failed() + result.skipped(), 6);
        });
    }
}
