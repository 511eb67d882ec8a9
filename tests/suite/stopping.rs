//! Batches that are stopped from outside: by tokens, by a deadline, by a timeout; and what the reason is then.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{
    Batch, BatchExecutor, CancelToken, ItemError, Limit, LimiterError, RateLimit, Retry, StopReason,
    TestClock, limiter_fn,
};

use crate::common::{
    Census, Gate, MEANT, Meeting, Register, Way, builder, cancelled_behind, collecting, comes, panic_of,
    ran_to_its_end, silence_meant_panics, stopped, stopping, wait_until, within_a_minute,
};

#[test]
fn after_a_cancel_nothing_starts_and_what_ran_is_kept() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token, census) = (way.stopping(), CancelToken::new(), Census::of(10_000));
            let items = Register::default();
            let batch = way.batch(&executor, (0..10_000usize).map(|n| (n, items.make()))).cancel_on(&token);
            let (reason, partial) = stopped(batch.run_with(|(n, _), cx| {
                census.count(*n);
                if *n == 1 {
                    assert!(comes(|| census.runs()[0] == 1), "item 0 is started, too");
                    token.cancel();
                }
                // No item gets on before the cancel.
                assert!(*n == 0 || comes(|| cx.is_cancelled()));
                Ok::<_, String>(n * 2)
            }));
            assert_eq!((reason, partial.failed()), (StopReason::Cancelled, 0), "{way:?}");
            assert!(partial.outcomes()[..2].iter().all(Result::is_ok));
            // Item 0 may have been quick enough to make room for another.
            assert!(partial.succeeded() <= partial.workers() + 1, "{partial}, {way:?}");
            for (item, runs) in partial.iter().zip(census.runs()) {
                assert_eq!(item.outcome.as_ref().ok().copied(), (runs == 1).then_some(item.item.0 * 2));
            }
            drop(partial);
            items.assert_all_dropped(10_000);
        }
    });
}

#[test]
fn any_of_several_tokens_stops_the_batch() {
    within_a_minute(|| {
        for way in Way::all() {
            for cancelled in 0..3 {
                let tokens: [CancelToken; 3] = Default::default();
                let executor = way.stopping();
                let batch = tokens.iter().fold(way.batch(&executor, 0..100), Batch::cancel_on);
                let batch = batch.cancel_on(&tokens[0]); // the same again does nothing
                let (reason, partial) = stopped(batch.run_with(|_, cx| {
                    tokens[cancelled].cancel();
                    assert!(cx.is_cancelled(), "the item that cancels sees it at once");
                    Ok::<_, String>(())
                }));
                assert_eq!(reason, StopReason::Cancelled, "{way:?}");
                assert!(partial.skipped() > 0 || partial.workers() > 16);
                assert!((0..3).all(|n| tokens[n].is_cancelled() == (n == cancelled)));
            }
        }
    });
}

#[test]
fn a_cancel_that_finds_nothing_left_to_start_changes_nothing() {
    within_a_minute(|| {
        for way in Way::all() {
            for total in [1, 2, 50] {
                let (executor, token, census) = (way.stopping(), CancelToken::new(), Census::of(total));
                let begun = AtomicUsize::new(0);
                let batch = way.batch(&executor, 0..total).cancel_on(&token);
                let result = batch.run(|&n| {
                    census.count(n);
                    if begun.fetch_add(1, Ordering::SeqCst) + 1 == total {
                        token.cancel();
                    }
                    Ok::<_, String>(n)
                });
                assert!(ran_to_its_end(result).is_success(), "{way:?}");
                census.assert_each_ran_once();
            }
        }
    });
}

#[test]
fn a_failure_is_the_reason_where_everything_below_it_has_run() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token) = (way.stopping(), CancelToken::new());
            let batch = way.batch(&executor, 0..1_000usize).cancel_on(&token);
            let (reason, partial) = stopped(batch.run(|&n| {
                if n == 0 {
                    token.cancel();
                    return Err("the first");
                }
                Ok(())
            }));
            // The cancel kept nothing from being run that the failure would have let run.
            assert_eq!(reason, StopReason::ItemFailed { index: 0 }, "{way:?}");
            assert_eq!(partial.failed(), 1);
        }
    });
}

#[test]
fn a_cancel_is_the_reason_where_it_skipped_an_item_below_the_failure() {
    within_a_minute(|| {
        let executor = stopping(2);
        let (token, failing, waiting) = (CancelToken::new(), Gate::default(), Gate::default());
        // Item 0 holds one worker, so that the other claims what follows; item 1 backs off and never comes back.
        let retry = Retry::delays(|| std::iter::repeat(Duration::MAX)).when(|error: &usize| match error {
            1 => {
                waiting.open();
                batch_executor::RetryDecision::Retry
            }
            _ => batch_executor::RetryDecision::GiveUp,
        });
        let batch = executor.batch(0..4usize).cancel_on(&token).retry(retry);
        let (reason, partial) = stopped(batch.run_with(|&n, cx| match n {
            0 => {
                failing.pass();
                token.cancel();
                Ok(())
            }
            1 => Err(1),
            2 => {
                waiting.pass();
                failing.open();
                assert!(comes(|| cx.is_cancelled()));
                Err(2)
            }
            _ => Ok(()),
        }));
        assert_eq!(reason, StopReason::Cancelled);
        assert!(matches!(partial.outcomes()[1], Err(ItemError::Interrupted(Some(1)))));
        assert!(matches!(partial.outcomes()[2], Err(ItemError::Failed(2))));
        assert_eq!((partial.succeeded(), partial.failed(), partial.skipped()), (1, 1, 2));
    });
}

#[test]
fn with_failures_collected_a_cancel_is_the_reason_and_failures_stay() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token, first) = (way.collecting(), CancelToken::new(), Gate::default());
            let batch = way.batch(&executor, 0..1_000).cancel_on(&token);
            let (reason, partial) = stopped(batch.run_with(|&n, cx| {
                if n == 1 {
                    first.pass(); // or the cancel might keep it from starting
                    token.cancel();
                }
                if n == 0 {
                    first.open();
                    Err("the first")
                } else {
                    comes(|| cx.is_cancelled()).then_some(()).ok_or("no cancel")
                }
            }));
            assert_eq!((reason, partial.failed()), (StopReason::Cancelled, 1), "{way:?}");
            assert_eq!(partial.failures().next().unwrap().index, 0);
        }
    });
}

#[test]
fn a_failure_limit_that_is_reached_before_a_cancel_is_the_reason() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.builder().stop_after_failures(2).build().unwrap();
            let token = CancelToken::new();
            let batch = way.batch(&executor, 0..1_000usize).cancel_on(&token);
            let (reason, partial) = stopped(batch.run(|&n| if n < 2 { Err(n) } else { Ok(n) }));
            token.cancel();
            assert_eq!(reason, StopReason::TooManyFailures { limit: 2 }, "{way:?}");
            assert_eq!(partial.failed(), 2);
        }
    });
}

#[test]
fn a_deadline_that_has_passed_skips_everything() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, census) = (way.stopping(), Census::of(100));
            let batches = [
                way.batch(&executor, 0..100usize).deadline(Instant::now()),
                way.batch(&executor, 0..100usize).timeout(Duration::ZERO),
                way.batch(&executor, 0..100usize).timeout(Duration::MAX).deadline(Instant::now()),
            ];
            for batch in batches {
                let (reason, partial) = stopped(batch.run(|&n| {
                    census.count(n);
                    Ok::<_, String>(n)
                }));
                assert_eq!((reason, partial.skipped()), (StopReason::DeadlineExceeded, 100), "{way:?}");
            }
            assert_eq!(census.total(), 0);
        }
    });
}

#[test]
fn when_the_time_is_over_nothing_starts_and_what_ran_is_kept() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, census) = (way.stopping(), Census::of(10_000));
            let deadline = Instant::now() + Duration::from_millis(15);
            let batch = way.batch(&executor, 0..10_000usize).deadline(deadline);
            let (reason, partial) = stopped(batch.run(|&n| {
                // It was not over when this item was let in, so it is at most just over now.
                census.count(n);
                wait_until("the time is over", || Instant::now() >= deadline);
                Ok::<_, String>(n)
            }));
            assert_eq!((reason, partial.failed()), (StopReason::DeadlineExceeded, 0), "{way:?}");
            assert_eq!(partial.succeeded(), census.total());
            // Each worker was in one item at the end of time, and none began another.
            assert!(partial.succeeded() <= partial.workers(), "{partial}, {way:?}");
        }
    });
}

#[test]
fn the_earlier_of_deadline_and_timeout_holds_and_the_last_call_of_each() {
    within_a_minute(|| {
        let (executor, hour) = (BatchExecutor::new(), Duration::from_secs(3600));
        let far = || Instant::now() + hour;
        let op = |_: &i32| Ok::<_, String>(());
        assert!(executor.batch([1]).deadline(far()).timeout(Duration::ZERO).run(op).stopped().is_some());
        assert!(executor.batch([1]).timeout(hour).deadline(Instant::now()).run(op).stopped().is_some());
        assert!(executor.batch([1]).timeout(Duration::ZERO).timeout(hour).run(op).is_success());
        assert!(executor.batch([1]).deadline(Instant::now()).deadline(far()).run(op).is_success());
        assert!(executor.batch([1]).timeout(hour).timeout(Duration::ZERO).run(op).stopped().is_some());
    });
}

#[test]
fn a_deadline_that_passes_when_nothing_is_left_to_start_changes_nothing() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, begun) = (way.stopping(), AtomicBool::new(false));
            let (since, timeout) = (Instant::now(), Duration::from_millis(50));
            let result = way.batch(&executor, 0..1).timeout(timeout).run(|_| {
                begun.store(true, Ordering::SeqCst);
                wait_until("the time is over", || since.elapsed() > timeout + Duration::from_millis(10));
                Ok::<_, String>(())
            });
            // On a machine that is not slow, it has begun in time.
            assert_eq!(
                (result.stopped().is_none(), result.is_success()),
                (begun.load(Ordering::SeqCst), begun.into_inner()),
                "{way:?}"
            );
        }
    });
}

#[test]
fn no_items_are_a_success_even_when_cancelled_and_late() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token) = (way.stopping(), CancelToken::new());
            token.cancel();
            let batch = way.batch(&executor, 0..0).cancel_on(&token).timeout(Duration::ZERO);
            assert_eq!(ran_to_its_end(batch.run(|_| Err::<(), _>("never"))).total(), 0, "{way:?}");
        }
    });
}

#[test]
fn one_token_stops_all_batches_that_have_it_at_the_time() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token, all_run) = (way.stopping(), CancelToken::new(), Meeting::default());
            thread::scope(|scope| {
                let run = || {
                    let batch = way.batch(&executor, 0..1_000).cancel_on(&token);
                    stopped(batch.run_with(|&n, cx| {
                        if n == 0 {
                            all_run.of(5);
                        }
                        comes(|| cx.is_cancelled()).then_some(()).ok_or("no cancel")
                    }))
                };
                let batches: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
                all_run.of(5);
                token.cancel();
                for batch in batches {
                    let (reason, partial) = batch.join().unwrap();
                    assert_eq!(reason, StopReason::Cancelled, "{way:?}");
                    assert!(partial.succeeded() <= partial.workers());
                }
            });
        }
    });
}

#[test]
fn a_token_serves_batches_one_after_another_until_it_is_cancelled() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token) = (way.stopping(), CancelToken::new());
            for _ in 0..20 {
                let result = way.batch(&executor, 0..20).cancel_on(&token).run(|n| Ok::<_, String>(*n));
                assert!(ran_to_its_end(result).is_success());
            }
            token.cancel();
            for _ in 0..3 {
                let outcome = way.batch(&executor, 0..20).cancel_on(&token).run(|n| Ok::<_, String>(*n));
                assert_eq!(stopped(outcome).1.skipped(), 20, "{way:?}");
            }
            let result = way.batch(&executor, 0..20).run(|n| Ok::<_, String>(*n));
            assert!(ran_to_its_end(result).is_success(), "the executor is none the worse");
        }
    });
}

#[test]
fn one_batch_is_cancelled_and_its_neighbour_is_not() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token) = (way.stopping(), CancelToken::new());
            let inner_token = CancelToken::new();
            let result = way.batch(&executor, 0..4).cancel_on(&token).run(|_| {
                let inner = executor.batch(0..100).cancel_on(&inner_token).run(|_| {
                    inner_token.cancel();
                    Ok::<_, String>(())
                });
                if inner.stopped() == Some(StopReason::Cancelled) {
                    Ok(())
                } else {
                    Err("the inner one went on")
                }
            });
            assert!(ran_to_its_end(result).is_success(), "{way:?}");
        }
    });
}

#[test]
fn a_token_may_be_dropped_before_the_batch_runs() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token) = (way.stopping(), CancelToken::new());
            let batch = way.batch(&executor, 0..100).cancel_on(&token).cancel_on(&CancelToken::new());
            drop(token);
            assert!(ran_to_its_end(batch.run(|n| Ok::<_, String>(*n))).is_success(), "{way:?}");

            let (token, elsewhere) = (CancelToken::new(), CancelToken::new());
            let clone = elsewhere.clone();
            drop(elsewhere);
            let batch = way.batch(&executor, 0..100).cancel_on(&token).cancel_on(&clone);
            clone.cancel();
            drop((token, clone));
            assert_eq!(stopped(batch.run(|n| Ok::<_, String>(*n))).1.skipped(), 100, "{way:?}");
        }
    });
}

/// A cancel after the end reaches nothing of the batch; a batch that unwinds takes itself off the token's list, too.
#[test]
fn a_token_outlives_its_batches_whatever_became_of_them() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token, calls) = (way.stopping(), CancelToken::new(), AtomicUsize::new(0));
            for _ in 0..10 {
                let batch = executor.batch(0..10).cancel_on(&token).on_progress(|_| {
                    calls.fetch_add(1, Ordering::SeqCst);
                    panic!("{MEANT}the callback")
                });
                assert_eq!(panic_of(|| batch.run(|n| Ok::<_, String>(*n))), "meant: the callback");
            }
            drop(executor);
            token.cancel();
            assert_eq!(calls.into_inner(), 10, "{way:?}");
        }
    });
}

#[test]
fn tasks_are_stopped_as_items_are_and_those_left_are_dropped() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token, tasks) = (way.stopping(), CancelToken::new(), Register::default());
            let task = |n: usize| {
                let (held, token) = (tasks.make(), token.clone());
                move || {
                    token.cancel();
                    drop(held);
                    Ok::<_, String>(n)
                }
            };
            let batch = way.batch(&executor, 0..1_000).cancel_on(&token);
            let (reason, partial) = stopped(batch.run_tasks((0..1_000).map(task)));
            assert_eq!(reason, StopReason::Cancelled, "{way:?}");
            assert!(partial.values().count() >= 1);
            tasks.assert_all_dropped(1_000);
        }
    });
}

#[test]
fn a_batch_of_ten_thousand_asleep_at_its_limiter_is_let_go_at_once() {
    within_a_minute(|| {
        for way in Way::all() {
            let (asked, token) = (std::sync::Arc::new(Gate::default()), CancelToken::new());
            let sleeping = std::sync::Arc::clone(&asked);
            let calls = AtomicUsize::new(0);
            let limiter = limiter_fn(move || {
                let call = calls.fetch_add(1, Ordering::SeqCst);
                if call > 0 {
                    sleeping.open();
                }
                Ok(Duration::from_secs(call as u64 * 3600))
            });
            let executor = way.builder().rate_limiter(limiter).build().unwrap();
            let (reason, partial) = cancelled_behind(&asked, &token, || {
                stopped(way.batch(&executor, 0..10_000).cancel_on(&token).run(|_| Ok::<_, String>(())))
            });
            assert_eq!(reason, StopReason::Cancelled, "{way:?}");
            // The first may be about to start, too.
            assert!(partial.succeeded() <= 1, "{partial}");
            assert_eq!(partial.skipped(), 10_000 - partial.succeeded());
        }
    });
}

#[test]
fn the_reason_and_the_counts_are_in_the_text() {
    let (executor, token) = (collecting(2), CancelToken::new());
    token.cancel();
    let cancelled = executor.batch(0..3).cancel_on(&token).run(|_| Ok::<_, String>(()));
    let error = cancelled.into_result().unwrap_err();
    assert!(error.to_string().starts_with("cancelled (0 of 3 succeeded, 3 skipped in "), "{error}");
    let late = executor.batch(0..3).timeout(Duration::ZERO).run(|_| Ok::<_, String>(()));
    let error = late.into_result().unwrap_err();
    assert!(error.to_string().contains("(0 of 3 succeeded, 3 skipped in "), "{error}");
    assert_eq!(format!("{token:?}"), "CancelToken { is_cancelled: true, .. }");
}

#[test]
fn the_iterator_may_cancel_and_is_taken_to_its_end() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token, ran) = (way.stopping(), CancelToken::new(), AtomicBool::new(false));
            let items = (0..50).inspect(|n| {
                if *n == 10 {
                    token.cancel();
                }
            });
            let (reason, partial) = stopped(way.batch(&executor, items).cancel_on(&token).run(|_| {
                ran.store(true, Ordering::SeqCst);
                Ok::<_, String>(())
            }));
            assert_eq!((reason, partial.skipped()), (StopReason::Cancelled, 50), "{way:?}");
            assert!(!ran.into_inner());
        }
    });
}

#[test]
fn nothing_starts_after_the_deadline_though_its_permit_is_due_then() {
    within_a_minute(|| {
        for late in (1..=100).map(Duration::from_micros) {
            let deadline = Instant::now() + Duration::from_millis(2);
            let at_the_deadline =
                move || Ok::<_, LimiterError>(deadline.saturating_duration_since(Instant::now()) + late);
            let executor = builder().rate_limiter(limiter_fn(at_the_deadline)).build().unwrap();
            let (reason, partial) =
                stopped(executor.batch(0..2).deadline(deadline).run(|&n| Ok::<_, String>(n)));
            assert_eq!((reason, partial.skipped()), (StopReason::DeadlineExceeded, 2), "{late:?}");
        }
    });
}

/// The item that fails is the last of several that one worker has pulled and another has taken meanwhile.
#[test]
fn a_stream_that_stops_ends_though_its_iterator_keeps_a_worker_waiting() {
    within_a_minute(|| {
        const LAST: usize = 20_000; // as many as it takes until several are pulled at a time
        for (executor, is_ordered) in [(stopping(2), true), (stopping(2), false), (stopping(4), false)] {
            let has_ended = AtomicBool::new(false);
            let items = (0..).inspect(|n| assert!(*n <= LAST || comes(|| has_ended.load(Ordering::SeqCst))));
            let batch = executor.batch(items).window(64);
            let batch = if is_ordered { batch } else { batch.unordered() };
            let streamed = batch.stream(
                |&n| if n == LAST { Err(()) } else { Ok(()) },
                |results| {
                    let items = results.count();
                    has_ended.store(true, Ordering::SeqCst);
                    items
                },
            );
            assert_eq!((streamed.output, streamed.failed), (LAST + 1, 1));
            assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: LAST }));
        }
    });
}

/// The last item fails at once, and those below it come one a minute: they are wanted, and the time is over before they have run.
#[test]
fn a_deadline_holds_for_items_below_a_failure() {
    within_a_minute(|| {
        for workers in [1, 2, 4] {
            let clock = TestClock::new();
            let executor = BatchExecutor::builder().workers(workers).clock(clock.clone()).build().unwrap();
            let limit = |is_last: &bool| match is_last {
                true => Limit::at_once(1),
                false => Limit::rate(RateLimit::per_minute(1)),
            };
            let batch = executor.batch(0..6).limit(Limit::per_key(|n: &i32| *n == 5, limit));
            let result = batch
                .timeout(Duration::from_secs(150))
                .run(|n| if *n == 5 { Err("at once") } else { Ok(()) });
            let (reason, result) = stopped(result);
            assert_eq!(reason, StopReason::DeadlineExceeded, "{workers}");
            assert_eq!((result.succeeded(), result.failed(), result.skipped()), (3, 1, 2), "{workers}");
            assert_eq!(clock.elapsed(), Duration::from_secs(150), "{workers}");
        }
    });
}
