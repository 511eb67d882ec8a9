//! Promise 3: stopping early keeps everything that finished, and what never started says so.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use batch_executor::{BatchError, BatchExecutor, ItemError, LimiterError, StopReason, limiter_fn};

use common::{
    Census, Gate, MEANT, Meeting, Register, assert_counts_add_up, collecting, parallel_settings, settings,
    silence_meant_panics, stopping, within_a_minute,
};

#[test]
fn what_was_running_when_the_batch_stopped_keeps_its_value() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = stopping(workers);
            let together = executor.workers_for(100);
            let (meeting, known) = (Meeting::default(), Gate::default());
            let error = executor
                .batch(0..100usize)
                .on_progress(|p| {
                    if p.failed > 0 {
                        known.open();
                    }
                })
                .run(|&n| {
                    meeting.of(together);
                    if n == 0 {
                        return Err("early");
                    }
                    // It ends long after the batch was stopped, and its value counts all the same.
                    known.pass();
                    Ok(n * 2)
                })
                .unwrap_err();
            let partial = error.into_partial().unwrap();
            assert_counts_add_up(&partial);
            let values: Vec<usize> = partial.values().copied().collect();
            assert_eq!(values, (1..together).map(|n| n * 2).collect::<Vec<_>>(), "{workers:?}");
            let skipped = |k: usize| matches!(partial.items()[k].error(), Some(ItemError::Skipped));
            assert!((together..100).all(skipped), "{workers:?}");
        }
    });
}

#[test]
fn what_was_running_when_the_batch_stopped_keeps_its_error() {
    silence_meant_panics();
    within_a_minute(|| {
        let (meeting, known) = (Meeting::default(), Gate::default());
        let error = stopping(4)
            .batch(0..100usize)
            .on_progress(|_| known.open())
            .run(|&n| {
                meeting.of(4);
                if n == 2 {
                    return Err("the first to fail".to_owned());
                }
                known.pass();
                match n {
                    0 => Ok(()),
                    1 => panic!("{MEANT}one"),
                    _ => Err(format!("error {n}")),
                }
            })
            .unwrap_err();
        let BatchError::Stopped { reason, partial } = &error else { panic!("it stopped") };
        assert_eq!(*reason, StopReason::ItemFailed { index: 1 });
        let texts: Vec<String> =
            partial.failures().map(|item| format!("{}: {}", item.id, item.error().unwrap())).collect();
        assert_eq!(texts, ["1: panicked: meant: one", "2: the first to fail", "3: error 3"]);
        assert_eq!((partial.successful(), partial.failed(), partial.skipped()), (1, 3, 96));
    });
}

#[test]
fn a_task_that_never_started_is_skipped_and_dropped() {
    within_a_minute(|| {
        for workers in settings() {
            let (tasks, values, census) = (Register::default(), Register::default(), Census::of(200));
            let error = stopping(workers)
                .execute_batch(
                    (0..200usize).map(|n| {
                        let (capture, values, census) = (tasks.make(), &values, &census);
                        move || {
                            let _capture = capture;
                            census.count(n);
                            if n == 20 { Err("twenty") } else { Ok(values.make()) }
                        }
                    }),
                    0..200usize,
                )
                .unwrap_err();
            tasks.assert_all_dropped(200);
            assert_eq!(values.dropped(), 0, "a value was thrown away, {workers:?}");
            let partial = error.into_partial().unwrap();
            assert_counts_add_up(&partial);
            assert_eq!(partial.successful(), values.made());
            for (item, runs) in partial.iter().zip(census.runs()) {
                assert_eq!(runs == 0, matches!(item.error(), Some(ItemError::Skipped)), "item {}", item.id);
            }
            let made = values.made();
            drop(partial);
            values.assert_all_dropped(made);
        }
    });
}

#[test]
fn collecting_keeps_every_error_and_every_value() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let result = collecting(workers)
                .run(0..400usize, |&n| match n % 4 {
                    0 => Err(format!("error {n}")),
                    1 => panic!("{MEANT}{n}"),
                    _ => Ok(n),
                })
                .unwrap();
            for item in &result {
                let n = item.id;
                match (&item.outcome, n % 4) {
                    (Err(ItemError::Failed(text)), 0) => assert_eq!(*text, format!("error {n}")),
                    (Err(ItemError::Panicked(panic)), 1) => {
                        assert_eq!(panic.message(), format!("{MEANT}{n}"));
                    }
                    (Ok(value), 2 | 3) => assert_eq!(*value, n),
                    (outcome, _) => panic!("item {n} has {outcome:?}, {workers:?}"),
                }
            }
            assert_eq!((result.successful(), result.failed(), result.skipped()), (200, 200, 0));
        }
    });
}

#[test]
fn a_refused_permit_erases_no_other_outcome() {
    within_a_minute(|| {
        for workers in settings() {
            let asked = AtomicUsize::new(0);
            let executor = BatchExecutor::builder()
                .workers(workers)
                .stop_on_error(false)
                .rate_limiter(limiter_fn(move || match asked.fetch_add(1, Ordering::SeqCst) {
                    n if n % 2 == 0 => Ok(std::time::Duration::ZERO),
                    _ => Err(LimiterError::new("every second one is refused")),
                }))
                .build()
                .unwrap();
            let result = executor.run(0..100, |&n| Ok::<_, String>(n)).unwrap();
            assert_counts_add_up(&result);
            assert_eq!((result.successful(), result.failed()), (50, 50), "{workers:?}");
            assert!(result.failures().all(|item| matches!(item.error(), Some(ItemError::RateLimiter(_)))));
        }
    });
}

#[test]
fn giving_the_items_away_keeps_errors_and_counts() {
    let error = stopping(1)
        .run(["a", "b", "c"], |&id| if id == "b" { Err("no b") } else { Ok(id.len()) })
        .unwrap_err()
        .without_items();
    assert_eq!(error.first_failure().map(|item| item.id), Some(1));
    let partial = error.into_partial().unwrap();
    assert_counts_add_up(&partial);
    assert_eq!((partial.successful(), partial.failed(), partial.skipped()), (1, 1, 1));
    assert!(matches!(partial.items()[1].error(), Some(ItemError::Failed("no b"))));
}

#[test]
fn values_are_all_handed_over_or_the_whole_result_comes_back() {
    let result = collecting(2).run(0..10, |&n| if n == 4 { Err("four") } else { Ok(n) }).unwrap();
    let handed_back = result.into_values().unwrap_err();
    assert_eq!((handed_back.successful(), handed_back.failed()), (9, 1));
    assert_eq!(handed_back.values().sum::<i32>(), 45 - 4);
}
