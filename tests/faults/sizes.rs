//! None, one, millions; lengths that differ; hints that lie; numbers out of range; memory that runs out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{
    AdaptiveWorkers, AutoWorkers, BatchResult, ConfigError, RateLimit, RateLimiter, StopReason, Workers,
};

use crate::common::{
    AT_THE_END, Census, Register, assert_each_outcome_at_its_index, assert_ends_well, assert_survived,
    builder, child, collecting, ran_to_its_end, settings, stopped, told_to, within_a_minute,
};

/// Gives these, and says of their number what it likes.
struct Lies<It>(It, (usize, Option<usize>));

impl<It: Iterator> Iterator for Lies<It> {
    type Item = It::Item;

    fn next(&mut self) -> Option<It::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.1
    }
}

const LIES: [(usize, Option<usize>); 5] = [
    (0, Some(0)),
    (usize::MAX, None),
    (usize::MAX, Some(usize::MAX)),
    (usize::MAX / 16 + 1, Some(0)),
    (3, Some(2)),
];

/// F11
#[test]
fn a_size_hint_that_lies_changes_nothing() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            for hint in LIES {
                let census = Census::of(500);
                let result = executor.run(Lies(0..500usize, hint), |&n| {
                    census.count(n);
                    Ok::<_, String>(n + 1)
                });
                census.assert_each_ran_once();
                assert_each_outcome_at_its_index(&ran_to_its_end(result), |&n| Some(n + 1));
            }
            assert_survived(executor);
        }
    });
}

/// F11: the same of ids and of tasks.
#[test]
fn a_size_hint_of_ids_or_tasks_that_lies_changes_nothing() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            for hint in LIES {
                let tasks = || (0..100usize).map(|n| move || Ok::<_, String>(n + 1));
                let result = executor.batch(0..100usize).run_tasks(Lies(tasks(), hint));
                assert_each_outcome_at_its_index(&ran_to_its_end(result), |&n| Some(n + 1));
                let result = executor.batch(Lies(0..100usize, hint)).run_tasks(tasks());
                assert_each_outcome_at_its_index(&ran_to_its_end(result), |&n| Some(n + 1));
            }
            assert_survived(executor);
        }
    });
}

/// F26
#[test]
fn no_items_run_nothing_and_say_so() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let empty = executor
                .batch(0..0)
                .on_progress(|_| panic!("called"))
                .run(|_| -> Result<(), String> { panic!("run") });
            let empty = ran_to_its_end(empty);
            assert_eq!((empty.total(), empty.workers(), empty.is_success()), (0, 0, true));
            assert!(empty.to_string().starts_with("0 of 0 succeeded in "));
            assert_survived(executor);
        }
    });
}

/// F27
#[test]
fn one_item_is_run_by_one_worker() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            for reports in [false, true] {
                for _ in 0..200 {
                    let calls = AtomicUsize::new(0);
                    let batch = executor.batch([7]);
                    let batch = if reports {
                        batch.on_progress(|_| {
                            calls.fetch_add(1, Ordering::SeqCst);
                        })
                    } else {
                        batch
                    };
                    let result = ran_to_its_end(batch.run(|&n| Ok::<_, String>(n)));
                    assert_eq!((result.workers(), result.into_values().unwrap()), (1, vec![7]));
                    assert_eq!(calls.into_inner(), usize::from(reports));
                }
            }
            assert_survived(executor);
        }
    });
}

#[track_caller]
fn assert_many_trivial_items_work(items: usize, workers: Workers) {
    let executor = collecting(workers);
    let calls = AtomicUsize::new(0);
    let result = ran_to_its_end(
        executor
            .batch(0..items)
            .on_progress(|_| {
                calls.fetch_add(1, Ordering::Relaxed);
            })
            .run(|&n| if n % 1_000 == 1 { Err(()) } else { Ok(()) }),
    );
    assert_eq!((result.failed(), result.succeeded()), (items / 1_000, items - items / 1_000));
    assert_eq!(calls.into_inner(), items);
    assert!(result.failures().map(|failure| *failure.item).eq((1..items).step_by(1_000)));
    assert_survived(executor);
}

/// F28
#[test]
fn a_million_trivial_items_are_no_trouble() {
    within_a_minute(|| {
        for workers in [Workers::Sequential, Workers::Fixed(8)] {
            assert_many_trivial_items_work(1_000_000, workers);
        }
    });
}

/// F28
#[test]
#[ignore = "takes 400 MB"]
fn ten_million_trivial_items_are_no_trouble() {
    within_a_minute(|| assert_many_trivial_items_work(10_000_000, Workers::Fixed(8)));
}

/// F29
#[test]
fn lengths_that_differ_run_nothing_and_drop_everything() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            for (tasks, ids) in [(5, 6), (6, 5), (0, 1), (1, 0)] {
                let (register, census) = (Register::default(), Census::of(6));
                let all = (0..tasks).map(|n| {
                    let (capture, census) = (register.make(), &census);
                    move || {
                        let _capture = capture;
                        census.count(n);
                        Ok::<_, String>(())
                    }
                });
                let batch = executor.batch((0..ids).map(|_| register.make()));
                let (reason, partial) = stopped(batch.run_tasks(all));
                assert_eq!(reason, StopReason::LengthMismatch { tasks, items: ids });
                assert_eq!((partial.skipped(), census.total()), (ids, 0));
                assert_eq!(register.dropped(), tasks, "the tasks are gone, and the items are not");
                drop(partial);
                register.assert_all_dropped(tasks + ids);
            }
            assert_survived(executor);
        }
    });
}

/// F31
#[test]
fn worker_counts_out_of_range_are_refused_when_built() {
    let bad = [
        Workers::Fixed(0),
        Workers::Fixed(65_537),
        Workers::Fixed(usize::MAX),
        Workers::from(AutoWorkers::new().cpus(usize::MAX).per_cpu(usize::MAX).cap(usize::MAX)),
        Workers::from(AdaptiveWorkers::new().max(usize::MAX)),
        Workers::from(AdaptiveWorkers::new().min(300)),
    ];
    for workers in bad {
        assert!(builder().workers(workers).build().is_err(), "{workers:?}");
    }
}

/// F31: the most that is accepted works, and starts no more threads than there are items.
#[test]
fn four_thousand_workers_for_a_hundred_items_are_a_hundred() {
    within_a_minute(|| {
        let executor = collecting(4096);
        assert_eq!(executor.workers_for(100), 100);
        assert_survived(executor);
    });
}

/// F32
#[test]
fn rates_of_nothing_are_refused_when_made() {
    assert_eq!(RateLimit::new(0, Duration::from_secs(1)).err(), Some(ConfigError::ZeroPermits));
    assert_eq!(RateLimit::new(1, Duration::ZERO).err(), Some(ConfigError::ZeroPeriod));
    assert!(RateLimit::new(u32::MAX, Duration::from_nanos(1)).is_ok());
    assert!(RateLimit::new(1, Duration::MAX).is_ok());
}

/// F33
#[test]
fn times_without_end_saturate() {
    within_a_minute(|| {
        let limit = RateLimit::new(1, Duration::MAX).unwrap();
        limit.pause(Duration::MAX);
        limit.pause(Duration::MAX);
        // A clock of 64 bits of nanoseconds ends after 584 years.
        assert!(limit.reserve().unwrap() >= Duration::from_secs(86_400 * 365 * 500));
        let executor = builder()
            .workers(4)
            .keep_alive(Duration::MAX)
            .rate_limiter(RateLimit::every(Duration::MAX))
            .build()
            .unwrap();
        // I5: the first permit is there at once, and the second would not be.
        assert!(executor.run(0..1, |_| Ok::<_, String>(())).is_success());
    });
}

/// F33: a burst so large that the schedule would begin before the clock takes no pause away.
#[test]
fn a_pause_holds_whatever_the_burst() {
    for burst in [1, 1_000, u32::MAX] {
        let limit = RateLimit::every(Duration::from_secs(86_400)).burst(burst);
        limit.pause(Duration::from_secs(60));
        assert!(
            limit.reserve().unwrap() > Duration::from_secs(50),
            "a burst of {burst} passed through the pause"
        );
    }
}

/// F22: large values inline, moved into their place once each.
#[test]
fn large_values_come_back_whole() {
    const SIZE: usize = 16 << 10;

    within_a_minute(|| {
        for workers in [Workers::Sequential, Workers::Fixed(4)] {
            let executor = collecting(workers);
            let result = ran_to_its_end(executor.run(0..40u8, |&n| Ok::<_, String>([n; SIZE])));
            for (n, value) in (0..40u8).zip(result.values()) {
                assert!(value.iter().all(|&byte| byte == n));
            }
            assert_survived(executor);
        }
    });
}

/// The items that were collected, without an outcome.
#[track_caller]
fn assert_out_of_memory<I, T>(result: BatchResult<I, T, String>) -> usize {
    let (reason, partial) = stopped(result);
    assert_eq!(reason, StopReason::OutOfMemory);
    assert_eq!((partial.outcomes().len(), partial.iter().len(), partial.workers()), (0, 0, 0));
    let items = partial.items().len();
    assert_eq!((partial.total(), partial.skipped()), (items, items));
    let error = partial.into_result().map(drop).expect_err("it stopped");
    let words =
        format!("there is no memory for this number of items (0 of {items} succeeded, {items} skipped");
    assert!(error.to_string().starts_with(&words), "{error}");
    items
}

/// F22, F37: an endless iterator with little memory; nothing is run, the items come back, and it is no abort.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_runs_out_is_a_reason_and_no_abort() {
    const TEST: &str = "sizes::memory_that_runs_out_is_a_reason_and_no_abort";
    if told_to().is_some() {
        for workers in [Workers::Sequential, Workers::Fixed(2)] {
            let (executor, register, runs) = (collecting(workers), Register::default(), Census::of(1));
            let items = (0usize..).map(|n| ([n; 512], register.make()));
            let result = executor.run(items, |_| {
                runs.count(0);
                Ok::<_, String>(())
            });
            let collected = assert_out_of_memory(result);
            assert!(collected > 1_000);
            // One more was pulled at the most, for which there was no room.
            assert!((collected..=collected + 1).contains(&register.made()));
            register.assert_all_dropped(register.made());
            let tasks = (0usize..).map(|n| {
                let (runs, held) = (&runs, ([n; 512], register.make()));
                move || {
                    runs.count(0);
                    Ok::<_, String>(held)
                }
            });
            assert_eq!(assert_out_of_memory(executor.batch([1, 2, 3]).run_tasks(tasks)), 3);
            assert_eq!(runs.total(), 0);
            register.assert_all_dropped(register.made());
            assert_survived(executor);
        }
        println!("{AT_THE_END}");
        return;
    }
    // In KiB: room for the items until their vector has to grow beyond 64 or 128 MiB.
    assert_ends_well(child(&["sh", "-c", r#"ulimit -v 400000 && exec "$0" "$@""#], TEST, "run"));
}

/// F22, F37: items that push others without end, with little memory: the batch stops, and all but the last one pushed is there.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_outgrows_the_memory_stops_and_keeps_what_it_has() {
    const TEST: &str = "sizes::a_batch_that_outgrows_the_memory_stops_and_keeps_what_it_has";
    if told_to().is_none() {
        assert_ends_well(child(&["sh", "-c", r#"ulimit -v 500000 && exec "$0" "$@""#], TEST, "run"));
        return;
    }
    for workers in [Workers::Sequential, Workers::Fixed(2)] {
        let (executor, register) = (collecting(workers), Register::default());
        let first = (0..10).map(|n| ([n; 512], register.make()));
        let result = executor.batch(first).run_growing(|(numbers, _), cx, more| {
            while numbers[0] == 9 && !cx.is_cancelled() {
                more.push(([0; 512], register.make()));
            }
            Ok::<_, String>(numbers[511])
        });
        let (reason, partial) = stopped(result);
        assert_eq!(reason, StopReason::OutOfMemory);
        assert!(partial.total() > 1_000 && partial.outcomes().len() == partial.total());
        assert!(partial.succeeded() >= 10 && partial.values().take(10).copied().eq(0..10_usize));
        assert_eq!(register.made(), partial.total() + 1);
        assert_eq!(register.dropped(), 1);
        drop(partial);
        register.assert_all_dropped(register.made());
        assert_survived(executor);
    }
    println!("{AT_THE_END}");
}

/// F43: far more workers than cores, on few items each.
#[test]
fn a_hundred_workers_a_core_finish() {
    within_a_minute(|| {
        let executor = collecting(200);
        let census = Census::of(20_000);
        let result = executor.run(0..20_000usize, |&n| {
            census.count(n);
            if n % 50 == 0 {
                thread::sleep(Duration::from_micros(100));
            }
            Ok::<_, String>(n)
        });
        census.assert_each_ran_once();
        assert_each_outcome_at_its_index(&ran_to_its_end(result), |&n| Some(n));
        assert_survived(executor);
    });
}

/// The first of the CPUs that this process may use.
#[cfg(target_os = "linux")]
fn a_cpu() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("a /proc");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("CPUs");
    allowed.trim().split([',', '-']).next().expect("one at least").to_owned()
}

/// F43: a limit that begins at one worker can rise too.
#[cfg(target_os = "linux")]
#[test]
fn on_one_cpu_workers_are_added_where_items_wait() {
    const TEST: &str = "sizes::on_one_cpu_workers_are_added_where_items_wait";
    if told_to().is_some() {
        let executor = collecting(Workers::adaptive());
        let result = executor.run(0..400, |_| {
            thread::sleep(Duration::from_millis(2));
            Ok::<_, String>(())
        });
        let workers = ran_to_its_end(result).workers();
        assert!(workers > 1, "{workers} workers for items that wait");
        assert_survived(executor);
        println!("{AT_THE_END}");
        return;
    }
    if std::process::Command::new("taskset").arg("--version").output().is_err() {
        eprintln!("SKIP {TEST}: taskset is missing");
        return;
    }
    assert_ends_well(child(&["taskset", "--cpu-list", &a_cpu()], TEST, "run"));
}
