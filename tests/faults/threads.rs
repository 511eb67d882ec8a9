//! Threads: refused, shared, dropped, forked, in a process that ends.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, StopReason};

use crate::common::{
    AT_THE_END, Census, Gate, Meeting, Register, assert_each_outcome_at_its_index, assert_ends_well,
    assert_still_works, assert_survived, builder, child, collecting, ended, ran_to_its_end, settings,
    stopped, told_to, within_a_minute,
};

/// F36: threads that are refused one by one are in `scarcity`.
#[test]
fn without_a_thread_to_be_had_the_caller_does_it_all() {
    within_a_minute(|| {
        for workers in [2, 8] {
            let builder = builder().workers(workers).stop_on_error(false);
            let executor = builder.stack_size(usize::MAX).build().unwrap();
            let (census, values) = (Census::of(200), Register::default());
            let result = executor.batch(0..200usize).on_progress(|_| {}).run(|&n| {
                census.count(n);
                Ok::<_, String>(values.make())
            });
            census.assert_each_ran_once();
            let result = ran_to_its_end(result);
            assert_eq!((result.succeeded(), result.workers()), (200, 1));
            drop(result);
            values.assert_all_dropped(200);
            // I5: no second worker ever comes.
            assert_eq!(ran_to_its_end(executor.run(0..9, |_| Ok::<_, String>(()))).workers(), 1);
        }
    });
}

/// F38
#[test]
fn an_item_may_end_the_process() {
    const TEST: &str = "threads::an_item_may_end_the_process";
    if let Some(reports) = told_to() {
        let executor = collecting(4);
        let caller = thread::current().id();
        let meeting = Meeting::default();
        let batch = executor.batch(0..100);
        let batch = if reports == "reports" { batch.on_progress(|_| {}) } else { batch };
        let result = batch.run(|_| {
            meeting.of(4);
            if thread::current().id() != caller {
                std::process::exit(7);
            }
            thread::sleep(Duration::from_millis(1));
            Ok::<_, String>(())
        });
        println!("{AT_THE_END}: {result:?}");
        return;
    }
    for reports in ["reports", "is silent"] {
        let (status, printed) = ended(child(&[], TEST, reports));
        assert_eq!(status.code(), Some(7), "{printed}");
    }
}

/// F38: from whichever thread; the data of the one that ends the process is dropped on the way out, and runs a batch then, in
/// the midst of the item.
#[test]
fn who_ends_the_process_may_run_a_batch_on_its_way_out() {
    static EXECUTOR: LazyLock<BatchExecutor> = LazyLock::new(|| collecting(4));

    struct RunsAtTheEnd;

    impl Drop for RunsAtTheEnd {
        fn drop(&mut self) {
            let result = EXECUTOR.batch(0..20).on_progress(|_| {}).run(|&n| Ok::<_, String>(n));
            // `println!` could find its own thread-local gone.
            let sum: i32 = ran_to_its_end(result).values().sum();
            let _ = writeln!(std::io::stdout(), "a batch at the end gave {sum}");
        }
    }

    thread_local!(static AT_THE_END: RunsAtTheEnd = const { RunsAtTheEnd });

    const TEST: &str = "threads::who_ends_the_process_may_run_a_batch_on_its_way_out";
    if let Some(told) = told_to() {
        let (caller, meeting) = (thread::current().id(), Meeting::default());
        let result = EXECUTOR.run(0..4, |_| {
            meeting.of(4);
            if (thread::current().id() == caller) == (told == "the caller") {
                AT_THE_END.with(|_| {});
                std::process::exit(7);
            }
            thread::sleep(Duration::from_secs(30));
            Ok::<_, String>(())
        });
        panic!("{result:?}");
    }
    for told in ["the caller", "a helper"] {
        let (status, printed) = ended(child(&[], TEST, told));
        assert_eq!(status.code(), Some(7), "{printed}");
        assert!(printed.contains("a batch at the end gave 190"), "{printed}");
    }
}

/// F51
#[test]
fn an_executor_that_is_never_dropped_does_not_keep_the_process() {
    static EXECUTOR: LazyLock<BatchExecutor> = LazyLock::new(|| {
        let builder = builder().workers(4).stop_on_error(false);
        builder.keep_alive(Duration::from_secs(3600)).build().expect("good settings")
    });

    const TEST: &str = "threads::an_executor_that_is_never_dropped_does_not_keep_the_process";
    if told_to().is_some() {
        // I6: a static stays.
        assert_still_works(&EXECUTOR);
        println!("{AT_THE_END}");
        return;
    }
    assert_ends_well(child(&[], TEST, "run"));
}

/// F47
#[test]
fn ten_thousand_batches_from_sixty_four_threads_are_each_exact() {
    within_a_minute(|| {
        for workers in [2, 8] {
            let executor = collecting(workers);
            let values = Register::default();
            thread::scope(|scope| {
                for caller in 0..64 {
                    let (executor, values) = (&executor, &values);
                    scope.spawn(move || {
                        for batch in 0..80 {
                            assert_one_of_many_is_exact(executor, caller, batch, values);
                        }
                    });
                }
            });
            values.assert_all_dropped(values.made());
            assert_survived(executor);
        }
    });
}

#[track_caller]
fn assert_one_of_many_is_exact(executor: &BatchExecutor, caller: usize, batch: usize, values: &Register) {
    let size = (caller + batch) % 9;
    let result = executor.run(0..size, |&n| Ok::<_, String>((n * caller, values.make())));
    let numbers = ran_to_its_end(result).into_values().expect("no failures");
    assert!(numbers.iter().map(|(n, _)| *n).eq((0..size).map(|n| n * caller)));
}

/// F47: the bound, counted in batches. No caller stops before all have run `EACH`; the slowest has then had at
/// least one in `BOUND` of what would have been its share.
#[test]
fn of_sixty_four_callers_none_starves() {
    const CALLERS: usize = 64;
    const EACH: usize = 100;
    const BOUND: usize = 50;

    within_a_minute(|| {
        for workers in [2, 8] {
            let executor = collecting(workers);
            let (done, values) = (Census::of(CALLERS), Register::default());
            thread::scope(|scope| {
                for caller in 0..CALLERS {
                    let (executor, done, values) = (&executor, &done, &values);
                    scope.spawn(move || {
                        for batch in 0.. {
                            assert_one_of_many_is_exact(executor, caller, batch, values);
                            done.count(caller);
                            // Else the system lets one caller run thousands of batches before the next one's turn.
                            thread::sleep(Duration::from_micros(100));
                            let all = done.runs().iter().all(|&runs| runs >= EACH);
                            if all || done.total() > CALLERS * EACH * BOUND {
                                return;
                            }
                        }
                    });
                }
            });
            let runs = done.runs();
            assert!(runs.iter().all(|&runs| runs >= EACH), "a caller starved: {runs:?}");
            values.assert_all_dropped(values.made());
            assert_survived(executor);
        }
    });
}

/// F48
#[test]
fn a_handle_that_drops_while_another_runs_a_batch_changes_nothing() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let (started, gate) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
            let runs = {
                let (executor, started, gate) = (executor.clone(), Arc::clone(&started), Arc::clone(&gate));
                thread::spawn(move || {
                    let result = executor.run(0..100usize, |&n| {
                        started.open();
                        if n == 0 {
                            gate.pass();
                        }
                        Ok::<_, String>(n)
                    });
                    // The last handle drops here.
                    assert_survived(executor);
                    result
                })
            };
            started.pass();
            drop(executor);
            gate.open();
            let result = ran_to_its_end(runs.join().unwrap());
            assert_each_outcome_at_its_index(&result, |&n| Some(n));
        }
    });
}

/// F50
#[test]
fn a_drop_with_idle_workers_comes_back() {
    within_a_minute(|| {
        for workers in settings() {
            for _ in 0..30 {
                let builder = builder().workers(workers).stop_on_error(false);
                let executor = builder.keep_alive(Duration::MAX).build().unwrap();
                assert_survived(executor);
            }
        }
    });
}

/// F53: long batches hold every worker and every thread that the executor may have; a short one ends all the same.
#[test]
fn a_short_batch_ends_while_long_ones_go_on() {
    within_a_minute(|| {
        let executor = collecting(2);
        let gate = Gate::default();
        let held = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let result = executor.run(0..2, |_| {
                        held.fetch_add(1, Ordering::SeqCst);
                        gate.pass();
                        Ok::<_, String>(())
                    });
                    assert!(ran_to_its_end(result).is_success());
                });
            }
            // Each caller is in its own batch's first item, and 16 threads are in the second.
            crate::common::wait_until("every thread is held", || held.load(Ordering::SeqCst) == 36);
            for reports in [false, true] {
                let batch = executor.batch(0..50usize);
                let batch = if reports { batch.on_progress(|_| {}) } else { batch };
                let result = ran_to_its_end(batch.run(|&n| Ok::<_, String>(n)));
                assert_each_outcome_at_its_index(&result, |&n| Some(n));
            }
            assert!(!gate.is_open());
            gate.open();
        });
        assert_survived(executor);
    });
}

/// I5: a batch that was left by a panic, by a stop, or whole, leaves the same executor.
#[test]
fn batches_of_all_kinds_at_once_leave_the_executor_whole() {
    crate::common::silence_meant_panics();
    within_a_minute(|| {
        let executor = collecting(4);
        let stops = builder().workers(4).build().unwrap();
        let values = Register::default();
        thread::scope(|scope| {
            for kind in 0..8 {
                let (executor, stops, values) = (&executor, &stops, &values);
                scope.spawn(move || {
                    for _ in 0..100 {
                        match kind % 4 {
                            0 => {
                                assert!(executor.run(0..20, |_| Ok::<_, String>(values.make())).is_success());
                            }
                            1 => {
                                let batch = executor.batch(0..20).on_progress(|p| {
                                    assert!(p.completed < 5, "{}the callback", crate::common::MEANT);
                                });
                                crate::common::panic_of(|| batch.run(|_| Ok::<_, String>(values.make())));
                            }
                            2 => {
                                let seventh = |&n: &usize| if n == 7 { Err(n) } else { Ok(values.make()) };
                                let (reason, _) = stopped(stops.run(0..20usize, seventh));
                                assert_eq!(reason, StopReason::ItemFailed { index: 7 });
                            }
                            _ => {
                                let result = stops
                                    .batch(0..20)
                                    .on_progress(|_| {})
                                    .run(|_| Ok::<_, String>(values.make()));
                                assert!(ran_to_its_end(result).is_success());
                            }
                        }
                    }
                });
            }
        });
        values.assert_all_dropped(values.made());
        assert_survived(executor);
        assert_survived(stops);
    });
}

/// F52: what outlives the last handle is results, and those need no executor.
#[test]
fn results_outlive_their_executor() {
    within_a_minute(|| {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let executor = collecting(4);
            let result = ran_to_its_end(executor.run(0..10usize, |&n| Ok::<_, String>(n)));
            assert_survived(executor);
            sender.send(result).unwrap();
        });
        assert_each_outcome_at_its_index(&receiver.recv().unwrap(), |&n| Some(n));
    });
}

/// F40: a forked child has the executor and none of its threads.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod fork {
    use std::sync::atomic::AtomicI32;

    use super::*;

    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
        fn kill(process: i32, signal: i32) -> i32;
        fn _exit(code: i32) -> !;
    }

    /// Whether the body comes to its end in a forked child.
    fn ends_well_when_forked(body: impl FnOnce()) -> bool {
        // SAFETY: all other threads of this process sleep, and hold no lock that the body takes.
        let process = unsafe { fork() };
        assert!(process >= 0, "no fork");
        if process == 0 {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: the child ends here, without what the parent has registered for its own end.
            unsafe { _exit(i32::from(ended.is_err())) }
        }
        let status = AtomicI32::new(-1);
        let ended = crate::common::comes(|| {
            // SAFETY: `status` is there, and 1 (WNOHANG) only looks.
            unsafe { waitpid(process, status.as_ptr(), 1) == process }
        });
        if !ended {
            // SAFETY: it is our child, and still there.
            unsafe { kill(process, 9) };
        }
        ended && status.into_inner() == 0
    }

    /// Until every thread of an executor sleeps, and holds no lock.
    fn wait_until_threads_sleep() {
        let sleeps = |thread: &String| {
            let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
        };
        // Twice in a row, since one may sleep for a lock that another has just given up.
        let calm = std::cell::Cell::new(0);
        crate::common::wait_until("all threads sleep", || {
            let all_sleep = crate::common::threads_named(crate::common::OWN_NAME).iter().all(sleeps);
            calm.set(if all_sleep { calm.get() + 1 } else { 0 });
            calm.get() == 5
        });
    }

    /// Batches with and without reports, each with others inside.
    fn runs(executor: &BatchExecutor) {
        for reports in [false, true, false, true] {
            let census = Census::of(100);
            let batch = executor.batch(0..100usize);
            let batch = if reports { batch.on_progress(|_| {}) } else { batch };
            let result = batch.run(|&n| {
                census.count(n);
                executor
                    .run(0..2, |&n| Ok::<_, String>(n))
                    .into_result()
                    .map(|_| n)
                    .map_err(|error| error.to_string())
            });
            census.assert_each_ran_once();
            assert_each_outcome_at_its_index(&ran_to_its_end(result), |&n| Some(n));
        }
    }

    const TEST: &str = "threads::fork::a_batch_in_a_forked_child_completes_on_the_caller";

    #[test]
    fn a_batch_in_a_forked_child_completes_on_the_caller() {
        if told_to().is_none() {
            assert_ends_well(child(&[], TEST, "run"));
            return;
        }
        let executor = collecting(4);
        let unused = collecting(4);
        assert_still_works(&executor);
        wait_until_threads_sleep();
        assert!(ends_well_when_forked(|| runs(&executor)), "with threads that are not there");
        assert!(ends_well_when_forked(|| runs(&unused)), "with threads of its own");
        let clone = executor.clone();
        assert!(
            ends_well_when_forked(move || {
                drop(clone);
                drop(collecting(2));
            }),
            "drop of a clone"
        );
        assert_still_works(&executor);
        wait_until_threads_sleep();
        // I6: this process drops its own after the child has dropped the other.
        assert!(
            ends_well_when_forked(move || {
                runs(&executor);
                drop(executor);
            }),
            "drop of the last handle"
        );
        crate::common::wait_until("its threads have ended", || {
            crate::common::threads_named(crate::common::OWN_NAME).is_empty()
        });
        println!("{AT_THE_END}");
    }

    const LATE: &str = "threads::fork::a_forked_child_does_not_wait_for_threads_that_never_come";

    #[test]
    fn a_forked_child_does_not_wait_for_threads_that_never_come() {
        if told_to().is_none() {
            assert_ends_well(child(&[], LATE, "run"));
            return;
        }
        let executor = collecting(4);
        assert_still_works(&executor);
        wait_until_threads_sleep();
        let all_in_time = || {
            let since = Instant::now();
            for _ in 0..20 {
                let result = executor.batch(0..10).on_progress(|_| {}).run(|&n| Ok::<_, String>(n));
                assert!(result.is_success());
            }
            // For threads that come, it waits ten seconds and more, each time.
            assert!(since.elapsed() < Duration::from_secs(10));
        };
        assert!(ends_well_when_forked(all_in_time));
        assert_survived(executor);
        println!("{AT_THE_END}");
    }

    const BUSY: &str = "threads::fork::while_a_batch_runs_a_fork_may_use_other_executors";

    #[test]
    fn while_a_batch_runs_a_fork_may_use_other_executors() {
        if told_to().is_none() {
            assert_ends_well(child(&[], BUSY, "run"));
            return;
        }
        let (busy, idle) = (collecting(4), collecting(4));
        assert_still_works(&idle);
        let (meeting, gate) = (Meeting::default(), Gate::default());
        thread::scope(|scope| {
            scope.spawn(|| {
                let result = busy.run(0..4, |_| {
                    meeting.of(5);
                    gate.pass();
                    Ok::<_, String>(())
                });
                assert!(ran_to_its_end(result).is_success());
            });
            meeting.of(5);
            // Until the others sleep, in front of the gate or without work.
            wait_until_threads_sleep();
            assert!(ends_well_when_forked(|| runs(&collecting(4))), "an executor of the child's own");
            assert!(ends_well_when_forked(|| runs(&idle)), "an executor that was idle");
            gate.open();
        });
        assert_survived(busy);
        assert_survived(idle);
        println!("{AT_THE_END}");
    }
}
