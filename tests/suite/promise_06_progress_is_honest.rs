//! Promise 6: one call for every item decided, on the calling thread, `completed` rising by one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{BatchExecutor, LimiterError, Progress, StopReason, Workers, limiter_fn};

use crate::common::{
    Gate, MEANT, Peak, assert_still_works, collecting, comes, parallel_settings, ran_to_its_end, settings,
    silence_meant_panics, stopped, stopping, within_a_minute,
};

/// The calls rise by one, add up, and end at what was decided.
#[track_caller]
fn assert_honest(calls: &[Progress], total: usize, succeeded: usize, failed: usize) {
    assert_eq!(calls.len(), succeeded + failed, "calls");
    for (before, call) in calls.iter().enumerate() {
        assert_eq!((call.completed, call.total), (before + 1, total));
        assert_eq!(call.completed, call.succeeded + call.failed);
    }
    for pair in calls.windows(2) {
        assert!(pair[0].succeeded <= pair[1].succeeded && pair[0].failed <= pair[1].failed);
        assert!(pair[0].elapsed <= pair[1].elapsed, "time went backwards");
    }
    if let Some(last) = calls.last() {
        assert_eq!((last.succeeded, last.failed), (succeeded, failed), "the last call is the final state");
        assert!(last.completed < total || last.eta() == Some(Duration::ZERO));
        assert!(last.rate() >= 0.0);
    }
}

#[test]
fn one_call_for_every_item_whatever_its_outcome() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            // The threads are there already the second time.
            for _ in 0..2 {
                let mut calls = Vec::new();
                let result =
                    executor.batch(0..500usize).on_progress(|p| calls.push(*p)).run(|&n| match n % 10 {
                        3 => Err("three"),
                        7 => panic!("{MEANT}seven"),
                        _ => Ok(()),
                    });
                let result = ran_to_its_end(result);
                assert_honest(&calls, 500, 400, 100);
                assert_eq!((result.succeeded(), result.failed()), (400, 100), "{workers:?}");
            }
        }
    });
}

#[test]
fn many_short_batches_lose_no_call() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            for items in (0..400).map(|k| k % 7) {
                let mut calls = Vec::new();
                let result =
                    executor.batch(0..items).on_progress(|p| calls.push(*p)).run(|_| Ok::<_, String>(()));
                assert_honest(&calls, items, items, 0);
                assert!(ran_to_its_end(result).is_success());
            }
        }
    });
}

#[test]
fn what_was_skipped_was_not_completed() {
    within_a_minute(|| {
        for workers in settings() {
            let mut calls = Vec::new();
            let (_, partial) = stopped(
                stopping(workers)
                    .batch(0..1_000usize)
                    .on_progress(|p| calls.push(*p))
                    .run(|&n| if n == 77 { Err("77") } else { Ok(()) }),
            );
            assert_honest(&calls, 1_000, partial.succeeded(), partial.failed());
            assert_eq!(calls.len() + partial.skipped(), 1_000, "{workers:?}");
        }
    });
}

#[test]
fn a_refused_or_panicking_permit_is_reported_like_a_failure() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let asked = AtomicUsize::new(0);
            let limiter = limiter_fn(move || match asked.fetch_add(1, Ordering::SeqCst) % 5 {
                1 => Err(LimiterError::new("refused")),
                3 => panic!("{MEANT}the limiter"),
                _ => Ok(Duration::ZERO),
            });
            let builder = BatchExecutor::builder().workers(workers).stop_on_error(false);
            let executor = builder.rate_limiter(limiter).build().unwrap();
            let mut calls = Vec::new();
            let batch = executor.batch(0..100).on_progress(|p| calls.push(*p));
            let result = ran_to_its_end(batch.run(|_| Ok::<_, String>(())));
            assert_eq!((result.succeeded(), result.failed()), (60, 40), "{workers:?}");
            assert_honest(&calls, 100, 60, 40);
        }
    });
}

#[test]
fn calls_come_on_the_calling_thread_and_never_two_at_once() {
    within_a_minute(|| {
        for workers in settings() {
            let (caller, inside) = (thread::current().id(), Peak::default());
            let result = collecting(workers)
                .batch(0..300)
                .on_progress(|_| {
                    let _inside = inside.enter();
                    assert_eq!(thread::current().id(), caller, "{workers:?}");
                    thread::yield_now();
                })
                .run(|_| Ok::<_, String>(()));
            assert!(ran_to_its_end(result).is_success());
            assert_eq!(inside.most(), 1);
        }
    });
}

#[test]
fn a_call_tells_of_nothing_that_has_not_happened() {
    within_a_minute(|| {
        for workers in settings() {
            let (good, bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let result = collecting(workers)
                .batch(0..2_000usize)
                .on_progress(|p| {
                    assert!(p.succeeded <= good.load(Ordering::SeqCst), "{workers:?}");
                    assert!(p.failed <= bad.load(Ordering::SeqCst), "{workers:?}");
                })
                .run(|&n| {
                    if n % 4 == 0 {
                        bad.fetch_add(1, Ordering::SeqCst);
                        return Err("a fourth");
                    }
                    good.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                });
            assert_eq!(ran_to_its_end(result).failed(), 500);
        }
    });
}

#[test]
fn calls_come_while_the_batch_runs_and_not_at_its_end() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let told = Gate::default();
            let result = collecting(workers).batch(0..20).on_progress(|_| told.open()).run(|&n| {
                if n > 0 {
                    told.pass(); // until item 0 has been reported
                } else {
                    // Until the caller waits for a completion.
                    thread::sleep(Duration::from_millis(20));
                }
                Ok::<_, String>(())
            });
            assert!(ran_to_its_end(result).is_success(), "the first call came late, {workers:?}");
        }
    });
}

#[test]
fn one_worker_reports_each_item_before_the_next_one_starts() {
    for workers in [Workers::Sequential, Workers::Fixed(1)] {
        let told = AtomicUsize::new(0);
        let result = collecting(workers)
            .batch(0..20usize)
            .on_progress(|p| told.store(p.completed, Ordering::SeqCst))
            .run(|&n| {
                assert_eq!(told.load(Ordering::SeqCst), n);
                Ok::<_, String>(())
            });
        assert!(ran_to_its_end(result).is_success(), "{workers:?}");
    }
}

#[test]
fn one_worker_reports_each_failure_before_the_next_item_starts() {
    for workers in [Workers::Sequential, Workers::Fixed(1)] {
        let (told, untold) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let result = collecting(workers)
            .batch(0..400usize)
            .on_progress(|p| told.store(p.completed, Ordering::SeqCst))
            .run(|&n| {
                untold.fetch_add(n - told.load(Ordering::SeqCst), Ordering::SeqCst);
                if n % 4 == 3 { Ok(()) } else { Err("no") }
            });
        assert_eq!(ran_to_its_end(result).failed(), 300);
        assert_eq!(untold.into_inner(), 0, "{workers:?}");
    }
}

#[test]
fn a_slow_callback_slows_no_worker() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let done = AtomicUsize::new(0);
            let mut all_done_during_the_first_call = None;
            let result = collecting(workers)
                .batch(0..500)
                .on_progress(|_| {
                    // The first call does not end before every item has been run.
                    all_done_during_the_first_call
                        .get_or_insert_with(|| comes(|| done.load(Ordering::SeqCst) == 500));
                })
                .run(|_| {
                    done.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, String>(())
                });
            assert!(ran_to_its_end(result).is_success());
            assert_eq!(all_done_during_the_first_call, Some(true), "{workers:?}");
        }
    });
}

#[test]
fn a_callback_may_run_a_batch_itself() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let inner = AtomicUsize::new(0);
            let result = executor
                .batch(0..20)
                .on_progress(|_| {
                    let batch = executor.batch(0..5).on_progress(|_| {
                        inner.fetch_add(1, Ordering::SeqCst);
                    });
                    assert!(batch.run(|_| Ok::<_, String>(())).is_success());
                })
                .run(|_| Ok::<_, String>(()));
            assert!(ran_to_its_end(result).is_success());
            assert_eq!(inner.into_inner(), 100, "{workers:?}");
            assert_still_works(&executor);
        }
    });
}

#[test]
fn an_empty_batch_and_a_refused_one_make_no_call() {
    for workers in settings() {
        let executor = collecting(workers);
        let none = executor.batch(0..0).on_progress(|_| panic!("called")).run(|_| Ok::<_, String>(()));
        assert!(ran_to_its_end(none).is_success());
        let tasks = [|| Ok::<_, String>(())];
        let refused = executor.batch(0..2).on_progress(|_| panic!("called")).run_tasks(tasks);
        assert_eq!(refused.stopped(), Some(StopReason::LengthMismatch { tasks: 1, items: 2 }));
    }
}

#[test]
fn the_last_callback_given_is_the_one_that_is_called() {
    let mut calls = 0;
    let executor = collecting(2);
    let batch = executor.batch(0..10).on_progress(|_| panic!("replaced")).on_progress(|_| calls += 1);
    assert!(batch.run(|_| Ok::<_, String>(())).is_success());
    assert_eq!(calls, 10);
}

/// It would report nothing while its own item runs. A thread takes its time to start, so it waits for that.
#[test]
fn a_caller_that_reports_leaves_the_work_to_threads_that_are_just_starting() {
    within_a_minute(|| {
        let caller = thread::current().id();
        let caller_worked = || {
            let result = collecting(2).batch(0..2).on_progress(|_| {}).run(|_| {
                thread::sleep(Duration::from_millis(1));
                Ok::<_, String>(thread::current().id() == caller)
            });
            ran_to_its_end(result).values().any(|&by_caller| by_caller)
        };
        // Not in every try: a thread may take longer to start than any caller would wait.
        let times = (0..20).filter(|_| caller_worked()).count();
        assert!(times < 15, "the caller worked {times} times of 20");
    });
}

#[test]
fn of_one_worker_nothing_runs_when_an_item_is_told_of() {
    for executor in [stopping(Workers::Sequential), stopping(1)] {
        let mut calls = 0;
        let result = executor
            .batch(0..20)
            .on_progress(|progress| {
                calls += 1;
                assert_eq!((progress.running, progress.waiting), (0, 0), "{progress:?}");
            })
            .run(|n| Ok::<_, String>(*n));
        assert!(result.is_success() && calls == 20, "{result}, {calls}");
    }
}
