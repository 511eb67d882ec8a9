//! Batches in a task: the same steps and promises, thousands in flight, and what hangs is cut off.
#![cfg(feature = "tokio")]

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use batch_executor::{
    AdaptiveWorkers, BatchExecutor, CancelToken, Concurrency, Control, ItemError, Limit, RateLimit,
    RateLimiter, Retry, RetryDecision, Span, StopReason, TestClock, Workers,
};
use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use crate::common::{MEANT, nap, silence_meant_panics, wait_until, within_a_minute};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn executor(workers: usize) -> BatchExecutor {
    BatchExecutor::builder().workers(workers).stop_on_error(false).build().expect("as many are fine")
}

#[tokio::test(start_paused = true)]
async fn outcomes_come_in_input_order_whatever_order_they_end_in() {
    let since = Instant::now();
    let items: Vec<u32> = (0..100).map(|n| (n * 37) % 100).collect();
    let result = executor(10)
        .batch(items.clone())
        .run_async(async |&n| {
            sleep(n * MILLI).await;
            if n % 7 == 0 { Err(n) } else { Ok(n * 2) }
        })
        .await;
    assert_eq!((result.succeeded(), result.failed(), result.workers()), (85, 15, 10));
    for (n, outcome) in items.iter().zip(result.outcomes()) {
        match outcome {
            Ok(value) => assert_eq!(*value, n * 2),
            Err(error) => assert!(matches!(error, ItemError::Failed(failed) if failed == n && n % 7 == 0)),
        }
    }
    assert!(since.elapsed() < 700 * MILLI, "{:?} by the runtime's clock: 4,950 ms in tens", since.elapsed());
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_wait_for_a_cancel_that_moves_to_another_task_wakes_that_one() {
    let (token, tasks) = (CancelToken::new(), [(); 2].map(|()| Arc::new(Woken::default())));
    let mut cancelled = pin!(token.cancelled());
    for task in &tasks {
        let waker = Waker::from(Arc::clone(task));
        assert!(cancelled.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    token.cancel();
    assert_eq!(tasks.each_ref().map(|task| task.0.load(Ordering::SeqCst)), [0, 1]);
    assert!(cancelled.poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

/// The permits have the items start at 0, 50, 100, 220 and 340 ms. None takes as long as it may.
#[tokio::test(start_paused = true)]
async fn the_timeout_of_an_item_that_is_ready_at_once_ends_with_it() {
    let limit = Limit::rate(RateLimit::every(50 * MILLI));
    let result = executor(1)
        .batch([20, 0, 120, 120, 120])
        .limit(limit)
        .item_timeout(200 * MILLI)
        .run_async(async |&time: &u32| {
            if time > 0 {
                sleep(time * MILLI).await;
            }
            Ok::<_, String>(())
        })
        .await;
    assert!(result.is_success(), "{result}");
}

#[tokio::test(start_paused = true)]
async fn never_more_are_in_flight_than_there_are_workers() {
    let (now, most) = (Cell::new(0), Cell::new(0));
    let result = executor(7)
        .batch(0..100_u32)
        .run_async(async |n| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            sleep((n % 5) * MILLI).await;
            now.set(now.get() - 1);
            Ok::<_, String>(())
        })
        .await;
    assert!(result.is_success());
    assert_eq!((most.get(), now.get()), (7, 0));
}

#[tokio::test]
async fn nothing_has_to_be_send_and_everything_may_borrow() {
    let (words, lengths) = (vec![String::from("one"), String::from("three")], RefCell::new(Vec::new()));
    let shared = Rc::new(1);
    let result = executor(2)
        .batch(&words)
        .run_async(async |word| {
            tokio::task::yield_now().await;
            lengths.borrow_mut().push(word.len());
            Ok::<_, Rc<str>>(Rc::clone(&shared))
        })
        .await;
    assert_eq!((result.succeeded(), Rc::strong_count(&shared)), (2, 3));
    lengths.borrow_mut().sort_unstable();
    assert_eq!(*lengths.borrow(), [3, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_can_be_spawned() {
    let factor = Arc::new(3);
    let task = tokio::spawn(async move {
        let executor = executor(5);
        let mut result = executor
            .batch(0..50_u32)
            .retry(Retry::exponential(MILLI, MILLI, 2))
            .run_async(async move |n| {
                sleep((n % 3) * MILLI).await;
                Ok::<_, String>(n * *factor)
            })
            .await
            .into_values()
            .unwrap();
        let streamed = executor
            .batch(0..50_u32)
            .stream_async(
                async move |n| Ok::<_, String>(*n),
                async move |results| {
                    let mut sum = 0;
                    while let Some(item) = results.next().await {
                        tokio::task::yield_now().await;
                        sum += item.outcome.unwrap();
                    }
                    sum
                },
            )
            .await;
        result.push(streamed.output);
        result
    });
    let values = task.await.unwrap();
    assert_eq!(values[..50], (0..50).map(|n| n * 3).collect::<Vec<_>>());
    assert_eq!(values[50], 1225);
}

#[tokio::test(start_paused = true)]
async fn the_error_is_that_of_the_lowest_index_and_what_had_started_is_kept() {
    for workers in [1, 3, 16] {
        let executor = BatchExecutor::builder().workers(workers).build().unwrap();
        let result = executor
            .batch(0..64_u32)
            .run_async(async |&n| {
                sleep((64 - n) * MILLI).await;
                if n == 9 || n == 11 { Err(n) } else { Ok(n) }
            })
            .await;
        assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 9 }), "{workers}");
        assert!(result.outcomes()[..9].iter().all(Result::is_ok));
        let decided = result.succeeded() + result.failed();
        assert!(decided < 10 + workers && result.skipped() == 64 - decided, "{decided} with {workers}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_outcome_before_and_after_an_await() {
    let result = executor(4)
        .batch(0..6)
        .run_async(async |&n| {
            assert!(n != 1, "one");
            sleep(MILLI).await;
            assert!(n != 4, "four");
            Ok::<_, String>(n)
        })
        .await;
    assert_eq!((result.succeeded(), result.failed()), (4, 2));
    for (index, message) in [(1, "one"), (4, "four")] {
        assert!(
            matches!(&result.outcomes()[index], Err(ItemError::Panicked(panic)) if panic.message() == message)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn items_that_fail_are_tried_again_and_hold_no_place_meanwhile() {
    let since = Instant::now();
    let result = executor(2)
        .batch(0..20)
        .retry(Retry::delays(|| [SECOND, 2 * SECOND].into_iter()))
        .run_async_with(async |&n, cx| {
            sleep(MILLI).await;
            if n < 2 && cx.attempt() < 3 { Err("busy") } else { Ok((cx.attempt(), since.elapsed())) }
        })
        .await;
    let values: Vec<_> = result.into_values().unwrap();
    assert_eq!((values[0].0, values[1].0), (3, 3));
    assert!(values[0].1 >= 3 * SECOND && values[0].1 < 4 * SECOND);
    assert!(values[2..].iter().all(|(attempts, at)| *attempts == 1 && *at < SECOND), "{values:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_all_holds_all_back() {
    let since = Instant::now();
    let retry = Retry::exponential(MILLI, MILLI, 3).when(|_: &&str| RetryDecision::PauseAll(10 * SECOND));
    let result = executor(1)
        .batch(0..5)
        .retry(retry)
        .run_async_with(
            async |&n, cx| if n == 1 && cx.attempt() == 1 { Err("429") } else { Ok(since.elapsed()) },
        )
        .await;
    let values = result.into_values().unwrap();
    assert!(values[0] < SECOND && values[1..].iter().all(|at| *at >= 10 * SECOND), "{values:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_off_and_tried_again() {
    let since = Instant::now();
    let hangs = async |&n: &usize, attempt: usize| {
        if n % 50 == 7 && (n < 100 || attempt == 1) {
            pending::<()>().await;
        }
        sleep(MILLI).await;
        Ok::<_, String>(attempt)
    };
    let batch = || executor(8);
    let executor = batch();
    let result = executor
        .batch(0..200)
        .item_timeout(SECOND)
        .retry(Retry::delays(|| [MILLI; 2].into_iter()))
        .run_async_with(async |n, cx| hangs(n, cx.attempt()).await)
        .await;
    let timed_out: Vec<_> = result.failures().map(|failure| (failure.index, failure.attempts)).collect();
    assert_eq!(timed_out, [(7, 3), (57, 3)]);
    assert!(result.failures().all(|failure| matches!(failure.error, ItemError::TimedOut)));
    assert!(matches!(result.outcomes()[107], Ok(2)) && matches!(result.outcomes()[157], Ok(2)));
    assert_eq!(result.succeeded(), 198);
    let text = result.into_values().unwrap_err().to_string();
    assert!(text.contains("timed out: the attempt took longer than the item timeout"), "{text}");
    assert!(since.elapsed() < 5 * SECOND, "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_item_that_was_never_polled_when_the_batch_is_cancelled_has_not_begun() {
    let (token, polled) = (CancelToken::new(), RefCell::new(Vec::new()));
    let executor = executor(3);
    let op = async |&n: &usize| {
        polled.borrow_mut().push(n);
        if n == 0 {
            pending::<()>().await;
        }
        token.cancel(); // the one of the others that is polled first
        Ok::<_, String>(())
    };
    let result = executor.batch(0..3).cancel_on(&token).run_async(op).await;
    let polled = polled.into_inner();
    let never = (0..3).find(|n| !polled.contains(n)).unwrap();
    assert!(polled.len() == 2 && polled[0] == 0, "{polled:?}");
    assert!(matches!(result.outcomes()[0], Err(ItemError::Interrupted(_))), "{result:?}");
    assert!(matches!(result.outcomes()[never], Err(ItemError::Skipped)), "{result:?}");
    assert_eq!(result.attempts(never), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_cuts_off_what_is_in_flight() {
    let token = CancelToken::new();
    let dropped = Rc::new(());
    let other = token.clone();
    let run = async {
        executor(4)
            .batch(0..10)
            .cancel_on(&token)
            .run_async(async |&n| {
                let _held = Rc::clone(&dropped);
                if n >= 2 {
                    pending::<()>().await;
                }
                Ok::<_, String>(n)
            })
            .await
    };
    let cancel = async {
        sleep(SECOND).await;
        assert_eq!(Rc::strong_count(&dropped), 5, "four are in flight");
        other.cancel();
    };
    let (result, ()) = tokio::join!(run, cancel);
    assert_eq!(result.stopped(), Some(StopReason::Cancelled));
    assert_eq!((result.succeeded(), result.skipped(), Rc::strong_count(&dropped)), (2, 8, 1));
    let interrupted =
        |outcome: &Result<_, ItemError<String>>| matches!(outcome, Err(ItemError::Interrupted(None)));
    assert!(result.outcomes()[2..6].iter().all(interrupted), "{:?}", result.outcomes());
    assert!(result.outcomes()[6..].iter().all(|outcome| matches!(outcome, Err(ItemError::Skipped))));
    assert_eq!((result.attempts(2), result.attempts(6)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_cuts_off_what_is_in_flight() {
    let since = Instant::now();
    let result = executor(3)
        .batch(0..9)
        .timeout(2 * SECOND)
        .run_async(async |_| {
            pending::<()>().await;
            Ok::<_, String>(())
        })
        .await;
    assert_eq!(result.stopped(), Some(StopReason::DeadlineExceeded));
    assert_eq!((result.succeeded(), since.elapsed().as_secs()), (0, 2));
    assert!(
        result.outcomes()[..3].iter().all(|outcome| matches!(outcome, Err(ItemError::Interrupted(None))))
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_comes_before_later_timeouts_of_items() {
    let since = Instant::now();
    let hangs = async |_: &i32| {
        pending::<()>().await;
        Ok::<_, String>(())
    };
    let result = executor(3).batch(0..9).timeout(2 * SECOND).item_timeout(60 * SECOND).run_async(hangs).await;
    assert_eq!(result.stopped(), Some(StopReason::DeadlineExceeded));
    assert_eq!((result.failed(), since.elapsed().as_secs()), (0, 2));
}

/// Counts what of it is alive.
#[derive(Clone)]
struct Counted(#[expect(dead_code, reason = "counted")] Rc<()>);

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_drops_everything() {
    let alive = Rc::new(());
    for workers in [1, 5] {
        for millis in [0, 3, 20] {
            let items: Vec<_> = (0..40_u32).map(|n| (n, Counted(alive.clone()))).collect();
            let executor = executor(workers);
            let run = executor
                .batch(items)
                .limit(Limit::at_once(4))
                .retry(Retry::delays(|| [MILLI; 2].into_iter()))
                .run_async(async |(n, held)| {
                    sleep((n % 4) * MILLI).await;
                    if n % 3 == 0 { Err(held.clone()) } else { Ok(held.clone()) }
                });
            assert!(timeout(millis * MILLI, run).await.is_err() || millis > 3);
            assert_eq!(Rc::strong_count(&alive), 1, "{workers} workers, {millis} ms");
        }
    }
}

#[tokio::test]
async fn a_callback_that_panics_in_a_task_is_not_called_again() {
    silence_meant_panics();
    let (executor, calls, began) = (executor(2), Cell::new(0), Cell::new(0));
    let batch = executor.batch(0..100).on_progress(|progress| {
        calls.set(calls.get() + 1);
        assert!(progress.completed != 1, "{MEANT}callback");
    });
    let op = async |n: &u32| {
        began.set(began.get() + 1);
        sleep(SECOND * (n + 1)).await;
        Ok::<_, String>(())
    };
    assert!(AssertUnwindSafe(batch.run_async(op)).catch_unwind().await.is_err());
    assert_eq!(calls.get(), 1);
    assert!(began.get() <= 3, "{} began: two, and the next of the first", began.get());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_delays_is_told_where_the_attempt_had_timed_out() {
    silence_meant_panics();
    let delays = || std::iter::from_fn(|| -> Option<Duration> { panic!("{MEANT}delays") });
    let executor = executor(1);
    let batch = executor.batch([()]).item_timeout(SECOND).retry(Retry::delays(delays));
    let result = batch.run_async(async |()| pending::<Result<(), String>>().await).await;
    assert!(matches!(result.outcomes()[0], Err(ItemError::TimedOut)));
    assert_eq!(result.retry_panic(0).map(|panic| panic.message().to_owned()), Some(format!("{MEANT}delays")));
}

/// What it waits for takes the time that it takes, and none by this clock.
#[tokio::test]
async fn a_test_clock_stands_still_while_a_future_is_in_flight() {
    let clock = TestClock::new();
    let executor = BatchExecutor::builder().clock(clock.clone()).build().unwrap();
    let batch = executor.batch([()]).item_timeout(SECOND);
    let result = batch
        .run_async(async |()| {
            sleep(20 * MILLI).await;
            Ok::<_, String>(())
        })
        .await;
    assert_eq!((result.succeeded(), clock.elapsed()), (1, Duration::ZERO));
}

/// Its iterator may give more after its end, which are not wanted.
#[tokio::test(start_paused = true)]
async fn the_input_of_a_stream_is_not_asked_again_after_its_end() {
    for (window, is_ready) in [(1, true), (7, true), (100, true), (7, false)] {
        let calls = Cell::new(0_usize);
        let items = std::iter::from_fn(|| {
            calls.set(calls.get() + 1);
            (calls.get() != 51 && calls.get() < 200).then(|| calls.get())
        });
        let streamed = executor(3)
            .batch(items)
            .window(window)
            .stream_async(
                async |n| {
                    if !is_ready {
                        sleep(MILLI).await;
                    }
                    Ok::<_, String>(*n)
                },
                async |results| {
                    let mut count = 0;
                    while results.next().await.is_some() {
                        count += 1;
                    }
                    count
                },
            )
            .await;
        assert_eq!((streamed.output, calls.get()), (50, 51), "window {window}, ready at once: {is_ready}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_drops_everything() {
    let alive = Rc::new(());
    for is_ordered in [true, false] {
        let executor = executor(3);
        let mut batch = executor.batch((0..40_u32).map(|n| (n, Counted(alive.clone()))));
        if !is_ordered {
            batch = batch.unordered();
        }
        let stream = batch.stream_async(
            async |(n, held)| {
                sleep((n % 4) * MILLI).await;
                Ok::<_, String>(held.clone())
            },
            async |results| {
                let mut kept = Vec::new();
                while let Some(item) = results.next().await {
                    kept.push(item);
                }
                pending::<()>().await;
            },
        );
        assert!(timeout(9 * MILLI, stream).await.is_err());
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn limits_hold_and_what_waits_for_one_keeps_nothing_else_waiting() {
    let since = Instant::now();
    let (now, most) = (Cell::new(0), Cell::new(0));
    let result = executor(64)
        .batch(0..100_u32)
        .limit(Limit::per_key(|n| n % 2, |_| Limit::at_once(3)))
        .limit(Limit::rate(RateLimit::per_second(100)))
        .run_async(async |_| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            sleep(100 * MILLI).await;
            now.set(now.get() - 1);
            Ok::<_, String>(())
        })
        .await;
    assert!(result.is_success());
    assert_eq!(most.get(), 6);
    // 100 items, 6 at once, 100 ms each.
    assert!((1650..2100).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn slots_are_shared_with_other_batches() {
    let slots = Concurrency::new(2);
    let (now, most) = (Cell::new(0), Cell::new(0));
    let run = async || {
        let executor = executor(8);
        let op = async |_: &i32| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            sleep(MILLI).await;
            now.set(now.get() - 1);
            Ok::<_, String>(())
        };
        executor.batch(0..20).limit(Limit::at_once(slots.clone())).run_async(op).await.succeeded()
    };
    assert_eq!(tokio::join!(run(), run()), (20, 20));
    assert_eq!(most.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn progress_and_ticks_come_in_the_task() {
    let (seen, ticks) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let result = executor(3)
        .batch(0..9_u32)
        .on_progress(|progress| seen.borrow_mut().push(progress.completed))
        .on_tick(SECOND, |progress| ticks.borrow_mut().push((progress.completed, progress.running)))
        .run_async(async |_| {
            sleep(Duration::from_millis(1500)).await;
            Ok::<_, String>(())
        })
        .await;
    assert!(result.is_success());
    assert_eq!(*seen.borrow(), (1..=9).collect::<Vec<_>>());
    assert_eq!(*ticks.borrow(), [(0, 3), (3, 3), (6, 3), (6, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_control_pauses_shows_and_changes_the_number() {
    let (control, since) = (Control::new(), Instant::now());
    let run = async {
        executor(4)
            .batch(0..20_u32)
            .control(&control)
            .run_async(async |_| {
                sleep(SECOND).await;
                Ok::<_, String>(since.elapsed().as_secs())
            })
            .await
            .into_values()
            .unwrap()
    };
    let hand = async {
        sleep(500 * MILLI).await;
        let running: Vec<_> = control.snapshot().running.iter().map(|running| running.index).collect();
        assert_eq!(
            {
                let mut r = running;
                r.sort_unstable();
                r
            },
            [0, 1, 2, 3]
        );
        control.pause();
        sleep(10 * SECOND).await;
        assert!(control.snapshot().running.is_empty());
        control.set_workers(16);
        control.resume();
    };
    let (ended, ()) = tokio::join!(run, hand);
    assert_eq!(ended, [vec![1; 4], vec![11; 16]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_stream_hands_on_in_order_within_its_window_and_its_consumer_starves_nothing() {
    let (started, ended) = (Cell::new(0), Cell::new(0));
    let streamed = executor(4)
        .batch(0..30_u32)
        .window(8)
        .stream_async(
            async |&n| {
                started.set(started.get() + 1);
                sleep((n % 3) * MILLI).await;
                ended.set(ended.get() + 1);
                Ok::<_, String>(n)
            },
            async |results| {
                let mut got = Vec::new();
                while let Some(item) = results.next().await {
                    got.push(item.outcome.unwrap());
                    sleep(SECOND).await;
                    let window = (got.len() + 7).min(30);
                    assert_eq!(
                        (started.get(), ended.get()),
                        (window, window),
                        "what is in flight goes on meanwhile"
                    );
                }
                got
            },
        )
        .await;
    assert_eq!(streamed.output, (0..30).collect::<Vec<_>>());
    assert_eq!((streamed.succeeded, streamed.stopped), (30, None));
}

#[tokio::test(start_paused = true)]
async fn an_unordered_stream_hands_on_what_is_ready() {
    let streamed = executor(4)
        .batch([40, 10, 30, 20_u32])
        .unordered()
        .stream_async(
            async |&n| {
                sleep(n * MILLI).await;
                Ok::<_, String>(n)
            },
            async |results| {
                let mut got = Vec::new();
                while let Some(item) = results.next().await {
                    got.push(item.item);
                }
                got
            },
        )
        .await;
    assert_eq!(streamed.output, [10, 20, 30, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_stops_at_the_lowest_failure() {
    for is_ordered in [true, false] {
        let executor = BatchExecutor::builder().workers(4).build().unwrap();
        let mut batch = executor.batch(0..u32::MAX);
        if !is_ordered {
            batch = batch.unordered();
        }
        let streamed = batch
            .stream_async(
                async |&n| {
                    sleep((n % 5) * MILLI).await;
                    if n == 17 || n == 19 { Err(n) } else { Ok(n) }
                },
                async |results| {
                    let mut got = Vec::new();
                    while let Some(item) = results.next().await {
                        got.push(item.index);
                    }
                    got
                },
            )
            .await;
        assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: 17 }));
        let mut got = streamed.output;
        if is_ordered {
            assert_eq!(got, (0..18).collect::<Vec<_>>());
        } else {
            got.sort_unstable();
            assert!(got.starts_with(&(0..18).collect::<Vec<_>>()) && got.len() <= 22, "{got:?}");
        }
    }
}

#[tokio::test]
async fn ten_thousand_are_in_flight_on_one_thread() {
    let all = tokio::sync::Barrier::new(10_000);
    let result = executor(10_000)
        .batch(0..10_000)
        .run_async(async |_| {
            all.wait().await;
            Ok::<_, String>(std::thread::current().id())
        })
        .await;
    let here = std::thread::current().id();
    assert_eq!(result.workers(), 10_000);
    assert!(result.values().all(|thread| *thread == here));
}

/// Its items take 20 ms in all.
#[tokio::test]
async fn between_two_turns_of_a_batch_other_tasks_have_the_thread() {
    let (turns, is_over) = (Cell::new(0), Cell::new(false));
    let executor = executor(4);
    let run = async {
        let result = executor.batch(0..1_000).run_async(async |_| {
            let since = std::time::Instant::now();
            while since.elapsed() < Duration::from_micros(20) {}
            Ok::<_, String>(())
        });
        assert!(result.await.is_success());
        is_over.set(true);
    };
    let other = async {
        while !is_over.get() {
            turns.set(turns.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(run, other);
    assert!(turns.get() > 20, "{} turns", turns.get());
}

#[tokio::test(start_paused = true)]
async fn adaptive_workers_go_far_beyond_the_threads_where_items_wait() {
    let executor = BatchExecutor::builder().workers(Workers::adaptive()).build().unwrap();
    let since = Instant::now();
    let result = executor
        .batch(0..20_000)
        .run_async(async |_| {
            sleep(50 * MILLI).await;
            Ok::<_, String>(())
        })
        .await;
    assert!(result.is_success());
    assert!(result.workers() > 64, "{}", result.workers());
    println!("{} in flight, {:?}", result.workers(), since.elapsed());
}

/// Nothing ends before a hundred are there, so nothing but a look at the time tells that more are wanted.
#[tokio::test(start_paused = true)]
async fn adaptive_workers_become_more_while_all_items_wait_for_others() {
    let executor = BatchExecutor::builder().workers(Workers::adaptive()).build().unwrap();
    let barrier = tokio::sync::Barrier::new(100);
    let run = executor.batch(0..100).run_async(async |_| {
        barrier.wait().await;
        Ok::<_, String>(())
    });
    let result = timeout(3_600 * SECOND, run).await.expect("all of them come");
    assert_eq!(result.workers(), 100);
}

#[tokio::test(start_paused = true)]
async fn adaptive_workers_of_a_stream_go_far_beyond_the_threads_too() {
    let executor = BatchExecutor::builder().workers(Workers::adaptive()).build().unwrap();
    let barrier = tokio::sync::Barrier::new(100);
    let stream = executor.batch(0..100).stream_async(
        async |_| {
            barrier.wait().await;
            Ok::<_, String>(())
        },
        async |results| while results.next().await.is_some() {},
    );
    let streamed = timeout(3_600 * SECOND, stream).await.expect("all of them come");
    assert_eq!(streamed.succeeded, 100);
}

#[tokio::test]
async fn an_executor_with_a_test_clock_waits_by_it() {
    let clock = TestClock::new();
    let executor = BatchExecutor::builder().workers(4).clock(clock.clone()).build().unwrap();
    let result = executor
        .batch(0..4)
        .retry(Retry::delays(|| [3600 * SECOND].into_iter()))
        .run_async_with(async |n, cx| if cx.attempt() == 1 { Err("down") } else { Ok(*n) })
        .await;
    assert!(result.is_success());
    assert_eq!(clock.elapsed(), 3600 * SECOND);
}

#[test]
fn a_batch_that_waits_for_nothing_needs_no_runtime() {
    let executor = executor(4);
    let run = executor.batch(0..1_000).run_async(async |n| Ok::<_, String>(n + 1));
    let mut run = std::pin::pin!(run);
    let mut cx = Context::from_waker(Waker::noop());
    let result = loop {
        if let Poll::Ready(result) = run.as_mut().poll(&mut cx) {
            break result;
        }
    };
    assert!(result.into_values().unwrap().into_iter().eq(1..=1_000));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_callback_or_of_the_iterator_unwinds_where_the_batch_is_awaited() {
    let of_callback = async {
        let batch = executor(2)
            .batch(0..9)
            .on_progress(|_| panic!("the callback"))
            .run_async(async |n| Ok::<_, String>(*n))
            .await;
        batch.succeeded()
    };
    let of_consumer = async {
        let consume =
            async |_: &mut batch_executor::AsyncResults<'_, i32, i32, String>| panic!("the consumer");
        executor(2).batch(0..9).stream_async(async |n| Ok::<_, String>(*n), consume).await.succeeded
    };
    for (message, panics) in
        [("the callback", caught(of_callback).await), ("the consumer", caught(of_consumer).await)]
    {
        assert_eq!(panics, Some(message.to_owned()));
    }
}

#[test]
fn a_callback_is_not_called_on_another_thread_than_its_own() {
    let executor = executor(2);
    let run = executor.batch(0..3).on_progress(|_| ()).run_async(async move |n| Ok::<_, String>(*n));
    let panicked = std::thread::scope(|scope| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
        scope.spawn(move || runtime.block_on(caught(run))).join().expect("the panic is caught")
    });
    assert!(panicked.is_some_and(|text| text.contains("on another thread than the one that made it")));
}

#[test]
fn a_batch_whose_callback_is_of_another_thread_may_be_dropped_on_any() {
    for is_polled in [false, true] {
        let (executor, kept) = (executor(2), Rc::new(()));
        let batch = executor.batch(0..3).on_progress(|_| _ = Rc::strong_count(&kept));
        let mut run = Box::pin(batch.run_async(async |_| pending::<Result<(), String>>().await));
        if is_polled {
            assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let dropped = std::thread::scope(|scope| scope.spawn(move || drop(run)).join());
        assert!(dropped.is_ok(), "polled: {is_polled}");
    }
}

async fn caught<T>(run: impl Future<Output = T>) -> Option<String> {
    let mut run = std::pin::pin!(run);
    poll_fn(|cx| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(|_| None),
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                Poll::Ready(text.or_else(|| panic.downcast_ref::<String>().cloned()))
            }
        }
    })
    .await
}

/// Its first attempt was refused for the sake of all, and its second timed out: then it waits for itself.
#[tokio::test(start_paused = true)]
async fn an_item_that_timed_out_does_not_go_on_when_a_pause_is_ended() {
    let (since, limit) = (Instant::now(), RateLimit::per_second(1_000));
    let hour = 3_600 * SECOND;
    let retry = Retry::delays(move || [hour; 3].into_iter()).when(|error: &&str| match *error {
        "429" => RetryDecision::PauseAll(60 * SECOND),
        _ => RetryDecision::RetryAfter(600 * SECOND),
    });
    let executor = executor(2);
    let batch = executor.batch(0..2).limit(Limit::rate(&limit)).retry(retry).item_timeout(SECOND);
    let result = batch.run_async_with(async |n, cx| {
        match (*n, cx.attempt()) {
            (0, 1) => return Err("429"),
            (0, 2) => pending().await,
            (1, 1) => return Err("soon"),
            (1, 2) => limit.resume(),
            _ => {}
        }
        Ok(since.elapsed().as_secs())
    });
    assert_eq!(result.await.into_values().unwrap(), [3_661, 660]);
}

#[tokio::test(start_paused = true)]
async fn in_a_task_workers_have_numbers_and_items_attempts() {
    let result = executor(3)
        .batch(0..3)
        .retry(Retry::delays(|| std::iter::once(SECOND)))
        .run_async_with(async |_, cx| {
            sleep(SECOND).await;
            if cx.attempt() == 1 { Err("again") } else { Ok((cx.worker(), cx.attempt())) }
        })
        .await;
    let mut seen = result.into_values().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, [(0, 2), (1, 2), (2, 2)]);
}

/// Each item waits for its permit, and has no place meanwhile.
#[tokio::test(start_paused = true)]
async fn an_item_in_a_task_has_the_number_of_a_worker_that_is_free() {
    let limit = Limit::rate(RateLimit::per_second(1));
    let executor = executor(2);
    let batch = executor.batch(0..20).limit(limit);
    let result = batch
        .run_async_with(async |_, cx| {
            sleep(1_500 * MILLI).await;
            Ok::<_, String>(cx.worker())
        })
        .await;
    assert_eq!(result.into_values().unwrap().into_iter().max(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_workers_of_a_stream_in_a_task_is_told_over_time() {
    let (control, executor) = (Control::new(), executor(1));
    let stream = executor.batch(0..2).control(&control).record_timeline().stream_async(
        async |n| {
            sleep(SECOND).await;
            control.set_workers(5 + n);
            Ok::<_, String>(())
        },
        async |results| while results.next().await.is_some() {},
    );
    let streamed = stream.await;
    assert_eq!(streamed.timeline().unwrap().limits(), [(Duration::ZERO, 1), (SECOND, 5), (2 * SECOND, 6)]);
}

#[tokio::test(start_paused = true)]
async fn each_item_is_cut_off_when_its_own_time_is_over() {
    let (executor, limit) = (executor(3), Limit::rate(RateLimit::every(400 * MILLI)));
    let batch = executor.batch(0..3).limit(limit).item_timeout(SECOND).record_timeline();
    let result = batch.run_async(async |_| pending::<Result<(), ()>>().await).await;
    let times: Vec<_> = result.timeline().unwrap().spans().iter().map(Span::run_time).collect();
    assert_eq!(times, [SECOND; 3]);
}

#[tokio::test(start_paused = true)]
async fn in_a_task_an_attempt_knows_its_deadline() {
    let (since, hour) = (Instant::now(), 3_600 * SECOND);
    for (batch, item) in [(hour, 2 * hour), (2 * hour, hour)] {
        let executor = executor(2);
        let steps = executor.batch(0..3).timeout(batch).item_timeout(item);
        let told = steps.run_async_with(async |_, cx| Ok::<_, String>(cx.deadline())).await;
        assert_eq!(told.into_values().unwrap(), [Some((since + hour).into_std()); 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_task_an_item_is_cancelled_by_a_failure_below_it_and_by_no_pause() {
    let control = Control::new();
    let executor = BatchExecutor::builder().workers(3).build().unwrap();
    let result = executor.batch(0..3).control(&control).run_async_with(async |n, cx| {
        control.pause();
        let in_the_pause = cx.is_cancelled();
        control.resume();
        if *n == 1 {
            sleep(MILLI).await;
            return Err("the middle");
        }
        sleep(SECOND).await;
        Ok((in_the_pause, cx.is_cancelled()))
    });
    let result = result.await;
    assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 1 }));
    assert!(result.values().eq([&(false, false), &(false, true)]), "{:?}", result.outcomes());
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_an_item_of_another_leaves_it_its_clock() {
    let inner = BatchExecutor::new();
    let result = executor(2)
        .batch(0..4)
        .record_timeline()
        .run_async(async |_| {
            for _ in 0..2 {
                assert!(inner.batch(0..1).run_async(async |_| Ok::<_, String>(())).await.is_success());
                sleep(50 * SECOND).await;
            }
            inner.batch(0..1).run_async(async |_| Ok::<_, String>(())).await.into_result().map(|_| ())
        })
        .await;
    assert!(result.is_success());
    let spans = result.timeline().unwrap().spans();
    assert!(spans.iter().all(|span| span.run_time().as_secs() == 100), "{spans:?}");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_stopped_when_its_next_attempt_is_due_keeps_its_error() {
    let token = CancelToken::new();
    let result = executor(2)
        .batch(0..1)
        .retry(Retry::delays(|| std::iter::repeat(10 * SECOND)))
        .cancel_on(&token)
        .on_tick(10 * SECOND, |_| token.cancel())
        .run_async(async |_| {
            tokio::task::yield_now().await;
            Err::<(), _>("down")
        })
        .await;
    assert!(
        matches!(result.outcomes()[0], Err(ItemError::Interrupted(Some("down")))),
        "{:?}",
        result.outcomes()
    );
    assert_eq!(result.attempts(0), 1);
}

#[tokio::test]
async fn the_iterator_of_a_stream_is_asked_for_nothing_after_it_has_stopped_the_stream() {
    const LAST: usize = 50_000;
    let (token, last) = (CancelToken::new(), Cell::new(0));
    let items = (0..1_000_000).inspect(|n| {
        last.set(*n);
        if *n == LAST {
            token.cancel();
        }
    });
    let executor = executor(4);
    let streamed = executor
        .batch(items)
        .cancel_on(&token)
        .stream_async(async |_| Ok::<_, String>(()), async |results| while results.next().await.is_some() {})
        .await;
    assert_eq!((streamed.stopped, last.get()), (Some(StopReason::Cancelled), LAST));
}

/// A journal that was left as it is would be gone on with by the next run of the test.
#[tokio::test(start_paused = true)]
async fn a_greatest_number_that_is_the_default_on_threads_holds_in_a_task_too() {
    let executor = BatchExecutor::builder().workers(AdaptiveWorkers::new().max(64)).build().unwrap();
    let batch = executor.batch(0..20_000);
    let result = batch.run_async(async |_| {
        sleep(50 * MILLI).await;
        Ok::<_, String>(())
    });
    let result = result.await;
    assert!(result.is_success() && result.workers() <= 64, "{}", result.workers());
}

#[tokio::test(start_paused = true)]
async fn as_many_items_of_a_stream_are_in_flight_as_a_control_has_set() {
    let (control, executor, barrier) = (Control::new(), executor(1), tokio::sync::Barrier::new(5_000));
    control.set_workers(5_000);
    let stream = executor.batch(0..5_000).control(&control).stream_async(
        async |_| {
            barrier.wait().await;
            Ok::<_, String>(())
        },
        async |results| while results.next().await.is_some() {},
    );
    let streamed = timeout(3_600 * SECOND, stream).await.expect("all of them come");
    assert_eq!(streamed.succeeded, 5_000);
}

/// The clock stands still, since item 1 of the outer batch runs.
#[test]
fn a_task_that_waits_by_a_test_clock_hears_of_a_cancel() {
    within_a_minute(|| {
        let (token, is_there, is_over) = (CancelToken::new(), AtomicBool::new(false), AtomicBool::new(false));
        let builder = BatchExecutor::builder().workers(2).clock(TestClock::new());
        let executor = builder.build().unwrap();
        let retry = || Retry::delays(|| std::iter::once(3_600 * SECOND));
        let result = executor.run(0..2, |n| {
            if *n == 0 {
                wait_until("item 1 runs", || is_there.load(Ordering::SeqCst));
                let batch = executor.batch([()]).cancel_on(&token).retry(retry());
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let ended = runtime.block_on(batch.run_async(async |()| Err::<(), _>("down")));
                is_over.store(true, Ordering::SeqCst);
                assert_eq!(ended.stopped(), Some(StopReason::Cancelled));
            } else {
                is_there.store(true, Ordering::SeqCst);
                nap(SECOND); // until the task waits
                token.cancel();
                wait_until("it has heard", || is_over.load(Ordering::SeqCst));
            }
            Ok::<_, String>(())
        });
        assert!(result.is_success());
    });
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_goes_by_the_clock_of_the_runtime() {
    let (control, executor) = (Control::new(), executor(1));
    let told = executor.batch(0..1).control(&control).run_async(async |_| {
        sleep(3_600 * SECOND).await;
        let snapshot = control.snapshot();
        Ok::<_, String>((snapshot.progress.elapsed.as_secs(), snapshot.running[0].since.as_secs()))
    });
    assert_eq!(told.await.into_values().unwrap(), [(3_600, 3_600)]);
}

#[cfg(feature = "journal")]
#[tokio::test(start_paused = true)]
async fn an_item_that_timed_out_is_recorded_as_a_failure() {
    use batch_executor::{Journal, Plan};
    let path = std::env::temp_dir().join(format!("timed-out-{}.jsonl", std::process::id()));
    let open = || Journal::open(&path, Plan::of(0..3).unwrap()).unwrap();
    let (executor, began) = (executor(2), Cell::new(0));
    for retry_failed in [true, false] {
        let journal = open().retry_failed(retry_failed);
        let batch = executor.batch(0..3).journal(&journal).item_timeout(SECOND);
        let result = batch
            .run_async(async |n| {
                began.set(began.get() + 1);
                if *n == 1 { pending().await } else { Ok::<_, String>(*n) }
            })
            .await;
        let texts: Vec<_> = result.failures().map(|failure| failure.error.to_string()).collect();
        assert_eq!(texts, ["timed out: the attempt took longer than the item timeout"]);
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(began.get(), 3, "the second run takes the failure as it is");
}

#[cfg(feature = "journal")]
#[tokio::test]
async fn progress_of_a_batch_in_a_task_knows_how_many_items_are_recorded() {
    use batch_executor::{Journal, Plan};

    let path = std::env::temp_dir().join(format!("recorded-in-a-task-{}", std::process::id()));
    let journal = Journal::open(&path, Plan::named("recorded")).unwrap();
    for run in 0..2 {
        let mut etas = Vec::new();
        let executor = executor(2);
        let batch = executor.batch(0..10).journal(&journal).on_progress(|p| etas.push(p.eta()));
        assert!(batch.run_async(async |_| Ok::<_, String>(())).await.is_success());
        assert!(run == 0 || etas[0] == Some(Duration::ZERO), "{etas:?}");
    }
    drop(journal); // Windows removes no open file
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_stream_that_is_cancelled_behind_the_end_of_its_input_has_stopped() {
    let token = CancelToken::new();
    let op = async |n: &i32| {
        if *n > 0 {
            pending::<()>().await;
        }
        Ok::<_, String>(*n)
    };
    let executor = executor(4);
    let streamed = executor.batch(0..3).cancel_on(&token).stream_async(op, async |results| {
        let first = results.next().await.is_some();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        token.cancel();
        (first, results.next().await.is_some())
    });
    let streamed = streamed.await;
    assert_eq!((streamed.output, streamed.stopped), ((true, false), Some(StopReason::Cancelled)));
}
