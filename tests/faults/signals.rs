//! Signals that interrupt every wait, all the time.

#![cfg(target_os = "linux")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, RateLimiter, limiter_fn};
use signal_hook::consts::SIGUSR1;

use crate::common::{
    AT_THE_END, Census, Meeting, Register, assert_each_outcome_at_its_index, assert_ends_well,
    assert_survived, builder, child, collecting, told_to, wait_until,
};

/// Sends SIGUSR1 to each thread of the process, again and again, until it is told to end. The number of a thread will do for
/// that of a process, and the system then prefers that thread.
const BOMBARD: &str = r#"while [ -d "/proc/$1" ]; do
    for thread in "/proc/$1/task/"*; do kill -USR1 "${thread##*/}"; done
    sleep 0.001
done"#;

struct Bombardment {
    shell: Child,
    came: Arc<AtomicBool>,
}

impl Bombardment {
    fn of_this_process() -> Self {
        let came = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGUSR1, Arc::clone(&came)).expect("a handler");
        let mut shell = Command::new("sh");
        shell.args(["-c", BOMBARD, "sh", &std::process::id().to_string()]);
        let shell = shell.stderr(Stdio::null()).spawn().expect("a shell");
        Bombardment { shell, came }
    }

    /// A signal came since the last time, or comes.
    #[track_caller]
    fn assert_goes_on(&self) {
        wait_until("a signal comes", || self.came.swap(false, Ordering::SeqCst));
    }
}

impl Drop for Bombardment {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Permits that come 10 to 40 ms after they were asked for. No item starts before the earliest that may.
fn assert_permits_are_waited_for() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    let wait = |number: usize| Duration::from_millis(10 * (1 + number as u64 % 4));
    let limiter = limiter_fn(move || Ok(wait(counts.fetch_add(1, Ordering::SeqCst))));
    let limiter: Arc<dyn RateLimiter> = Arc::new(limiter);
    let executor = builder().workers(4).rate_limiter(limiter).build().expect("good settings");
    let (census, since) = (Census::of(20), Instant::now());
    let result = executor.run(0..20usize, |&n| {
        census.count(n);
        Ok::<_, String>(since.elapsed())
    });
    let mut started = result.expect("no failures").into_values().expect("no failures");
    census.assert_each_ran_once();
    started.sort();
    // Four ask at once, and each asks again when it has started: the k-th start has the k-th permit or a later one.
    assert!(started[0] >= wait(0), "an item started after {:?}", started[0]);
    assert!(
        started[19] >= Duration::from_millis(20 / 4 * 25 - 40),
        "the last started after {:?}",
        started[19]
    );
}

/// The caller waits for its helpers, or for what there is to report.
fn assert_helpers_are_waited_for(executor: &BatchExecutor, reports: bool) {
    let (caller, meeting, values) = (thread::current().id(), Meeting::default(), Register::default());
    let mut told = 0;
    let batch = executor.batch(0..8usize);
    let batch = if reports { batch.on_progress(|p| told = p.completed) } else { batch };
    let result = batch.run(|&n| {
        if n < 4 {
            meeting.of(4);
        }
        if thread::current().id() != caller {
            thread::sleep(Duration::from_millis(20));
        }
        Ok::<_, String>((n, values.make()))
    });
    // Else the borrow is over while a helper still works.
    let result = result.expect("it collects");
    assert_eq!((values.made(), values.dropped()), (8, 0));
    assert_eq!(told, if reports { 8 } else { 0 });
    assert!(result.values().map(|(n, _)| *n).eq(0..8));
    drop(result);
    values.assert_all_dropped(8);
}

/// F41: waits for permits, for helpers, for reports, and for work.
#[test]
fn signals_cut_no_wait_short() {
    const TEST: &str = "signals::signals_cut_no_wait_short";
    if told_to().is_none() {
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    let bombardment = Bombardment::of_this_process();
    bombardment.assert_goes_on();
    let executor = collecting(4);
    for _ in 0..5 {
        assert_permits_are_waited_for();
        bombardment.assert_goes_on();
        for reports in [false, true] {
            assert_helpers_are_waited_for(&executor, reports);
            bombardment.assert_goes_on();
        }
        // Threads that wait for work are not woken for nothing, nor do they miss it.
        thread::sleep(Duration::from_millis(20));
        let result = executor.run(0..100usize, |&n| Ok::<_, String>(n)).unwrap();
        assert_each_outcome_at_its_index(&result, |&n| Some(n));
        bombardment.assert_goes_on();
    }
    assert_survived(executor);
    println!("{AT_THE_END}");
}
