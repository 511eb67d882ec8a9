//! What becomes of a result: `?` in any function, items and outcomes by value, and what a batch asks for itself.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::num::ParseIntError;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{
    AdaptiveWorkers, BatchError, BatchExecutor, BatchItem, BatchResult, CancelToken, ItemError, LimiterError,
    Retry, StopReason, Workers, limiter_fn,
};

use crate::common::{
    Census, MEANT, Meeting, Peak, Register, Way, all_values, assert_counts_add_up, assert_still_works,
    collecting, parallel_settings, ran_to_its_end, settings, silence_meant_panics, stopped, stopping,
    within_a_minute,
};

/// An error with a cause, which may have one, too.
#[derive(Debug)]
struct Because {
    what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Because {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

fn parsed(text: &str) -> Result<u32, Because> {
    let read = |error: ParseIntError| Because { what: format!("reading {text}"), cause: Some(error.into()) };
    text.parse().map_err(read)
}

fn fetched(text: &str) -> Result<u32, Because> {
    let fetch = |error: Because| Because { what: "fetching".to_owned(), cause: Some(error.into()) };
    parsed(text).map_err(fetch)
}

/// Converts into a boxed error, and is none itself, as crates' boxes of errors are.
struct Boxed(Box<dyn Error + Send + Sync>);

impl From<Boxed> for Box<dyn Error + Send + Sync> {
    fn from(boxed: Boxed) -> Self {
        boxed.0
    }
}

/// The texts of an error's causes, from the nearest to the last.
fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

const CAUSES: [&str; 3] = ["fetching", "reading x", "invalid digit found in string"];

#[test]
fn a_batch_error_keeps_the_chain_of_causes() {
    within_a_minute(|| {
        for workers in settings() {
            let texts = ["1", "2", "x", "y"];
            let error = stopping(workers).run(texts, |text| fetched(text)).into_values().unwrap_err();
            assert_eq!(
                (error.stopped(), error.index()),
                (Some(StopReason::ItemFailed { index: 2 }), Some(2))
            );
            assert_eq!(causes(&error), CAUSES, "{workers:?}");
            assert!(error.source().is_some_and(<dyn Error>::is::<Because>));
            let last = error.source().and_then(Error::source).and_then(Error::source);
            assert!(last.is_some_and(<dyn Error>::is::<ParseIntError>));
            let text =
                "item 2 failed: fetching: reading x: invalid digit found in string (2 of 4 succeeded, ";
            assert!(error.to_string().starts_with(text), "{error}");
        }
    });
}

#[test]
fn a_boxed_error_keeps_the_chain_of_causes_too() {
    let boxed = |text: &&str| fetched(text).map_err(|error| Boxed(error.into()));
    let error = stopping(2).run(["1", "x"], boxed).into_result().map(drop).unwrap_err();
    assert_eq!(causes(&error), CAUSES);

    let boxed = |text: &&str| fetched(text).map_err(Box::<dyn Error + Send + Sync>::from);
    let error = stopping(2).run(["1", "x"], boxed).into_values().unwrap_err();
    assert_eq!(causes(&error), CAUSES);
    assert!(error.source().is_some_and(<dyn Error>::is::<Because>), "it is not boxed twice");
}

#[test]
fn a_text_is_the_source_of_a_batch_error_and_a_panic_has_none() {
    silence_meant_panics();
    let error = stopping(1).run([1], |_| Err::<(), _>("a text")).into_values().unwrap_err();
    assert_eq!(causes(&error), ["a text"]);
    let error = stopping(1).run([1], |_| Err::<(), _>("a text".to_owned())).into_values().unwrap_err();
    assert_eq!(causes(&error), ["a text"]);

    let panics = |_: &i32| -> Result<(), String> { panic!("{MEANT}no") };
    let error = stopping(1).run([1], panics).into_values().unwrap_err();
    assert_eq!((causes(&error).len(), error.index()), (0, Some(0)));

    let refusing = limiter_fn(|| Err(LimiterError::new(Because { what: "down".to_owned(), cause: None })));
    let executor = BatchExecutor::builder().rate_limiter(refusing).build().unwrap();
    let error = executor.run([1], |_| Ok::<_, String>(())).into_values().unwrap_err();
    assert!(error.source().is_some_and(<dyn Error>::is::<LimiterError>));
    assert_eq!(causes(&error), ["down", "down"]);
    assert!(
        error
            .to_string()
            .starts_with("item 0 failed: no permit from the rate limiter: down (0 of 1 succeeded")
    );
}

#[test]
fn a_batch_error_goes_wherever_an_error_goes() {
    fn is_an_error<E: Error + Send + Sync + 'static>() {}
    is_an_error::<BatchError>();
    // A `Result` with it is no larger than what it is about, whatever the types of the batch are.
    assert_eq!(size_of::<BatchError>(), size_of::<usize>());

    let error = stopping(1).run(["x"], |text| fetched(text)).into_values().unwrap_err();
    let elsewhere = thread::spawn(move || causes(&error));
    assert_eq!(elsewhere.join().unwrap(), CAUSES);
}

/// The items borrow from what ends with this function, and so do the values.
fn lengths_of_words(text: &str) -> Result<usize, BatchError> {
    let line = text.to_owned();
    let words: Vec<&str> = line.split(' ').collect();
    let trimmed = collecting(2).run(&words, |word| word.strip_suffix('.').ok_or("no full stop"));
    let trimmed = trimmed.into_values()?;
    let all =
        stopping(2).run(trimmed.iter(), |word| if word.is_empty() { Err("empty") } else { Ok(word.len()) });
    let all = all.into_result()?;
    Ok(all.values().sum())
}

/// As in `main`.
fn lengths_in_any_function(text: &str) -> Result<usize, Box<dyn Error>> {
    let local = String::from(text);
    let parts = [local.as_str(), "a."];
    let lengths = stopping(1).run(parts, |part| lengths_of_words(part)).into_values()?;
    Ok(lengths.iter().sum())
}

#[test]
fn a_question_mark_leaves_functions_that_own_what_the_items_borrow() {
    assert_eq!(lengths_of_words("a. bc.").unwrap(), 3);
    let error = lengths_of_words("a. bc").unwrap_err();
    assert_eq!((error.stopped(), error.index(), error.succeeded()), (None, Some(1), 1));
    let error = lengths_of_words("a. .").unwrap_err();
    assert_eq!(error.stopped(), Some(StopReason::ItemFailed { index: 1 }));
    assert!(error.to_string().starts_with("item 1 failed: empty (1 of 2 succeeded, 1 failed"), "{error}");

    assert_eq!(lengths_in_any_function("bc.").unwrap(), 3);
    let error = lengths_in_any_function("bc").unwrap_err();
    // One batch in another: the error of the inner one is the cause of the outer one's.
    assert_eq!(causes(&*error).last().map(String::as_str), Some("no full stop"));
    assert!(error.source().is_some_and(<dyn Error>::is::<BatchError>));
}

#[test]
fn failures_that_were_collected_are_no_error_of_a_batch_that_ran_to_its_end() {
    within_a_minute(|| {
        for workers in settings() {
            let half = |&n: &usize| if n % 2 == 0 { Err("even") } else { Ok(n) };
            let result = collecting(workers).run(0..100usize, half).into_result().unwrap();
            assert_eq!((result.succeeded(), result.failed(), result.stopped()), (50, 50, None));

            let error = collecting(workers).run(0..100usize, half).into_values().unwrap_err();
            assert_eq!((error.stopped(), error.index()), (None, Some(0)), "{workers:?}");
            assert_eq!((error.total(), error.succeeded(), error.failed(), error.skipped()), (100, 50, 50, 0));
            assert_eq!(causes(&error), ["even"]);
        }
    });
}

#[test]
fn a_batch_that_stopped_is_an_error_though_no_item_failed() {
    within_a_minute(|| {
        for workers in settings() {
            let token = CancelToken::new();
            token.cancel();
            let run = || {
                let batch = stopping(workers);
                batch.batch(0..9).cancel_on(&token).run(|&n| Ok::<_, String>(n))
            };
            for error in [run().into_result().unwrap_err(), run().into_values().unwrap_err()] {
                assert_eq!((error.stopped(), error.index()), (Some(StopReason::Cancelled), None));
                assert_eq!((error.skipped(), causes(&error).len()), (9, 0), "{workers:?}");
            }
        }
    });
}

/// What the result holds is dropped once, by whichever way it goes.
#[test]
fn every_way_out_of_a_result_drops_what_it_does_not_give() {
    within_a_minute(|| {
        for workers in settings() {
            for is_whole in [false, true] {
                let (items, values, errors) = (Register::default(), Register::default(), Register::default());
                let run = || {
                    stopping(workers).run((0..40usize).map(|n| (n, items.make())), |(n, _)| {
                        let value = values.make();
                        if !is_whole && *n == 20 { Err(Held(errors.make())) } else { Ok(value) }
                    })
                };
                assert_eq!(run().into_result().is_ok(), is_whole);
                assert_eq!(run().into_values().is_ok(), is_whole, "{workers:?}");
                assert_eq!(run().into_first_failure().map(|item| item.item.0), (!is_whole).then_some(20));
                assert_eq!(run().into_failed().is_empty(), is_whole);
                assert_eq!(run().into_parts().0.len(), 40);
                assert_eq!(run().into_iter().take(7).count(), 7);
                assert_eq!(run().into_iter().rev().map(|item| item.index).next(), Some(39));
                items.assert_all_dropped(7 * 40);
                values.assert_all_dropped(values.made());
                errors.assert_all_dropped(if is_whole { 0 } else { 7 });
            }
        }
    });
}

/// An error that counts.
#[derive(Debug)]
struct Held(#[allow(dead_code, reason = "it is dropped with it")] crate::common::Registered);

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("held")
    }
}

impl Error for Held {}

/// Where the vector of the items has its memory, before and after.
#[track_caller]
fn assert_items_stay_in_place(
    workers: Workers,
    reports: bool,
    op: impl Fn(&[u64; 8]) -> Result<u64, String> + Sync,
) {
    let items: Vec<[u64; 8]> = (0..1_000).map(|n| [n; 8]).collect();
    let (address, capacity) = (items.as_ptr(), items.capacity());
    let executor = stopping(workers);
    let mut batch = executor.batch(items);
    if reports {
        batch = batch.on_progress(|_| {});
    }
    let result = batch.run(op);
    assert_eq!(result.items().as_ptr(), address, "the items were moved, {workers:?}");
    let outcomes = result.outcomes().as_ptr();
    let (items, all) = result.into_parts();
    assert_eq!((items.as_ptr(), items.capacity()), (address, capacity), "the items were moved, {workers:?}");
    assert_eq!(all.as_ptr(), outcomes, "the outcomes were moved, {workers:?}");
    assert!(items.into_iter().eq((0..1_000).map(|n| [n; 8])));
}

#[test]
fn items_never_move() {
    within_a_minute(|| {
        for workers in settings() {
            for reports in [false, true] {
                assert_items_stay_in_place(workers, reports, |item| Ok(item[0]));
                let fails =
                    |item: &[u64; 8]| if item[0] == 500 { Err("500".to_owned()) } else { Ok(item[0]) };
                assert_items_stay_in_place(workers, reports, fails);
            }
        }
    });
}

#[test]
fn items_never_move_where_they_are_tried_again_or_never_tried() {
    within_a_minute(|| {
        for workers in settings() {
            let items: Vec<String> = (0..200).map(|n| n.to_string()).collect();
            let address = items.as_ptr();
            let executor = stopping(workers);
            let retry = Retry::delays(|| std::iter::once(Duration::ZERO));
            let batch = executor.batch(items).retry(retry);
            let again = batch.run_with(|_, cx| if cx.attempt() == 1 { Err("again") } else { Ok(()) });
            let (items, _) = ran_to_its_end(again).into_parts();
            assert_eq!(items.as_ptr(), address, "{workers:?}");

            let tasks: Vec<fn() -> Result<(), String>> = vec![|| Ok(()); 200];
            let (items, _) = ran_to_its_end(executor.batch(items).run_tasks(tasks)).into_parts();
            assert_eq!(items.as_ptr(), address, "{workers:?}");

            let late = executor.batch(items).timeout(Duration::ZERO).run(|_| Ok::<_, String>(()));
            let (items, _) = stopped(late).1.into_parts();
            assert_eq!(items.as_ptr(), address, "{workers:?}");

            let refused = executor.batch(items).run_tasks([|| Ok::<_, String>(())]);
            assert_eq!(stopped(refused).1.into_parts().0.as_ptr(), address, "{workers:?}");
        }
    });
}

/// No trait but what they need to be run.
struct Plain(usize);

#[test]
fn the_first_failure_comes_by_value_with_its_index_and_its_item() {
    within_a_minute(|| {
        for workers in settings() {
            let run = |executor: BatchExecutor| {
                executor.run(
                    (0..50).map(Plain),
                    |item| if item.0 >= 30 { Err(Plain(item.0 * 2)) } else { Ok(()) },
                )
            };
            for executor in [stopping(workers), collecting(workers)] {
                let first = run(executor).into_first_failure().unwrap();
                let ItemError::Failed(Plain(error)) = first.outcome else { panic!("it failed") };
                assert_eq!((first.index, first.item.0, error), (30, 30, 60), "{workers:?}");
            }
            let all = collecting(workers).run(0..50, |_| Ok::<_, Plain>(()));
            assert!(all.into_first_failure().is_none(), "{workers:?}");
            let late = stopping(workers).batch(0..50).timeout(Duration::ZERO).run(|_| Ok::<_, Plain>(()));
            assert!(late.into_first_failure().is_none(), "an item that is skipped has not failed");
        }
    });
}

#[test]
fn items_without_a_value_come_back_in_order_to_be_run_again() {
    within_a_minute(|| {
        for workers in settings() {
            let third = |&n: &usize| if n % 3 == 0 { Err("a third") } else { Ok(()) };
            let failed = collecting(workers).run(0..100usize, third).into_failed();
            assert_eq!(failed, (0..100).step_by(3).collect::<Vec<_>>(), "{workers:?}");
            assert!(collecting(workers).run(failed, |_| Ok::<_, String>(())).into_failed().is_empty());
        }
        // One worker goes no further than the failure.
        let fourth = |&n: &usize| if n == 4 { Err("the fifth") } else { Ok(()) };
        assert_eq!(stopping(1).run(0..8usize, fourth).into_failed(), [4, 5, 6, 7]);
    });
}

#[test]
fn failed_and_skipped_items_and_such_as_wait_come_back_in_order_among_each_other() {
    silence_meant_panics();
    let (executor, token) = (collecting(1), CancelToken::new());
    let retry = Retry::delays(|| std::iter::repeat(Duration::MAX)).when(|error: &&str| {
        if *error == "later" {
            batch_executor::RetryDecision::Retry
        } else {
            batch_executor::RetryDecision::GiveUp
        }
    });
    let result = executor.batch(0..8).cancel_on(&token).retry(retry).run(|n| match n {
        1 => Err("later"),
        2 => Err("no"),
        3 => panic!("{MEANT}three"),
        5 => {
            token.cancel();
            Ok(())
        }
        _ => Ok(()),
    });
    assert!(matches!(
        result.outcomes(),
        [
            Ok(()),
            Err(ItemError::Interrupted(Some("later"))),
            Err(ItemError::Failed("no")),
            Err(ItemError::Panicked(_)),
            Ok(()),
            Ok(()),
            Err(ItemError::Skipped),
            Err(ItemError::Skipped),
        ]
    ));
    assert_counts_add_up(&result);
    assert_eq!((result.succeeded(), result.failed(), result.skipped()), (3, 2, 3));
    assert_eq!(result.into_failed(), [1, 2, 3, 6, 7]);
}

#[test]
fn a_failure_knows_its_item_its_error_and_its_attempts_and_says_so() {
    silence_meant_panics();
    let retry = Retry::delays(|| [Duration::ZERO; 2].into_iter());
    let executor = collecting(2);
    let result = executor.batch(["a", "b", "c", "d"]).retry(retry).run_with(|name, cx| match *name {
        "b" => Err("not found"),
        "c" => panic!("{MEANT}c"),
        "d" if cx.attempt() == 1 => Err("busy"),
        _ => Ok(()),
    });
    let failures: Vec<_> = result.failures().collect();
    let told: Vec<_> =
        failures.iter().map(|failure| (failure.index, *failure.item, failure.attempts)).collect();
    assert_eq!(told, [(1, "b", 3), (2, "c", 1)]);
    assert!(matches!(failures[0].error, ItemError::Failed("not found")));
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["item 1: not found", "item 2: panicked: meant: c"]);
    // They are copies of references: the result can still be read.
    let copy = failures[0];
    assert_eq!((copy.index, result.failed()), (1, 2));

    let refusing = limiter_fn(|| Err(LimiterError::new("used up")));
    let executor = BatchExecutor::builder().rate_limiter(refusing).build().unwrap();
    let refused = executor.run([7], |_| Ok::<_, String>(()));
    let failure = refused.failures().next().unwrap();
    assert_eq!(
        (failure.attempts, failure.to_string().as_str()),
        (0, "item 0: no permit from the rate limiter: used up")
    );
}

#[test]
fn items_come_with_their_index_from_either_end() {
    let fails = |&n: &usize| if n == 1 { Err("one") } else { Ok(n * 10) };
    let result = collecting(2).run(0..4usize, fails);
    let mut both = result.iter();
    assert_eq!(both.len(), 4);
    let (first, last) = (both.next().unwrap(), both.next_back().unwrap());
    assert_eq!([(first.index, *first.item), (last.index, *last.item)], [(0, 0), (3, 3)]);
    assert_eq!(both.len(), 2);
    let every_other = [0, 1].map(|first| result.iter().skip(first).step_by(2));
    let every_other = every_other.map(|items| items.map(|item| (item.index, *item.item)).collect::<Vec<_>>());
    assert_eq!(every_other, [[(0, 0), (2, 2)], [(1, 1), (3, 3)]]);
    let mut owned = collecting(2).run(0..4usize, fails).into_iter();
    let ends = [owned.next().unwrap(), owned.next_back().unwrap(), owned.next_back().unwrap()];
    assert_eq!(ends.map(|item| (item.index, item.item)), [(0, 0), (3, 3), (2, 2)]);
    let mut backwards =
        result.into_iter().rev().map(|BatchItem { index, item, outcome, .. }| (index, item, outcome.ok()));
    assert_eq!(backwards.next(), Some((3, 3, Some(30))));
    assert_eq!(backwards.len(), 3);
    assert!(backwards.eq([(2, 2, Some(20)), (1, 1, None), (0, 0, Some(0))]));
}

#[test]
fn a_result_prints_its_counts_whatever_its_items_are() {
    let result: BatchResult<Plain, Plain, Plain> =
        collecting(1).run((0..3).map(Plain), |item| if item.0 == 1 { Err(Plain(1)) } else { Ok(Plain(2)) });
    assert!(
        format!("{result:?}")
            .starts_with("BatchResult { total: 3, succeeded: 2, failed: 1, skipped: 0, stopped: None")
    );
    assert!(result.to_string().starts_with("2 of 3 succeeded, 1 failed in "));
}

#[test]
fn a_batch_may_ask_for_more_workers_than_its_executor_has_and_gets_them() {
    const MORE: usize = 12;

    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            for reports in [false, true] {
                // It lets none go before all have come.
                let (barrier, peak) = (Barrier::new(MORE), Peak::default());
                let mut batch = executor.batch(0..MORE).workers(MORE);
                if reports {
                    batch = batch.on_progress(|_| {});
                }
                let result = ran_to_its_end(batch.run(|_| {
                    let _inside = peak.enter();
                    barrier.wait();
                    Ok::<_, String>(())
                }));
                assert!(result.is_success());
                assert_eq!((result.workers(), peak.most()), (MORE, MORE), "{workers:?}");
            }
            // Its next batch has the executor's own again.
            assert_still_works(&executor);
        }
    });
}

#[test]
fn a_batch_may_ask_for_fewer_workers_than_its_executor_has() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = collecting(workers);
            let caller = thread::current().id();
            for asked in [Workers::Sequential, Workers::Fixed(1)] {
                let peak = Peak::default();
                let result = ran_to_its_end(executor.batch(0..200).workers(asked).run(|_| {
                    let _inside = peak.enter();
                    Ok::<_, String>(thread::current().id())
                }));
                assert_eq!((result.workers(), peak.most()), (1, 1), "{workers:?}");
                assert!(result.values().all(|thread| *thread == caller));
            }
            assert_still_works(&executor);
        }
    });
}

#[test]
fn the_last_of_two_worker_settings_holds_and_any_kind_will_do() {
    within_a_minute(|| {
        let executor = BatchExecutor::new();
        let together = |workers: Workers, count: usize| {
            let meeting = Meeting::default();
            let batch = executor.batch(0..count).workers(1).workers(workers);
            let result = ran_to_its_end(batch.run(|_| {
                meeting.of(count);
                Ok::<_, String>(())
            }));
            assert!(result.is_success(), "{workers:?}");
            assert_eq!(result.workers(), count, "{workers:?}");
        };
        together(Workers::Fixed(5), 5);
        together(Workers::from(AdaptiveWorkers::new().min(5).max(5)), 5);
        let one = executor.batch(0..50).workers(5).workers(Workers::Sequential).run(|_| Ok::<_, String>(()));
        assert_eq!(ran_to_its_end(one).workers(), 1);
    });
}

#[test]
fn a_batch_inside_an_item_may_ask_for_more_workers() {
    within_a_minute(|| {
        let executor = collecting(2);
        let result = ran_to_its_end(executor.run(0..4, |_| {
            let meeting = Meeting::default();
            let inner = executor.batch(0..6).workers(6).run(|_| {
                meeting.of(6);
                Ok::<_, String>(1)
            });
            inner.into_values().map(|values| values.iter().sum::<i32>()).map_err(|error| error.to_string())
        }));
        assert_eq!(all_values(result), [6; 4]);
    });
}

#[test]
fn a_batch_says_for_itself_when_it_stops() {
    within_a_minute(|| {
        for workers in settings() {
            let fails = |&n: &usize| if n % 10 == 3 { Err("three") } else { Ok(n) };
            for executor in [
                stopping(workers),
                collecting(workers),
                crate::common::builder().workers(workers).stop_after_failures(5).build().unwrap(),
            ] {
                let run = |batch: batch_executor::Batch<'_, std::ops::Range<usize>, usize, &'static str>| {
                    batch.run(fails)
                };
                let batch = || executor.batch(0..100usize);

                let collected = ran_to_its_end(run(batch().stop_on_error(false)));
                assert_eq!((collected.failed(), collected.skipped()), (10, 0), "{workers:?}");

                let (reason, _) = stopped(run(batch().stop_on_error(true)));
                assert_eq!(reason, StopReason::ItemFailed { index: 3 }, "{workers:?}");

                let (reason, partial) = stopped(run(batch().stop_after_failures(2)));
                assert_eq!(reason, StopReason::TooManyFailures { limit: 2 }, "{workers:?}");
                assert!(
                    partial.outcomes()[..=13]
                        .iter()
                        .all(|outcome| !matches!(outcome, Err(ItemError::Skipped)))
                );

                // The last call of the two wins.
                let collected = ran_to_its_end(run(batch().stop_after_failures(2).stop_on_error(false)));
                assert_eq!(collected.failed(), 10, "{workers:?}");
                let (reason, _) = stopped(run(batch().stop_on_error(false).stop_after_failures(1)));
                assert_eq!(reason, StopReason::TooManyFailures { limit: 1 }, "{workers:?}");
            }
            // What one batch asks for, the next one does not have.
            let executor = stopping(workers);
            let collected = ran_to_its_end(executor.batch(0..100usize).stop_on_error(false).run(fails));
            assert_eq!(collected.failed(), 10, "{workers:?}");
            assert_eq!(stopped(executor.run(0..100usize, fails)).0, StopReason::ItemFailed { index: 3 });
        }
    });
}

#[test]
fn an_init_that_fails_is_the_outcome_of_the_item_at_hand_and_is_called_again_for_the_next() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, asked, census) = (way.collecting(), AtomicUsize::new(0), Census::of(40));
            let init = || match asked.fetch_add(1, Ordering::SeqCst) {
                call if call < 3 => Err(format!("refused {call}")),
                call => Ok(Cell::new(call)),
            };
            let result = way.batch(&executor, 0..40usize).try_run_init(init, |&n, cx| {
                census.count(n);
                cx.state.set(cx.state.get() + 1);
                Ok(n)
            });
            let result = ran_to_its_end(result);
            assert_eq!((result.failed(), census.total()), (3, 37), "{way:?}");
            let mut refused: Vec<String> =
                result.failures().map(|failure| failure.error.to_string()).collect();
            refused.sort();
            assert_eq!(refused, ["refused 0", "refused 1", "refused 2"], "{way:?}");
            for failure in result.failures() {
                assert!(matches!(failure.error, ItemError::Failed(_)));
                assert_eq!((failure.attempts, census.runs()[failure.index]), (1, 0), "{way:?}");
            }
            if way.is_lone() {
                // One worker, and its first three items.
                assert!(result.failures().map(|failure| failure.index).eq(0..3), "{way:?}");
                assert_eq!(asked.into_inner(), 4, "a state that was made is kept, {way:?}");
            }
        }
    });
}

#[test]
fn an_init_that_fails_is_an_attempt_that_a_retry_may_follow_with_another() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, asked, census) = (way.stopping(), AtomicUsize::new(0), Census::of(20));
            let init = || if asked.fetch_add(1, Ordering::SeqCst) < 5 { Err("refused") } else { Ok(()) };
            let retry = Retry::delays(|| std::iter::repeat_n(Duration::ZERO, 5));
            let result = way.batch(&executor, 0..20usize).retry(retry).try_run_init(init, |&n, _| {
                census.count(n);
                Ok(n)
            });
            let result = ran_to_its_end(result);
            assert!(result.is_success(), "{way:?}");
            census.assert_each_ran_once();
            assert_eq!((0..20).map(|n| result.attempts(n) - 1).sum::<usize>(), 5, "{way:?}");
        }
    });
}

#[test]
fn an_init_that_always_fails_stops_a_batch_at_its_first_item() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, census) = (way.stopping(), Census::of(20));
            let result = way.batch(&executor, 0..20usize).try_run_init(
                || Err::<(), _>(Because { what: "connecting".to_owned(), cause: None }),
                |&n, _| {
                    census.count(n);
                    Ok(n)
                },
            );
            let (reason, partial) = stopped(result);
            assert_eq!((reason, census.total()), (StopReason::ItemFailed { index: 0 }, 0), "{way:?}");
            let error = partial.into_values().unwrap_err();
            assert!(error.source().is_some_and(<dyn Error>::is::<Because>), "{way:?}");
        }
    });
}

#[test]
fn an_init_that_can_fail_makes_a_state_that_its_worker_keeps_and_drops() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, states) = (way.collecting(), Register::default());
            let result =
                way.batch(&executor, 0..300).try_run_init(|| Ok::<_, String>(states.make()), |&n, _| Ok(n));
            let result = ran_to_its_end(result);
            assert!(result.is_success(), "{way:?}");
            assert!(!way.is_lone() || states.made() == 1, "{} states, {way:?}", states.made());
            states.assert_all_dropped(states.made());
        }
    });
}

#[derive(Debug, thiserror::Error)]
#[error("row {0}")]
struct Row(u32, #[source] Reset);

#[derive(Debug, thiserror::Error)]
#[error("connection reset")]
struct Reset;

/// What `?` and a `main` that returns the error print.
#[test]
fn the_text_of_a_batch_error_has_the_causes_of_the_first_failure_and_so_has_its_source() {
    type Boxed = Box<dyn Error + Send + Sync>;
    let typed = stopping(1).run([3], |n| Err::<(), _>(Row(*n, Reset))).into_values().unwrap_err();
    let boxed = stopping(1).run([3], |n| Err::<(), Boxed>(Row(*n, Reset).into())).into_result().unwrap_err();
    let context = |n: &u32| Err::<(), _>(anyhow::anyhow!("connection reset").context(format!("row {n}")));
    let anyhow = stopping(1).run([3], context).into_result().unwrap_err();
    for error in [typed, boxed, anyhow] {
        assert!(error.to_string().starts_with("item 0 failed: row 3: connection reset (0 of 1 "), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "row 3");
        assert_eq!(error.source().unwrap().source().unwrap().to_string(), "connection reset");
    }
    let failures = collecting(1).run([3], context);
    let texts: Vec<String> = failures.failures().map(|failure| failure.to_string()).collect();
    assert_eq!(texts, ["item 0: row 3: connection reset"]);
}

#[test]
fn an_item_without_a_permit_and_its_span_tell_the_causes() {
    let executor = BatchExecutor::builder()
        .rate_limiter(limiter_fn(|| Err(LimiterError::new(Row(3, Reset)))))
        .build()
        .unwrap();
    let result = executor.batch([7]).record_timeline().run(|_| Ok::<_, String>(()));
    let failure = result.failures().next().unwrap().to_string();
    assert_eq!(failure, "item 0: no permit from the rate limiter: row 3: connection reset");
    let spans = result.timeline().unwrap().spans();
    assert_eq!(spans[0].note(), Some("row 3: connection reset"));
}

#[test]
fn a_cause_that_the_text_has_already_is_told_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("row 3: {0}")]
    struct Tells(#[source] Reset);

    let error = stopping(1).run([3], |_| Err::<(), _>(Tells(Reset))).into_result().unwrap_err();
    assert!(error.to_string().starts_with("item 0 failed: row 3: connection reset (0 "), "{error}");
    let executor = BatchExecutor::builder()
        .rate_limiter(limiter_fn(|| Err(LimiterError::new(Row(3, Reset)))))
        .build()
        .unwrap();
    let error = executor.run([3], |_| Ok::<_, String>(())).into_result().unwrap_err();
    let text = "item 0 failed: no permit from the rate limiter: row 3: connection reset (0 ";
    assert!(error.to_string().starts_with(text), "{error}");
}
