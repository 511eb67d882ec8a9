//! Adaptive workers on real threads: how many come, counted and not timed. How good their number is, is for the simulator
//! (`tests/adaptive`) and the benchmark (`benches/adaptive`) to say.

mod common;

use std::thread;
use std::time::Duration;

use batch_executor::{AdaptiveWorkers, BatchExecutor, RateLimit, Workers};

use common::{Meeting, collecting, ran_to_its_end, within_a_minute};

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn items_that_wait_get_more_workers_than_there_are_cores() {
    within_a_minute(|| {
        let executor = collecting(AdaptiveWorkers::new().max(128));
        let result = executor.run(0..600, |_| {
            thread::sleep(20 * MILLISECOND);
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).workers() >= 32, "those that come before anything is completed");
    });
}

#[test]
fn items_that_wait_for_each_other_get_there() {
    // More than are started without evidence, and nothing completes before they have met.
    const TOGETHER: usize = 40;
    within_a_minute(|| {
        let executor = collecting(Workers::adaptive());
        let meeting = Meeting::default();
        let result = executor.run(0..200usize, |&n| {
            if n < TOGETHER {
                meeting.of(TOGETHER);
            }
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).workers() >= TOGETHER);
    });
}

#[test]
fn two_items_that_wait_for_each_other_get_there() {
    within_a_minute(|| {
        let (executor, meeting) = (collecting(Workers::adaptive()), Meeting::default());
        let result = executor.run([(); 2], |()| {
            meeting.of(2);
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).is_success());
    });
}

#[test]
fn a_limiter_that_sets_the_pace_gets_as_many_workers_as_that_needs() {
    within_a_minute(|| {
        let executor = BatchExecutor::builder()
            .workers(AdaptiveWorkers::new().max(128))
            .rate_limiter(RateLimit::every(5 * MILLISECOND))
            .build()
            .unwrap();
        let result = executor.run(0..150, |_| {
            thread::sleep(10 * MILLISECOND);
            Ok::<_, String>(())
        });
        let workers = ran_to_its_end(result).workers();
        assert!(workers <= 24, "{workers} workers, and two would do");
    });
}

#[test]
fn it_stays_between_min_and_max() {
    within_a_minute(|| {
        let executor = collecting(AdaptiveWorkers::new().min(5).max(7));
        let meeting = Meeting::default();
        let result = executor.run(0..100usize, |&n| {
            if n < 5 {
                meeting.of(5);
            }
            thread::sleep(MILLISECOND);
            Ok::<_, String>(())
        });
        assert!((5..=7).contains(&ran_to_its_end(result).workers()));
    });
}

#[test]
fn a_batch_that_adapts_runs_in_every_item_of_one_that_does() {
    within_a_minute(|| {
        let executor = collecting(AdaptiveWorkers::new().max(16));
        let result = executor.run(0..20u64, |_| {
            let inner = executor.run(0..20u64, |&n| {
                thread::sleep(MILLISECOND);
                Ok::<_, String>(n)
            });
            inner.into_values().map(|values| values.iter().sum::<u64>()).map_err(|error| error.to_string())
        });
        assert!(ran_to_its_end(result).values().all(|&sum| sum == 190));
    });
}
