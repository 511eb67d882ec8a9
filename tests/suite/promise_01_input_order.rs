//! Promise 1: input order, and nothing lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::Workers;
use proptest::prelude::*;

use crate::common::{
    Census, Meeting, all_values, assert_counts_add_up, assert_each_outcome_at_its_index, collecting,
    parallel_settings, ran_to_its_end, settings, stopped, stopping, wait_until, within_a_minute,
};

#[test]
fn outcome_k_belongs_to_item_k() {
    within_a_minute(|| {
        for workers in settings() {
            let census = Census::of(2_000);
            let result = collecting(workers).run(0..2_000usize, |&n| {
                census.count(n);
                if n % 97 == 0 {
                    thread::yield_now();
                }
                if n % 10 == 7 { Err(n) } else { Ok(n * 3) }
            });
            let result = ran_to_its_end(result);
            census.assert_each_ran_once();
            assert_eq!(result.total(), 2_000, "{workers:?}");
            assert_each_outcome_at_its_index(&result, |&n| (n % 10 != 7).then_some(n * 3));
            for failure in result.failures() {
                let text = failure.error.to_string();
                assert_eq!(text, failure.item.to_string(), "the error of another item, {workers:?}");
                assert_eq!((failure.index, failure.attempts), (*failure.item, 1), "{workers:?}");
            }
        }
    });
}

#[test]
fn items_that_finish_backwards_come_back_forwards() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = collecting(workers);
            let together = executor.workers_for(100);
            let meeting = Meeting::default();
            let finished = AtomicUsize::new(0);
            let result = executor.run(0..together, |&n| {
                meeting.of(together);
                wait_until("every item above is done", || {
                    finished.load(Ordering::SeqCst) == together - 1 - n
                });
                finished.fetch_add(1, Ordering::SeqCst);
                Ok::<_, String>(n + 100)
            });
            let result = ran_to_its_end(result);
            assert_eq!(result.workers(), together);
            assert_each_outcome_at_its_index(&result, |&n| Some(n + 100));
        }
    });
}

#[test]
fn equal_items_each_keep_their_own_outcome() {
    within_a_minute(|| {
        for workers in settings() {
            let tasks = (0..300usize).map(|n| move || if n % 3 == 0 { Err(n.to_string()) } else { Ok(n) });
            let result = collecting(workers).execute_batch(tasks, vec!["same"; 300]).unwrap();
            assert_eq!((result.total(), result.succeeded(), result.failed()), (300, 200, 100));
            assert!(result.items().iter().all(|&item| item == "same"));
            let values: Vec<usize> = result.values().copied().collect();
            let expected: Vec<usize> = (0..300).filter(|n| n % 3 != 0).collect();
            assert_eq!(values, expected, "{workers:?}");
        }
    });
}

#[test]
fn the_items_themselves_come_back_and_no_copies() {
    within_a_minute(|| {
        for workers in settings() {
            let items: Vec<Box<usize>> = (0..100).map(Box::new).collect();
            let addresses: Vec<*const usize> = items.iter().map(|item| &raw const **item).collect();
            let result = collecting(workers).run(items, |item| Ok::<_, String>(**item));
            let result = ran_to_its_end(result);
            let returned: Vec<*const usize> = result.items().iter().map(|item| &raw const **item).collect();
            assert_eq!(returned, addresses, "{workers:?}");
        }
    });
}

#[test]
fn a_stopped_batch_returns_every_item_too() {
    within_a_minute(|| {
        for workers in settings() {
            let result =
                stopping(workers).run(0..500usize, |&n| if n == 100 { Err("stop here") } else { Ok(n) });
            let (_, partial) = stopped(result);
            let (items, outcomes) = partial.into_parts();
            assert_eq!(items, (0..500).collect::<Vec<_>>(), "{workers:?}");
            assert_eq!(outcomes.len(), 500, "{workers:?}");
        }
    });
}

#[test]
fn slow_items_among_quick_ones_move_nothing() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let result = collecting(workers).run(0..5_000usize, |&n| {
                // Now and then a slow one, so that claims of many sizes mix.
                if n % 701 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok::<_, String>(n)
            });
            assert_eq!(all_values(result), (0..5_000).collect::<Vec<_>>());
        }
    });
}

#[test]
fn no_items_give_no_outcomes() {
    for workers in settings() {
        let result = collecting(workers).run(Vec::<u8>::new(), |_| Ok::<_, String>(()));
        assert_eq!((result.total(), result.workers()), (0, 0));
        assert!(result.is_success());
        assert_eq!((result.stopped(), result.into_values().unwrap()), (None, vec![]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_items_come_back_in_order(items in prop::collection::vec(any::<u16>(), 0..400), workers in 1..12usize) {
        let result = collecting(Workers::Fixed(workers))
            .run(items.clone(), |&n| if n % 5 == 0 { Err(n) } else { Ok(u32::from(n) + 1) });
        assert_counts_add_up(&result);
        prop_assert_eq!(result.stopped(), None);
        prop_assert_eq!(result.items(), &*items);
        prop_assert_eq!(result.outcomes().len(), items.len());
        for (item, expected) in result.iter().zip(&items) {
            prop_assert_eq!(item.item, expected);
            let value = (expected % 5 != 0).then_some(u32::from(*expected) + 1);
            prop_assert_eq!(item.outcome.as_ref().ok().copied(), value);
        }
    }
}

#[test]
fn a_result_can_be_gone_through_in_each_way() {
    let result = ran_to_its_end(collecting(2).run(0..50usize, |&n| Ok::<_, String>(n)));
    let expected = || (0..50usize).map(|n| (n, n));
    assert!((&result).into_iter().map(|item| (item.index, *item.item)).eq(expected()));
    assert!(result.iter().map(|item| (item.index, *item.item)).eq(expected()));
    assert!(result.items().iter().copied().eq(0..50));
    assert!(result.outcomes().iter().map(|outcome| *outcome.as_ref().unwrap()).eq(0..50));
    assert!(result.into_iter().map(|item| (item.index, item.item)).eq(expected()));
}
