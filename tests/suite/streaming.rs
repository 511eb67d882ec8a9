//! Streams: every outcome once, in input order unless asked otherwise, and never more under way than the window holds.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use batch_executor::{
    AdaptiveWorkers, Batch, BatchExecutor, BatchItem, ItemError, Outcome, Results, Workers,
};

use crate::common::streams::{Ledger, WINDOWS};
use crate::common::{
    Census, Gate, Register, Way, collecting, comes, parallel_settings, wait_until, within_a_minute,
};

/// Time for a broken engine to do what it must not.
const A_WHILE: Duration = Duration::from_millis(20);

type Item<T> = BatchItem<usize, Outcome<T, String>>;

/// What comes of an item of a stream without failures.
fn value<T>(item: Item<T>) -> (usize, T) {
    (item.item, item.outcome.expect("a value"))
}

/// That, and where in the input the item stood.
fn placed<T>(item: Item<T>) -> (usize, (usize, T)) {
    (item.index, value(item))
}

#[test]
fn a_stream_is_iterator_map_for_every_worker_setting_and_window() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            for window in WINDOWS {
                for total in [0, 1, 2, 150] {
                    let (ledger, census) = (Ledger::default(), Census::of(total));
                    // Ids that are not unique; items of different length.
                    let items = || (0..total).map(|n| n % 7);
                    let batch = way.batch(&executor, ledger.input(items())).window(window);
                    let streamed = batch.stream_with(
                        |&id, cx| {
                            census.count(cx.index());
                            if id % 3 == 0 {
                                thread::yield_now();
                            }
                            Ok(id * 3)
                        },
                        |results| ledger.output(results).map(placed).collect::<Vec<_>>(),
                    );
                    let expected: Vec<_> = items().map(|id| (id, id * 3)).enumerate().collect();
                    assert_eq!(streamed.output, expected, "{way:?}, window {window}");
                    assert_eq!((streamed.succeeded, streamed.failed, streamed.stopped), (total, 0, None));
                    census.assert_each_ran_once();
                    assert!(ledger.most() <= window, "{} under way of {window}, {way:?}", ledger.most());
                    assert!(ledger.has_ended());
                }
            }
        }
    });
}

#[test]
fn an_unordered_stream_is_iterator_map_as_a_multiset() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            for window in WINDOWS {
                for total in [0, 1, 2, 150] {
                    let (ledger, census) = (Ledger::default(), Census::of(total));
                    let items = || (0..total).map(|n| n % 7);
                    let batch = way.batch(&executor, ledger.input(items())).unordered().window(window);
                    let streamed = batch.stream_with(
                        |&id, cx| {
                            census.count(cx.index());
                            Ok(id * 3)
                        },
                        |results| ledger.output(results).map(placed).collect::<Vec<_>>(),
                    );
                    let mut found = streamed.output;
                    found.sort_unstable();
                    let expected: Vec<_> = items().map(|id| (id, id * 3)).enumerate().collect();
                    assert_eq!(found, expected, "{way:?}, window {window}");
                    assert_eq!((streamed.succeeded, streamed.failed, streamed.stopped), (total, 0, None));
                    census.assert_each_ran_once();
                    assert!(ledger.most() <= window, "{} under way of {window}, {way:?}", ledger.most());
                }
            }
        }
    });
}

/// Enough that workers take many at a time, with a slow one among them now and then.
#[test]
fn many_quick_items_come_in_order_and_within_the_window() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            for (window, total) in [(7, 1_000), (1_000, 6_000), (50_000, 6_000)] {
                let ledger = Ledger::default();
                let batch = way.batch(&executor, ledger.input(0..total)).window(window);
                let streamed = batch.stream(
                    |n| {
                        if n % 2_003 == 5 {
                            thread::sleep(Duration::from_millis(1));
                        }
                        Ok(n ^ 1)
                    },
                    |results| ledger.output(results).map(value).enumerate().all(|(n, v)| v == (n, n ^ 1)),
                );
                assert!(streamed.output, "{way:?}, window {window}");
                assert_eq!((streamed.succeeded, ledger.pulled()), (total, total));
                assert!(ledger.most() <= window, "{} under way of {window}, {way:?}", ledger.most());
            }
        }
    });
}

/// What an item came to, in words of the caller's.
fn describe<'w>(word: &'w str, unwanted: &str) -> Result<&'w str, String> {
    let (first, _) = word.split_at_checked(1).ok_or("empty")?;
    if first == unwanted { Err(format!("{word} begins with {unwanted}")) } else { Ok(first) }
}

#[test]
fn items_operation_consumer_and_values_may_borrow() {
    within_a_minute(|| {
        for way in Way::all() {
            let (text, unwanted) = (String::from("one two three four"), String::from("f"));
            let (executor, mut seen) = (way.collecting(), Vec::new());
            let streamed = way.batch(&executor, text.split(' ')).stream(
                |word| describe(word, &unwanted),
                |results: &mut Results<'_, &str, &str, String>| {
                    seen.extend(results.by_ref().take(1).map(|item| item.item));
                    results.map(|item| (item.item, item.outcome)).collect::<Vec<_>>()
                },
            );
            let [two, three, (four, failed)] = &streamed.output[..] else { panic!("three are left") };
            assert_eq!((two.0, two.1.as_ref().unwrap()), ("two", &"t"));
            assert_eq!((three.0, three.1.as_ref().unwrap()), ("three", &"t"));
            assert!(matches!(failed, Err(ItemError::Failed(text)) if text == "four begins with f"));
            assert_eq!((*four, seen), ("four", vec!["one"]), "{way:?}");
            assert_eq!((streamed.succeeded, streamed.failed, streamed.stopped), (3, 1, None));
        }
    });
}

/// A state that knows whose it is, and tells where it is dropped.
struct Own<'c> {
    thread: ThreadId,
    alive: &'c Mutex<HashMap<ThreadId, usize>>,
    strays: &'c AtomicUsize,
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let here = thread::current().id();
        self.strays.fetch_add(usize::from(here != self.thread), Ordering::SeqCst);
        let mut alive = self.alive.lock().expect("no panic while it is locked");
        *alive.get_mut(&self.thread).expect("it was made") -= 1;
    }
}

#[test]
fn each_worker_has_one_state_that_never_leaves_its_thread() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, made) = (way.stopping(), AtomicUsize::new(0));
            let (alive, strays) = (Mutex::new(HashMap::new()), AtomicUsize::new(0));
            let init = || {
                made.fetch_add(1, Ordering::SeqCst);
                let thread = thread::current().id();
                *alive.lock().unwrap().entry(thread).or_insert(0) += 1;
                assert_eq!(alive.lock().unwrap()[&thread], 1, "two at a time");
                Own { thread, alive: &alive, strays: &strays }
            };
            let batch = way.batch(&executor, 0..500usize).window(20);
            let streamed = batch.stream_init(
                init,
                |&n, cx| {
                    let here = thread::current().id() == cx.state.thread;
                    if here { Ok(n) } else { Err("another's state".to_owned()) }
                },
                |results| results.filter(|item| item.outcome.is_ok()).count(),
            );
            assert_eq!(streamed.output, 500, "{way:?}");
            assert_eq!(strays.into_inner(), 0, "dropped on another thread");
            assert!(alive.into_inner().unwrap().values().all(|left| *left == 0));
            // A caller that works until the first helper comes has one of its own. Adaptive ones come and go.
            let most = executor.workers_for(20) + 1;
            let made = made.into_inner();
            assert!(made <= most || matches!(way.workers, Workers::Adaptive(_)), "{made} made, {way:?}");
        }
    });
}

#[test]
fn an_operation_is_told_index_attempt_and_worker() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            for window in WINDOWS {
                let batch = way.batch(&executor, (0..100usize).map(|n| 7 * n)).window(window);
                let streamed = batch.stream_with(
                    |_, cx| Ok((cx.index(), cx.attempt(), cx.worker(), cx.is_cancelled())),
                    |results| results.map(value).collect::<Vec<_>>(),
                );
                for (n, (id, (index, attempt, worker, is_cancelled))) in
                    streamed.output.into_iter().enumerate()
                {
                    assert_eq!((id, index, attempt, is_cancelled), (7 * n, n, 1, false), "{way:?}");
                    // No more work at a time than there are items under way, beside one that looks for more.
                    assert!(worker <= window, "worker {worker}, window {window}, {way:?}");
                }
            }
        }
    });
}

#[test]
#[should_panic(expected = "a window of 0 items")]
fn a_window_of_no_items_is_refused_by_name() {
    let _: Batch<_, (), ()> = BatchExecutor::new().batch(0..3).window(0);
}

#[test]
fn a_slow_first_item_holds_the_window_back_and_never_grows_it() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for window in [2, 3, 8, 300] {
                let (executor, ledger, ran) = (collecting(workers), Ledger::default(), AtomicUsize::new(0));
                let streamed = executor.batch(ledger.input(0..1_000)).window(window).stream(
                    |&n| {
                        if n == 0 {
                            wait_until("the window is full", || ran.load(Ordering::SeqCst) == window - 1);
                            thread::sleep(A_WHILE);
                            assert_eq!((ledger.pulled(), ran.load(Ordering::SeqCst)), (window, window - 1));
                        }
                        ran.fetch_add(1, Ordering::SeqCst);
                        Ok(n)
                    },
                    |results| ledger.output(results).map(value).map(|(id, _)| id).collect::<Vec<_>>(),
                );
                assert_eq!(streamed.output, (0..1_000).collect::<Vec<_>>(), "{workers:?}, window {window}");
                assert_eq!(ledger.most(), window, "{workers:?}");
            }
        }
    });
}

#[test]
fn without_a_window_slow_items_get_four_for_each_worker_that_there_may_be() {
    let adaptive = |least, most| Workers::from(AdaptiveWorkers::new().min(least).max(most));
    let cases = [
        (Workers::Fixed(2), 8),
        (Workers::Fixed(3), 12),
        (Workers::Fixed(8), 32),
        (adaptive(4, 4), 16),
        (adaptive(2, 5), 20),
    ];
    within_a_minute(move || {
        for (workers, window) in cases {
            let (executor, ledger) = (collecting(workers), Ledger::default());
            let streamed = executor.batch(ledger.input(0..)).stream(
                |&n| {
                    if n == 0 {
                        wait_until("the window is full", || ledger.pulled() == window);
                        thread::sleep(A_WHILE);
                        assert_eq!(ledger.pulled(), window);
                    } else {
                        thread::sleep(Duration::from_millis(2));
                    }
                    Ok(n)
                },
                |results| results.next().map(value),
            );
            assert_eq!(streamed.output, Some((0, 0)), "{workers:?}");
        }
    });
}

/// While the consumer holds an item, that has its place in the window.
#[test]
fn a_slow_consumer_holds_the_input_back() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for window in [1, 2, 3, 8, 40] {
                let (executor, ledger) = (collecting(workers), Ledger::default());
                let streamed = executor.batch(ledger.input(0..)).window(window).stream(
                    |&n| Ok(n),
                    |results| {
                        for n in 0..20 {
                            assert_eq!(results.next().map(value), Some((n, n)));
                            wait_until("the window is full", || ledger.pulled() == n + window);
                        }
                        thread::sleep(A_WHILE);
                    },
                );
                assert_eq!((ledger.pulled(), streamed.succeeded), (19 + window, 20), "{workers:?}");
            }
        }
    });
}

#[test]
fn an_unordered_stream_goes_on_beside_a_slow_item() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for window in [2, 3, 8, 1_000] {
                let (executor, gate, ledger) = (collecting(workers), Gate::default(), Ledger::default());
                let batch = executor.batch(ledger.input(0..200)).unordered().window(window);
                // Where a busy machine lets no helper come in time, the consumer's thread works, and does not wait.
                let (consumer, on_consumer) = (thread::current().id(), AtomicBool::new(false));
                let streamed = batch.stream(
                    |&n| {
                        if n == 0 && thread::current().id() == consumer {
                            on_consumer.store(true, Ordering::SeqCst);
                        } else if n == 0 {
                            gate.pass();
                        }
                        Ok::<_, String>(n)
                    },
                    |results| {
                        let mut results = ledger.output(results);
                        let others: Vec<_> = results.by_ref().take(199).map(|item| item.item).collect();
                        gate.open();
                        (others, results.map(|item| item.item).collect::<Vec<_>>())
                    },
                );
                let (mut others, mut last) = streamed.output;
                if on_consumer.into_inner() {
                    others.append(&mut last);
                    last.extend(others.iter().position(|n| *n == 0).map(|at| others.remove(at)));
                }
                others.sort_unstable();
                assert_eq!(
                    (others, last),
                    ((1..200).collect::<Vec<_>>(), vec![0]),
                    "{workers:?}, window {window}"
                );
                assert!(ledger.most() <= window);
            }
        }
    });
}

#[test]
fn neighbours_that_end_in_the_wrong_order_are_handed_on_in_the_right_one() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let (executor, census) = (collecting(workers), Census::of(200));
            let streamed = executor.batch(0..200usize).window(2).stream(
                |&n| {
                    // Every other item waits for the one behind it.
                    let is_behind = || census.runs()[n + 1] == 1;
                    let in_time = n % 2 == 1 || comes(is_behind);
                    census.count(n);
                    if in_time { Ok(n) } else { Err(format!("{n} came last")) }
                },
                |results| results.map(value).map(|(id, _)| id).collect::<Vec<_>>(),
            );
            assert_eq!(streamed.output, (0..200).collect::<Vec<_>>(), "{workers:?}");
        }
    });
}

#[test]
fn an_endless_input_is_pulled_no_further_than_the_window_when_the_consumer_has_enough() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            for window in WINDOWS {
                for wanted in [0, 1, 30] {
                    let (ledger, items) = (Ledger::default(), Register::default());
                    let endless = std::iter::repeat_with(|| items.make());
                    let streamed = way
                        .batch(&executor, ledger.input(endless))
                        .window(window)
                        .stream(|_| Ok::<_, String>(items.make()), |results| results.take(wanted).count());
                    assert_eq!((streamed.output, streamed.succeeded), (wanted, wanted), "{way:?}");
                    assert_eq!((streamed.failed, streamed.stopped), (0, None));
                    // The last one was not asked beyond, so it still had its place.
                    let most = wanted.saturating_sub(1) + window;
                    assert!(
                        ledger.pulled() <= most,
                        "{} pulled, {wanted} wanted of {window}",
                        ledger.pulled()
                    );
                    items.assert_all_dropped(items.made());
                    if way.is_lone() {
                        assert_eq!(ledger.pulled(), wanted, "{way:?}: pulled when they are asked for");
                    }
                }
            }
        }
    });
}

#[test]
fn an_input_that_would_begin_again_is_not_asked_after_its_end() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, ledger, mut calls) = (way.stopping(), Ledger::default(), 0);
            let restarts = std::iter::from_fn(move || {
                calls += 1;
                (calls % 10 != 0).then_some(calls)
            });
            let streamed = way.batch(&executor, ledger.input(restarts)).window(50).stream(
                |&n| Ok(n),
                |results| {
                    let ids: Vec<_> = results.by_ref().map(value).map(|(id, _)| id).collect();
                    // And `Results` stays at its end.
                    assert!((0..3).all(|_| results.next().is_none()));
                    ids
                },
            );
            assert_eq!(streamed.output, (1..10).collect::<Vec<_>>(), "{way:?}");
        }
    });
}

#[test]
fn results_and_how_a_stream_ended_can_be_printed() {
    let streamed = collecting(1).batch(["1", "x"]).stream(
        |text| text.parse::<u8>(),
        |results| {
            let before = format!("{results:?}");
            (before, results.count(), format!("{results:?}"))
        },
    );
    let (before, count, after) = &streamed.output;
    assert_eq!(before, "Results { succeeded: 0, failed: 0, is_over: false, .. }");
    assert_eq!((*count, after.as_str()), (2, "Results { succeeded: 1, failed: 1, is_over: true, .. }"));
    assert!(
        format!("{streamed:?}")
            .ends_with("stopped: None, succeeded: 1, failed: 1, journal_error: None, .. }"),
        "{streamed:?}"
    );
}
