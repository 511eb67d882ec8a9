//! What ends the whole process: each in a child of its own, which ends soon, as Rust lets it end, and never hangs.

#![cfg(unix)]

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use crate::common::{
    AT_THE_END, Meeting, assert_ends_well, assert_survived, builder, child, collecting, ended,
    ran_to_its_end, skip, told_to,
};

const SIGABRT: i32 = 6;

/// The child is aborted, and says this.
#[track_caller]
fn assert_aborts(test: &str, told: &str, words: &[&str]) {
    let (status, printed) = ended(child(&[], test, told));
    assert_eq!(status.signal(), Some(SIGABRT), "SIGABRT, and not {status}: {printed}");
    for words in words {
        assert!(printed.contains(words), "{words:?} is missing in: {printed}");
    }
    assert!(!printed.contains(AT_THE_END), "{printed}");
}

/// As deep as it is told.
#[allow(unconditional_recursion, reason = "the depth is meant to have no end")]
fn deep(depth: usize) -> usize {
    let room = black_box([depth; 512]);
    if black_box(depth) == 0 { room[0] } else { deep(depth - 1) + room[511] % 2 }
}

/// Runs a batch in which a helper alone, or the caller alone, goes so deep; the others are in the midst of an item.
fn go_deep(depth: usize, helper: bool) {
    let builder = builder().workers(2).thread_name("deep").stack_size(1 << 20);
    let executor = builder.build().expect("good settings");
    let (caller, meeting) = (thread::current().id(), Meeting::default());
    let result = executor.run(0..2, |_| {
        meeting.of(2);
        if (thread::current().id() == caller) == helper {
            thread::sleep(Duration::from_millis(100));
            return Ok::<_, String>(0);
        }
        Ok(deep(depth))
    });
    println!("{AT_THE_END}: {result:?}");
}

/// F39: the words name the thread; the stack is as large as it was set.
#[test]
fn an_item_that_overflows_its_stack_ends_the_process() {
    const TEST: &str = "deaths::an_item_that_overflows_its_stack_ends_the_process";
    match told_to().as_deref() {
        Some("a helper") => go_deep(usize::MAX, true),
        Some("the caller") => go_deep(usize::MAX, false),
        Some(_) => go_deep(100, true),
        None => {
            assert_aborts(TEST, "a helper", &["thread 'deep-1'", "has overflowed its stack"]);
            assert_aborts(TEST, "the caller", &["has overflowed its stack"]);
            // The same, not so deep.
            assert_ends_well(child(&[], TEST, "a little"));
        }
    }
}

/// F37: Rust aborts where an allocation fails, except those that may fail. With 32 bits there is memory for all that a vector may ask for.
#[test]
#[cfg(target_pointer_width = "64")]
fn an_allocation_that_fails_ends_the_process_unless_the_item_takes_it_as_an_error() {
    const TEST: &str =
        "deaths::an_allocation_that_fails_ends_the_process_unless_the_item_takes_it_as_an_error";
    /// The most that a vector can ask for.
    const TOO_MUCH: usize = usize::MAX / 2;
    match told_to().as_deref() {
        None => {
            assert_aborts(TEST, "takes", &[&format!("memory allocation of {TOO_MUCH} bytes failed")]);
            assert_ends_well(child(&[], TEST, "tries"));
        }
        Some("takes") => {
            let result = collecting(4).run(0..8, |&n| {
                // One of them, or what two say would be mixed up.
                let bytes = if n == 5 { black_box(TOO_MUCH) } else { n };
                Ok::<_, String>(Vec::<u8>::with_capacity(bytes))
            });
            println!("{AT_THE_END}: {result:?}");
        }
        Some(_) => {
            let executor = collecting(4);
            let result = executor.run(0..8, |_| {
                let mut bytes = Vec::<u8>::new();
                bytes.try_reserve(black_box(TOO_MUCH))
            });
            assert_eq!(ran_to_its_end(result).failed(), 8);
            assert_survived(executor);
            println!("{AT_THE_END}");
        }
    }
}

/// F42: what an item does to its thread stays done; the thread works on all the same. No unsafe call is needed for the
/// name, the priority and the core of a thread.
#[cfg(target_os = "linux")]
#[test]
fn an_item_that_renames_slows_and_binds_its_thread_harms_no_later_batch() {
    use std::process::{Command, Stdio};

    const TEST: &str = "deaths::an_item_that_renames_slows_and_binds_its_thread_harms_no_later_batch";
    let runs = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if told_to().is_none() {
        if !runs("taskset", &["-V"]) || !runs("renice", &["-V"]) {
            return skip(TEST, "taskset or renice is missing");
        }
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    let executor = collecting(4);
    let meeting = Meeting::default();
    let result = executor.run(0..4, |_| {
        meeting.of(4);
        let own = std::fs::read_link("/proc/thread-self").map_err(|error| error.to_string())?;
        let thread = own.file_name().expect("a number").to_string_lossy().into_owned();
        std::fs::write("/proc/thread-self/comm", "renamed").map_err(|error| error.to_string())?;
        let done = runs("taskset", &["-cp", "0", &thread]) && runs("renice", &["-n", "19", "-p", &thread]);
        if done { Ok(()) } else { Err("refused".to_owned()) }
    });
    let result = ran_to_its_end(result);
    assert!(result.is_success(), "{:?}", result.failures().next().map(|failure| failure.error));
    assert_survived(executor);
    crate::common::wait_until("its threads have ended", || {
        crate::common::threads_named("renamed").len() <= 1
    });
    println!("{AT_THE_END}");
}
