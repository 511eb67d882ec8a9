//! Batches that are cancelled: before, while and after they run, and wherever a worker or a caller waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{
    Batch, BatchExecutor, BatchResult, CancelToken, ItemError, Outcome, Retry, RetryDecision, StopReason,
    Workers, limiter_fn,
};

use crate::common::{
    Census, Gate, Register, Way, assert_counts_add_up, assert_survived, cancelled_behind, comes,
    ran_to_its_end, stopped, wait_until, within_a_minute,
};
use crate::errors::late_after;

const EVER: Duration = Duration::MAX;

/// F54
#[test]
fn a_cancel_before_the_start_skips_everything() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (executor, token, values) = (way.stopping(), CancelToken::new(), Register::default());
            token.cancel();
            let census = Census::of(100);
            let items = (0..100usize).map(|n| (n, values.make()));
            let outcome = way.batch(&executor, items).cancel_on(&token).run(|(n, _)| {
                census.count(*n);
                Ok::<_, String>(())
            });
            let (reason, partial) = stopped(outcome);
            assert_eq!((reason, partial.skipped()), (StopReason::Cancelled, 100), "{way:?}");
            assert!(partial.iter().map(|item| item.item.0).eq(0..100));
            assert_eq!((census.total(), partial.workers()), (0, 0));
            drop(partial);
            values.assert_all_dropped(100);
            assert_survived(executor);
        }
    });
}

/// F54
#[test]
fn a_cancel_after_the_end_changes_nothing() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (executor, token) = (way.stopping(), CancelToken::new());
            let square = |n: &usize| Ok::<_, String>(n * n);
            let result = ran_to_its_end(way.batch(&executor, 0..100).cancel_on(&token).run(square));
            token.cancel();
            assert!(result.is_success());
            assert!(result.into_values().unwrap().into_iter().eq((0..100).map(|n| n * n)));
            assert_survived(executor);
        }
    });
}

const RACERS: usize = 6;

const ROUNDS: usize = 400;

/// A batch and a cancel that comes when this many attempts have begun. Whether the cancel was in time.
#[track_caller]
fn race(way: Way, executor: &BatchExecutor, begun_before: usize, retry: bool) -> bool {
    let (token, census, begun) = (CancelToken::new(), Census::of(RACERS), AtomicUsize::new(0));
    let over = AtomicBool::new(false);
    let delays = move || std::iter::repeat_n(Duration::ZERO, 2);
    let result = thread::scope(|scope| {
        let canceller = scope.spawn(|| {
            while begun.load(Ordering::SeqCst) < begun_before && !over.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            token.cancel();
        });
        if begun_before == 0 {
            wait_until("it is cancelled", || token.is_cancelled());
        }
        let batch = way.batch(executor, 0..RACERS).cancel_on(&token).retry(Retry::delays(delays));
        let result = batch.run_with(|&n, cx| {
            census.count(n);
            begun.fetch_add(1, Ordering::SeqCst);
            if retry && cx.attempt() == 1 { Err(n) } else { Ok(n) }
        });
        over.store(true, Ordering::SeqCst);
        canceller.join().expect("it cancels");
        result
    });
    let in_time = result.stopped().is_some();
    assert!(!in_time || result.stopped() == Some(StopReason::Cancelled), "{way:?}");
    assert_eq!(in_time, !result.is_success(), "{way:?}");
    assert_counts_add_up(&result);
    let attempts_to_succeed = 1 + usize::from(retry);
    for (item, runs) in result.iter().zip(census.runs()) {
        let n = item.index;
        assert_eq!((*item.item, result.attempts(n)), (n, runs));
        match item.outcome {
            Ok(value) => assert_eq!((*value, runs), (n, attempts_to_succeed)),
            Err(ItemError::Interrupted(Some(error))) => assert_eq!((*error, runs, retry), (n, 1, true)),
            Err(error) => assert_eq!((runs, matches!(error, ItemError::Skipped)), (0, true)),
        }
    }
    in_time
}

/// F55: each item is either finished or stopped, and not both nor neither, whatever moment the cancel meets.
#[test]
fn a_cancel_that_races_the_last_item_leaves_each_finished_or_skipped() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            let executor = way.stopping();
            let attempts = RACERS + 2;
            let in_time = (0..ROUNDS).filter(|round| race(way, &executor, round % attempts, false)).count();
            let first_and_last = ROUNDS / attempts;
            assert!((first_and_last..=ROUNDS - first_and_last).contains(&in_time), "{in_time} of {ROUNDS}");
            assert_survived(executor);
        }
    });
}

/// F55: with retries, an item that was to be tried again is interrupted and keeps its error.
#[test]
fn a_cancel_that_races_the_last_attempt_leaves_each_finished_interrupted_or_skipped() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            let executor = way.collecting();
            let attempts = 2 * RACERS + 2;
            let in_time = (0..ROUNDS).filter(|round| race(way, &executor, round % attempts, true)).count();
            let first_and_last = ROUNDS / attempts;
            assert!((first_and_last..=ROUNDS - first_and_last).contains(&in_time), "{in_time} of {ROUNDS}");
            assert_survived(executor);
        }
    });
}

/// F56, F33: no permit is asked for after the cancel, and none of those that were is used.
#[test]
fn at_a_limiter_that_never_grants_a_cancel_ends_every_wait() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            for wait in [Duration::from_secs(3600), EVER] {
                let (late, token, census) =
                    (Arc::new(Gate::default()), CancelToken::new(), Census::of(10_000));
                let executor = way.builder().rate_limiter(late_after(3, wait, &late)).build().unwrap();
                let since = Instant::now();
                let (reason, partial) = cancelled_behind(&late, &token, || {
                    let batch = way.batch(&executor, 0..10_000usize).cancel_on(&token);
                    stopped(batch.run(|&n| {
                        census.count(n);
                        Ok::<_, String>(())
                    }))
                });
                assert_eq!((reason, partial.succeeded()), (StopReason::Cancelled, 3), "{way:?}");
                assert_eq!((partial.skipped(), census.total()), (9_997, 3));
                assert!(partial.elapsed() < Duration::from_secs(60));
                assert!(since.elapsed() >= partial.elapsed());
                // I5: the limiter gives nothing more.
            }
        }
    });
}

/// How many items were to be tried again when the batch stopped.
fn interrupted<I, T, E>(partial: &BatchResult<I, T, E>) -> usize {
    let is_interrupted = |outcome: &&Outcome<T, E>| matches!(outcome, Err(ItemError::Interrupted(Some(_))));
    partial.outcomes().iter().filter(is_interrupted).count()
}

/// All items wait for another attempt, which none of them gets.
#[track_caller]
fn assert_waits_for_attempts_end(way: Way, decision: RetryDecision) {
    let (executor, token, asleep) = (way.stopping(), CancelToken::new(), Gate::default());
    let (asked, errors) = (AtomicUsize::new(0), Register::default());
    let retry = Retry::delays(|| std::iter::repeat(EVER)).when(|_: &_| {
        if asked.fetch_add(1, Ordering::SeqCst) == 19 {
            asleep.open();
        }
        decision
    });
    let (reason, partial) = cancelled_behind(&asleep, &token, || {
        let batch = way.batch(&executor, 0..20).cancel_on(&token).retry(retry);
        stopped(batch.run(|_| Err::<(), _>(errors.make())))
    });
    assert_eq!((reason, partial.failed()), (StopReason::Cancelled, 0), "{way:?}");
    assert_eq!((interrupted(&partial), partial.skipped()), (20, 20), "{way:?}");
    assert!((0..20).all(|index| partial.attempts(index) == 1));
    assert_eq!((errors.made(), errors.dropped()), (20, 0));
    drop(partial);
    errors.assert_all_dropped(20);
    assert_survived(executor);
}

/// F58, F33
#[test]
fn a_cancel_ends_every_back_off() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            assert_waits_for_attempts_end(way, RetryDecision::Retry);
            assert_waits_for_attempts_end(way, RetryDecision::RetryAfter(EVER));
        }
    });
}

/// F58, F33: in a pause nothing starts, and a cancel still ends it.
#[test]
fn a_cancel_ends_a_pause() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (executor, token, paused) = (way.stopping(), CancelToken::new(), Gate::default());
            let census = Census::of(500);
            let retry = Retry::delays(std::iter::empty).when(|_: &usize| {
                paused.open();
                RetryDecision::PauseAll(EVER)
            });
            let (reason, partial) = cancelled_behind(&paused, &token, || {
                let batch = way.batch(&executor, 0..500usize).cancel_on(&token).retry(retry);
                stopped(batch.run(|&n| {
                    census.count(n);
                    Err::<(), _>(n)
                }))
            });
            assert_eq!(reason, StopReason::Cancelled, "{way:?}");
            census.assert_none_ran_twice();
            assert_eq!((partial.failed(), partial.succeeded()), (0, 0));
            assert_eq!(interrupted(&partial), census.total());
            // Those that started before the pause, and none since.
            assert!(census.total() <= executor.workers_for(500).max(partial.workers()), "{way:?}");
            assert_survived(executor);
        }
    });
}

/// F58: an attempt that has its permit in an hour goes no further than to its last error.
#[test]
fn a_cancel_ends_a_retrys_wait_for_its_permit() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (late, token, census) = (Arc::new(Gate::default()), CancelToken::new(), Census::of(20));
            let executor = way.builder().rate_limiter(late_after(20, EVER, &late)).build().unwrap();
            let retry = Retry::delays(|| std::iter::repeat(Duration::ZERO));
            let (reason, partial) = cancelled_behind(&late, &token, || {
                let batch = way.batch(&executor, 0..20usize).cancel_on(&token).retry(retry);
                stopped(batch.run(|&n| {
                    census.count(n);
                    Err::<(), _>(n)
                }))
            });
            assert_eq!((reason, census.total()), (StopReason::Cancelled, 20), "{way:?}");
            for (index, runs) in census.runs().into_iter().enumerate() {
                assert_eq!(partial.attempts(index), runs);
            }
            assert_eq!((partial.succeeded(), partial.failed()), (0, 0));
            assert_eq!(interrupted(&partial), census.ran().len());
            // I5: the limiter gives nothing more.
        }
    });
}

/// F58: one worker has nothing to do but to wait for an item that backs off, another runs one that listens.
#[test]
fn a_cancel_wakes_idle_workers_and_reaches_those_who_listen() {
    within_a_minute(|| {
        for way in Way::with_threads().into_iter().filter(Way::is_parallel) {
            let (executor, token, asleep) = (way.stopping(), CancelToken::new(), Gate::default());
            let retry = Retry::delays(|| std::iter::once(EVER));
            let (reason, partial) = cancelled_behind(&asleep, &token, || {
                let batch = way.batch(&executor, 0..2).cancel_on(&token).retry(retry);
                stopped(batch.run_with(|&n, cx| {
                    if n == 1 {
                        asleep.open();
                        return Ok(comes(|| cx.is_cancelled()));
                    }
                    Err("later")
                }))
            });
            assert_eq!((reason, partial.failed()), (StopReason::Cancelled, 0), "{way:?}");
            assert!(matches!(partial.outcomes()[0], Err(ItemError::Interrupted(Some("later")))));
            assert!(partial.values().eq([&true]));
            assert_survived(executor);
        }
    });
}

/// F58: a deadline ends the same waits.
#[test]
fn a_deadline_ends_every_wait() {
    within_a_minute(|| {
        let decisions =
            [RetryDecision::Retry, RetryDecision::RetryAfter(EVER), RetryDecision::PauseAll(EVER)];
        for way in Way::with_threads() {
            for decision in decisions {
                let (executor, soon) = (way.stopping(), Duration::from_millis(10));
                let retry = Retry::delays(|| std::iter::repeat(EVER)).when(|_: &_| decision);
                let batch = way.batch(&executor, 0..20).timeout(soon).retry(retry);
                let (reason, partial) = stopped(batch.run(|n| Err::<(), _>(*n)));
                assert_eq!((reason, partial.skipped()), (StopReason::DeadlineExceeded, 20), "{way:?}");
                assert_survived(executor);
            }
            let late = Arc::new(Gate::default());
            let executor = way.builder().rate_limiter(late_after(3, EVER, &late)).build().unwrap();
            let batch = way.batch(&executor, 0..20).deadline(Instant::now() + Duration::from_millis(10));
            let (reason, partial) = stopped(batch.run(|_| Ok::<_, String>(())));
            assert_eq!(reason, StopReason::DeadlineExceeded, "{way:?}");
            assert!(partial.succeeded() <= 3);
        }
    });
}

/// F60: the call comes back when the item does and not before, with what it made.
#[test]
fn an_item_that_does_not_listen_is_waited_for() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            for timeout in [None, Some(Duration::from_millis(50))] {
                let executor = way.stopping();
                let (token, door, inside) = (CancelToken::new(), Gate::default(), Gate::default());
                let (back, values) = (AtomicBool::new(false), Register::default());
                let (reason, partial) = thread::scope(|scope| {
                    scope.spawn(|| {
                        while !inside.is_open() && !back.load(Ordering::SeqCst) {
                            thread::sleep(Duration::from_millis(1));
                        }
                        match timeout {
                            None => token.cancel(),
                            Some(timeout) => thread::sleep(timeout),
                        }
                        thread::sleep(Duration::from_millis(10));
                        assert!(!(inside.is_open() && back.load(Ordering::SeqCst)), "it was not waited for");
                        door.open();
                    });
                    let batch = way.batch(&executor, 0..1_000).cancel_on(&token);
                    let batch = timeout.into_iter().fold(batch, Batch::timeout);
                    let outcome = batch.run(|_| {
                        inside.open();
                        door.pass();
                        Ok::<_, String>(values.make())
                    });
                    back.store(true, Ordering::SeqCst);
                    stopped(outcome)
                });
                let expected = timeout.map_or(StopReason::Cancelled, |_| StopReason::DeadlineExceeded);
                assert_eq!(reason, expected, "{way:?}");
                assert_eq!((partial.succeeded(), values.dropped()), (values.made(), 0));
                assert!(timeout.is_some() || partial.succeeded() > 0);
                assert_eq!(partial.failed(), 0);
                assert_survived(executor);
            }
        }
    });
}

/// F62: the last call tells what the result tells.
#[test]
fn a_callback_may_cancel_its_own_batch() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            // With a limiter, no worker holds several items.
            let limiter = limiter_fn(|| Ok(Duration::ZERO));
            let executor = way.builder().rate_limiter(limiter).build().unwrap();
            let (token, caller) = (CancelToken::new(), thread::current().id());
            let (census, mut told) = (Census::of(1_000), Vec::new());
            let batch = executor.batch(0..1_000usize).cancel_on(&token).on_progress(|p| {
                if p.completed == 5 {
                    token.cancel();
                    token.cancel();
                }
                told.push((p.completed, p.succeeded));
            });
            let (reason, partial) = stopped(batch.run_with(|&n, cx| {
                census.count(n);
                // Some are far ahead of the callback; none of them gets to the end.
                assert!(
                    n < 20 || thread::current().id() == caller || comes(|| cx.is_cancelled()),
                    "no cancel"
                );
                Ok::<_, String>(())
            }));
            assert_eq!(reason, StopReason::Cancelled);
            let done = partial.succeeded();
            assert!(told.into_iter().eq((1..=done).map(|n| (n, n))), "{way:?}");
            assert!((5..1_000).contains(&done) && census.total() == done);
            if matches!(way.workers, Workers::Sequential | Workers::Fixed(1)) {
                assert_eq!(done, 5, "the caller alone works and reports by turns");
            }
            assert_survived(executor);
        }
    });
}

/// F62: no lock is held while anything of the user's is called.
#[test]
fn a_batch_may_be_cancelled_from_whatever_it_calls() {
    struct Cancelling(CancelToken);

    impl Drop for Cancelling {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }

    within_a_minute(|| {
        for way in Way::with_threads() {
            for place in [
                "iterator",
                "limiter",
                "init",
                "operation",
                "delays",
                "delay",
                "when",
                "state's drop",
                "error's drop",
            ] {
                let token = CancelToken::new();
                let cancel_at = |here: &str| {
                    if here == place {
                        token.cancel();
                    }
                };
                let of_limiter = (token.clone(), place == "limiter");
                let limiter = limiter_fn(move || {
                    if of_limiter.1 {
                        of_limiter.0.cancel();
                    }
                    Ok(Duration::ZERO)
                });
                let executor = way.builder().stop_on_error(false).rate_limiter(limiter).build().unwrap();
                let delays = || {
                    cancel_at("delays");
                    std::iter::repeat_with(|| Duration::ZERO).take(1).inspect(|_| cancel_at("delay"))
                };
                let retry = Retry::delays(delays).when(|_: &_| {
                    cancel_at("when");
                    RetryDecision::Retry
                });
                let dropping = |here: &str| (here == place).then(|| Cancelling(token.clone()));
                let batch = way.batch(&executor, (0..50).inspect(|_| cancel_at("iterator")));
                let init = || {
                    cancel_at("init");
                    dropping("state's drop")
                };
                let result = batch.cancel_on(&token).retry(retry).run_init(init, |_, _| {
                    cancel_at("operation");
                    Err::<(), _>(dropping("error's drop"))
                });
                assert_counts_add_up(&result);
                assert!(matches!(result.stopped(), None | Some(StopReason::Cancelled)), "{place}");
                let (total, skipped) = (result.total(), result.skipped());
                drop(result);
                assert_eq!((total, token.is_cancelled()), (50, true), "{place} {way:?}");
                assert!(skipped > 0 || !["iterator", "limiter"].contains(&place), "{place} {way:?}");
                assert_survived(executor);
            }
        }
    });
}
