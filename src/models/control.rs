//! Batches that are cancelled, try again, and keep state.

use std::iter;
use std::time::Duration;

use super::{Gauge, executor};
use crate::batch_error::StopReason;
use crate::cancel::CancelToken;
use crate::error::{ItemError, LimiterError};
use crate::executor::BatchExecutor;
use crate::rate_limit::limiter_fn;
use crate::result::BatchResult;
use crate::retry::{Retry, RetryDecision};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::model::{Borrowed, check, let_time_pass, let_time_pass_up_to, refuse_threads_after};
use crate::sync::thread::{self, JoinHandle};

type Ended = BatchResult<usize, usize, usize>;

/// An executor whose permits come never.
fn that_gives_no_permit(workers: usize) -> BatchExecutor {
    let builder = BatchExecutor::builder().workers(workers).stop_on_error(false);
    builder.rate_limiter(limiter_fn(|| Ok::<_, LimiterError>(Duration::MAX))).build().unwrap()
}

/// A thread that cancels, at any time.
pub(super) fn cancel_elsewhere(token: &CancelToken) -> JoinHandle<()> {
    let token = token.clone();
    thread::spawn(move || token.cancel())
}

/// Items are values by their own number, were interrupted with an error by their own number, or skipped; the counts are theirs;
/// and the batch was cancelled exactly if anything is undecided.
fn check_end(result: Ended) -> Ended {
    let (mut succeeded, mut skipped) = (0, 0);
    for item in &result {
        let index = item.index;
        match item.outcome {
            Ok(value) => (succeeded, _) = (succeeded + 1, assert_eq!(*value, index)),
            Err(ItemError::Interrupted(Some(error))) => {
                (skipped, _) = (skipped + 1, assert_eq!(*error, index))
            }
            Err(ItemError::Skipped) => (skipped, _) = (skipped + 1, assert_eq!(result.attempts(index), 0)),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((result.succeeded(), result.failed(), result.skipped()), (succeeded, 0, skipped));
    assert_eq!(result.stopped(), (skipped > 0).then_some(StopReason::Cancelled));
    result
}

fn cancel_a_batch_that_runs(workers: usize, items: usize) {
    let (executor, token, memory) = (executor(workers), CancelToken::new(), Borrowed::new());
    let canceller = cancel_elsewhere(&token);
    let ended = executor.batch(0..items).cancel_on(&token).run(|&item| {
        memory.touch();
        Ok(item)
    });
    let _ = check_end(ended);
    memory.free();
    canceller.join().unwrap();
}

/// Time stands still, so no item gets a permit.
fn cancel_a_batch_at_the_limiter(workers: usize, items: usize, reports: bool) {
    let (executor, token) = (that_gives_no_permit(workers), CancelToken::new());
    let canceller = cancel_elsewhere(&token);
    let batch = executor.batch(0..items).cancel_on(&token);
    let batch = if reports { batch.on_progress(|_| panic!("nothing completes")) } else { batch };
    let result = check_end(batch.run(|_| panic!("nothing runs")));
    assert_eq!(result.skipped(), items);
    canceller.join().unwrap();
}

/// Time stands still, so no attempt but the first is ever due.
fn cancel_a_batch_that_backs_off(workers: usize, items: usize, reports: bool, decision: RetryDecision) {
    let (executor, token) = (executor(workers), CancelToken::new());
    let canceller = cancel_elsewhere(&token);
    let retry = Retry::delays(|| iter::repeat(Duration::MAX)).when(move |_: &usize| decision);
    let batch = executor.batch(0..items).cancel_on(&token).retry(retry);
    let batch = if reports { batch.on_progress(|_| panic!("nothing is decided")) } else { batch };
    let result = check_end(batch.run(|&item| Err(item)));
    assert_eq!(result.skipped(), items);
    assert!((0..items).all(|index| result.attempts(index) <= 1));
    canceller.join().unwrap();
}

/// Each item fails this many times, backs off, and then succeeds.
fn try_again(executor: &BatchExecutor, workers: usize, items: usize, failures: usize, reports: bool) {
    let (gauge, mut calls) = (Gauge::default(), 0);
    let retry = Retry::delays(move || iter::repeat(Duration::from_secs(1)).take(failures));
    let batch = executor.batch(0..items).retry(retry);
    let batch = if reports { batch.on_progress(|_| calls += 1) } else { batch };
    let result = check_end(batch.run_with(|&item, cx| {
        gauge.during();
        if cx.attempt() > failures { Ok(item) } else { Err(item) }
    }));
    assert!((0..items).all(|index| result.attempts(index) == failures + 1));
    assert!(!reports || calls == items);
    assert!(gauge.most.load(Ordering::Relaxed) <= workers);
}

/// Of two that back off, this one is due at once and the other never: who waits for that one must not keep this one.
fn take_up_what_is_due(due: usize, reports: bool) {
    let (executor, token) = (executor(2), CancelToken::new());
    let after = move |&item: &usize| {
        if item == due { RetryDecision::Retry } else { RetryDecision::RetryAfter(Duration::MAX) }
    };
    let batch = executor
        .batch(0..2)
        .cancel_on(&token)
        .retry(Retry::delays(|| iter::repeat(Duration::ZERO)).when(after));
    let batch = if reports { batch.on_progress(|_| ()) } else { batch };
    let result = check_end(batch.run_with(|&item, cx| {
        if cx.attempt() == 1 {
            return Err(item);
        }
        token.cancel();
        Ok(item)
    }));
    // The other may have been claimed and not begun when the cancel came.
    assert_eq!((result.succeeded(), result.attempts(due)), (1, 2));
}

/// A worker's own. Its destructor uses what the caller lends.
struct Kept<'m> {
    memory: &'m Borrowed,
    alive: &'m AtomicUsize,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.memory.touch();
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn keep_state(executor: &BatchExecutor, workers: usize, items: usize, reports: bool) {
    let (memory, alive, made) = (Borrowed::new(), AtomicUsize::new(0), AtomicUsize::new(0));
    let init = || {
        made.fetch_add(1, Ordering::Relaxed);
        assert!(alive.fetch_add(1, Ordering::Relaxed) < workers);
        Kept { memory: &memory, alive: &alive }
    };
    let batch = executor.batch(0..items);
    let batch = if reports { batch.on_progress(|_| ()) } else { batch };
    let result = check_end(batch.run_init(init, |&item, cx| {
        cx.state.memory.touch();
        assert!(cx.worker() < workers);
        Ok(item)
    }));
    assert!(result.is_success());
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    // A caller that worked until helpers came had one, too.
    assert!((1..=workers + usize::from(reports)).contains(&made.load(Ordering::Relaxed)));
    memory.free();
}

#[test]
fn a_cancel_from_elsewhere_leaves_each_item_finished_or_skipped() {
    check(|| cancel_a_batch_that_runs(2, 3));
}

#[test]
fn a_cancel_wakes_all_who_wait_at_the_limiter_for_ever() {
    check(|| cancel_a_batch_at_the_limiter(2, 2, false));
}

#[test]
fn a_cancel_ends_a_back_off_without_end() {
    check(|| cancel_a_batch_that_backs_off(2, 2, false, RetryDecision::Retry));
}

#[test]
fn a_cancel_wakes_a_caller_that_backs_off_and_reports_by_turns() {
    check(|| cancel_a_batch_that_backs_off(1, 2, true, RetryDecision::Retry));
}

#[test]
fn a_cancel_ends_a_pause_without_end() {
    check(|| cancel_a_batch_that_backs_off(2, 2, false, RetryDecision::PauseAll(Duration::MAX)));
}

/// A batch takes itself off its token's list while that is gone through.
#[test]
fn a_cancel_comes_while_the_batch_begins_and_ends() {
    check(|| {
        let (executor, token) = (executor(1), CancelToken::new());
        let canceller = cancel_elsewhere(&token);
        let _ = check_end(executor.batch(0..1).cancel_on(&token).run(|&item| Ok(item)));
        canceller.join().unwrap();
        let result = check_end(executor.batch(0..2).cancel_on(&token).run(|&item| Ok(item)));
        assert_eq!(result.skipped(), 2);
    });
}

#[test]
fn items_that_failed_once_are_tried_again_within_the_limit() {
    check(|| {
        let_time_pass();
        try_again(&executor(2), 2, 3, 1, false);
    });
}

#[test]
fn items_that_failed_once_are_tried_again_by_a_caller_that_gets_no_thread() {
    check(|| {
        let_time_pass();
        refuse_threads_after(0);
        try_again(&executor(2), 2, 2, 1, true);
    });
}

#[test]
fn what_is_put_back_is_taken_up_though_others_wait_for_what_is_never_due() {
    check(|| take_up_what_is_due(1, false));
}

/// The caller has lost patience, and puts back what the one helper that there is has to take up.
#[test]
fn what_a_caller_puts_back_that_makes_way_is_taken_up_though_others_wait_for_what_is_never_due() {
    check(|| {
        let_time_pass_up_to(Duration::from_millis(1));
        refuse_threads_after(1);
        take_up_what_is_due(0, true);
    });
}

/// Time stands still, so no tick is ever due, and a caller that waits for the next one has to be
/// called when the batch is over.
#[test]
fn a_batch_that_ticks_ends_though_no_tick_is_due() {
    check(|| {
        let (executor, memory) = (executor(2), Borrowed::new());
        let batch = executor.batch(0..2).on_tick(Duration::from_secs(1), |_| panic!("time stands still"));
        let ended = batch.run(|&item| {
            memory.touch();
            Ok(item)
        });
        assert!(check_end(ended).is_success());
        memory.free();
    });
}

#[test]
fn state_is_made_once_for_each_worker_and_gone_when_the_batch_is_over() {
    check(|| keep_state(&executor(2), 2, 3, false));
}

/// The caller has lost patience and made state of its own when helpers come.
#[test]
fn a_caller_that_makes_way_for_helpers_lets_go_of_its_state_first() {
    check(|| {
        let_time_pass();
        keep_state(&executor(2), 2, 2, true);
    });
}

/// Too many threads and steps for every interleaving: random ones.
#[cfg(shuttle)]
mod large {
    use super::*;
    use crate::workers::AdaptiveWorkers;

    fn adaptive(least: usize, most: usize) -> BatchExecutor {
        executor(AdaptiveWorkers::new().min(least).max(most))
    }

    #[test]
    fn a_cancel_meets_reports_and_waits() {
        check(|| cancel_a_batch_that_runs(3, 6));
        check(|| cancel_a_batch_at_the_limiter(3, 5, true));
        check(|| cancel_a_batch_that_backs_off(2, 3, true, RetryDecision::Retry));
        check(|| cancel_a_batch_that_backs_off(3, 4, true, RetryDecision::PauseAll(Duration::MAX)));
    }

    #[test]
    fn one_token_stops_two_batches() {
        check(|| {
            let token = CancelToken::new();
            let executor = that_gives_no_permit(2);
            let callers = [(); 2].map(|()| {
                let (executor, token) = (executor.clone(), token.clone());
                thread::spawn(move || {
                    let batch = executor.batch(0..2).cancel_on(&token);
                    assert_eq!(check_end(batch.run(|_| panic!("nothing runs"))).skipped(), 2);
                })
            });
            token.cancel();
            callers.into_iter().for_each(|caller| caller.join().unwrap());
        });
    }

    #[test]
    fn items_are_tried_again_and_again_within_the_limit() {
        check(|| {
            let_time_pass();
            try_again(&executor(3), 3, 5, 2, false);
            try_again(&executor(3), 3, 5, 2, true);
            try_again(&adaptive(1, 3), 3, 5, 1, false);
        });
    }

    /// Who puts an item back may be one too many then. The other waits for what is never due, and is told.
    #[test]
    fn who_waits_is_told_of_what_is_put_back_by_a_worker_that_is_sent_away() {
        check(|| {
            let (executor, token) = (adaptive(1, 4), CancelToken::new());
            let decide = |&item: &usize| match item {
                0 => RetryDecision::RetryAfter(Duration::MAX),
                _ => RetryDecision::PauseAll(Duration::ZERO),
            };
            let retry = Retry::delays(|| iter::repeat(Duration::ZERO)).when(decide);
            let tried = AtomicUsize::new(0);
            let result =
                check_end(executor.batch(0..4).cancel_on(&token).retry(retry).run_with(|&item, cx| {
                    if cx.attempt() == 1 {
                        return Err(item);
                    }
                    if tried.fetch_add(1, Ordering::Relaxed) == 2 {
                        token.cancel();
                    }
                    Ok(item)
                }));
            assert_eq!(result.succeeded(), 3);
        });
    }

    #[test]
    fn a_pause_of_everybody_passes() {
        check(|| {
            let_time_pass();
            let executor = executor(3);
            let retry = Retry::delays(iter::empty::<Duration>)
                .when(|_: &usize| RetryDecision::PauseAll(Duration::from_secs(1)));
            let result = check_end(
                executor
                    .batch(0..4)
                    .retry(retry)
                    .run_with(|&item, cx| if cx.attempt() == 1 { Err(item) } else { Ok(item) }),
            );
            assert!((0..4).all(|index| result.attempts(index) == 2));
        });
    }

    /// Item 0 is refused for ever, and nothing else is.
    #[test]
    fn an_item_that_alone_is_refused_comes_to_an_end() {
        check(|| {
            let_time_pass();
            let retry = Retry::delays(|| iter::repeat(Duration::ZERO).take(2))
                .when(|_: &usize| RetryDecision::PauseAll(Duration::from_secs(1)));
            let executor = executor(3);
            let batch = executor.batch(0..6).retry(retry).on_tick(Duration::from_secs(1), |p| {
                assert!(p.completed + p.running + p.waiting <= 6);
            });
            let result = batch.run(|&item| if item == 0 { Err(item) } else { Ok(item) });
            assert_eq!((result.succeeded(), result.failed()), (5, 1));
            assert!((3..=4).contains(&result.attempts(0)));
        });
    }

    #[test]
    fn ticks_come_while_items_are_tried_again() {
        check(|| {
            let_time_pass();
            let (executor, mut last) = (executor(2), Duration::ZERO);
            let retry = Retry::delays(|| iter::once(Duration::from_secs(1)));
            let batch = executor.batch(0..4).retry(retry).on_tick(Duration::from_secs(1), |p| {
                assert!(p.elapsed >= last + Duration::from_secs(1));
                last = p.elapsed;
            });
            let ended = batch.run_with(|&item, cx| if cx.attempt() == 1 { Err(item) } else { Ok(item) });
            assert!(check_end(ended).is_success());
        });
    }

    #[test]
    fn state_goes_with_its_worker_however_many_there_are() {
        check(|| {
            let_time_pass();
            keep_state(&executor(3), 3, 6, true);
            keep_state(&executor(3), 3, 6, false);
        });
    }

    #[test]
    fn the_lowest_item_that_fails_for_good_is_the_reason() {
        check(|| {
            let_time_pass();
            let executor = BatchExecutor::builder().workers(3).build().unwrap();
            let retry = Retry::delays(|| iter::once(Duration::from_secs(1)));
            let result = executor.batch(0..5).retry(retry).run_with(|&item, cx| match item {
                0 if cx.attempt() == 2 => Ok(item),
                3 | 4 if cx.attempt() == 1 => Ok(item),
                _ => Err(item),
            });
            assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 1 }));
            assert_eq!([result.attempts(0), result.attempts(1)], [2, 2]);
            assert!(result.outcomes()[0].is_ok());
        });
    }

    #[test]
    fn a_deadline_ends_every_wait() {
        check(|| {
            let_time_pass();
            let executor = executor(2);
            let retry = Retry::delays(|| iter::repeat(Duration::from_secs(1)));
            let batch = executor.batch(0..3).retry(retry).timeout(Duration::from_secs(5));
            let result = batch.on_progress(|_| panic!("nothing is decided")).run(|&item| Err::<(), _>(item));
            assert_eq!(result.stopped(), Some(StopReason::DeadlineExceeded));
            assert_eq!((result.failed(), result.skipped()), (0, 3));
        });
    }
}
