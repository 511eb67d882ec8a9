//! A hand on batches that run: pause, resume, cancel, another number of workers, and a look at what runs.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{Gate, Meeting, collecting, nap, settings, stopping, wait_until, within_a_minute};
use batch_executor::{
    BatchExecutor, Control, ItemContext, Limit, LimiterError, MAX_WORKERS, Retry, StopReason, TestClock,
    Workers, limiter_fn,
};

const SOON: Duration = Duration::from_millis(5);

#[test]
fn a_paused_batch_starts_nothing_and_goes_on_when_it_is_resumed() {
    within_a_minute(|| {
        for workers in settings() {
            let (executor, control, ran) = (collecting(workers), Control::new(), AtomicUsize::new(0));
            let at_pause = AtomicUsize::new(0);
            thread::scope(|scope| {
                let stood = scope.spawn(|| {
                    wait_until("it is paused", || control.snapshot().progress.completed >= 1_000);
                    wait_until("nothing runs", || control.snapshot().running.is_empty());
                    let before = ran.load(Ordering::SeqCst);
                    thread::sleep(SOON);
                    let after = ran.load(Ordering::SeqCst);
                    control.resume();
                    (before, after)
                });
                let result = executor.batch(0..20_000).control(&control).run(|_| {
                    if ran.fetch_add(1, Ordering::SeqCst) == 1_000 {
                        control.pause();
                        at_pause.store(ran.load(Ordering::SeqCst), Ordering::SeqCst);
                    }
                    Ok::<_, String>(())
                });
                assert!(result.is_success(), "{workers:?}");
                let (before, after) = stood.join().unwrap();
                // Each other worker may have been about to run an item.
                let most = at_pause.load(Ordering::SeqCst) + result.workers();
                assert!(before == after && before <= most, "{workers:?}: {before}, {after}, at most {most}");
            });
            assert_eq!(ran.into_inner(), 20_000);
        }
    });
}

/// Of a limiter that cannot tell when a permit is due, items take some ahead. The clock stands still until the batch is paused.
#[test]
fn permits_that_come_due_while_a_batch_is_paused_are_used_when_it_is_resumed() {
    within_a_minute(|| {
        let (control, asked) = (Control::new(), AtomicU32::new(0));
        // The first alone is due when the first item starts.
        let limiter = limiter_fn(|| Ok::<_, LimiterError>(SOON * (asked.fetch_add(1, Ordering::SeqCst) + 1)));
        let executor = BatchExecutor::builder().workers(8).clock(TestClock::new()).build().unwrap();
        let batch = executor.batch(0..20).control(&control).limit(Limit::rate(&limiter));
        let result = thread::scope(|scope| {
            batch.run(|n| {
                if *n == 0 {
                    wait_until("others have permits ahead", || asked.load(Ordering::SeqCst) >= 5);
                    control.pause();
                    scope.spawn(|| {
                        thread::sleep(10 * SOON);
                        control.resume();
                    });
                }
                Ok::<_, String>(())
            })
        });
        assert!(result.is_success());
        assert_eq!(asked.load(Ordering::SeqCst), 20, "one permit for each item");
    });
}

#[test]
fn a_batch_that_begins_while_the_control_is_paused_waits() {
    within_a_minute(|| {
        for workers in settings() {
            let (executor, control) = (stopping(workers), Control::new());
            control.pause();
            thread::scope(|scope| {
                scope.spawn(|| {
                    wait_until("it is there", || control.snapshot().progress.total == 50);
                    thread::sleep(SOON);
                    assert_eq!(control.snapshot().progress.completed, 0, "{workers:?}");
                    control.resume();
                });
                assert!(executor.batch(0..50).control(&control).run(|_| Ok::<_, ()>(())).is_success());
            });
        }
    });
}

#[test]
fn a_batch_that_begins_while_the_control_is_paused_begins_with_the_workers_that_were_set() {
    within_a_minute(|| {
        for workers in [1, 2] {
            let (executor, control, all) = (stopping(workers), Control::new(), Meeting::default());
            control.set_workers(6);
            control.pause();
            thread::scope(|scope| {
                scope.spawn(|| {
                    wait_until("it is there", || control.snapshot().progress.total == 6);
                    thread::sleep(SOON);
                    control.resume();
                });
                let result = executor.batch(0..6).control(&control).run(|_| {
                    all.of(6);
                    Ok::<_, ()>(())
                });
                assert!(result.is_success());
            });
        }
    });
}

/// The second batch begins during the first item of the first one, and its item runs longer than the second.
#[test]
fn of_several_batches_the_item_that_has_run_longest_is_the_first() {
    let (control, [first_runs, other_runs, second_runs, seen]) =
        (Control::new(), [(); 4].map(|()| Gate::default()));
    thread::scope(|scope| {
        scope.spawn(|| {
            let result = BatchExecutor::new().batch(0..2).control(&control).run(|n| {
                let (runs, goes_on) =
                    if *n == 0 { (&first_runs, &other_runs) } else { (&second_runs, &seen) };
                runs.open();
                goes_on.pass();
                Ok::<_, ()>(())
            });
            assert!(result.is_success());
        });
        scope.spawn(|| {
            first_runs.pass();
            let result = BatchExecutor::new().batch(0..1).control(&control).run(|_| {
                other_runs.open();
                seen.pass();
                Ok::<_, ()>(())
            });
            assert!(result.is_success());
        });
        second_runs.pass();
        let running = control.snapshot().running;
        seen.open();
        assert_eq!(running.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 1]);
    });
}

#[test]
fn a_paused_batch_can_be_cancelled_and_its_deadline_goes_on() {
    within_a_minute(|| {
        for workers in settings() {
            let (executor, control) = (stopping(workers), Control::new());
            control.pause();
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(SOON);
                    control.cancel();
                });
                let result = executor.batch(0..50).control(&control).run(|_| Ok::<_, ()>(()));
                assert_eq!((result.stopped(), result.skipped()), (Some(StopReason::Cancelled), 50));
            });
            let control = Control::new();
            control.pause();
            let batch = executor.batch(0..50).control(&control).timeout(SOON);
            let result = batch.run(|_| Ok::<_, ()>(()));
            assert_eq!((result.stopped(), result.skipped()), (Some(StopReason::DeadlineExceeded), 50));
        }
    });
}

#[test]
fn what_runs_while_its_batch_is_paused_is_not_cancelled() {
    within_a_minute(|| {
        for workers in settings() {
            let (executor, control) = (collecting(workers), Control::new());
            let is_cancelled = |cx: &ItemContext<'_>| {
                control.pause();
                let is_cancelled = cx.is_cancelled();
                control.resume();
                Ok::<_, String>(is_cancelled)
            };
            let batch = || executor.batch(0..3).control(&control);
            assert_eq!(
                batch().run_with(|_, cx| is_cancelled(cx)).into_values().unwrap(),
                [false; 3],
                "{workers:?}"
            );
            let grown = batch().run_growing(|_, cx, _| is_cancelled(cx));
            assert_eq!(grown.into_values().unwrap(), [false; 3], "{workers:?}");
            let streamed = batch().stream_with(
                |_, cx| is_cancelled(cx),
                |results| results.all(|item| matches!(item.outcome, Ok(false))),
            );
            assert!(streamed.output, "{workers:?}");
        }
    });
}

#[test]
fn a_stream_is_paused_and_resumed() {
    within_a_minute(|| {
        for workers in settings() {
            let (executor, control) = (collecting(workers), Control::new());
            let pulled = AtomicUsize::new(0);
            thread::scope(|scope| {
                let items = (0..5_000).inspect(|_| _ = pulled.fetch_add(1, Ordering::SeqCst));
                let streamed = executor.batch(items).control(&control).stream(
                    |n| Ok::<_, String>(*n),
                    |results| {
                        let first = results.next().unwrap().item;
                        control.pause();
                        scope.spawn(|| {
                            thread::sleep(SOON);
                            control.resume();
                        });
                        first + results.count()
                    },
                );
                assert_eq!(streamed.output, 4_999, "{workers:?}");
            });
        }
    });
}

#[test]
fn more_workers_start_as_soon_as_they_are_set() {
    within_a_minute(|| {
        for workers in [Workers::Sequential, Workers::Fixed(2), Workers::adaptive()] {
            let (executor, control, all_run) = (collecting(workers), Control::new(), Barrier::new(6));
            let result = executor.batch(0..6).control(&control).run(|n| {
                if *n == 0 {
                    control.set_workers(6);
                }
                all_run.wait();
                Ok::<_, String>(())
            });
            assert!(result.is_success(), "{workers:?}");
        }
    });
}

/// Items are slow: each is under way until all are.
#[test]
fn more_workers_start_in_a_stream_as_soon_as_they_are_set() {
    within_a_minute(|| {
        let settings = [Workers::Sequential, Workers::Fixed(2), Workers::adaptive()];
        for (workers, window) in
            settings.into_iter().flat_map(|workers| [(workers, None), (workers, Some(12))])
        {
            let (executor, control, all_run) = (collecting(workers), Control::new(), Barrier::new(12));
            let batch = executor.batch(0..12).control(&control);
            let batch = if let Some(window) = window { batch.window(window) } else { batch };
            let streamed = batch.stream(
                |n| {
                    if *n == 0 {
                        control.set_workers(12);
                    }
                    all_run.wait();
                    Ok::<_, String>(())
                },
                |results| results.count(),
            );
            assert_eq!(streamed.output, 12, "{workers:?}, {window:?}");
        }
    });
}

#[test]
fn fewer_workers_hold_when_enough_items_have_ended() {
    within_a_minute(|| {
        let (executor, control) = (collecting(6), Control::new());
        let (now, late, begun) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(6));
        let result = executor.batch(0..200).control(&control).run(|n| {
            let running = now.fetch_add(1, Ordering::SeqCst) + 1;
            if *n < 6 {
                begun.wait();
                control.set_workers(2);
            } else if *n >= 20 {
                late.fetch_max(running, Ordering::SeqCst);
            }
            thread::sleep(Duration::from_micros(100));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, String>(())
        });
        assert!(result.is_success());
        assert!((1..=2).contains(&late.into_inner()));
    });
}

#[test]
fn workers_that_were_sent_away_come_back_when_more_are_set() {
    within_a_minute(|| {
        let (executor, control, six) = (collecting(6), Control::new(), Barrier::new(6));
        let result = executor.batch(0..12).control(&control).run(|n| {
            if *n == 6 {
                thread::sleep(4 * SOON); // for the others to go; they are sent away by then, or stay
                control.set_workers(6);
            }
            six.wait();
            if *n < 6 {
                if *n == 0 {
                    control.set_workers(1);
                }
                six.wait();
            }
            Ok::<_, String>(())
        });
        assert!(result.is_success());
    });
}

#[test]
fn a_snapshot_of_a_stream_knows_its_total_when_the_input_has_ended() {
    for workers in [1, 3] {
        let (executor, control, mut left) = (collecting(workers), Control::new(), 10);
        let items = std::iter::from_fn(move || {
            left -= 1;
            (left >= 0).then_some(left)
        });
        let batch = executor.batch(items).control(&control).window(2);
        let streamed = batch.stream(
            |n| Ok::<_, String>(*n),
            |results| {
                assert!(results.next().is_some());
                let progress = control.snapshot().progress;
                assert_eq!(progress.total_hint, None, "{progress:?}");
                assert_eq!(results.count(), 9);
                let progress = control.snapshot().progress;
                assert_eq!((progress.total, progress.total_hint), (10, Some(10)));
            },
        );
        assert_eq!(streamed.succeeded, 10);
    }
}

#[test]
fn a_snapshot_of_a_stream_knows_its_total_if_the_iterator_does() {
    for workers in [1, 3] {
        let (executor, control) = (collecting(workers), Control::new());
        let streamed = executor.batch(0..10).control(&control).window(2).stream(
            |n| Ok::<_, String>(*n),
            |results| {
                assert!(results.next().is_some());
                let progress = control.snapshot().progress;
                assert_eq!((progress.total, progress.total_hint), (10, Some(10)), "{progress:?}");
                results.count()
            },
        );
        assert_eq!(streamed.output, 9);
    }
}

#[test]
fn a_snapshot_tells_which_items_run_and_since_when() {
    within_a_minute(|| {
        let (executor, control) = (collecting(3), Control::new());
        let (here, seen) = (Barrier::new(4), Barrier::new(4));
        thread::scope(|scope| {
            scope.spawn(|| {
                here.wait();
                thread::sleep(SOON);
                let snapshot = control.snapshot();
                let mut running: Vec<_> = snapshot.running.iter().map(|r| (r.index, r.attempt)).collect();
                running.sort_unstable();
                assert_eq!(running, [(0, 1), (1, 1), (2, 1)]);
                assert!(snapshot.running.iter().all(|running| running.since >= SOON && running.worker < 3));
                assert_eq!((snapshot.progress.running, snapshot.progress.total), (3, 5));
                seen.wait();
            });
            let result = executor.batch(0..5).control(&control).run(|n| {
                if *n < 3 {
                    here.wait();
                    seen.wait();
                }
                Ok::<_, String>(())
            });
            assert!(result.is_success());
        });
        assert!(control.snapshot().running.is_empty());
        assert_eq!(control.snapshot().progress.total, 0);
    });
}

#[test]
fn a_pause_holds_retries_and_limits_too() {
    within_a_minute(|| {
        for workers in [1, 4] {
            let (executor, control, ran) = (collecting(workers), Control::new(), AtomicUsize::new(0));
            thread::scope(|scope| {
                scope.spawn(|| {
                    wait_until("some have run", || ran.load(Ordering::SeqCst) >= 20);
                    control.pause();
                    wait_until("nothing runs", || control.snapshot().running.is_empty());
                    let before = ran.load(Ordering::SeqCst);
                    thread::sleep(SOON);
                    assert_eq!(ran.load(Ordering::SeqCst), before);
                    control.resume();
                });
                let result = executor
                    .batch(0..200usize)
                    .control(&control)
                    .retry(Retry::delays(|| [Duration::from_micros(100); 2].into_iter()))
                    .limit(Limit::per_key(|n: &usize| n % 3, |_| Limit::at_once(1)))
                    .run_with(|n, cx| {
                        ran.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(50));
                        if n % 4 == 0 && cx.attempt() < 3 { Err("again") } else { Ok(()) }
                    });
                assert!(result.is_success(), "{workers}");
            });
            assert_eq!(ran.into_inner(), 200 + 2 * 50);
        }
    });
}

/// The pause comes when the retry has been claimed and asks what it costs.
#[test]
fn a_retry_that_a_pause_keeps_from_starting_counts_once() {
    within_a_minute(|| {
        let (control, asked, executor, mut retries) = (Control::new(), AtomicUsize::new(0), collecting(1), 0);
        thread::scope(|scope| {
            let cost = |_: &i32| {
                if asked.fetch_add(1, Ordering::SeqCst) == 1 {
                    control.pause();
                    scope.spawn(|| {
                        thread::sleep(SOON);
                        control.resume();
                    });
                }
                1
            };
            let retry = Retry::delays(|| [Duration::ZERO].into_iter());
            let batch = executor.batch([0]).control(&control).retry(retry);
            let batch = batch.limit(Limit::rate(limiter_fn(|| Ok(Duration::ZERO))).cost(cost));
            let batch = batch.on_progress(|progress| retries = progress.retries);
            assert!(
                batch.run_with(|_, cx| if cx.attempt() == 1 { Err("again") } else { Ok(()) }).is_success()
            );
        });
        assert_eq!(retries, 1);
    });
}

#[test]
fn one_control_serves_several_batches() {
    within_a_minute(|| {
        let (executor, control) = (collecting(2), Control::new());
        let all_run = Barrier::new(4);
        thread::scope(|scope| {
            let batches = [0, 1].map(|_| {
                scope.spawn(|| {
                    let batch = executor.batch(0..2).control(&control);
                    batch.run(|_| {
                        all_run.wait();
                        let snapshot = control.snapshot();
                        all_run.wait();
                        Ok::<_, String>((snapshot.running.len(), snapshot.progress.total))
                    })
                })
            });
            for batch in batches {
                let result = batch.join().unwrap();
                assert!(result.values().all(|seen| *seen == (4, 4)), "{:?}", result.outcomes());
            }
        });
    });
}

#[test]
fn a_batch_that_ends_leaves_the_others_to_the_control() {
    within_a_minute(|| {
        let (executor, control, is_over) = (collecting(2), Control::new(), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let result = executor.batch(0..1).control(&control).run(|_| {
                    wait_until("the other is there", || control.snapshot().progress.total == 3);
                    Ok::<_, String>(())
                });
                is_over.store(result.succeeded(), Ordering::SeqCst);
            });
            wait_until("the first is there", || control.snapshot().progress.total == 1);
            let result = executor.batch(0..2).control(&control).run(|_| {
                wait_until("the first is over", || is_over.load(Ordering::SeqCst) == 1);
                Ok::<_, String>(control.snapshot().progress.total)
            });
            assert_eq!(result.into_values().unwrap(), [2, 2]);
        });
        assert_eq!(control.snapshot().progress.total, 0);
    });
}

#[test]
fn a_pause_under_a_test_clock_stops_the_clock() {
    within_a_minute(|| {
        let (clock, control) = (TestClock::new(), Control::new());
        let executor = BatchExecutor::builder().workers(2).clock(clock.clone()).build().unwrap();
        control.pause();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(SOON);
                control.resume();
            });
            let hour = Duration::from_secs(3600);
            let batch =
                executor.batch(0..10).control(&control).retry(Retry::delays(move || [hour].into_iter()));
            let result = batch.run_with(|_, cx| if cx.attempt() == 1 { Err(()) } else { Ok(()) });
            assert!(result.is_success());
            assert_eq!(clock.elapsed(), hour);
        });
    });
}

#[test]
fn a_test_clock_stands_still_in_a_pause_though_a_retry_would_be_due() {
    within_a_minute(|| {
        let (clock, control, both) = (TestClock::new(), Control::new(), Barrier::new(2));
        let executor = BatchExecutor::builder().workers(2).clock(clock.clone()).build().unwrap();
        let retry = Retry::delays(|| [Duration::from_secs(3600)].into_iter());
        thread::scope(|scope| {
            let at_the_end = scope.spawn(|| {
                wait_until("all wait", || control.snapshot().progress.waiting == 2);
                thread::sleep(20 * SOON);
                let elapsed = clock.elapsed();
                control.resume();
                elapsed
            });
            let batch = executor.batch(0..2).control(&control).retry(retry);
            let result = batch.run_with(|_, cx| {
                if cx.attempt() == 1 {
                    both.wait();
                    control.pause();
                    return Err(());
                }
                Ok(())
            });
            assert!(result.is_success());
            assert_eq!(at_the_end.join().unwrap(), Duration::ZERO);
        });
    });
}

/// Item 2 begins when item 1 has run for a while, and item 0 before both.
#[test]
fn a_batch_with_two_controls_is_paused_as_long_as_one_of_them_is() {
    within_a_minute(|| {
        let hour = Duration::from_secs(3_600);
        let executor = BatchExecutor::builder().workers(2).clock(TestClock::new()).build().unwrap();
        for is_paused_before in [true, false] {
            let (all, own) = (Control::new(), Control::new());
            if is_paused_before {
                all.pause();
            }
            own.set_workers(1);
            let result = executor.batch(0..3).control(&all).control(&own).timeout(hour).run(|_| {
                all.pause();
                own.pause();
                own.resume();
                Ok::<_, String>(())
            });
            let began = usize::from(!is_paused_before);
            assert_eq!((result.succeeded(), result.stopped()), (began, Some(StopReason::DeadlineExceeded)));
        }
    });
}

#[test]
fn a_batch_that_has_a_control_twice_is_one() {
    let (executor, control) = (collecting(1), Control::new());
    let result = executor.batch(0..2).control(&control).control(&control.clone()).run(|_| {
        let snapshot = control.snapshot();
        Ok::<_, String>((snapshot.progress.total, snapshot.running.len()))
    });
    assert_eq!(result.into_values().unwrap(), [(2, 1); 2]);
}

#[test]
fn the_sum_of_more_items_than_can_be_counted_is_the_most() {
    let (executor, control) = (collecting(1), Control::new());
    let streamed = executor.batch(0..usize::MAX).control(&control).stream(
        |_| {
            let inner = executor.batch(0..3).control(&control);
            inner.run(|_| Ok::<_, String>(control.snapshot().progress.total)).into_values()
        },
        |results| results.next().map(|item| item.outcome.unwrap()),
    );
    assert_eq!(streamed.output, Some(vec![usize::MAX; 3]));
}

#[test]
fn a_snapshot_lists_first_what_has_run_longest() {
    within_a_minute(|| {
        let (control, seen) = (Control::new(), AtomicUsize::new(0));
        let result = collecting(2).batch(0..3).control(&control).run(|n| {
            match *n {
                0 => wait_until("it is seen", || seen.load(Ordering::SeqCst) > 0),
                1 => {
                    let runs = || control.snapshot().running.iter().any(|running| running.index == 0);
                    wait_until("the first runs", runs);
                    thread::sleep(SOON);
                }
                _ => {
                    let running = control.snapshot().running;
                    seen.store(1, Ordering::SeqCst);
                    return Ok(running.iter().map(|running| running.index).collect());
                }
            }
            Ok::<_, String>(Vec::new())
        });
        assert_eq!(result.into_values().unwrap()[2], [0, 2]);
    });
}

#[test]
fn a_snapshot_tells_which_attempt_runs() {
    for workers in [1, 2] {
        let control = Control::new();
        let retry = Retry::delays(|| [Duration::ZERO; 2].into_iter());
        let result = collecting(workers).batch(0..4).control(&control).retry(retry).run_with(|_, cx| {
            let running = control.snapshot().running;
            let own =
                running.iter().find(|running| running.index == cx.index()).map(|r| (r.attempt, r.worker));
            assert_eq!(own, Some((cx.attempt(), cx.worker())));
            if cx.attempt() < 3 { Err("again") } else { Ok(()) }
        });
        assert!(result.is_success(), "{:?}", result.outcomes());
    }
}

#[test]
fn a_number_that_was_set_before_is_that_of_each_batch_that_begins() {
    within_a_minute(|| {
        for workers in settings() {
            let (executor, control) = (collecting(workers), Control::new());
            control.set_workers(3);
            for _ in 0..2 {
                let all_run = Barrier::new(3);
                let result = executor.batch(0..3).control(&control).run(|_| {
                    all_run.wait();
                    Ok::<_, String>(control.snapshot().progress.workers)
                });
                assert_eq!(result.into_values().unwrap(), [3; 3], "{workers:?}");
            }
        }
    });
}

#[test]
fn adaptive_workers_adapt_no_longer_when_a_number_is_set() {
    within_a_minute(|| {
        let (control, mut seen) = (Control::new(), Vec::new());
        let executor = collecting(batch_executor::AdaptiveWorkers::new().min(1).max(64));
        let batch = executor.batch(0..400).control(&control).on_progress(|p| seen.push(p.workers));
        let result = batch.run(|n| {
            if *n == 20 {
                control.set_workers(2);
            }
            thread::sleep(Duration::from_millis(1));
            Ok::<_, String>(())
        });
        assert!(result.is_success());
        assert_eq!((seen[120..].iter().min(), seen[120..].iter().max()), (Some(&2), Some(&2)), "{seen:?}");
    });
}

#[test]
#[should_panic(expected = "pause it instead")]
fn no_workers_at_all_are_refused() {
    Control::new().set_workers(0);
}

#[test]
#[should_panic(expected = "65537 workers are too many: at most 65536")]
fn more_workers_than_there_can_be_are_refused() {
    let control = Control::new();
    control.set_workers(MAX_WORKERS);
    control.set_workers(MAX_WORKERS + 1);
}

#[test]
fn a_timeline_tells_when_a_control_set_the_number_of_workers() {
    let control = Control::new();
    let result = collecting(Workers::Fixed(2)).batch(0..20).control(&control).record_timeline().run(|n| {
        if *n == 0 {
            control.set_workers(5);
        }
        Ok::<_, String>(())
    });
    let limits: Vec<_> = result.timeline().unwrap().limits().iter().map(|(_, workers)| *workers).collect();
    assert_eq!(limits, [2, 5]);
}

#[test]
fn a_timeline_has_the_time_at_which_a_control_set_the_number_of_workers() {
    within_a_minute(|| {
        let (control, second) = (Control::new(), Duration::from_secs(1));
        let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
        let result = executor.batch(0..2).control(&control).record_timeline().run(|n| {
            if *n == 0 {
                nap(second);
            } else {
                control.set_workers(5);
            }
            Ok::<_, String>(())
        });
        assert_eq!(result.timeline().unwrap().limits(), [(Duration::ZERO, 1), (second, 5)]);
    });
}

#[test]
fn a_caller_without_helpers_goes_on_when_it_is_resumed() {
    within_a_minute(|| {
        // No thread can have such a stack, so none starts.
        let executor = BatchExecutor::builder().workers(2).stack_size(usize::MAX).build().unwrap();
        let (control, has_paused) = (Control::new(), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("it is paused", || has_paused.load(Ordering::SeqCst) == 1);
                thread::sleep(SOON);
                control.resume();
            });
            let result = executor.batch(0..10).control(&control).run(|n| {
                if *n == 3 {
                    control.pause();
                    has_paused.store(1, Ordering::SeqCst);
                }
                Ok::<_, String>(())
            });
            assert_eq!((result.succeeded(), result.workers()), (10, 1));
        });
    });
}
