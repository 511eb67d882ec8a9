//! Promise 7: a batch inside an item finishes, at full occupancy and any depth, and works on no other batch's items.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use batch_executor::{BatchExecutor, Workers};

use crate::common::{
    Meeting, assert_still_works, collecting, parallel_settings, ran_to_its_end, settings, within_a_minute,
};

/// Runs a batch of this many items in every item, and so on; how many items ran at the bottom.
fn nest(executor: &BatchExecutor, items: usize, depth: usize) -> usize {
    let result = executor.run(0..items, |_| match depth {
        0 => Ok::<_, String>(1),
        _ => Ok(nest(executor, items, depth - 1)),
    });
    ran_to_its_end(result).values().sum()
}

#[test]
fn a_batch_in_an_item_finishes_at_full_occupancy() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let together = executor.workers_for(1_000);
            let meeting = Meeting::default();
            let result = executor.run(0..together, |_| {
                // Every worker is inside an item before any starts a batch of its own.
                meeting.of(together);
                Ok::<_, String>(nest(&executor, together.max(2), 0))
            });
            let result = ran_to_its_end(result);
            assert!(result.is_success(), "{workers:?}");
            assert_eq!(result.values().sum::<usize>(), together * together.max(2));
            assert_still_works(&executor);
        }
    });
}

#[test]
fn batches_nest_to_depth_three_with_every_worker_busy() {
    within_a_minute(|| {
        for (workers, items) in [
            (Workers::Sequential, 4),
            (Workers::Fixed(2), 6),
            (Workers::Fixed(8), 8),
            (Workers::adaptive(), 6),
        ] {
            let executor = collecting(workers);
            assert_eq!(nest(&executor, items, 3), items.pow(4), "{workers:?}");
            assert_still_works(&executor);
        }
    });
}

#[test]
fn batches_nest_deep_with_one_item_each() {
    within_a_minute(|| {
        for workers in settings() {
            assert_eq!(nest(&collecting(workers), 1, 30), 1);
        }
    });
}

#[test]
fn a_batch_that_reports_progress_finishes_in_an_item_too() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = collecting(workers);
            let together = executor.workers_for(1_000);
            let meeting = Meeting::default();
            let calls = AtomicUsize::new(0);
            let result = executor.batch(0..together).on_progress(|_| {}).run(|_| {
                meeting.of(together);
                let batch = executor.batch(0..50).on_progress(|_| {
                    calls.fetch_add(1, Ordering::SeqCst);
                });
                batch.run(|_| Ok::<_, String>(())).into_result().map(drop).map_err(|error| error.to_string())
            });
            assert!(ran_to_its_end(result).is_success(), "{workers:?}");
            assert_eq!(calls.into_inner(), 50 * together);
        }
    });
}

#[test]
fn batches_from_more_threads_than_the_pool_has_all_finish() {
    within_a_minute(|| {
        let executor = collecting(2);
        let (meeting, done) = (Meeting::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    let result = executor.run(0..10, |&n| {
                        if n == 0 {
                            meeting.of(40);
                        }
                        Ok::<_, String>(nest(&executor, 3, 1))
                    });
                    done.fetch_add(ran_to_its_end(result).values().sum(), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(done.into_inner(), 40 * 10 * 9);
        assert_still_works(&executor);
    });
}

thread_local! {
    /// Which items this thread is inside of, the innermost last: the number of the batch, and that of its parent.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Runs `item` as part of batch `own`, which was started inside batch `parent`. The thread must either come from the pool
/// with nothing in its hands, or be the one that started the batch.
fn inside(own: usize, parent: Option<usize>, item: impl FnOnce()) {
    INSIDE.with_borrow_mut(|stack| {
        let top = stack.last().copied();
        assert!(top.is_none() || top == parent, "a thread inside batch {top:?} works on batch {own}");
        stack.push(own);
    });
    item();
    INSIDE.with_borrow_mut(Vec::pop);
}

#[test]
fn a_caller_that_waits_for_its_batch_works_on_no_other() {
    within_a_minute(|| {
        for workers in [Workers::Fixed(2), Workers::Fixed(4), Workers::Fixed(8)] {
            let executor = collecting(workers);
            let numbers = AtomicUsize::new(1);
            let number = || numbers.fetch_add(1, Ordering::SeqCst);
            let outer = executor.run(0..40, |_| {
                inside(0, None, || {
                    let middle = number();
                    let result = executor.run(0..6, |&m| {
                        inside(middle, Some(0), || {
                            let innermost = number();
                            let result = executor.run(0..4, |_| {
                                inside(innermost, Some(middle), thread::yield_now);
                                Ok::<_, String>(())
                            });
                            assert!(ran_to_its_end(result).is_success(), "in item {m}");
                        });
                        Ok::<_, String>(())
                    });
                    let result = ran_to_its_end(result);
                    assert!(result.is_success(), "{}", result.failures().next().unwrap().error);
                });
                Ok::<_, String>(())
            });
            let outer = ran_to_its_end(outer);
            assert!(outer.is_success(), "{}", outer.failures().next().unwrap().error);
        }
    });
}
