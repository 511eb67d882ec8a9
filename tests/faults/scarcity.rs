//! Too little of what a process needs: threads, memory, cores.

#![cfg(target_os = "linux")]

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use batch_executor::{BatchExecutor, StopReason};

use crate::common::{
    AT_THE_END, Census, Meeting, PROBE, Register, all_values, assert_each_outcome_at_its_index,
    assert_ends_well, assert_survived, behind_strace, builder, child, collecting, ended, parallel_settings,
    probe, ran_to_its_end, settings, skip, stopped, strace_works, told_to, within_a_minute,
};

/// Batches with and without reports, and one in another, give what they should with the threads that there are. How many
/// worked on the last one, whose first items meet, as many as `come`.
#[track_caller]
fn assert_exact(executor: &BatchExecutor, come: usize) -> usize {
    let values = Register::default();
    for reports in [false, true] {
        let (census, calls) = (Census::of(100), AtomicUsize::new(0));
        let batch = executor.batch(0..100usize);
        let batch = if reports {
            batch.on_progress(|p| assert_eq!(p.completed, calls.fetch_add(1, Ordering::SeqCst) + 1))
        } else {
            batch
        };
        let result = batch.run(|&n| {
            census.count(n);
            let inner = executor.run(0..2, |_| Ok::<_, String>(values.make()));
            if n % 7 == 3 { Err(()) } else { Ok((n, inner.succeeded())) }
        });
        census.assert_each_ran_once();
        let result = ran_to_its_end(result);
        assert_each_outcome_at_its_index(&result, |&n| (n % 7 != 3).then_some((n, 2)));
        assert_eq!(calls.into_inner(), if reports { 100 } else { 0 });
    }
    values.assert_all_dropped(400);
    let meeting = Meeting::default();
    let result = executor.run(0..50usize, |&n| {
        if n < come {
            meeting.of(come);
        }
        // Time for another worker to come.
        thread::sleep(Duration::from_micros(200));
        Ok::<_, String>(n)
    });
    let result = ran_to_its_end(result);
    assert!(result.is_success(), "{come} workers do not come");
    result.workers()
}

/// The stack of every thread that takes part in the next test.
const STACK: usize = 128 << 20;

/// A thread that does nothing but take up room, until its sender drops.
type Idler = (Sender<()>, JoinHandle<()>);

fn idler() -> Option<Idler> {
    let (sender, receiver) = mpsc::channel::<()>();
    let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
        let _ = receiver.recv();
    });
    Some((sender, thread.ok()?))
}

fn end(idlers: impl IntoIterator<Item = Idler>) {
    for (sender, thread) in idlers {
        drop(sender);
        thread.join().expect("an idler does nothing");
    }
}

/// Takes what room is left besides the stacks, but for a little, so that no stack too many fits.
fn blocks_beside(idlers: &[Idler]) -> Vec<Vec<u8>> {
    assert!(idlers.len() >= 7, "room for {} threads only", idlers.len());
    let block = || {
        let mut block = Vec::new();
        block.try_reserve_exact(1 << 20).ok().map(|()| block)
    };
    let mut blocks: Vec<Vec<u8>> = std::iter::from_fn(block).collect();
    blocks.truncate(blocks.len().saturating_sub(16));
    blocks
}

/// F35: memory is left for k - 1 threads, so the caller or worker that asks for the k-th is refused.
#[test]
fn when_the_kth_of_seven_threads_is_refused_those_before_it_work() {
    const TEST: &str = "scarcity::when_the_kth_of_seven_threads_is_refused_those_before_it_work";
    if told_to().is_none() {
        let mut command = child(&["sh", "-c", r#"ulimit -v 1500000 && exec "$0" "$@""#], TEST, "run");
        // Else every thread takes room for a heap of its own.
        command.env("MALLOC_ARENA_MAX", "1");
        assert_ends_well(command);
        return;
    }
    let mut idlers: Vec<Idler> = std::iter::from_fn(idler).collect();
    let blocks = blocks_beside(&idlers);
    for k in [1, 2, 3, 5, 8] {
        let executor = builder().workers(8).stop_on_error(false).stack_size(STACK).build().unwrap();
        let rest = idlers.split_off(idlers.len() - (k - 1));
        end(rest);
        assert_eq!(assert_exact(&executor, k), k, "workers when thread {k} is refused");
        end(idlers);
        assert_survived(executor);
        idlers = std::iter::from_fn(idler).collect();
    }
    drop(blocks);
    println!("{AT_THE_END}");
}

/// F35: once, or from then on; each thread that starts others is refused its own k-th.
#[test]
fn whichever_thread_is_refused_every_outcome_is_there() {
    const TEST: &str = "scarcity::whichever_thread_is_refused_every_outcome_is_there";
    if let Some(told) = told_to() {
        if told == PROBE {
            return probe();
        }
        for workers in parallel_settings() {
            let executor = collecting(workers);
            assert_exact(&executor, 1);
            if told == "once" {
                // I5, all workers there again: which thread starts the next, and so whose k-th start is the one refused,
                // is chance; it may be one of this very batch.
                assert_exact(&executor, 1);
            }
        }
        println!("{AT_THE_END}");
        return;
    }
    if !strace_works(TEST) {
        return;
    }
    for k in [1, 2, 3, 5, 8] {
        assert_ends_well(behind_strace(&format!("{k}+"), TEST, "for ever"));
    }
    // The first is the harness's own.
    for k in [2, 3, 4, 6, 8] {
        assert_ends_well(behind_strace(&k.to_string(), TEST, "once"));
    }
}

/// F37, F22: room for the items, and none for what they would give.
#[test]
fn values_that_have_no_room_are_refused_before_anything_runs() {
    #[allow(clippy::large_stack_arrays, reason = "a large value is the point; none is made")]
    fn large() -> [u8; 1 << 18] {
        [0; 1 << 18]
    }

    const TEST: &str = "scarcity::values_that_have_no_room_are_refused_before_anything_runs";
    if told_to().is_none() {
        assert_ends_well(child(&["sh", "-c", r#"ulimit -v 400000 && exec "$0" "$@""#], TEST, "run"));
        return;
    }
    for workers in settings() {
        let (executor, items, runs) = (collecting(workers), Register::default(), Census::of(1));
        let result = executor.run((0..10_000).map(|_| items.make()), |_| {
            runs.count(0);
            Ok::<_, String>(large())
        });
        let (reason, partial) = stopped(result);
        assert_eq!(reason, StopReason::OutOfMemory);
        // The items come back, and can be run again.
        assert_eq!((partial.items().len(), partial.outcomes().len(), runs.total()), (10_000, 0, 0));
        assert_eq!((partial.total(), partial.skipped(), items.dropped()), (10_000, 10_000, 0));
        assert_eq!(partial.into_failed().len(), 10_000);
        items.assert_all_dropped(10_000);
        assert_survived(executor);
    }
    println!("{AT_THE_END}");
}

/// F43: part of this suite, with all its threads on one core.
#[test]
fn one_core_is_enough() {
    const TEST: &str = "scarcity::one_core_is_enough";
    if Command::new("taskset").arg("-V").output().is_err() {
        return skip(TEST, "taskset is missing");
    }
    let mut suite = Command::new("taskset");
    suite.args(["-c", "0"]).arg(std::env::current_exe().unwrap());
    suite.args([
        "nesting::",
        "callers_that_are_a_hundred_to_a_core",
        "a_short_batch_ends",
        "of_many_failures",
    ]);
    let (status, printed) = ended(suite);
    assert!(status.success() && printed.contains("running 7 tests"), "{status}:\n{printed}");
}

/// F43
#[test]
fn callers_that_are_a_hundred_to_a_core_each_get_what_is_theirs() {
    within_a_minute(|| {
        let executor = collecting(8);
        let (census, values) = (Census::of(200 * 20), Register::default());
        thread::scope(|scope| {
            for caller in 0..200usize {
                let (executor, census, values) = (&executor, &census, &values);
                scope.spawn(move || {
                    let result = executor.run(0..20usize, |&n| {
                        census.count(caller * 20 + n);
                        thread::yield_now();
                        Ok::<_, String>((caller + n, values.make()))
                    });
                    let numbers = all_values(result);
                    assert!(numbers.iter().map(|(n, _)| *n).eq(caller..caller + 20));
                });
            }
        });
        census.assert_each_ran_once();
        values.assert_all_dropped(4_000);
        assert_survived(executor);
    });
}

/// The processor time that this process has used, in hundredths of a second.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a /proc");
    let (_, after_the_name) = stat.rsplit_once(')').expect("a name in brackets");
    let fields: Vec<&str> = after_the_name.split_whitespace().collect();
    fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time")
}

/// F43: every thread waits for half a second, in every way there is to wait; on one core a wait that spins would take that from
/// those that work. Processor time is counted, so a loaded machine changes nothing.
#[test]
fn a_thread_that_waits_uses_no_core() {
    const TEST: &str = "scarcity::a_thread_that_waits_uses_no_core";
    const HALF_A_SECOND: Duration = Duration::from_millis(500);
    if told_to().is_none() {
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    let waits = |what: &str, wait: &dyn Fn()| {
        let before = processor_time();
        wait();
        let used = processor_time() - before;
        assert!(used <= 3, "{what}: {used} hundredths of a second for a wait of fifty");
    };
    let executor = collecting(4);
    assert_exact(&executor, 4);
    waits("idle threads", &|| thread::sleep(HALF_A_SECOND));
    waits("callers with a helper inside", &|| {
        let (meeting, caller) = (Meeting::default(), thread::current().id());
        let result = executor.run(0..4, |_| {
            meeting.of(4);
            if thread::current().id() != caller {
                thread::sleep(HALF_A_SECOND);
            }
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).is_success());
    });
    waits("a caller that reports", &|| {
        let result = executor.batch(0..4).on_progress(|_| {}).run(|_| {
            thread::sleep(HALF_A_SECOND);
            Ok::<_, String>(())
        });
        assert!(ran_to_its_end(result).is_success());
    });
    waits("workers without a permit", &|| {
        let limiter = batch_executor::limiter_fn(|| Ok(HALF_A_SECOND));
        let limited = builder().workers(4).rate_limiter(limiter).build().unwrap();
        assert!(limited.run(0..4, |_| Ok::<_, String>(())).is_success());
    });
    assert_survived(executor);
    println!("{AT_THE_END}");
}
