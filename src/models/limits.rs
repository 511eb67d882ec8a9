//! Limits that see the item: workers start the items that wait for slots when another worker, or the user, frees some.

use std::iter;
use std::time::Duration;

use super::{Gauge, executor};
use crate::executor::BatchExecutor;
use crate::limit::{Concurrency, Limit};
use crate::retry::Retry;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::model::check;
use crate::sync::thread;

/// Item 0 fails once, and is due again at once.
fn run_with_slots(executor: &BatchExecutor, items: usize, slots: usize, cost: fn(&usize) -> u64) {
    let (gauge, tried) = (Gauge::default(), AtomicUsize::new(0));
    let retry = Retry::delays(|| iter::once(Duration::ZERO));
    let batch = executor.batch(0..items).retry(retry).limit(Limit::at_once(slots).cost(cost));
    let result = batch.run(|&item| {
        gauge.during();
        if item == 0 && tried.fetch_add(1, Ordering::SeqCst) == 0 { Err(item) } else { Ok(item) }
    });
    assert_eq!(result.values().copied().collect::<Vec<_>>(), (0..items).collect::<Vec<_>>());
    assert!(gauge.most.load(Ordering::Relaxed) <= slots);
    assert_eq!(tried.load(Ordering::SeqCst), 2);
}

#[test]
fn items_that_wait_for_a_slot_and_one_that_is_tried_again_all_run() {
    check(|| run_with_slots(&executor(2), 3, 1, |_| 1));
}

#[test]
fn a_batch_whose_items_all_wait_hears_of_slots_from_elsewhere() {
    check(|| {
        let slots = Concurrency::new(1);
        slots.set(0);
        let gives = thread::spawn({
            let slots = slots.clone();
            move || slots.set(1)
        });
        let result = executor(2).batch(0..2).limit(Limit::at_once(&slots)).run(|&item| Ok::<_, usize>(item));
        assert_eq!(result.values().copied().collect::<Vec<_>>(), [0, 1]);
        gives.join().unwrap();
    });
}

#[cfg(shuttle)]
#[test]
fn items_of_any_cost_run_whatever_the_others_need() {
    check(|| run_with_slots(&executor(3), 9, 2, |item| *item as u64 % 3 + 1));
}
