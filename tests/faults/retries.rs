//! Retries that panic, that have no end, and that have to be counted.

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use batch_executor::{CancelToken, ItemError, Retry, RetryDecision, StopReason};

use crate::common::{
    Census, MEANT, Register, Way, assert_counts_add_up, assert_survived, panic_of, ran_to_its_end,
    silence_meant_panics, stopped, within_a_minute,
};

/// F09: of ten items one fails in a way that the retry has not thought of.
#[test]
fn a_retry_that_panics_leaves_the_error_and_says_so() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            for place in ["when", "delays", "delay"] {
                let (executor, census, errors) = (way.collecting(), Census::of(10), Register::default());
                let asked = AtomicUsize::new(0);
                let panic_at = |here: &str| {
                    let is_due = here == place && asked.fetch_add(1, Ordering::SeqCst) == 0;
                    assert!(!is_due, "{MEANT}{here}");
                };
                let delays = || {
                    panic_at("delays");
                    iter::repeat_n(Duration::ZERO, 2).inspect(|_| panic_at("delay"))
                };
                let retry = Retry::delays(delays).when(|_: &_| {
                    panic_at("when");
                    RetryDecision::Retry
                });
                let batch = way.batch(&executor, 0..10usize).retry(retry);
                let result = batch.run_with(|&n, cx| {
                    census.count(n);
                    if cx.attempt() == 1 { Err((n, errors.make())) } else { Ok(n) }
                });
                let result = ran_to_its_end(result);
                assert_counts_add_up(&result);
                assert_eq!((result.failed(), result.succeeded()), (1, 9), "{place} {way:?}");
                let failed = result.failures().next().unwrap().index;
                assert!(matches!(result.outcomes()[failed], Err(ItemError::Failed((n, _))) if n == failed));
                for n in 0..10 {
                    let panic = (n == failed).then(|| format!("{MEANT}{place}"));
                    assert_eq!(result.retry_panic(n).map(|panic| panic.message().to_owned()), panic);
                    assert_eq!(
                        (result.attempts(n), census.runs()[n]),
                        if n == failed { (1, 1) } else { (2, 2) }
                    );
                }
                drop(result);
                errors.assert_all_dropped(10);
                assert_survived(executor);
            }
        }
    });
}

/// F09: a panic at a later attempt is that attempt's, and counts as a failure does.
#[test]
fn a_retry_that_panics_later_is_the_reason_to_stop() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            let executor = way.stopping();
            let retry = Retry::delays(|| iter::repeat(Duration::ZERO)).when(|attempt: &usize| {
                assert!(*attempt < 3, "{MEANT}the third");
                RetryDecision::Retry
            });
            let batch = way.batch(&executor, 0..100usize).retry(retry);
            let outcome = batch.run_with(|&n, cx| if n == 7 { Err(cx.attempt()) } else { Ok(()) });
            let (reason, partial) = stopped(outcome);
            assert_eq!(reason, StopReason::ItemFailed { index: 7 }, "{way:?}");
            assert!(matches!(partial.outcomes()[7], Err(ItemError::Failed(3))));
            assert_eq!(
                (partial.attempts(7), partial.retry_panic(7).unwrap().message()),
                (3, "meant: the third")
            );
            assert_survived(executor);
        }
    });
}

/// Delays whose destructor panics.
struct Touchy(usize);

impl Iterator for Touchy {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0 = self.0.checked_sub(1)?;
        Some(Duration::ZERO)
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        panic!("{MEANT}the delays' end");
    }
}

/// F09: delays that are dropped panic in the caller; in no case is it an abort or a leak.
#[test]
fn delays_that_panic_when_they_are_dropped_abort_nothing() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            for succeeds in [false, true] {
                let (executor, values) = (way.collecting(), Register::default());
                let run = || {
                    let items = (0..40).map(|_| values.make());
                    let batch = way.batch(&executor, items).retry(Retry::delays(|| Touchy(2)));
                    batch.run_with(
                        |_, cx| if succeeds && cx.attempt() == 2 { Ok(()) } else { Err(values.make()) },
                    )
                };
                assert_eq!(panic_of(run), "meant: the delays' end", "{way:?}");
                values.assert_all_dropped(values.made());
                assert_survived(executor);
            }
        }
    });
}

/// Delays that panic when they are asked, and when they are dropped.
struct Broken;

impl Iterator for Broken {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        panic!("{MEANT}the first delay");
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        panic!("{MEANT}the delays' end");
    }
}

/// F09: what asks and what it is asked about fall over together, one while the other is dropped.
#[test]
fn a_retry_that_panics_with_delays_that_panic_when_they_are_dropped_aborts_nothing() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            let executor = way.collecting();
            let asks = Retry::delays(|| Touchy(9)).when(|attempt: &usize| {
                assert!(*attempt == 1, "{MEANT}the second question");
                RetryDecision::Retry
            });
            let batch = way.batch(&executor, 0..4).retry(asks);
            let run = || batch.run_with(|_, cx| Err::<(), _>(cx.attempt()));
            assert_eq!(panic_of(run), "meant: the delays' end", "{way:?}");
            let batch = way.batch(&executor, 0..4).retry(Retry::delays(|| Broken));
            assert_eq!(panic_of(|| batch.run(|&n| Err::<(), _>(n))), "meant: the delays' end", "{way:?}");
            assert_survived(executor);
        }
    });
}

/// An error, of which each panics when it is dropped.
#[derive(Debug)]
struct Sore;

impl Drop for Sore {
    fn drop(&mut self) {
        panic!("{MEANT}the error's end");
    }
}

/// F09: errors and delays of items that still wait when a panic ends the batch.
#[test]
fn what_is_kept_of_items_that_wait_is_dropped_part_by_part() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            let executor = way.collecting();
            let batch = executor.batch(0..9).on_progress(|_| panic!("{MEANT}the callback"));
            let retry = Retry::delays(|| Touchy(9)).when(|_: &Sore| RetryDecision::RetryAfter(Duration::MAX));
            let run = || batch.retry(retry).run(|&n| if n < 8 { Err(Sore) } else { Ok(()) });
            assert_eq!(panic_of(run), "meant: the callback", "{way:?}");
            assert_survived(executor);
        }
    });
}

/// F06: an error that another attempt has made out of date. It goes before that attempt, which is made all the same.
#[test]
fn an_earlier_error_that_panics_when_it_is_dropped_is_no_outcome_and_panics_in_the_caller() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (executor, tried_again) = (way.collecting(), AtomicUsize::new(0));
            let retry = Retry::delays(|| iter::repeat(Duration::ZERO));
            let run = || {
                way.batch(&executor, 0..1).retry(retry).run_with(|_, cx| {
                    tried_again.fetch_add(cx.attempt() - 1, Ordering::SeqCst);
                    if cx.attempt() == 1 { Err(Sore) } else { Ok(()) }
                })
            };
            assert_eq!(panic_of(run), "meant: the error's end", "{way:?}");
            assert_eq!(tried_again.into_inner(), 1);
            assert_survived(executor);
        }
    });
}

/// F34: retries without end, and none of them waits.
#[test]
fn a_cancel_ends_retries_without_end() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            for retries in [u32::MAX as usize, usize::MAX] {
                let (executor, token, attempts) = (way.stopping(), CancelToken::new(), AtomicUsize::new(0));
                let retry = Retry::exponential(Duration::ZERO, Duration::ZERO, retries);
                let batch = way.batch(&executor, 0..10).cancel_on(&token).retry(retry);
                let (reason, partial) = stopped(batch.run(|n| {
                    if attempts.fetch_add(1, Ordering::SeqCst) >= 1_000 {
                        token.cancel();
                    }
                    Err::<(), _>(*n)
                }));
                assert_eq!((reason, partial.succeeded()), (StopReason::Cancelled, 0), "{way:?}");
                let counted: usize = (0..10).map(|index| partial.attempts(index)).sum();
                assert_eq!(counted, attempts.into_inner());
                // Each worker may have been in the middle of one.
                assert!(counted <= 1_001 + partial.workers(), "{counted} attempts");
                assert_survived(executor);
            }
        }
    });
}

/// F33: no time is too long to be told; one that would not end is none.
#[test]
fn time_outs_and_back_offs_without_end_saturate() {
    within_a_minute(|| {
        for way in Way::with_threads() {
            let executor = way.stopping();
            let retry = Retry::exponential(Duration::MAX, Duration::MAX, usize::MAX)
                .when(|_: &usize| RetryDecision::RetryAfter(Duration::ZERO));
            let batch = way.batch(&executor, 0..100usize).timeout(Duration::MAX).retry(retry);
            let result = batch.run_with(|&n, cx| if cx.attempt() > n % 3 { Ok(n) } else { Err(n) });
            let result = ran_to_its_end(result);
            assert!(result.values().copied().eq(0..100), "{way:?}");
            assert!((0..100).all(|n| result.attempts(n) == n % 3 + 1));
            assert_survived(executor);
        }
    });
}

/// F61: every third item recovers, every fifth never does, every seventh panics at its second attempt.
#[test]
fn an_item_counts_once_however_often_it_is_tried() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (executor, census) = (way.collecting(), Census::of(105));
            let mut told = Vec::new();
            let batch = executor.batch(0..105usize).on_progress(|p| told.push(*p));
            let retry = Retry::delays(|| iter::repeat_n(Duration::from_micros(50), 3));
            let result = batch.retry(retry).run_with(|&n, cx| {
                census.count(n);
                match cx.attempt() {
                    2 if n % 7 == 0 => panic!("{MEANT}at the second"),
                    attempt if n % 5 == 0 || n % 7 == 0 || (n % 3 == 0 && attempt < 3) => Err(n),
                    _ => Ok(n),
                }
            });
            let result = ran_to_its_end(result);
            assert_counts_add_up(&result);
            for (n, runs) in census.runs().into_iter().enumerate() {
                let expected = if n % 7 == 0 {
                    2
                } else if n % 5 == 0 {
                    4
                } else if n % 3 == 0 {
                    3
                } else {
                    1
                };
                assert_eq!((runs, result.attempts(n)), (expected, expected), "item {n} {way:?}");
                let panicked = matches!(result.outcomes()[n], Err(ItemError::Panicked(_)));
                assert_eq!((panicked, result.outcomes()[n].is_ok()), (n % 7 == 0, n % 5 != 0 && n % 7 != 0));
            }
            assert!(told.iter().map(|p| p.completed).eq(1..=105), "progress beyond 100 %, or short of it");
            let last = told.last().unwrap();
            assert_eq!((last.total, last.succeeded, last.failed), (105, result.succeeded(), result.failed()));
            assert_survived(executor);
        }
    });
}

/// F61: a panic is an outcome at once, whatever the retry would say.
#[test]
fn panics_are_not_retried() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (executor, census, asked) = (way.collecting(), Census::of(30), AtomicUsize::new(0));
            let retry = Retry::delays(|| iter::repeat(Duration::ZERO)).when(|(): &()| {
                asked.fetch_add(1, Ordering::SeqCst);
                RetryDecision::Retry
            });
            let batch = way.batch(&executor, 0..30usize).retry(retry);
            let result = batch.run(|&n| -> Result<(), ()> {
                census.count(n);
                panic!("{MEANT}{n}")
            });
            let result = ran_to_its_end(result);
            census.assert_each_ran_once();
            assert_eq!((result.failed(), asked.into_inner()), (30, 0), "{way:?}");
            assert_survived(executor);
        }
    });
}
