//! Streams that stop: on failures, on a cancel, at a deadline, or because the consumer has enough; where they end then, and
//! what they say of it.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use batch_executor::{
    Batch, BatchItem, CancelToken, ItemError, LimiterError, RateLimit, Results, Retry, RetryDecision,
    StopReason, limiter_fn,
};

use common::streams::{Ledger, WINDOWS};
use common::{
    Census, Gate, Meeting, Peak, Register, Way, assert_still_works, cancelled_behind, collecting, comes,
    parallel_settings, stopping, wait_until, within_a_minute,
};

/// The ids that came, with whether each has a value.
fn outcomes<T, E>(results: &mut Results<'_, usize, T, E>) -> Vec<(usize, bool)> {
    results.map(|item| (item.id, item.outcome.is_ok())).collect()
}

/// What a plain loop would come to that ends with the `limit`th of those that fail.
fn plainly(total: usize, limit: usize, fails: impl Fn(usize) -> bool) -> Vec<(usize, bool)> {
    let (mut seen, mut failed) = (Vec::new(), 0);
    for id in 0..total {
        seen.push((id, !fails(id)));
        failed += usize::from(fails(id));
        if failed == limit {
            break;
        }
    }
    seen
}

/// The indices of those that ran.
fn ran(census: &Census) -> Vec<usize> {
    census.runs().into_iter().enumerate().filter_map(|(index, runs)| (runs > 0).then_some(index)).collect()
}

fn fails(id: usize) -> bool {
    id % 11 == 7 || id == 41
}

#[test]
fn results_end_right_behind_the_failure_that_a_plain_loop_would_end_with() {
    within_a_minute(|| {
        for way in Way::all() {
            for limit in [1, 2, 5, 100] {
                let executor = if limit == 1 {
                    way.stopping() // the same by another name
                } else {
                    way.builder().stop_after_failures(limit).build().unwrap()
                };
                for window in WINDOWS {
                    let values = Register::default();
                    let streamed = way
                        .batch(&executor, 0..200usize)
                        .window(window)
                        .stream(|&id| if fails(id) { Err(id) } else { Ok(values.make()) }, outcomes);
                    let expected = plainly(200, limit, fails);
                    let failed = expected.iter().filter(|(_, is_ok)| !is_ok).count();
                    let stopped = match limit {
                        1 => Some(StopReason::ItemFailed { index: 7 }),
                        100 => None,
                        limit => Some(StopReason::TooManyFailures { limit }),
                    };
                    assert_eq!(streamed.output, expected, "{way:?}, window {window}, {limit} failures");
                    assert_eq!((streamed.succeeded, streamed.failed), (expected.len() - failed, failed));
                    assert_eq!(streamed.stopped, stopped);
                    values.assert_all_dropped(values.made());
                }
            }
        }
    });
}

#[test]
fn a_failure_that_comes_first_is_not_handed_on_when_there_is_a_lower_one() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for window in [2, 3, 8, 1_000] {
                let (executor, values) = (stopping(workers), Register::default());
                let (later, census) = (AtomicBool::new(false), Census::of(1_000));
                let streamed = executor.batch(0..1_000usize).window(window).stream(
                    |&id| {
                        census.count(id);
                        match id {
                            0 => wait_until("item 1 has failed", || later.load(Ordering::SeqCst)),
                            1 => {
                                later.store(true, Ordering::SeqCst);
                                return Err(1);
                            }
                            _ => return Ok(values.make()),
                        }
                        Err(0)
                    },
                    outcomes,
                );
                assert_eq!(streamed.output, [(0, false)], "{workers:?}, window {window}");
                assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: 0 }));
                assert_eq!((streamed.succeeded, streamed.failed), (0, 1));
                census.assert_none_ran_twice();
                assert!(census.total() <= window, "{} ran of {window}", census.total());
                values.assert_all_dropped(values.made());
            }
        }
    });
}

/// The reason belongs to what the consumer has seen.
#[test]
fn a_failure_behind_what_the_consumer_wanted_is_no_reason() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            let failed = AtomicBool::new(false);
            let streamed = way.batch(&executor, 0..100usize).window(20).stream(
                |&id| {
                    failed.fetch_or(id == 7, Ordering::SeqCst);
                    if id == 7 { Err(id) } else { Ok(id) }
                },
                |results| {
                    let ids: Vec<_> = results.take(3).map(|item| item.id).collect();
                    if way.is_parallel() {
                        wait_until("item 7 has failed", || failed.load(Ordering::SeqCst));
                    }
                    ids
                },
            );
            assert_eq!((streamed.output, streamed.stopped), (vec![0, 1, 2], None), "{way:?}");
            assert_eq!((streamed.succeeded, streamed.failed), (3, 0));
        }
    });
}

#[test]
fn a_failure_that_the_consumer_has_seen_is_the_reason_though_it_asked_no_further() {
    within_a_minute(|| {
        for way in Way::all() {
            for window in WINDOWS {
                let executor = way.stopping();
                let streamed = way.batch(&executor, 0..100usize).window(window).stream(
                    |&id| if id == 7 { Err(id) } else { Ok(id) },
                    |results| results.find(|item| item.outcome.is_err()).map(|item| item.id),
                );
                assert_eq!(streamed.output, Some(7), "{way:?}, window {window}");
                assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: 7 }));
                assert_eq!((streamed.succeeded, streamed.failed), (7, 1));
            }
        }
    });
}

#[test]
fn with_failures_collected_each_is_handed_on_and_the_stream_goes_on() {
    within_a_minute(|| {
        for way in Way::all() {
            for window in WINDOWS {
                let executor = way.collecting();
                let streamed = way
                    .batch(&executor, 0..200usize)
                    .window(window)
                    .stream(|&id| if fails(id) { Err(id) } else { Ok(id) }, outcomes);
                assert_eq!(streamed.output, plainly(200, usize::MAX, fails), "{way:?}, window {window}");
                assert_eq!((streamed.failed, streamed.stopped), (19, None));
            }
        }
    });
}

/// In the order of completion there is no "behind": what ran is handed on.
#[test]
fn an_unordered_stream_that_stops_hands_on_what_ran() {
    within_a_minute(|| {
        for way in Way::all() {
            for window in WINDOWS {
                let (executor, census) = (way.stopping(), Census::of(1_000));
                let streamed = way.batch(&executor, 0..1_000usize).unordered().window(window).stream(
                    |&id| {
                        census.count(id);
                        if id == 7 { Err(id) } else { Ok(id) }
                    },
                    outcomes,
                );
                let mut ids: Vec<_> = streamed.output.iter().map(|(id, _)| *id).collect();
                ids.sort_unstable();
                let ran = ran(&census);
                assert_eq!(ids, ran, "{way:?}, window {window}");
                assert!(ran.len() < 1_000 && (0..8).all(|id| ran[id] == id), "{ran:?}");
                assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: 7 }));
                assert_eq!((streamed.succeeded, streamed.failed), (ran.len() - 1, 1));
                census.assert_none_ran_twice();
            }
        }
    });
}

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
                        for BatchItem { id, outcome, .. } in ledger.output(results) {
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
                let ran = ran(&census);
                let prefix = ran.iter().enumerate().take_while(|(n, id)| n == *id).count();
                let mut ids: Vec<_> = streamed.output.iter().map(|(id, _)| *id).collect();
                if is_ordered {
                    assert_eq!(ids, (0..prefix).collect::<Vec<_>>(), "{way:?}, window {window}");
                } else {
                    ids.sort_unstable();
                    assert_eq!(ids, ran, "{way:?}, window {window}");
                }
                assert!(ran.len() <= 31 + window && ran.contains(&30), "{} ran", ran.len());
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
fn a_cancel_wakes_those_who_wait_at_a_limiter() {
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

/// An item that backs off keeps its last error, and the stream ends before it.
#[test]
fn a_cancel_reaches_items_that_back_off() {
    within_a_minute(|| {
        for way in Way::all() {
            for window in WINDOWS {
                let (executor, token, backs_off) = (way.stopping(), CancelToken::new(), Gate::default());
                let retry = Retry::new(|| std::iter::repeat(Duration::MAX)).when(|_: &&str| {
                    backs_off.open();
                    RetryDecision::Retry
                });
                let batch = way.batch(&executor, 0usize..).window(window).cancel_on(&token).retry(retry);
                let streamed = cancelled_behind(&backs_off, &token, || {
                    batch.stream(
                        |&id| if id == 3 { Err("busy") } else { Ok(()) },
                        |results| results.map(|item| (item.id, item.outcome.is_ok())).collect::<Vec<_>>(),
                    )
                });
                // It was tried, so it has an outcome; what comes behind it ran, or did not.
                let seen = streamed.output;
                assert!(
                    seen.iter().enumerate().all(|(n, (id, is_ok))| n == *id && *is_ok == (n != 3)),
                    "{seen:?}"
                );
                assert!((4..=4 + window).contains(&seen.len()), "{seen:?}, {way:?}, window {window}");
                assert_eq!(streamed.stopped, Some(StopReason::Cancelled));
                assert_eq!((streamed.succeeded, streamed.failed), (seen.len() - 1, 1));
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
fn results_stay_at_their_end_however_they_came_there() {
    within_a_minute(|| {
        for way in Way::all() {
            for window in WINDOWS {
                let (executor, token) = (way.stopping(), CancelToken::new());
                let fails = way.batch(&executor, 0..100usize).window(window);
                let streamed = fails.stream(
                    |&id| if id == 9 { Err(id) } else { Ok(id) },
                    |results| (results.by_ref().count(), (0..5).filter_map(|_| results.next()).count()),
                );
                assert_eq!(streamed.output, (10, 0), "{way:?}, window {window}");
                let cancelled = way.batch(&executor, 0..).window(window).cancel_on(&token);
                let streamed = cancelled.stream(
                    |&id| Ok::<_, String>(id),
                    |results| {
                        let _ = results.by_ref().take(9).last();
                        token.cancel();
                        (results.by_ref().count() <= window, (0..5).filter_map(|_| results.next()).count())
                    },
                );
                assert_eq!((streamed.output, streamed.stopped), ((true, 0), Some(StopReason::Cancelled)));
            }
        }
    });
}

#[test]
fn a_consumer_that_leaves_stops_the_rest_and_what_runs_is_waited_for() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let (executor, running, census) = (collecting(workers), Peak::default(), Census::of(100_000));
            let together = executor.workers_for(100);
            let meeting = Meeting::default();
            let streamed = executor.batch(0..100_000usize).window(64).stream_with(
                |&id, cx| {
                    census.count(id);
                    let _inside = running.enter();
                    // The first is quick; then all workers are in items that see that the consumer has left.
                    if id > 0 {
                        meeting.of(together + 1);
                        assert!(comes(|| cx.is_cancelled()), "nobody told item {id}");
                    }
                    Ok::<_, String>(id)
                },
                |results| {
                    let first = results.next().map(|item| item.id);
                    meeting.of(together + 1);
                    first
                },
            );
            assert_eq!((running.inside(), streamed.output), (0, Some(0)), "{workers:?}");
            assert_eq!((streamed.stopped, streamed.succeeded, streamed.failed), (None, 1, 0));
            assert_eq!(census.total(), 1 + together, "nothing started after that");
            assert_still_works(&executor);
        }
    });
}

#[test]
fn refused_items_are_failures_that_are_handed_on() {
    within_a_minute(|| {
        for way in Way::all() {
            let calls = AtomicUsize::new(0);
            let limiter = limiter_fn(move || match calls.fetch_add(1, Ordering::SeqCst) % 3 {
                2 => Err(LimiterError::new("closed")),
                _ => Ok(Duration::ZERO),
            });
            let executor = way.builder().rate_limiter(limiter).stop_on_error(false).build().unwrap();
            let streamed = way.batch(&executor, 0..30usize).stream(
                |&id| Ok::<_, String>(id),
                |results| {
                    let is_refused =
                        |item: &BatchItem<_, _, _>| matches!(item.outcome, Err(ItemError::RateLimiter(_)));
                    results.filter(is_refused).count()
                },
            );
            assert_eq!((streamed.output, streamed.succeeded, streamed.failed), (10, 20, 10), "{way:?}");
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
fn a_deadline_wakes_those_who_wait_at_a_limiter() {
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
