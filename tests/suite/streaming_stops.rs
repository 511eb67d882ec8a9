//! Streams that stop on failures, or because the consumer has enough: where they end then, and what they say of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use batch_executor::{BatchItem, CancelToken, ItemError, LimiterError, Outcome, StopReason, limiter_fn};

use crate::common::streams::{WINDOWS, outcomes};
use crate::common::{
    Census, Gate, Meeting, Peak, Register, Way, assert_still_works, collecting, comes, parallel_settings,
    stopping, wait_until, within_a_minute,
};

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

/// The failure that a plain loop would end with was known long before that one is the last: neighbours that were worked on with
/// it are done, and stay behind.
#[test]
fn what_ran_behind_a_failure_that_turns_out_to_be_the_last_is_not_handed_on() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = crate::common::builder().workers(workers).stop_after_failures(2).build().unwrap();
            for last in [100, 2_000, 2_500] {
                let (far, values) = (AtomicBool::new(false), Register::default());
                let streamed = executor.batch(0..usize::MAX).window(4_000).stream(
                    |&id| {
                        if id == 0 {
                            wait_until("others are far ahead", || far.load(Ordering::SeqCst));
                            return Err(id);
                        }
                        if id == 3_999 {
                            far.store(true, Ordering::SeqCst);
                        }
                        if id == last { Err(id) } else { Ok(values.make()) }
                    },
                    outcomes,
                );
                assert!(streamed.output.into_iter().eq((0..=last).map(|id| (id, id != 0 && id != last))));
                assert_eq!((streamed.succeeded, streamed.failed), (last - 1, 2), "{workers:?}");
                assert_eq!(streamed.stopped, Some(StopReason::TooManyFailures { limit: 2 }));
                values.assert_all_dropped(values.made());
            }
        }
    });
}

/// What runs behind it is waited for by the call, not by the consumer.
#[test]
fn results_end_behind_the_failure_although_items_behind_it_still_run() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for window in [2, 8, 1_000] {
                let (executor, begun, over) = (stopping(workers), Gate::default(), Gate::default());
                let streamed = executor.batch(0..1_000usize).window(window).stream(
                    |&id| {
                        match id {
                            0 => begun.pass(),
                            1 => {
                                begun.open();
                                over.pass();
                            }
                            _ => {}
                        }
                        if id == 0 { Err(id) } else { Ok(id) }
                    },
                    |results| {
                        let seen = outcomes(results);
                        over.open();
                        seen
                    },
                );
                assert_eq!(streamed.output, [(0, false)], "{workers:?}, window {window}");
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
                    let ids: Vec<_> = results.take(3).map(|item| item.item).collect();
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
                    |results| results.find(|item| item.outcome.is_err()).map(|item| item.item),
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
                let streamed = way.batch(&executor, 0..1_000usize).unordered().window(window).stream_with(
                    |&id, cx| {
                        census.count(id);
                        assert!(id < 500 || comes(|| cx.is_cancelled()), "the failure comes before the end");
                        if id == 7 { Err(id) } else { Ok(id) }
                    },
                    outcomes,
                );
                let mut ids: Vec<_> = streamed.output.iter().map(|(id, _)| *id).collect();
                ids.sort_unstable();
                let ran = census.ran();
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
                        assert!(comes(|| cx.is_cancelled()), "item {id} was not told");
                    }
                    Ok::<_, String>(id)
                },
                |results| {
                    let first = results.next().map(|item| item.item);
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
                    let is_refused = |item: &BatchItem<_, Outcome<_, _>>| {
                        matches!(item.outcome, Err(ItemError::RateLimiter(_)))
                    };
                    results.filter(is_refused).count()
                },
            );
            assert_eq!((streamed.output, streamed.succeeded, streamed.failed), (10, 20, 10), "{way:?}");
        }
    });
}

#[test]
fn a_consumer_that_leaves_right_behind_the_failure_is_told_of_it() {
    within_a_minute(|| {
        for way in Way::all() {
            let streamed = way.stopping().batch(0..100_usize).stream(
                |&id| if id == 3 { Err("down") } else { Ok(id) },
                |results| results.take(4).map(|item| item.outcome.is_ok()).collect::<Vec<_>>(),
            );
            assert_eq!(streamed.output, [true, true, true, false], "{way:?}");
            assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: 3 }), "{way:?}");
        }
    });
}
