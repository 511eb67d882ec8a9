//! Batches in a task: futures that panic, hang, are cut off or forgotten, and wakers that outlive them.

use std::collections::HashSet;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use batch_executor::{
    BatchExecutor, CancelToken, Concurrency, ItemError, Limit, RateLimit, Retry, RetryDecision, StopReason,
    limiter_fn,
};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::panics::Bomb;
use crate::common::{
    Census, Gate, MEANT, Register, Registered, assert_counts_add_up, assert_still_works, assert_survived,
    builder, cancelled_behind, collecting, panic_of, ran_to_its_end, silence_meant_panics, stopped, stopping,
    within_a_minute,
};

const EVER: Duration = Duration::MAX;
const IN_FLIGHT: [usize; 3] = [1, 4, 100];

/// Runs it in a task, whose time passes only while it waits for that.
fn in_a_task<R>(future: impl Future<Output = R>) -> R {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(future)
}

/// The same by the clock on the wall, where another thread takes part.
fn beside_threads<R>(future: impl Future<Output = R>) -> R {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime of one thread").block_on(future)
}

/// Its destructor panics, unless a panic is on its way already. It tells that it was dropped.
struct Fragile {
    is_armed: bool,
    _held: Registered,
}

impl Fragile {
    fn new(held: Registered) -> Self {
        Fragile { is_armed: true, _held: held }
    }

    fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.is_armed || thread::panicking(), "{MEANT}a destructor");
    }
}

/// F01, F02, F03: before the first await and after it.
#[test]
fn a_thousand_futures_that_panic_are_a_thousand_outcomes() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in IN_FLIGHT {
            let (executor, census, values) = (collecting(workers), Census::of(1_000), Register::default());
            let result = in_a_task(executor.batch(0..1_000usize).run_async(async |&n| {
                census.count(n);
                let value = values.make();
                if n % 3 == 0 {
                    panic_any(Bomb(3));
                }
                yield_now().await;
                if n % 3 == 1 {
                    panic_any(Bomb(2));
                }
                Ok::<_, String>(value)
            }));
            let result = ran_to_its_end(result);
            census.assert_each_ran_once();
            assert_eq!((result.succeeded(), result.failed()), (333, 667));
            for (n, outcome) in result.outcomes().iter().enumerate() {
                assert_eq!(matches!(outcome, Err(ItemError::Panicked(_))), n % 3 < 2, "item {n}");
            }
            drop(result);
            values.assert_all_dropped(1_000);
            assert_survived(executor);
        }
    });
}

/// F05: what it holds while it awaits panics where the future is cut off by its item's timeout.
#[test]
fn a_future_that_panics_when_it_is_cut_off_is_an_outcome() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in IN_FLIGHT {
            let (executor, held) = (collecting(workers), Register::default());
            let batch = executor.batch(0..20usize).item_timeout(Duration::from_millis(1));
            let result = in_a_task(batch.run_async(async |&n| {
                let fragile = Fragile::new(held.make());
                if n % 2 == 0 {
                    pending::<()>().await;
                }
                fragile.disarm();
                Ok::<_, String>(n)
            }));
            let result = ran_to_its_end(result);
            assert_eq!((result.succeeded(), result.failed()), (10, 10));
            held.assert_all_dropped(20);
            for failure in result.failures() {
                assert_eq!(failure.error.to_string(), "panicked: meant: a destructor");
            }
            assert_survived(executor);
        }
    });
}

/// F05, F17: all of them together, by a cancel, by a deadline, and by the end of the batch's own future.
#[test]
fn several_futures_that_panic_when_they_are_dropped_abort_nothing() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in IN_FLIGHT {
            for end in ["cancel", "deadline", "drop"] {
                let (executor, held, token) = (collecting(workers), Register::default(), CancelToken::new());
                let mut batch = executor.batch(0..20usize).cancel_on(&token);
                if end == "deadline" {
                    batch = batch.timeout(Duration::from_millis(5));
                }
                let run = batch.run_async(async |_| {
                    let _fragile = Fragile::new(held.make());
                    pending::<()>().await;
                    Ok::<_, String>(())
                });
                let begun = workers.min(20);
                if end == "drop" {
                    let limited = async { timeout(Duration::from_millis(5), run).await };
                    assert!(in_a_task(limited).is_err());
                } else {
                    let cancel = async {
                        sleep(Duration::from_millis(if end == "cancel" { 5 } else { 10 })).await;
                        token.cancel();
                    };
                    let (result, ()) = in_a_task(async { tokio::join!(run, cancel) });
                    let panicked = |outcome: &&_| matches!(outcome, Err(ItemError::Panicked(_)));
                    assert_eq!(result.outcomes().iter().filter(panicked).count(), begun, "{end}");
                    assert_counts_add_up(&result);
                }
                held.assert_all_dropped(begun);
                assert_survived(executor);
            }
        }
    });
}

/// F06: the consumer of a stream leaves, and values that it has not seen are thrown away.
#[test]
fn values_that_panic_when_a_task_throws_them_away_abort_nothing() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in [4, 100] {
            let (executor, values) = (collecting(workers), Register::default());
            let stream = executor.batch(0..100usize).window(100).stream_async(
                async |_| {
                    yield_now().await;
                    Ok::<_, String>(Fragile::new(values.make()))
                },
                async |results| {
                    let first = results.next().await.expect("the first of a hundred");
                    first.outcome.into_iter().for_each(Fragile::disarm);
                    sleep(Duration::from_millis(1)).await;
                },
            );
            let text = panic_of(|| in_a_task(stream));
            assert_eq!(text, "meant: a destructor");
            assert!(values.made() > 2);
            values.assert_all_dropped(values.made());
            assert_survived(executor);
        }
    });
}

/// F07, F62: a callback that panics, one that cancels its own batch, and one that runs a batch.
#[test]
fn a_callback_in_a_task_may_do_what_it_likes() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in IN_FLIGHT {
            for act in ["panic", "cancel", "run"] {
                let (executor, token, values) =
                    (collecting(workers), CancelToken::new(), Register::default());
                let items: Vec<_> = (0..200usize).map(|n| (n, values.make())).collect();
                let batch = executor.batch(items).cancel_on(&token).on_progress(|p| match act {
                    "panic" => assert!(p.completed < 9, "{MEANT}the callback"),
                    "cancel" => token.cancel(),
                    _ => {
                        let inner = executor.run(0..2, |&n| Ok::<_, String>(n));
                        assert_eq!(ran_to_its_end(inner).succeeded(), 2);
                    }
                });
                let run = batch.run_async(async |(n, _)| {
                    yield_now().await;
                    Ok::<_, String>((*n, values.make()))
                });
                match act {
                    "panic" => assert_eq!(panic_of(|| in_a_task(run)), "meant: the callback"),
                    "cancel" => {
                        let (reason, partial) = stopped(in_a_task(run));
                        assert_eq!(reason, StopReason::Cancelled);
                        assert!(partial.succeeded() >= 1);
                        assert_counts_add_up(&partial);
                    }
                    _ => assert_eq!(ran_to_its_end(in_a_task(run)).succeeded(), 200),
                }
                values.assert_all_dropped(values.made());
                assert_survived(executor);
            }
        }
    });
}

/// F08, F09: they fail the item that asks, and no other.
#[test]
fn a_limiter_and_a_retry_that_panic_in_a_task_fail_one_item() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in IN_FLIGHT {
            let asked = Arc::new(Mutex::new(0));
            let limiter = limiter_fn(move || {
                let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                *asked += 1;
                assert!(*asked != 7, "{MEANT}the limiter");
                Ok(Duration::from_millis(1))
            });
            let executor =
                builder().workers(workers).stop_on_error(false).rate_limiter(limiter).build().unwrap();
            let retry = Retry::delays(|| [Duration::from_millis(1)].into_iter()).when(|n: &usize| {
                assert!(*n != 3, "{MEANT}the retry");
                RetryDecision::Retry
            });
            let run = executor.batch(0..20usize).retry(retry).run_async_with(async |&n, cx| {
                yield_now().await;
                if cx.attempt() == 1 && n % 3 == 0 { Err(n) } else { Ok(n) }
            });
            let result = ran_to_its_end(in_a_task(run));
            let texts: HashSet<String> = result.failures().map(|failure| failure.error.to_string()).collect();
            assert!(texts.contains("panicked: meant: the limiter"), "{texts:?}");
            let of_retries: Vec<usize> = (0..20).filter(|n| result.retry_panic(*n).is_some()).collect();
            assert!(of_retries == [3] || (of_retries.is_empty() && result.failed() == 1), "{of_retries:?}");
            assert_counts_add_up(&result);
            drop(result);
            assert_survived(executor);
        }
    });
}

/// F10, F11: the iterator of a stream panics, or says that there is no end of items.
#[test]
fn an_iterator_that_panics_or_lies_in_a_task_loses_nothing() {
    struct Lies<It>(It);
    impl<It: Iterator> Iterator for Lies<It> {
        type Item = It::Item;
        fn next(&mut self) -> Option<It::Item> {
            self.0.next()
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (usize::MAX, None)
        }
    }
    silence_meant_panics();
    within_a_minute(|| {
        for workers in IN_FLIGHT {
            for panics in [true, false] {
                let (executor, values) = (collecting(workers), Register::default());
                let items = (0..50usize).map(|n| {
                    assert!(!panics || n < 30, "{MEANT}the iterator");
                    (n, values.make())
                });
                let stream = executor.batch(Lies(items)).stream_async(
                    async |_| {
                        yield_now().await;
                        Ok::<_, String>(values.make())
                    },
                    async |results| {
                        let mut taken = 0;
                        while results.next().await.is_some() {
                            taken += 1;
                        }
                        taken
                    },
                );
                if panics {
                    assert_eq!(panic_of(|| in_a_task(stream)), "meant: the iterator");
                } else {
                    assert_eq!(in_a_task(stream).output, 50);
                }
                values.assert_all_dropped(values.made());
                assert_survived(executor);
            }
        }
    });
}

/// F16
#[test]
fn a_batch_runs_in_a_task_while_its_caller_unwinds() {
    struct Runs<'e>(&'e BatchExecutor, &'e Mutex<usize>);
    impl Drop for Runs<'_> {
        fn drop(&mut self) {
            let run = self.0.batch(0..50).run_async(async |&n: &i32| {
                yield_now().await;
                Ok::<_, String>(n)
            });
            *self.1.lock().unwrap() = in_a_task(run).succeeded();
        }
    }
    silence_meant_panics();
    within_a_minute(|| {
        let (executor, seen) = (collecting(4), Mutex::new(0));
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _runs = Runs(&executor, &seen);
            panic!("{MEANT}the caller");
        }));
        assert!(ended.is_err());
        assert_eq!(*seen.lock().unwrap(), 50);
        assert_survived(executor);
    });
}

/// F17: what it held leaks, slots that others share too, and nothing else.
#[test]
fn a_batch_whose_future_is_forgotten_harms_no_other() {
    within_a_minute(|| {
        let executor = Box::leak(Box::new(collecting(4)));
        let run = executor.batch(0..20).limit(Limit::at_once(2)).run_async(async |_| {
            pending::<()>().await;
            Ok::<_, String>(())
        });
        let mut run = Box::pin(run);
        assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        std::mem::forget(run);
        let after = executor.batch(0..20).run_async(async |&n| Ok::<_, String>(n));
        assert_eq!(ran_to_its_end(in_a_task(after)).succeeded(), 20);
        assert_still_works(executor); // I6: it stays, and so do its threads
    });
}

/// F21, F22, F23
#[test]
fn futures_and_values_of_any_size_come_back_whole() {
    #[derive(Debug, PartialEq, Clone, Copy)]
    #[repr(align(4096))]
    struct Page(u8);
    within_a_minute(|| {
        for workers in IN_FLIGHT {
            let executor = collecting(workers);
            let pages = executor.batch((0..40).map(Page)).run_async(async |page| {
                let (own, far) = (*page, [page.0; 16_000]);
                yield_now().await;
                assert_eq!((&raw const own).addr() % 4096, 0, "the future is where it should be");
                Ok::<_, String>(Page(own.0 + far[15_999]))
            });
            let pages = in_a_task(pages).into_values().unwrap();
            assert!(pages.into_iter().eq((0..40).map(|n| Page(2 * n))));
            let nothing = executor.batch([(); 40]).run_async(async |()| {
                yield_now().await;
                Ok::<(), ()>(())
            });
            assert_eq!(ran_to_its_end(in_a_task(nothing)).succeeded(), 40);
            assert_survived(executor);
        }
    });
}

/// F33, F34, F56, F58: a cancel from another thread ends every wait, however long it is.
#[test]
fn a_cancel_ends_every_wait_of_a_task() {
    within_a_minute(|| {
        for wait in ["operation", "back-off", "retry after", "pause", "limiter", "slot", "rate"] {
            for workers in IN_FLIGHT {
                let (token, waits) = (CancelToken::new(), Gate::default());
                let mut settings = builder().workers(workers).stop_on_error(false);
                if wait == "limiter" {
                    settings = settings.rate_limiter(limiter_fn(|| Ok(EVER)));
                }
                let executor = settings.build().unwrap();
                // Another batch has the only slot.
                let slots = Concurrency::new(1);
                let other = executor.batch([()]).limit(Limit::at_once(slots.clone()));
                let mut other = pin!(other.run_async(async |()| pending::<Result<(), ()>>().await));
                if wait == "slot" {
                    assert!(other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                }
                let retry = Retry::delays(|| std::iter::repeat(EVER)).when(|_: &usize| match wait {
                    "retry after" => RetryDecision::RetryAfter(EVER),
                    "pause" => RetryDecision::PauseAll(EVER),
                    _ => RetryDecision::Retry,
                });
                let mut batch = executor.batch(0..50usize).cancel_on(&token).timeout(EVER).item_timeout(EVER);
                batch = match wait {
                    "slot" => batch.limit(Limit::at_once(slots.clone())),
                    "rate" => batch.limit(Limit::rate(RateLimit::every(Duration::from_secs(3_600)).burst(1))),
                    _ => batch.retry(retry),
                };
                if matches!(wait, "limiter" | "slot") {
                    waits.open(); // nothing of the batch runs
                }
                let run = batch.run_async(async |&n| {
                    waits.open();
                    match wait {
                        "operation" => pending().await,
                        "rate" => Ok(()),
                        _ => Err(n),
                    }
                });
                let result = cancelled_behind(&waits, &token, || beside_threads(run));
                let (reason, partial) = stopped(result);
                assert_eq!(reason, StopReason::Cancelled, "{wait}, {workers} in flight");
                assert_eq!(partial.failed(), 0, "{wait}");
                assert_counts_add_up(&partial);
                // I5, I6: an executor whose limiter never grants runs nothing.
            }
        }
    });
}

/// F44: a batch in every future, three deep.
#[test]
fn batches_in_tasks_in_batches_finish() {
    async fn tree(executor: &BatchExecutor, depth: usize) -> usize {
        if depth == 0 {
            yield_now().await;
            return 1;
        }
        let inner = executor.batch(0..4).run_async(async |_: &i32| {
            yield_now().await;
            Ok::<_, String>(Box::pin(tree(executor, depth - 1)).await)
        });
        inner.await.into_values().unwrap().into_iter().sum()
    }
    within_a_minute(|| {
        for workers in IN_FLIGHT {
            let executor = stopping(workers);
            let leaves =
                executor.batch([3]).run_async(async |&depth| Ok::<_, String>(tree(&executor, depth).await));
            assert_eq!(in_a_task(leaves).into_values().unwrap(), [64]);
            assert_survived(executor);
        }
    });
}

/// F55: each item has finished, was cut off, or was skipped.
#[test]
fn a_cancel_that_races_the_futures_of_a_task_loses_none() {
    within_a_minute(|| {
        let executor = collecting(8);
        for round in 0..200 {
            let (token, started, values) = (CancelToken::new(), AtomicBool::new(false), Register::default());
            let result = thread::scope(|scope| {
                scope.spawn(|| {
                    while !started.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                    (0..round * 20).for_each(|n| _ = std::hint::black_box(n));
                    token.cancel();
                });
                let run = executor.batch(0..100usize).cancel_on(&token).run_async(async |&n| {
                    started.store(true, Ordering::SeqCst);
                    yield_now().await;
                    Ok::<_, String>((n, values.make()))
                });
                beside_threads(run)
            });
            assert_counts_add_up(&result);
            assert!(result.stopped().is_some() || result.succeeded() == 100);
            for (n, outcome) in result.outcomes().iter().enumerate() {
                match outcome {
                    Ok((index, _)) => assert_eq!(*index, n),
                    Err(ItemError::Skipped | ItemError::Interrupted(None)) => {}
                    Err(error) => panic!("item {n}: {error}"),
                }
            }
            drop(result);
            values.assert_all_dropped(values.made());
        }
        assert_survived(executor);
    });
}

/// F18: its future, its batch and its executor are gone.
#[test]
fn a_waker_that_outlives_its_batch_wakes_nothing() {
    within_a_minute(|| {
        let (wakers, is_over) = (Mutex::new(Vec::<Waker>::new()), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let wakers = std::mem::take(&mut *wakers.lock().unwrap());
                    wakers.iter().for_each(Waker::wake_by_ref);
                    thread::yield_now();
                }
                wakers.lock().unwrap().drain(..).for_each(Waker::wake);
            });
            for _ in 0..50 {
                let executor = collecting(8);
                let result = beside_threads(executor.batch(0..100usize).run_async(async |&n| {
                    let mut has_waited = false;
                    poll_fn(|cx| {
                        wakers.lock().unwrap().extend([cx.waker().clone(), cx.waker().clone()]);
                        if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    Ok::<_, String>(n)
                }));
                assert_eq!(ran_to_its_end(result).succeeded(), 100);
                assert_survived(executor);
            }
            is_over.store(true, Ordering::SeqCst);
        });
    });
}

/// Where there is no runtime with a timer, what has to wait says so, and everything is dropped.
#[test]
fn a_batch_that_must_wait_without_a_runtime_says_so_and_drops_all() {
    silence_meant_panics();
    within_a_minute(|| {
        let (executor, values) = (collecting(2), Register::default());
        let items: Vec<_> = (0..10).map(|_| values.make()).collect();
        let retry = Retry::delays(|| [Duration::from_secs(3600)].into_iter());
        let run = executor.batch(items).retry(retry).run_async(async |_| Err::<Registered, _>(values.make()));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let (mut run, mut cx) = (pin!(run), Context::from_waker(Waker::noop()));
            while run.as_mut().poll(&mut cx).is_pending() {}
        }));
        let payload = polled.expect_err("there is no runtime");
        let text =
            payload.downcast_ref::<&str>().map(ToString::to_string).or(payload.downcast_ref().cloned());
        assert!(text.is_some_and(|text| text.contains("runtime")));
        values.assert_all_dropped(values.made());
        assert_survived(executor);
    });
}
