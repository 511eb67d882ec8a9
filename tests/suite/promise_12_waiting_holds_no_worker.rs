//! Promise 12: an item that waits, at a limit, in a back-off or in a pause, holds no worker: others run meanwhile.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::within_a_minute;
use batch_executor::{BatchExecutor, Limit, RateLimit, Retry, RetryDecision, TestClock};

const HOUR: Duration = Duration::from_secs(3600);

/// With one worker, which a waiting item would keep from all others.
fn alone(clock: &TestClock) -> BatchExecutor {
    let builder = BatchExecutor::builder().stop_on_error(false).clock(clock.clone());
    builder.build().expect("one worker is fine")
}

#[test]
fn an_item_that_waits_for_a_rate_lets_others_go_first() {
    within_a_minute(|| {
        let (clock, started) = (TestClock::new(), Mutex::new(Vec::new()));
        let an_hour = || RateLimit::new(1, HOUR).expect("one an hour");
        let result = alone(&clock)
            .batch(["a", "a", "b", "c", "d", "a"])
            .limit(Limit::per_key(|name: &&str| *name, move |_| Limit::rate(an_hour())))
            .run_with(|_, cx| {
                started.lock().expect("no item panics").push((cx.index(), clock.elapsed()));
                Ok::<_, String>(())
            });
        assert!(result.is_success());
        let started = started.into_inner().expect("no item panics");
        let order: Vec<usize> = started.iter().map(|(index, _)| *index).collect();
        assert_eq!(order, [0, 2, 3, 4, 1, 5]);
        assert!(started[..4].iter().all(|(_, at)| *at < HOUR) && started[5].1 >= 2 * HOUR, "{started:?}");
    });
}

#[test]
fn an_item_that_waits_for_a_slot_leaves_its_worker_to_others() {
    within_a_minute(|| {
        let (done, all_done) = mpsc::channel();
        let (done, all_done) = (Mutex::new(done), Mutex::new(all_done));
        let executor = BatchExecutor::builder().workers(2).build().expect("two workers are fine");
        // The first item holds the slot until the last four have run, and the second one waits for it.
        let result = executor
            .batch(["a", "a", "b", "c", "d", "e"])
            .limit(Limit::per_key(|name: &&str| *name, |_| Limit::at_once(1)))
            .run_with(|_, cx| {
                match cx.index() {
                    0 => (0..4)
                        .for_each(|_| all_done.lock().expect("no item panics").recv().expect("they run")),
                    1 => {}
                    _ => done.lock().expect("no item panics").send(()).expect("the first item listens"),
                }
                Ok::<_, String>(())
            });
        assert!(result.is_success());
    });
}

#[test]
fn an_item_in_its_back_off_lets_others_go_first() {
    within_a_minute(|| {
        let clock = TestClock::new();
        let result = alone(&clock)
            .batch(0..10)
            .retry(Retry::delays(|| [HOUR].into_iter()))
            .run_with(|&n, cx| if n < 3 && cx.attempt() == 1 { Err("busy") } else { Ok(clock.elapsed()) });
        let ended = result.into_values().expect("all succeed in the end");
        assert!(ended[..3].iter().all(|at| *at >= HOUR), "{ended:?}");
        assert!(ended[3..].iter().all(Duration::is_zero), "{ended:?}");
        assert_eq!(clock.elapsed(), HOUR, "all three waited at the same time");
    });
}

#[test]
fn nothing_runs_while_all_items_are_paused() {
    within_a_minute(|| {
        let (clock, mut ticks) = (TestClock::new(), Vec::new());
        let retry = Retry::delays(|| [HOUR; 3].into_iter()).when(|_: &&str| RetryDecision::PauseAll(HOUR));
        let executor =
            BatchExecutor::builder().workers(3).clock(clock.clone()).build().expect("three workers are fine");
        let result = executor
            .batch(0..9)
            .retry(retry)
            .on_tick(HOUR / 4, |progress| ticks.push((progress.running, progress.paused_for.is_some())))
            .run_with(|&n, cx| if n == 0 && cx.attempt() == 1 { Err("429") } else { Ok(n) });
        assert!(result.is_success());
        assert!(ticks.len() >= 3 && ticks[..3].iter().all(|tick| *tick == (0, true)), "{ticks:?}");
    });
}
