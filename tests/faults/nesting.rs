//! Batches in batches: on one executor, on two, under a lock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use batch_executor::{BatchExecutor, BatchResult, Workers};

use crate::common::{
    Census, Meeting, Register, assert_survived, collecting, parallel_settings, ran_to_its_end, settings,
    within_a_minute,
};

/// F44
#[test]
fn a_batch_in_every_worker_at_once_finishes_three_deep() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = collecting(workers);
            let together = executor.workers_for(100);
            let (meeting, census, values) = (Meeting::default(), Census::of(together), Register::default());
            let result = executor.run(0..together, |&n| {
                census.count(n);
                meeting.of(together);
                let second = executor.run(0..3, |_| {
                    let third =
                        executor.batch(0..3).on_progress(|_| {}).run(|_| Ok::<_, String>(values.make()));
                    third.into_values().map_err(|error| error.to_string())
                });
                second.into_result().map_err(|error| error.to_string())
            });
            let result = ran_to_its_end(result);
            census.assert_each_ran_once();
            assert!(result.is_success() && result.values().all(BatchResult::is_success));
            assert_eq!((values.made(), values.dropped()), (together * 9, 0));
            drop(result);
            values.assert_all_dropped(together * 9);
            assert_survived(executor);
        }
    });
}

/// F45: a worker that holds a lock and waits for its own batch does not start an item that wants the lock.
#[test]
fn a_batch_under_a_lock_that_its_siblings_want_finishes() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let (lock, entered) = (Mutex::new(0), AtomicUsize::new(0));
            let result = executor.run(0..40usize, |_| {
                entered.fetch_add(1, Ordering::SeqCst);
                let mut sum = lock.lock().map_err(|_| "poisoned".to_owned())?;
                let inner = executor
                    .run(0..10, |&n| Ok::<_, String>(n))
                    .into_result()
                    .map_err(|error| error.to_string())?;
                *sum += inner.values().sum::<i32>();
                Ok::<_, String>(())
            });
            assert!(ran_to_its_end(result).is_success(), "{workers:?}");
            assert_eq!((lock.into_inner().unwrap(), entered.into_inner()), (40 * 45, 40));
            assert_survived(executor);
        }
    });
}

/// F46
#[test]
fn two_executors_that_call_into_each_other_finish() {
    fn bounce(one: &BatchExecutor, other: &BatchExecutor, depth: usize) -> usize {
        let result = one.run(0..3, |_| match depth {
            0 => Ok::<_, String>(1),
            _ => Ok(bounce(other, one, depth - 1)),
        });
        ran_to_its_end(result).values().sum()
    }

    within_a_minute(|| {
        for workers in settings() {
            let (one, other) = (collecting(workers), collecting(Workers::Fixed(2)));
            let together = one.workers_for(100);
            let meeting = Meeting::default();
            let result = one.run(0..together, |_| {
                meeting.of(together);
                Ok::<_, String>(bounce(&other, &one, 3))
            });
            assert_eq!(ran_to_its_end(result).values().sum::<usize>(), together * 81, "{workers:?}");
            assert_survived(one);
            assert_survived(other);
        }
    });
}

/// F44: with two threads that each nest, neither can get the other's helper to wait for it.
#[test]
fn callers_that_nest_side_by_side_finish() {
    within_a_minute(|| {
        let executor = collecting(2);
        let meeting = Meeting::default();
        let sums: Vec<i32> = std::thread::scope(|scope| {
            let nests = || {
                let result = executor.run(0..4, |&n| {
                    if n == 0 {
                        meeting.of(16);
                    }
                    let inner = executor.run(0..5, |&n| Ok::<_, String>(n));
                    Ok::<_, String>(ran_to_its_end(inner).values().sum::<i32>())
                });
                ran_to_its_end(result).values().sum()
            };
            let callers: Vec<_> = (0..16).map(|_| scope.spawn(nests)).collect();
            callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
        });
        assert_eq!(sums, [40; 16]);
        assert_survived(executor);
    });
}
