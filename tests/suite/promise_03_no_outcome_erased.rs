//! Promise 3: stopping early keeps everything that finished, and what never started says so.

use std::sync::atomic::{AtomicUsize, Ordering};

use batch_executor::{BatchExecutor, ItemError, LimiterError, StopReason, limiter_fn};

use crate::common::{
    Census, Gate, MEANT, Meeting, Register, assert_counts_add_up, collecting, parallel_settings,
    ran_to_its_end, settings, silence_meant_panics, stopped, stopping, within_a_minute,
};

#[test]
fn what_was_running_when_the_batch_stopped_keeps_its_value() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = stopping(workers);
            let together = executor.workers_for(100);
            let (meeting, known) = (Meeting::default(), Gate::default());
            let (_, partial) = stopped(
                executor
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
                    }),
            );
            assert_counts_add_up(&partial);
            let values: Vec<usize> = partial.values().copied().collect();
            assert_eq!(values, (1..together).map(|n| n * 2).collect::<Vec<_>>(), "{workers:?}");
            let skipped = |k: usize| matches!(partial.outcomes()[k], Err(ItemError::Skipped));
            assert!((together..100).all(skipped), "{workers:?}");
        }
    });
}

#[test]
fn what_was_running_when_the_batch_stopped_keeps_its_error() {
    silence_meant_panics();
    within_a_minute(|| {
        let (meeting, known) = (Meeting::default(), Gate::default());
        let (reason, partial) =
            stopped(stopping(4).batch(0..100usize).on_progress(|_| known.open()).run(|&n| {
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
            }));
        assert_eq!(reason, StopReason::ItemFailed { index: 1 });
        let texts: Vec<String> =
            partial.failures().map(|item| format!("{}: {}", item.item, item.error)).collect();
        assert_eq!(texts, ["1: panicked: meant: one", "2: the first to fail", "3: error 3"]);
        assert_eq!((partial.succeeded(), partial.failed(), partial.skipped()), (1, 3, 96));
    });
}

#[test]
fn a_task_that_never_started_is_skipped_and_dropped() {
    within_a_minute(|| {
        for workers in settings() {
            let (tasks, values, census) = (Register::default(), Register::default(), Census::of(200));
            let all = (0..200usize).map(|n| {
                let (capture, values, census) = (tasks.make(), &values, &census);
                move || {
                    let _capture = capture;
                    census.count(n);
                    if n == 20 { Err("twenty") } else { Ok(values.make()) }
                }
            });
            let (reason, partial) = stopped(stopping(workers).batch(0..200usize).run_tasks(all));
            assert_eq!(reason, StopReason::ItemFailed { index: 20 }, "{workers:?}");
            tasks.assert_all_dropped(200);
            assert_eq!(values.dropped(), 0, "a value was thrown away, {workers:?}");
            assert_counts_add_up(&partial);
            assert_eq!(partial.succeeded(), values.made());
            for (item, runs) in partial.iter().zip(census.runs()) {
                assert_eq!(runs == 0, matches!(item.outcome, Err(ItemError::Skipped)), "item {}", item.item);
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
            let result = ran_to_its_end(collecting(workers).run(0..400usize, |&n| match n % 4 {
                0 => Err(format!("error {n}")),
                1 => panic!("{MEANT}{n}"),
                _ => Ok(n),
            }));
            for item in &result {
                let n = *item.item;
                match (&item.outcome, n % 4) {
                    (Err(ItemError::Failed(text)), 0) => assert_eq!(*text, format!("error {n}")),
                    (Err(ItemError::Panicked(panic)), 1) => {
                        assert_eq!(panic.message(), format!("{MEANT}{n}"));
                    }
                    (Ok(value), 2 | 3) => assert_eq!(*value, n),
                    (outcome, _) => panic!("item {n} has {outcome:?}, {workers:?}"),
                }
            }
            assert_eq!((result.succeeded(), result.failed(), result.skipped()), (200, 200, 0));
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
            let result = ran_to_its_end(executor.run(0..100, |&n| Ok::<_, String>(n)));
            assert_counts_add_up(&result);
            assert_eq!((result.succeeded(), result.failed()), (50, 50), "{workers:?}");
            assert!(result.failures().all(|failure| matches!(failure.error, ItemError::RateLimiter(_))));
        }
    });
}

#[test]
fn a_stopped_batch_gives_its_items_and_outcomes_away_whole() {
    let result = stopping(1).run(["a", "b", "c"], |&id| if id == "b" { Err("no b") } else { Ok(id.len()) });
    let (_, partial) = stopped(result);
    assert_eq!((partial.succeeded(), partial.failed(), partial.skipped()), (1, 1, 1));
    let (items, outcomes) = partial.into_parts();
    assert_eq!(items, ["a", "b", "c"]);
    assert!(matches!(outcomes[..], [Ok(1), Err(ItemError::Failed("no b")), Err(ItemError::Skipped)]));
}

#[test]
fn where_one_item_failed_the_values_of_the_others_are_there() {
    let result = ran_to_its_end(collecting(2).run(0..10, |&n| if n == 4 { Err("four") } else { Ok(n) }));
    assert_eq!((result.succeeded(), result.failed()), (9, 1));
    assert_eq!(result.values().sum::<i32>(), 45 - 4);
    let error = result.into_values().unwrap_err();
    assert_eq!((error.stopped(), error.index()), (None, Some(4)));
    assert_eq!((error.total(), error.succeeded(), error.failed(), error.skipped()), (10, 9, 1, 0));
}
