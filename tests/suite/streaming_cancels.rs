//! Streams that are stopped from outside, by a token or a deadline: where they end then, and what they say of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use batch_executor::{
    Batch, BatchItem, CancelToken, LimiterError, RateLimit, Retry, RetryDecision, StopReason, limiter_fn,
};

use crate::common::streams::{Ledger, WINDOWS, outcomes};
use crate::common::{
    Census, Gate, Register, Way, builder, cancelled_behind, comes, parallel_settings, stopping, wait_until,
    within_a_minute,
};

#[test]
fn a_stream_that_is_cancelled_before_it_begins_pulls_nothing() {
    within_a_minute(|| {
        for way in Way::all() {
            for is_late in [false, true] {
                let (executor, token, ledger) = (way.stopping(), CancelToken::new(), Ledger::default());
                let (batch, reason) = (way.batch(&executor, ledger.input(0..)), StopReason::Cancelled);
                let (batch, reason) = if is_late {
                    (batch.timeout(Duration::ZERO), StopReason::DeadlineExceeded)
                } else {
                    token.cancel();
                    (batch.cancel_on(&token), reason)
                };
                let streamed = batch.stream(|_| Err::<(), _>("never"), |results| results.count());
                assert_eq!((streamed.output, streamed.stopped), (0, Some(reason)), "{way:?}");
                assert_eq!((streamed.succeeded, streamed.failed, ledger.pulled()), (0, 0, 0));
            }
        }
    });
}

#[test]
fn after_a_cancel_by_the_consumer_results_are_a_prefix_of_what_they_would_have_been() {
    within_a_minute(|| {
        for way in Way::all() {
            for window in WINDOWS {
                let (executor, token, ledger) = (way.stopping(), CancelToken::new(), Ledger::default());
                let (census, items) = (Census::of(100_000), Register::default());
                let input = ledger.input((0..100_000usize).map(|id| (id, items.make())));
                let batch = way.batch(&executor, input).window(window).cancel_on(&token);
                let streamed = batch.stream(
                    |(id, _)| {
                        census.count(*id);
                        Ok::<_, String>((id * 2, items.make()))
                    },
                    |results| {
                        let mut seen = Vec::new();
                        for BatchItem { item: id, outcome, .. } in ledger.output(results) {
                            seen.push((id.0, outcome.unwrap().0));
                            if id.0 == 20 {
                                token.cancel();
                            }
                        }
                        seen
                    },
                );
                let handed_on = streamed.output.len();
                assert!(streamed.output.into_iter().eq((0..handed_on).map(|id| (id, id * 2))), "{way:?}");
                assert!((21..=21 + window).contains(&handed_on), "{handed_on}, window {window}");
                assert_eq!((streamed.succeeded, streamed.failed), (handed_on, 0));
                assert_eq!(streamed.stopped, Some(StopReason::Cancelled));
                assert!(ledger.most() <= window, "{} under way", ledger.most());
                census.assert_none_ran_twice();
                items.assert_all_dropped(items.made());
            }
        }
    });
}

#[test]
fn a_cancel_by_an_item_ends_the_results_before_the_first_that_did_not_run() {
    within_a_minute(|| {
        for way in Way::all() {
            for (window, is_ordered) in
                WINDOWS.into_iter().flat_map(|window| [(window, true), (window, false)])
            {
                let (executor, token, census) = (way.stopping(), CancelToken::new(), Census::of(10_000));
                let batch = way.batch(&executor, 0..10_000usize).window(window).cancel_on(&token);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let streamed = batch.stream_with(
                    |&id, cx| {
                        census.count(id);
                        if id == 30 {
                            token.cancel();
                            assert!(cx.is_cancelled());
                        }
                        Ok::<_, String>(())
                    },
                    outcomes,
                );
                let ran = census.ran();
                let prefix = ran.iter().enumerate().take_while(|(n, id)| n == *id).count();
                assert!(
                    streamed.output.iter().all(|(_, is_ok)| *is_ok),
                    "the item that cancels sees it at once"
                );
                let mut ids: Vec<_> = streamed.output.iter().map(|(id, _)| *id).collect();
                if is_ordered {
                    assert_eq!(ids, (0..prefix).collect::<Vec<_>>(), "{way:?}, window {window}");
                } else {
                    ids.sort_unstable();
                    assert_eq!(ids, ran, "{way:?}, window {window}");
                }
                // Out of order, others go on beside the one that cancels, for as long as it takes to do that.
                let is_bounded = !is_ordered || ran.len() <= 31 + window;
                assert!(is_bounded && ran.contains(&30), "{} ran", ran.len());
                assert_eq!(streamed.stopped, Some(StopReason::Cancelled));
            }
        }
    });
}

#[test]
fn at_the_deadline_results_end_with_a_prefix() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, started) = (way.stopping(), AtomicUsize::new(0));
            let batch = way.batch(&executor, 0..).window(8).timeout(Duration::from_millis(15));
            let streamed = batch.stream_with(
                |&id: &usize, cx| {
                    started.fetch_add(1, Ordering::SeqCst);
                    if id == 20 {
                        assert!(comes(|| cx.deadline().is_some_and(|at| at <= std::time::Instant::now())));
                    }
                    Ok::<_, String>(id)
                },
                outcomes,
            );
            let handed_on = streamed.output.len();
            assert!(streamed.output.into_iter().eq((0..handed_on).map(|id| (id, true))), "{way:?}");
            // It may be over before item 20 on a machine that is slow.
            assert!(handed_on <= 20 + 8 && handed_on <= started.into_inner(), "{handed_on}");
            assert_eq!(streamed.stopped, Some(StopReason::DeadlineExceeded));
        }
    });
}

#[test]
fn a_cancel_wakes_workers_that_wait_at_a_limiter() {
    within_a_minute(|| {
        for way in Way::all() {
            for window in WINDOWS {
                let (token, ledger) = (CancelToken::new(), Ledger::default());
                let asked = std::sync::Arc::new(Gate::default());
                let (calls, sleeping) = (AtomicUsize::new(0), std::sync::Arc::clone(&asked));
                let limiter = limiter_fn(move || {
                    let call = calls.fetch_add(1, Ordering::SeqCst);
                    if call > 0 {
                        sleeping.open();
                    }
                    Ok(Duration::from_secs(call as u64 * 3600))
                });
                let executor = way.builder().rate_limiter(limiter).build().unwrap();
                let batch = way.batch(&executor, ledger.input(0..)).window(window).cancel_on(&token);
                let streamed = cancelled_behind(&asked, &token, || {
                    batch.stream(|_| Ok::<_, String>(()), |results| results.count())
                });
                assert!(streamed.output <= 1, "{way:?}, window {window}");
                assert_eq!(streamed.stopped, Some(StopReason::Cancelled));
                assert!(ledger.pulled() <= 1 + window);
            }
        }
    });
}

/// An item that backs off is interrupted: a stream in input order ends before it, and one in any order leaves it out.
#[test]
fn a_cancel_reaches_items_that_back_off() {
    within_a_minute(|| {
        for way in Way::all() {
            for (window, is_ordered) in
                WINDOWS.into_iter().flat_map(|window| [(window, true), (window, false)])
            {
                let (executor, token, backs_off) = (way.stopping(), CancelToken::new(), Gate::default());
                let retry = Retry::delays(|| std::iter::repeat(Duration::MAX)).when(|_: &&str| {
                    backs_off.open();
                    RetryDecision::Retry
                });
                let batch = way.batch(&executor, 0usize..).window(window).cancel_on(&token).retry(retry);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let begun = AtomicUsize::new(0);
                let op = |&id: &usize| {
                    if id == 3 {
                        wait_until("those before it have begun", || begun.load(Ordering::SeqCst) >= 3);
                        return Err("busy");
                    }
                    begun.fetch_add(usize::from(id < 3), Ordering::SeqCst);
                    Ok(())
                };
                let streamed = cancelled_behind(&backs_off, &token, || batch.stream(op, outcomes));
                let mut seen = streamed.output;
                seen.sort_unstable();
                assert!(seen.starts_with(&[(0, true), (1, true), (2, true)]), "{seen:?}");
                assert!(seen.iter().all(|(id, is_ok)| *id != 3 && *is_ok), "{seen:?}");
                // In input order, an item behind the one that backs off is not handed on, whether it ran or not.
                assert!(seen.len() == 3 || !is_ordered, "{seen:?}, {way:?}, window {window}");
                assert_eq!(streamed.stopped, Some(StopReason::Cancelled));
                assert_eq!((streamed.succeeded, streamed.failed), (seen.len(), 0));
            }
        }
    });
}

#[test]
fn a_cancel_while_the_window_is_full_hands_on_what_ran() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for window in [2, 8, 300] {
                let (executor, token, ran) = (stopping(workers), CancelToken::new(), AtomicUsize::new(0));
                let streamed = executor.batch(0usize..).window(window).cancel_on(&token).stream(
                    |_| {
                        ran.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, String>(())
                    },
                    |results| {
                        wait_until("the window is full and done", || ran.load(Ordering::SeqCst) == window);
                        token.cancel();
                        outcomes(results)
                    },
                );
                assert!(streamed.output.into_iter().eq((0..window).map(|id| (id, true))), "{workers:?}");
                assert_eq!((streamed.stopped, streamed.succeeded), (Some(StopReason::Cancelled), window));
            }
        }
    });
}

#[test]
fn a_cancel_when_everything_has_been_handed_on_changes_nothing() {
    within_a_minute(|| {
        for way in Way::all() {
            for total in [0, 1, 50] {
                let (executor, token) = (way.stopping(), CancelToken::new());
                let batch =
                    way.batch(&executor, 0..total).cancel_on(&token).timeout(Duration::from_secs(3600));
                let streamed = batch.stream(
                    |&id| Ok::<_, String>(id),
                    |results| {
                        let count = results.by_ref().count();
                        token.cancel();
                        assert!(results.next().is_none());
                        count
                    },
                );
                assert_eq!((streamed.output, streamed.stopped), (total, None), "{way:?}");
            }
        }
    });
}

#[test]
fn any_of_several_tokens_stops_a_stream_and_one_token_several_streams() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, tokens) = (way.stopping(), [CancelToken::new(), CancelToken::new()]);
            let outer = tokens.iter().fold(way.batch(&executor, 0..), Batch::cancel_on);
            let streamed = outer.stream(
                |&id: &usize| Ok::<_, String>(id),
                |results| {
                    let _ = results.next();
                    let inner = way.batch(&executor, 0..).cancel_on(&tokens[1]);
                    let inner = inner.stream(
                        |&id: &usize| {
                            if id == 5 {
                                tokens[1].cancel();
                            }
                            Ok::<_, String>(id)
                        },
                        |results| results.count(),
                    );
                    let _ = results.count();
                    inner.stopped
                },
            );
            assert_eq!(streamed.output, Some(StopReason::Cancelled), "{way:?}");
            assert_eq!(streamed.stopped, Some(StopReason::Cancelled));
        }
    });
}

/// A limiter that opens once an hour, and a deadline before that.
#[test]
fn a_deadline_wakes_workers_that_wait_at_a_limiter() {
    within_a_minute(|| {
        for way in Way::all() {
            let limit = RateLimit::every(Duration::from_secs(3600));
            let executor = way.builder().rate_limiter(limit).build().unwrap();
            let batch = way.batch(&executor, 0..).timeout(Duration::from_millis(10));
            let streamed = batch.stream(|&id: &usize| Ok::<_, String>(id), |results| results.count());
            assert!(streamed.output <= 1, "{way:?}");
            assert_eq!(streamed.stopped, Some(StopReason::DeadlineExceeded));
        }
    });
}

#[test]
fn results_end_at_the_deadline_while_the_input_waits_in_a_window_of_one_too() {
    within_a_minute(|| {
        for is_ordered in [true, false] {
            let (executor, unblock) = (stopping(8), Gate::default());
            let items = (0..).inspect(|&n| {
                if n == 10 {
                    unblock.pass();
                }
            });
            let batch = executor.batch(items).window(1).timeout(Duration::from_millis(20));
            let batch = if is_ordered { batch } else { batch.unordered() };
            let streamed = batch.stream(
                |&n: &usize| Ok::<_, String>(n),
                |results| {
                    let count = results.by_ref().count();
                    unblock.open();
                    count
                },
            );
            assert_eq!(streamed.stopped, Some(StopReason::DeadlineExceeded));
        }
    });
}

/// The first permit takes longer than it takes to fail and to be cancelled; all others take none.
#[test]
fn a_cancel_is_the_reason_where_an_item_below_the_failure_never_ran_in_whatever_order() {
    within_a_minute(|| {
        for is_ordered in [true, false] {
            let (asked, token) = (AtomicUsize::new(0), CancelToken::new());
            let limiter = limiter_fn(move || {
                let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
                Ok::<_, LimiterError>(if is_first { Duration::MAX } else { Duration::ZERO })
            });
            let executor = builder().workers(2).rate_limiter(limiter).build().unwrap();
            let failed = Gate::default();
            let streamed = cancelled_behind(&failed, &token, || {
                let batch = executor.batch(0..5).cancel_on(&token);
                let batch = if is_ordered { batch } else { batch.unordered() };
                batch.stream(
                    |n| {
                        failed.open();
                        if *n == 1 { Err("fails") } else { Ok(*n) }
                    },
                    |results| results.count(),
                )
            });
            assert_eq!(streamed.stopped, Some(StopReason::Cancelled), "in order: {is_ordered}");
        }
    });
}

/// No worker asks the iterator for its end then, but its size hint has told it. With any number of workers the stream says what `run` says.
#[test]
fn a_cancel_by_the_last_item_of_a_known_number_stops_nothing() {
    within_a_minute(|| {
        for way in Way::all() {
            for is_ordered in [true, false] {
                let (executor, token) = (way.stopping(), CancelToken::new());
                let batch = way.batch(&executor, 0..30).cancel_on(&token);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let others = AtomicUsize::new(0);
                let op = |&n: &i32| {
                    if n == 29 {
                        wait_until("the others are done", || {
                            !way.is_parallel() || others.load(Ordering::SeqCst) == 29
                        });
                        token.cancel();
                    }
                    others.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, String>(n)
                };
                let streamed = batch.stream(op, |results| results.count());
                assert_eq!((streamed.output, streamed.stopped), (30, None), "{way:?}, {is_ordered}");
            }
        }
    });
}
