//! The tests of the Python class that this crate descends from, as claims about this one. Where those measured time, these
//! count and meet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{AutoWorkers, BatchExecutor, ItemError, StopReason, Workers};

use crate::common::{Census, Meeting, Peak, collecting, ran_to_its_end, stopped, stopping, within_a_minute};

#[test]
fn three_tasks_run_at_once_and_answer_under_their_ids() {
    within_a_minute(|| {
        let meeting = Meeting::default();
        let task = |name: &'static str| {
            let meeting = &meeting;
            move || {
                meeting.of(3);
                Ok::<_, String>(format!("result of {name}"))
            }
        };
        let result =
            collecting(3).execute_batch([task("a"), task("b"), task("c")], ["id-a", "id-b", "id-c"]).unwrap();
        assert_eq!((result.total(), result.succeeded(), result.failed()), (3, 3, 0));
        assert_eq!(result.workers(), 3);
        assert_eq!(result.items(), ["id-a", "id-b", "id-c"]);
        assert_eq!(result.into_values().unwrap(), ["result of a", "result of b", "result of c"]);
    });
}

#[test]
fn never_more_tasks_at_once_than_max_workers() {
    within_a_minute(|| {
        for most in [1, 2, 4] {
            let peak = Peak::default();
            let meeting = Meeting::default();
            let tasks = (0..40usize).map(|n| {
                let (peak, meeting) = (&peak, &meeting);
                move || {
                    let _inside = peak.enter();
                    if n < most {
                        meeting.of(most);
                    }
                    thread::sleep(Duration::from_micros(200));
                    Ok::<_, String>(n)
                }
            });
            let result = collecting(most).execute_batch(tasks, 0..40).unwrap();
            assert!(result.is_success());
            assert_eq!((peak.most(), result.workers()), (most, most));
        }
    });
}

#[test]
fn a_small_batch_has_few_workers_and_a_larger_one_more() {
    let auto = AutoWorkers::new().cpus(4);
    assert_eq!([1, 3, 8, 1_000].map(|size| auto.for_batch(size)), [1, 3, 8, 8]);
    let executor = BatchExecutor::builder().workers(auto).build().unwrap();
    assert_eq!([0, 1, 3, 8, 1_000].map(|size| executor.workers_for(size)), [1, 1, 3, 8, 8]);
    let many_cpus = BatchExecutor::builder().workers(AutoWorkers::new().cpus(64)).build().unwrap();
    assert_eq!(many_cpus.workers_for(1_000), 32);

    for workers in [Workers::auto(), Workers::adaptive(), Workers::Fixed(6)] {
        let executor = collecting(workers);
        let counts: Vec<usize> = (0..200).map(|size| executor.workers_for(size)).collect();
        // Adaptive workers start a worker an item for the smallest batches, and a worker a core for larger ones.
        let adapts = matches!(workers, Workers::Adaptive(_));
        assert!(adapts || counts.is_sorted(), "{workers:?}: {counts:?}");
        assert!(
            counts
                .iter()
                .zip(0..)
                .all(|(&workers, size): (&usize, usize)| (1..=size.max(1)).contains(&workers))
        );
    }
}

#[test]
fn a_small_batch_does_meet_with_as_many_as_it_has() {
    within_a_minute(|| {
        let executor = collecting(AutoWorkers::new().cpus(4));
        for size in [1, 3, 8] {
            let meeting = Meeting::default();
            let result = executor.run(0..size, |_| {
                meeting.of(size);
                Ok::<_, String>(())
            });
            assert_eq!(ran_to_its_end(result).workers(), size);
        }
    });
}

#[test]
fn a_batch_of_ten_gives_ten_results_with_workers_found_automatically() {
    within_a_minute(|| {
        for workers in [Workers::auto(), Workers::adaptive()] {
            let executor = BatchExecutor::builder().workers(workers).build().unwrap();
            let tasks = (0..10).map(|n| move || Ok::<_, String>(n * n));
            let ids: Vec<String> = (0..10).map(|n| format!("task-{n}")).collect();
            let result = executor.execute_batch(tasks, ids.clone()).unwrap();
            assert_eq!((result.total(), result.succeeded()), (10, 10));
            assert!((1..=10).contains(&result.workers()), "{workers:?}");
            assert_eq!(result.items(), ids);
            assert_eq!(result.into_values().unwrap(), [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]);
        }
    });
}

#[test]
fn tasks_and_ids_of_different_number_are_refused() {
    let ran = AtomicUsize::new(0);
    let task = || {
        ran.fetch_add(1, Ordering::SeqCst);
        Ok::<_, String>(())
    };
    let error = BatchExecutor::new().execute_batch([task, task], ["only one"]).unwrap_err();
    assert_eq!(error.stopped(), Some(StopReason::LengthMismatch { tasks: 2, items: 1 }));
    assert_eq!(ran.into_inner(), 0);
}

#[test]
fn by_default_tasks_run_one_after_another_on_the_calling_thread() {
    for executor in
        [BatchExecutor::new(), BatchExecutor::default(), BatchExecutor::builder().build().unwrap()]
    {
        let caller = thread::current().id();
        let (peak, order) = (Peak::default(), AtomicUsize::new(0));
        let result = executor.run(0..50usize, |&n| {
            let _inside = peak.enter();
            assert_eq!(thread::current().id(), caller);
            assert_eq!(order.fetch_add(1, Ordering::SeqCst), n);
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).is_success());
        assert_eq!((peak.most(), executor.workers_for(1_000)), (1, 1));
    }
}

#[test]
fn by_default_the_first_error_stops_the_batch() {
    for executor in
        [BatchExecutor::new(), BatchExecutor::default(), BatchExecutor::builder().build().unwrap()]
    {
        let census = Census::of(5);
        let (reason, partial) = stopped(executor.run(0..5usize, |&n| {
            census.count(n);
            if n == 2 { Err("the third fails") } else { Ok(n) }
        }));
        assert_eq!(census.runs(), [1, 1, 1, 0, 0]);
        let failure = partial.failures().next().unwrap();
        assert_eq!((reason, *failure.item), (StopReason::ItemFailed { index: 2 }, 2));
        assert!(matches!(failure.error, ItemError::Failed("the third fails")));
    }
}

#[test]
fn told_not_to_stop_it_runs_everything_and_keeps_each_error() {
    within_a_minute(|| {
        for workers in [Workers::Sequential, Workers::Fixed(3)] {
            let result = ran_to_its_end(
                collecting(workers)
                    .run(0..9usize, |&n| if n % 3 == 0 { Err(format!("task {n} failed")) } else { Ok(n) }),
            );
            assert_eq!((result.succeeded(), result.failed()), (6, 3));
            let errors: Vec<String> = result.failures().map(|item| item.error.to_string()).collect();
            assert_eq!(errors, ["task 0 failed", "task 3 failed", "task 6 failed"]);
        }
    });
}

#[test]
fn progress_comes_after_each_item() {
    let mut told = Vec::new();
    let ran = AtomicUsize::new(0);
    let executor = BatchExecutor::new();
    let batch = executor.batch(["a", "b", "c"]).on_progress(|p| {
        told.push((ran.load(Ordering::SeqCst), p.completed, p.total, p.succeeded, p.failed));
    });
    let result = batch.run(|_| {
        ran.fetch_add(1, Ordering::SeqCst);
        Ok::<_, String>(())
    });
    assert!(ran_to_its_end(result).is_success());
    assert_eq!(told, [(1, 1, 3, 1, 0), (2, 2, 3, 2, 0), (3, 3, 3, 3, 0)]);
}

#[test]
fn progress_counts_errors_and_ends_at_the_total_in_parallel_too() {
    within_a_minute(|| {
        let mut told = Vec::new();
        let executor = collecting(4);
        let batch = executor.batch(0..40).on_progress(|p| told.push(p.completed));
        let result = ran_to_its_end(batch.run(|&n| if n % 2 == 0 { Err("even") } else { Ok(()) }));
        assert_eq!((result.succeeded(), result.failed()), (20, 20));
        assert_eq!(told, (1..=40).collect::<Vec<_>>());
    });
}

#[test]
fn results_are_in_input_order_though_the_first_task_ends_last() {
    within_a_minute(|| {
        let ended = AtomicUsize::new(0);
        let tasks = (0..4usize).map(|n| {
            let ended = &ended;
            move || {
                crate::common::wait_until("the tasks behind have ended", || {
                    ended.load(Ordering::SeqCst) == 3 - n
                });
                Ok::<_, String>((n, ended.fetch_add(1, Ordering::SeqCst)))
            }
        });
        let result = stopping(4).execute_batch(tasks, ["1st", "2nd", "3rd", "4th"]).unwrap();
        assert_eq!(result.into_values().unwrap(), [(0, 3), (1, 2), (2, 1), (3, 0)]);
    });
}

#[test]
fn an_empty_batch_gives_an_empty_result() {
    for workers in [Workers::Sequential, Workers::auto()] {
        let tasks: [fn() -> Result<(), String>; 0] = [];
        let result = collecting(workers).execute_batch(tasks, Vec::<String>::new()).unwrap();
        assert_eq!((result.total(), result.workers(), result.is_success()), (0, 0, true));
    }
}

#[test]
fn the_time_includes_what_the_iterators_take() {
    let slowly = |n| {
        thread::sleep(Duration::from_millis(5));
        n
    };
    let executor = BatchExecutor::new();
    let run = ran_to_its_end(executor.run((0..4).map(slowly), |_| Ok::<_, String>(())));
    let tasks = (0..4).map(|n| move || Ok::<_, String>(n));
    let run_tasks = executor.execute_batch(tasks, (0..4).map(slowly)).unwrap();
    for elapsed in [run.elapsed(), run_tasks.elapsed()] {
        assert!(elapsed >= Duration::from_millis(20), "{elapsed:?}");
    }
}
