//! Signals that interrupt every wait, all the time.

#![cfg(target_os = "linux")]

use std::iter;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, CancelToken, RateLimiter, Retry, StopReason, limiter_fn};
use signal_hook::consts::SIGUSR1;

use crate::common::{
    AT_THE_END, Census, Gate, Meeting, Register, Way, assert_each_outcome_at_its_index, assert_ends_well,
    assert_survived, builder, child, collecting, ran_to_its_end, stopped, told_to, wait_until,
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
    let mut started = ran_to_its_end(result).into_values().expect("no failures");
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
    let result = ran_to_its_end(result);
    assert_eq!((values.made(), values.dropped()), (8, 0));
    assert_eq!(told, if reports { 8 } else { 0 });
    assert!(result.values().map(|(n, _)| *n).eq(0..8));
    drop(result);
    values.assert_all_dropped(8);
}

/// The token that an interrupt cancels.
type Current = Arc<Mutex<CancelToken>>;

/// Interrupts this process when the gate opens, and has the batch run with the token that is then cancelled.
fn interrupted<R>(current: &Current, gate: &Gate, run: impl FnOnce(&CancelToken) -> R) -> R {
    let token = CancelToken::new();
    *current.lock().expect("no panic") = token.clone();
    thread::scope(|scope| {
        scope.spawn(|| {
            gate.pass();
            let kill = format!("kill -INT {}", std::process::id());
            assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        });
        run(&token)
    })
}

#[track_caller]
fn assert_an_interrupt_ends_waits(way: Way, current: &Current) {
    let waiting = Gate::default();
    let retry = Retry::delays(|| {
        waiting.open();
        iter::repeat(Duration::MAX)
    });
    let executor = way.stopping();
    let (reason, partial) = interrupted(current, &waiting, |token| {
        stopped(way.batch(&executor, 0..20).cancel_on(token).retry(retry).run(|n| Err::<(), _>(*n)))
    });
    assert_eq!((reason, partial.succeeded()), (StopReason::Cancelled, 0), "{way:?}");
    assert_survived(executor);

    let asleep = Arc::new(Gate::default());
    let asked = Arc::clone(&asleep);
    let limiter = limiter_fn(move || {
        asked.open();
        Ok(Duration::from_secs(3600))
    });
    let executor = way.builder().rate_limiter(limiter).build().expect("good settings");
    let (reason, partial) = interrupted(current, &asleep, |token| {
        stopped(way.batch(&executor, 0..20).cancel_on(token).run(|n| Ok::<_, String>(*n)))
    });
    assert_eq!((reason, partial.skipped()), (StopReason::Cancelled, 20), "{way:?}");
    // I5: the limiter gives nothing within the hour.
}

/// F41: a handler of Ctrl-C cancels from its own thread, while other signals interrupt the waits that it ends.
#[test]
fn an_interrupt_that_cancels_ends_every_wait() {
    const TEST: &str = "signals::an_interrupt_that_cancels_ends_every_wait";
    if told_to().is_none() {
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    let bombardment = Bombardment::of_this_process();
    let current = Current::default();
    let handled = Arc::clone(&current);
    ctrlc::set_handler(move || handled.lock().expect("no panic").cancel()).expect("the only handler");
    for way in Way::with_threads() {
        assert_an_interrupt_ends_waits(way, &current);
        bombardment.assert_goes_on();
    }
    println!("{AT_THE_END}");
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
        let result = ran_to_its_end(executor.run(0..100usize, |&n| Ok::<_, String>(n)));
        assert_each_outcome_at_its_index(&result, |&n| Some(n));
        bombardment.assert_goes_on();
    }
    assert_survived(executor);
    println!("{AT_THE_END}");
}
