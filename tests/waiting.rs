//! A worker or a caller that waits sleeps: it does not look now and then whether something has come, and it is not woken
//! for what another can do.

#![cfg(target_os = "linux")]

mod common;

use std::collections::HashSet;
use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use batch_executor::{
    BatchExecutor, CancelToken, Control, LimiterError, Retry, RetryDecision, Workers, limiter_fn,
};

use common::{OWN_NAME, Way, builder, ran_to_its_end, stopped, threads_named, wait_until, within_a_minute};

/// The tests of this file look at all threads that executors have here, so one runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often these threads have gone to sleep so far.
fn sleeps(threads: &HashSet<String>) -> u64 {
    let of = |thread: &String| {
        let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |count| count.trim().parse().expect("a number"))
    };
    threads.iter().map(of).sum()
}

/// How many hundredths of a second these threads have run so far. One that looks for work without a rest never goes to sleep.
fn run_time(threads: &HashSet<String>) -> u64 {
    let of = |thread: &String| {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
        // The name of the thread, which is in brackets, may have blanks in it.
        let behind_name = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
        let times = behind_name.split_whitespace().skip(11).take(2);
        times.map(|time| time.parse::<u64>().expect("a number")).sum::<u64>()
    };
    threads.iter().map(of).sum()
}

/// One worker, several, and none but the caller. With adaptive workers, the caller looks around now and then.
fn ways() -> impl Iterator<Item = Way> {
    let tells = [Workers::Sequential, Workers::Fixed(8), Workers::Fixed(4)];
    Way::all().into_iter().filter(move |way| tells.contains(&way.workers))
}

fn this_thread() -> String {
    let link = std::fs::read_link("/proc/thread-self").expect("a /proc");
    link.file_name().expect("a number").to_string_lossy().into_owned()
}

/// Runs these waits, which come back when the token is cancelled, and sees to it that in the meantime neither their threads nor any
/// of the executors' wake.
fn assert_sleep<'s>(
    what: &str,
    token: &CancelToken,
    waits: impl IntoIterator<Item = Box<dyn FnOnce() + Send + 's>>,
) {
    let (callers, all) = (Mutex::new(HashSet::new()), waits.into_iter().collect::<Vec<_>>());
    let count = all.len();
    thread::scope(|scope| {
        for wait in all {
            scope.spawn(|| {
                callers.lock().expect("no panic").insert(this_thread());
                wait();
            });
        }
        let threads = || &threads_named(OWN_NAME) | &callers.lock().expect("no panic");
        // Once all have come and gone to sleep. A poll of a third of a second would show.
        let is_calm = || {
            let threads = threads();
            let seen = || (sleeps(&threads), run_time(&threads));
            let before = seen();
            thread::sleep(Duration::from_millis(700));
            threads.len() > count && seen() == before
        };
        wait_until(what, is_calm);
        token.cancel();
    });
}

#[test]
fn a_worker_that_waits_for_a_permit_does_not_wake_until_it_is_told() {
    let _alone = alone();
    within_a_minute(|| {
        let token = CancelToken::new();
        let waits = ways().map(|way| -> Box<dyn FnOnce() + Send> {
            let token = &token;
            Box::new(move || {
                let never = limiter_fn(|| Ok::<_, LimiterError>(Duration::MAX));
                let executor = way.builder().rate_limiter(never).build().unwrap();
                let _ = stopped(way.batch(&executor, 0..100).cancel_on(token).run(|&n| Ok::<_, String>(n)));
            })
        });
        assert_sleep("all wait for permits", &token, waits);
    });
}

#[test]
fn a_worker_that_waits_for_another_attempt_does_not_wake_until_it_is_told() {
    let _alone = alone();
    within_a_minute(|| {
        let token = CancelToken::new();
        let waits = ways().map(|way| -> Box<dyn FnOnce() + Send> {
            let token = &token;
            Box::new(move || {
                let (executor, hour) = (way.stopping(), Duration::from_secs(3600));
                let batch = way.batch(&executor, 0..100).cancel_on(token);
                let retry = Retry::delays(|| iter::repeat(hour));
                let _ = stopped(batch.retry(retry).run(|&n| Err::<(), _>(n)));
            })
        });
        assert_sleep("all wait for attempts", &token, waits);
    });
}

#[test]
fn a_worker_of_a_paused_batch_does_not_wake_until_it_is_told() {
    let _alone = alone();
    within_a_minute(|| {
        let token = CancelToken::new();
        let waits = ways().map(|way| -> Box<dyn FnOnce() + Send> {
            let token = &token;
            Box::new(move || {
                let (executor, control) = (way.stopping(), Control::new());
                let batch = way.batch(&executor, 0..100).cancel_on(token).control(&control);
                let retry = Retry::delays(|| iter::repeat(Duration::from_millis(1)));
                let _ = stopped(batch.retry(retry).run(|&n| {
                    control.pause();
                    Err::<(), _>(n)
                }));
            })
        });
        assert_sleep("all are paused", &token, waits);
    });
}

#[test]
fn one_worker_wakes_for_each_item_that_is_due() {
    const WORKERS: usize = 32;
    const ITEMS: u32 = 300;
    let _alone = alone();
    within_a_minute(|| {
        let executor: BatchExecutor = builder().workers(WORKERS).build().unwrap();
        let retry = Retry::delays(|| iter::once(Duration::ZERO))
            .when(|n: &u32| RetryDecision::RetryAfter(Duration::from_millis(200 + u64::from(*n) * 2)));
        let before = sleeps(&threads_named(OWN_NAME));
        let result = executor
            .batch(0..ITEMS)
            .retry(retry)
            .run_with(|&n, cx| if cx.attempt() == 1 { Err(n) } else { Ok(n) });
        assert!(ran_to_its_end(result).is_success());
        let woken = sleeps(&threads_named(OWN_NAME)) - before;
        // One to run the item, perhaps one to wait for the next; not all of them.
        assert!(woken < u64::from(ITEMS) * 6, "{woken} times for {ITEMS} items on {WORKERS} workers");
    });
}
