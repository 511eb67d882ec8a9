//! Promise 10: idle threads end after `keep_alive`, and all of them when the last clone of the executor drops.
//!
//! Threads are counted by their names, so that the tests do not see each other's. On Linux the system counts them, elsewhere the
//! tests count those that have come to an item.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
#[cfg(not(windows))]
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use batch_executor::{BatchExecutor, Workers};

use common::{
    Gate, MEANT, Meeting, assert_still_works, panic_of, ran_to_its_end, settings, silence_meant_panics,
    threads_named, wait_until, within_a_minute,
};

/// An executor whose threads have this name, and stay until they are told to go.
#[track_caller]
fn named(name: &str, workers: impl Into<Workers>) -> BatchExecutor {
    with_keep_alive(name, workers, Duration::from_secs(3600))
}

#[track_caller]
fn with_keep_alive(name: &str, workers: impl Into<Workers>, keep_alive: Duration) -> BatchExecutor {
    let builder = BatchExecutor::builder().workers(workers).stop_on_error(false);
    builder.thread_name(name).keep_alive(keep_alive).build().expect("good settings")
}

/// The system shows a thread for a moment after it was joined; one that was not joined is found by
/// `drop_waits_for_what_a_thread_does_when_it_ends`.
#[track_caller]
fn assert_all_end(name: &str) {
    wait_until("all threads have ended", || threads_named(name).is_empty());
}

/// Runs a batch in which this many workers are busy at the same time.
#[track_caller]
fn meet(executor: &BatchExecutor, workers: usize) {
    let meeting = Meeting::default();
    let result = executor.run(0..workers, |_| {
        meeting.of(workers);
        Ok::<_, String>(())
    });
    assert!(ran_to_its_end(result).is_success(), "{workers} workers did not meet");
}

#[test]
fn building_an_executor_starts_no_thread() {
    let executor = named("p10-none", 8);
    let clone = executor.clone();
    assert_eq!(threads_named("p10-none").len(), 0);
    drop((executor, clone));
}

#[test]
fn one_worker_and_empty_batches_start_no_thread() {
    for (name, workers) in [("p10-seq", Workers::Sequential), ("p10-one", Workers::Fixed(1))] {
        let executor = named(name, workers);
        assert_still_works(&executor);
        assert_eq!(threads_named(name).len(), 0, "{workers:?}");
    }
    let executor = named("p10-empty", 8);
    let empty = executor.batch(0..0).on_progress(|_| {}).run(|_| Ok::<_, String>(()));
    assert!(ran_to_its_end(empty).is_success());
    assert!(executor.run(0..1, |_| Ok::<_, String>(())).is_success());
    assert_eq!(threads_named("p10-empty").len(), 0);
}

#[test]
fn threads_are_there_while_the_executor_is_and_gone_when_it_dropped() {
    within_a_minute(|| {
        let executor = named("p10-gone", 8);
        meet(&executor, 8);
        assert_eq!(threads_named("p10-gone").len(), 7, "the caller is the eighth");
        drop(executor);
        assert_all_end("p10-gone");
    });
}

#[test]
fn after_any_batch_with_any_setting_all_threads_are_joined() {
    within_a_minute(|| {
        for workers in settings() {
            for _ in 0..20 {
                let executor = named("p10-any", workers);
                assert_still_works(&executor);
                drop(executor);
                assert_all_end("p10-any");
            }
        }
    });
}

/// A quick batch may be over while its last helper is only just being started.
#[test]
fn a_drop_right_after_a_quick_batch_joins_threads_that_were_just_being_started() {
    within_a_minute(|| {
        for _ in 0..300 {
            let executor = named("p10-quick", 8);
            assert!(executor.run(0..20, |_| Ok::<_, String>(())).is_success());
            drop(executor);
            assert_all_end("p10-quick");
        }
    });
}

#[test]
fn threads_stay_until_the_last_clone_drops() {
    within_a_minute(|| {
        let executor = named("p10-clone", 4);
        meet(&executor, 4);
        let threads = threads_named("p10-clone");
        let clones = vec![executor.clone(), executor.clone()];
        drop(executor);
        for clone in clones {
            meet(&clone, 4);
            assert!(threads_named("p10-clone").is_superset(&threads), "clones share the threads");
        }
        assert_all_end("p10-clone");
    });
}

#[test]
fn idle_threads_end_after_keep_alive_and_come_back_when_needed() {
    within_a_minute(|| {
        let executor = with_keep_alive("p10-idle", 8, Duration::from_millis(20));
        for _ in 0..3 {
            meet(&executor, 8);
            wait_until("the idle threads have ended", || threads_named("p10-idle").is_empty());
        }
        assert_still_works(&executor);
    });
}

/// Their order tells: threads that are kept for a moment end before others that have been idle for longer, and are kept for as
/// long as an executor keeps them that says nothing. On a machine that stands still for so long it tells nothing, and is
/// asked again.
#[test]
fn threads_are_kept_as_long_as_their_executor_says() {
    within_a_minute(|| {
        let is_told = || {
            let (long, brief) = (
                BatchExecutor::builder().workers(3).thread_name("p10-long").build().unwrap(),
                with_keep_alive("p10-brief", 3, Duration::from_millis(1)),
            );
            meet(&long, 3);
            meet(&brief, 3);
            let is_over = || threads_named("p10-brief").is_empty() || threads_named("p10-long").is_empty();
            wait_until("some have ended", is_over);
            threads_named("p10-brief").is_empty() && !threads_named("p10-long").is_empty()
        };
        assert!((0..3).any(|_| is_told()));
    });
}

#[test]
fn threads_that_are_kept_alive_are_used_again() {
    within_a_minute(|| {
        let executor = named("p10-again", 8);
        meet(&executor, 8);
        let threads = threads_named("p10-again");
        for _ in 0..50 {
            meet(&executor, 8);
        }
        // One that is just coming back from a batch may be too late for the next, and another is started then.
        let now = threads_named("p10-again");
        assert!(now.is_superset(&threads), "threads ended");
        assert!(now.len() <= 64, "{} threads for 8 workers", now.len());
    });
}

#[test]
fn a_keep_alive_of_nothing_keeps_nothing() {
    within_a_minute(|| {
        let executor = with_keep_alive("p10-zero", 4, Duration::ZERO);
        for _ in 0..20 {
            meet(&executor, 4);
        }
        assert_all_end("p10-zero");
    });
}

#[test]
fn a_keep_alive_beyond_the_clock_still_ends_with_the_executor() {
    within_a_minute(|| {
        let executor = with_keep_alive("p10-max", 4, Duration::MAX);
        meet(&executor, 4);
        drop(executor);
        assert_all_end("p10-max");
    });
}

/// A thread can be on its way to sleep, asleep, or just called when the executor drops.
#[test]
fn a_drop_at_any_moment_of_a_threads_life_joins_it() {
    within_a_minute(|| {
        for pause in 0..100u64 {
            let executor = with_keep_alive("p10-moment", 4, Duration::from_millis(1));
            meet(&executor, 4);
            thread::sleep(Duration::from_micros(pause * 20));
            drop(executor);
            assert_all_end("p10-moment");
        }
    });
}

#[test]
fn drop_waits_for_what_a_thread_does_when_it_ends() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);

    struct Slow;

    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(30));
            ENDED.fetch_add(1, Ordering::SeqCst);
        }
    }

    thread_local!(static KEPT: Slow = const { Slow });

    within_a_minute(|| {
        let executor = named("p10-tls", 4);
        let (meeting, caller) = (Meeting::default(), thread::current().id());
        let result = executor.run(0..4, |_| {
            meeting.of(4);
            if thread::current().id() != caller {
                KEPT.with(|_| {});
            }
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).is_success());
        drop(executor);
        assert_eq!(ENDED.load(Ordering::SeqCst), 3, "drop did not wait for the threads to end");
    });
}

/// Does something on the thread that helps the caller.
#[cfg(not(windows))]
fn on_the_helper(executor: &BatchExecutor, act: impl Fn() + Sync) {
    let (meeting, caller) = (Meeting::default(), thread::current().id());
    let result = executor.run(0..2, |_| {
        meeting.of(2);
        if thread::current().id() != caller {
            act();
        }
        Ok::<_, String>(())
    });
    assert!(ran_to_its_end(result).is_success());
}

/// One thread's time has run out and it is in its destructors when the time of the next runs out, which lets go of it. Not on Windows: there
/// no thread begins or ends while another is in the destructors of its thread-locals, so there is no next.
#[test]
#[cfg(not(windows))]
fn drop_waits_for_what_an_expired_thread_does_when_it_ends() {
    static ENDING: AtomicUsize = AtomicUsize::new(0);
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);

    struct Slow;

    impl Drop for Slow {
        fn drop(&mut self) {
            ENDING.fetch_add(1, Ordering::SeqCst);
            GATE.pass();
            thread::sleep(Duration::from_millis(30));
            ENDED.fetch_add(1, Ordering::SeqCst);
        }
    }

    thread_local!(static KEPT: Slow = const { Slow });

    within_a_minute(|| {
        let executor = with_keep_alive("p10-expired", 2, Duration::from_millis(5));
        on_the_helper(&executor, || KEPT.with(|_| {}));
        wait_until("the thread has expired", || ENDING.load(Ordering::SeqCst) == 1);
        meet(&executor, 2);
        // Were the first let go of and not joined, the second would now go.
        for _ in 0..40 {
            if threads_named("p10-expired").len() == 1 {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        GATE.open();
        drop(executor);
        assert_eq!(ENDED.load(Ordering::SeqCst), 1, "drop did not wait for the thread to end");
    });
}

/// One thread is in its destructors, the next waits for it, and then the first drops the last clone: it does not wait for
/// the one that waits for it. Not on Windows, for the same reason.
#[test]
#[cfg(not(windows))]
fn an_expired_thread_may_drop_the_last_clone() {
    static KEPT_CLONE: Mutex<Option<BatchExecutor>> = Mutex::new(None);
    static ENDING: AtomicUsize = AtomicUsize::new(0);
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);

    struct LastClone;

    impl Drop for LastClone {
        fn drop(&mut self) {
            ENDING.fetch_add(1, Ordering::SeqCst);
            GATE.pass();
            drop(KEPT_CLONE.lock().unwrap().take());
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }

    thread_local!(static KEPT: LastClone = const { LastClone });

    within_a_minute(|| {
        let executor = with_keep_alive("p10-last", 2, Duration::from_millis(5));
        on_the_helper(&executor, || KEPT.with(|_| {}));
        wait_until("the thread has expired", || ENDING.load(Ordering::SeqCst) == 1);
        meet(&executor, 2);
        thread::sleep(Duration::from_millis(50)); // the second expires, and waits for the first
        *KEPT_CLONE.lock().unwrap() = Some(executor);
        GATE.open();
        wait_until("the last clone has dropped", || DROPPED.load(Ordering::SeqCst) == 1);
        wait_until("both threads have ended", || threads_named("p10-last").is_empty());
    });
}

#[test]
fn panics_leak_no_thread() {
    silence_meant_panics();
    within_a_minute(|| {
        let executor = named("p10-panic", 4);
        meet(&executor, 4);
        let threads = threads_named("p10-panic");
        for _ in 0..20 {
            let all = executor.run(0..50, |_| -> Result<(), String> { panic!("{MEANT}all") });
            assert_eq!(ran_to_its_end(all).failed(), 50);
            let batch = executor.batch(0..50).on_progress(|_| panic!("{MEANT}the callback"));
            panic_of(|| batch.run(|_| Ok::<_, String>(())));
        }
        let now = threads_named("p10-panic");
        assert!(now.is_superset(&threads), "threads were lost to a panic");
        assert!(now.len() <= 32, "{} threads for 4 workers", now.len());
        drop(executor);
        assert_all_end("p10-panic");
    });
}

#[test]
fn many_batches_at_once_use_no_more_threads_than_eight_for_each_worker() {
    within_a_minute(|| {
        let executor = named("p10-most", 2);
        let (gate, held) = (Gate::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..30 {
                scope.spawn(|| {
                    let result = executor.run(0..2, |_| {
                        held.fetch_add(1, Ordering::SeqCst);
                        gate.pass();
                        // The threads that are there now may be used by batches in batches.
                        executor
                            .run(0..10, |_| Ok::<_, String>(()))
                            .into_result()
                            .map(drop)
                            .map_err(|e| e.to_string())
                    });
                    assert!(ran_to_its_end(result).is_success());
                });
            }
            wait_until("30 callers and 16 threads are held", || held.load(Ordering::SeqCst) == 46);
            // Time for a thread too many to come.
            thread::sleep(Duration::from_millis(20));
            assert_eq!((threads_named("p10-most").len(), held.load(Ordering::SeqCst)), (16, 46));
            gate.open();
        });
        assert!(threads_named("p10-most").len() <= 16);
        drop(executor);
        assert_all_end("p10-most");
    });
}

#[test]
fn threads_carry_the_name_that_they_were_given_and_a_number() {
    within_a_minute(|| {
        let executor = named("p10-name", 3);
        let (meeting, caller) = (Meeting::default(), thread::current().id());
        let result = executor.run(0..3, |_| {
            meeting.of(3);
            let own = thread::current();
            Ok::<_, String>((own.id() != caller).then(|| own.name().map(str::to_owned)).flatten())
        });
        let mut names: Vec<String> = ran_to_its_end(result).values().flatten().cloned().collect();
        names.sort();
        assert_eq!(names, ["p10-name-1", "p10-name-2"]);
    });
}

/// The stack of one that is not joined stays mapped.
#[cfg(target_os = "linux")]
#[test]
fn threads_that_have_ended_are_joined_before_their_executor_ends() {
    let mapped = || std::fs::read_to_string("/proc/self/maps").expect("Linux has it").lines().count();
    let executor =
        BatchExecutor::builder().workers(8).keep_alive(Duration::from_millis(1)).build().expect("fine");
    let run = || {
        let result = executor.run(0..8, |_| {
            thread::sleep(Duration::from_millis(10));
            Ok::<_, String>(())
        });
        assert!(result.is_success());
        thread::sleep(Duration::from_millis(20));
    };
    (0..5).for_each(|_| run());
    let before = mapped();
    (0..30).for_each(|_| run());
    let after = mapped();
    assert!(after < before + 60, "{before}, then {after}: two for each thread that stays");
}
