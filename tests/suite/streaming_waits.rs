//! Streams whose input keeps them waiting, perhaps for what they make of it themselves: no thread waits for ever, and what
//! was pulled runs and is handed on meanwhile.

use std::iter;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{
    BatchExecutor, BatchItem, CancelToken, Outcome, RateLimit, Retry, StopReason, limiter_fn,
};

use crate::common::streams::{Ledger, WINDOWS};
use crate::common::{
    Census, Gate, Meeting, Peak, Way, assert_still_works, collecting, parallel_settings, settings, stopping,
    wait_until, within_a_minute,
};

const SOON: Duration = Duration::from_millis(2);

/// Items `0..total`. Before each that `waits` says, it waits until all before it have been handed to the consumer.
fn waiting_for<'c>(
    received: &'c AtomicUsize,
    total: usize,
    waits: impl Fn(usize) -> bool + Send + 'c,
) -> impl Iterator<Item = usize> + Send + 'c {
    (0..total).filter(move |&n| {
        if waits(n) {
            wait_until("all before were handed on", || received.load(Ordering::SeqCst) == n);
        }
        true
    })
}

#[test]
fn a_channel_whose_sender_waits_for_answers_does_not_hang() {
    const TOTAL: usize = 60;
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            for (window, in_flight, is_ordered) in WINDOWS
                .into_iter()
                .flat_map(|w| [1, 2, 5].into_iter().flat_map(move |k| [(w, k, true), (w, k, false)]))
            {
                let (questions, input) = mpsc::channel();
                let (answers, answered) = mpsc::channel();
                let sum = thread::scope(|scope| {
                    scope.spawn(move || {
                        for n in 0..TOTAL {
                            if n >= in_flight {
                                answered.recv_timeout(Duration::from_secs(20)).expect("an answer");
                            }
                            questions.send(n).expect("a stream that asks");
                        }
                    });
                    let batch = way.batch(&executor, input).window(window);
                    let batch = if is_ordered { batch } else { batch.unordered() };
                    let streamed = batch.stream(
                        |&n| Ok::<_, String>(n),
                        |results| {
                            let answer = |item: BatchItem<usize, Outcome<usize, String>>| {
                                let _ = answers.send(());
                                item.outcome.unwrap()
                            };
                            results.map(answer).sum::<usize>()
                        },
                    );
                    streamed.output
                });
                assert_eq!(sum, TOTAL * (TOTAL - 1) / 2, "{way:?}, window {window}, {in_flight} in flight");
            }
        }
    });
}

/// The input keeps a worker waiting that has pulled many quick items and holds them.
#[test]
fn many_quick_items_and_then_an_input_that_waits_for_all_of_them() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            for (window, is_ordered) in [(3, true), (1_000, true), (1_000, false), (10_000, true)] {
                let received = AtomicUsize::new(0);
                let items =
                    waiting_for(&received, 3_000, |n| n == 1 || n == 2_000 || n == 2_003 || n == 2_777);
                let batch = way.batch(&executor, items).window(window);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let streamed = batch.stream(
                    |&n| Ok::<_, String>(n),
                    |results| {
                        let sum = results.map(|item| {
                            received.fetch_add(1, Ordering::SeqCst);
                            item.item
                        });
                        sum.sum::<usize>()
                    },
                );
                assert_eq!(streamed.output, 3_000 * 2_999 / 2, "{way:?}, window {window}");
                assert_eq!((streamed.succeeded, streamed.stopped), (3_000, None));
            }
        }
    });
}

/// Item 10 waits for item 11. When the consumer makes room for that, it wants to run quick items by itself. The other worker has
/// waited for room for more than a millisecond, and sleeps until the dispatcher calls it.
#[test]
fn an_item_that_waits_for_the_next_one_gets_it_though_the_consumer_wants_to_run_by_itself() {
    within_a_minute(|| {
        let executor = stopping(2);
        for _ in 0..40 {
            let eleventh = Gate::default();
            let streamed = executor.batch(0..20).window(2).stream(
                |n| {
                    match *n {
                        0..=8 => thread::sleep(Duration::from_micros(50)),
                        10 => eleventh.pass(),
                        11 => eleventh.open(),
                        _ => {}
                    }
                    Ok::<_, String>(())
                },
                |results| {
                    let after_nine = |item: &BatchItem<_, _>| {
                        if item.index == 9 {
                            thread::sleep(2 * SOON);
                        }
                    };
                    results.inspect(after_nine).count()
                },
            );
            assert_eq!((streamed.output, streamed.stopped), (20, None));
        }
    });
}

/// At any place, by a generator's draw: long runs, and pauses in quick succession.
#[test]
fn an_input_that_waits_anywhere_for_all_before_hangs_nowhere() {
    within_a_minute(|| {
        let mut seed = 0x2545_F491_u32;
        let mut draw = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for workers in [2, 3, 8] {
            let executor = stopping(workers);
            for _ in 0..20 {
                let (window, rarely) =
                    ([2, 7, 100, 3_000][draw(4) as usize], [2, 8, 40, 300][draw(4) as usize]);
                let (is_ordered, received) = (draw(2) == 0, AtomicUsize::new(0));
                let total = 100 + draw(500) as usize;
                let waits: Vec<bool> = (0..total).map(|_| draw(rarely) == 0).collect();
                let items = waiting_for(&received, total, |n| waits[n]);
                let batch = executor.batch(items).window(window);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let streamed = batch.stream(
                    |&n| {
                        if n % 97 == 0 {
                            thread::yield_now();
                        }
                        Ok::<_, String>(n)
                    },
                    |results| results.inspect(|_| _ = received.fetch_add(1, Ordering::SeqCst)).count(),
                );
                assert_eq!(streamed.output, total, "{workers} workers, window {window}");
            }
        }
    });
}

/// The caller runs quick items by itself. The input keeps it waiting until a helper has looked, and then items are slow.
#[test]
fn helpers_get_what_comes_after_an_input_that_has_kept_the_caller_waiting() {
    within_a_minute(|| {
        let (executor, peak) = (stopping(2), Peak::default());
        let input = (0..20_000).inspect(|n| {
            if *n == 19_900 {
                thread::sleep(Duration::from_millis(100));
            }
        });
        let streamed = executor.batch(input).stream(
            |n| {
                let (_inside, since) = (peak.enter(), Instant::now());
                while *n >= 19_900 && peak.most() == 1 && since.elapsed() < Duration::from_millis(20) {
                    thread::yield_now();
                }
                Ok::<_, String>(())
            },
            |results| results.count(),
        );
        assert_eq!((streamed.output, peak.most()), (20_000, 2));
    });
}

#[test]
fn slow_items_run_to_their_end_while_the_input_waits_for_them() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, done) = (way.stopping(), AtomicUsize::new(0));
            let streamed = way.batch(&executor, waiting_for(&done, 30, |n| n % 6 == 5)).window(6).stream(
                |_| {
                    thread::sleep(SOON);
                    Ok::<_, String>(())
                },
                |results| results.inspect(|_| _ = done.fetch_add(1, Ordering::SeqCst)).count(),
            );
            assert_eq!(streamed.output, 30, "{way:?}");
        }
    });
}

#[test]
fn an_item_that_is_due_again_is_tried_while_the_input_waits_for_it() {
    within_a_minute(|| {
        for way in Way::all() {
            for (window, is_ordered) in [(20, true), (20, false), (1_000, true)] {
                let (executor, tries, received) = (way.stopping(), Census::of(40), AtomicUsize::new(0));
                let items = waiting_for(&received, 40, |n| n == 10 || n == 11 || n == 30);
                let retry = Retry::exponential(SOON, SOON, 3);
                let batch = way.batch(&executor, items).window(window).retry(retry);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let streamed = batch.stream_with(
                    |&n, cx| {
                        tries.count(n);
                        if n % 5 == 4 && cx.attempt() < 3 { Err("busy") } else { Ok(()) }
                    },
                    |results| {
                        let ids = results.map(|item| {
                            received.fetch_add(1, Ordering::SeqCst);
                            item.item
                        });
                        ids.collect::<Vec<_>>()
                    },
                );
                let mut ids = streamed.output;
                if !is_ordered {
                    ids.sort_unstable();
                }
                assert_eq!(ids, (0..40).collect::<Vec<_>>(), "{way:?}, window {window}");
                assert!(
                    tries
                        .runs()
                        .iter()
                        .enumerate()
                        .all(|(n, tries)| *tries == if n % 5 == 4 { 3 } else { 1 })
                );
            }
        }
    });
}

#[test]
fn items_at_a_limiter_get_their_permits_while_the_input_waits() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = crate::common::builder()
                .workers(workers)
                .rate_limiter(RateLimit::every(SOON))
                .build()
                .unwrap();
            let received = AtomicUsize::new(0);
            let items = waiting_for(&received, 30, |n| n % 10 == 0);
            let streamed = executor.batch(items).window(10).stream(
                |_| Ok::<_, String>(()),
                |results| results.inspect(|_| _ = received.fetch_add(1, Ordering::SeqCst)).count(),
            );
            assert_eq!(streamed.output, 30, "{workers:?}");
        }
    });
}

/// The input itself waits for the operation, not for the consumer, which does not ask.
#[test]
fn pulled_items_run_although_neither_the_consumer_nor_the_input_moves() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let (executor, ran, begun) = (stopping(workers), AtomicUsize::new(0), Gate::default());
            let items = (0..500usize).filter(|&n| {
                if n == 400 {
                    wait_until("all before have run", || ran.load(Ordering::SeqCst) == n);
                    begun.open();
                }
                true
            });
            let streamed = executor.batch(items).window(1_000).stream(
                |_| {
                    ran.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, String>(())
                },
                |results| {
                    let first = results.next().map(|item| item.item);
                    begun.pass();
                    (first, results.count())
                },
            );
            assert_eq!(streamed.output, (Some(0), 499), "{workers:?}");
        }
    });
}

/// Results end at once, although the worker that pulls still waits for the input; the call itself waits for that worker.
#[test]
fn results_end_on_a_cancel_while_the_input_waits() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for (window, is_ordered) in [(2, true), (8, true), (8, false), (1_000, true)] {
                let (executor, token) = (stopping(workers), CancelToken::new());
                let (unblock, is_back) = (Gate::default(), AtomicBool::new(false));
                let items = (0..).inspect(|&n| {
                    if n == 10 {
                        token.cancel();
                        unblock.pass();
                        is_back.store(true, Ordering::SeqCst);
                    }
                });
                let batch = executor.batch(items).window(window).cancel_on(&token);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let streamed = batch.stream(
                    |&n| Ok::<_, String>(n),
                    |results| {
                        let ids: Vec<_> = results.by_ref().map(|item| item.item).collect();
                        assert!(!is_back.load(Ordering::SeqCst), "the input is still waiting");
                        assert!(results.next().is_none());
                        unblock.open();
                        ids
                    },
                );
                assert!(is_back.into_inner(), "the input is waited for");
                let mut ids = streamed.output;
                ids.sort_unstable();
                assert!(ids.len() <= 10 && (!is_ordered || ids.iter().copied().eq(0..ids.len())), "{ids:?}");
                assert_eq!(streamed.stopped, Some(StopReason::Cancelled), "{workers:?}");
                assert_eq!(streamed.succeeded, ids.len());
                assert_still_works(&executor);
            }
        }
    });
}

#[test]
fn results_end_at_the_deadline_while_the_input_waits() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for window in [2, 3, 8, 1000] {
                let (executor, unblock) = (stopping(workers), Gate::default());
                let items = (0..).inspect(|&n| {
                    if n == 10 {
                        unblock.pass();
                    }
                });
                let batch = executor.batch(items).window(window).timeout(Duration::from_millis(20));
                let streamed = batch.stream(
                    |&n| Ok::<_, String>(n),
                    |results| {
                        let ids: Vec<_> = results.by_ref().map(|item| item.item).collect();
                        unblock.open();
                        ids
                    },
                );
                assert!(streamed.output.len() <= 10, "{workers:?}");
                assert!(streamed.output.iter().copied().eq(0..streamed.output.len()));
                assert_eq!(streamed.stopped, Some(StopReason::DeadlineExceeded));
            }
        }
    });
}

#[test]
fn results_end_behind_a_failure_while_the_input_waits() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for window in WINDOWS {
                let (executor, unblock) = (stopping(workers), Gate::default());
                let items = (0..).inspect(|&n| {
                    if n == 10 {
                        unblock.pass();
                    }
                });
                let streamed = executor.batch(items).window(window).stream(
                    |&n| if n == 9 { Err(n) } else { Ok(n) },
                    |results| {
                        let count = results.by_ref().count();
                        unblock.open();
                        count
                    },
                );
                assert_eq!(streamed.output, 10, "{workers:?}");
                assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: 9 }));
            }
        }
    });
}

/// Every thread of the executor may be in an input that waits, and every stream gets on.
#[test]
fn streams_side_by_side_whose_inputs_wait_for_each_other_get_on() {
    const STREAMS: usize = 12;
    within_a_minute(|| {
        let (executor, meeting) = (collecting(2), Meeting::default());
        let stream = |_| {
            let received = AtomicUsize::new(0);
            let items = waiting_for(&received, 300, |n| {
                if n == 100 {
                    meeting.of(STREAMS);
                }
                n % 50 == 0
            });
            let streamed = executor.batch(items).window(60).stream(
                |_| Ok::<_, String>(()),
                |results| results.inspect(|_| _ = received.fetch_add(1, Ordering::SeqCst)).count(),
            );
            streamed.output
        };
        let counts: Vec<usize> = thread::scope(|scope| {
            let threads: Vec<_> = (0..STREAMS).map(|n| scope.spawn(move || stream(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(counts, [300; STREAMS]);
        assert_still_works(&executor);
    });
}

#[test]
fn an_input_may_run_batches_and_streams_of_its_own() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            let items = (0..20usize).map(|n| {
                let batch = executor.run(0..n, |n| Ok::<_, String>(*n)).into_result().unwrap();
                let stream = executor.batch(0..n).window(3);
                let streamed = stream
                    .stream(|n| Ok::<_, String>(*n), |results| results.map(|item| item.item).sum::<usize>());
                assert_eq!(batch.values().sum::<usize>(), streamed.output);
                streamed.output
            });
            let streamed = way
                .batch(&executor, items)
                .window(4)
                .stream(|n| Ok::<_, String>(*n), |results| results.map(|item| item.item).collect::<Vec<_>>());
            assert!(streamed.output.into_iter().eq((0..20).map(|n| n * (n.max(1) - 1) / 2)), "{way:?}");
        }
    });
}

#[test]
fn an_input_that_never_ends_and_a_limiter_that_lets_no_item_through_end_on_a_cancel() {
    within_a_minute(|| {
        for way in Way::all() {
            let (token, ledger) = (CancelToken::new(), Ledger::default());
            let on_reserve = token.clone();
            let reserves = AtomicUsize::new(0);
            let limiter = limiter_fn(move || {
                let number = reserves.fetch_add(1, Ordering::SeqCst);
                if number == 5 {
                    on_reserve.cancel();
                }
                Ok(if number < 5 { Duration::ZERO } else { Duration::from_secs(3600) })
            });
            let executor: BatchExecutor = way.builder().rate_limiter(limiter).build().unwrap();
            let batch = way.batch(&executor, ledger.input(iter::repeat(7))).window(8).cancel_on(&token);
            let streamed = batch.stream(|_| Ok::<_, String>(()), |results| results.count());
            assert!(streamed.output <= 5 && streamed.succeeded == streamed.output, "{way:?}");
            assert_eq!(streamed.stopped, Some(StopReason::Cancelled));
        }
    });
}
