//! `on_tick`, and what a batch tells of the moment: what runs, what waits, and what an earlier run
//! has done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::Cell;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{CancelToken, Progress, Retry, RetryDecision, StopReason, Workers};

use crate::common::{
    Gate, MEANT, Peak, Way, collecting, parallel_settings, ran_to_its_end, settings, silence_meant_panics,
    stopped, within_a_minute,
};

const MS: fn(u64) -> Duration = Duration::from_millis;
const EVER: Duration = Duration::MAX;

#[allow(clippy::unnecessary_wraps, reason = "it is an operation")]
fn slept<E>(time: Duration) -> Result<(), E> {
    thread::sleep(time);
    Ok(())
}

/// Items end only when a tick has come.
#[test]
fn ticks_come_while_no_item_is_decided() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let (ticked, mut seen) = (Gate::default(), 0);
            let result = collecting(workers)
                .batch(0..20)
                .on_tick(MS(1), |p| {
                    assert!(seen > 2 || p.completed == 0);
                    seen += 1;
                    if seen == 3 {
                        ticked.open();
                    }
                })
                .run(|_| {
                    ticked.pass();
                    Ok::<_, String>(())
                });
            assert!(ran_to_its_end(result).is_success() && seen >= 3, "{workers:?}");
        }
    });
}

#[test]
fn ticks_come_while_the_consumer_of_a_stream_waits() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            let ticked = Gate::default();
            let streamed = collecting(workers).batch(0..20).on_tick(MS(1), |_| ticked.open()).stream(
                |_| {
                    ticked.pass();
                    Ok::<_, String>(())
                },
                |results| results.count(),
            );
            assert_eq!((streamed.output, streamed.succeeded), (20, 20), "{workers:?}");
        }
    });
}

/// All items wait for another attempt, for ever: also a calling thread that is the only worker
/// ticks then.
#[test]
fn ticks_come_while_all_items_wait_and_in_a_pause() {
    within_a_minute(|| {
        for way in Way::all() {
            for decision in [RetryDecision::Retry, RetryDecision::PauseAll(EVER)] {
                let (executor, token, ticks) = (way.collecting(), CancelToken::new(), Cell::new(0));
                let retry = Retry::delays(|| iter::repeat(EVER)).when(move |()| decision);
                let batch = way.batch(&executor, 0..9).retry(retry).cancel_on(&token);
                let batch = batch.on_tick(MS(1), |p| {
                    ticks.set(ticks.get() + usize::from(p.waiting > 0 && p.running == 0));
                    assert_eq!(p.completed, 0);
                    if ticks.get() == 3 {
                        token.cancel();
                    }
                });
                let (reason, partial) = stopped(batch.run(|_| Err::<(), _>(())));
                assert_eq!((reason, partial.skipped()), (StopReason::Cancelled, 9), "{way:?}");
            }
        }
    });
}

#[test]
fn calls_come_on_the_calling_thread_and_never_two_at_once() {
    within_a_minute(|| {
        for workers in settings() {
            let (caller, inside, told, ticked) =
                (thread::current().id(), Peak::default(), Cell::new(0), Cell::new(0));
            let enter = || {
                assert_eq!(thread::current().id(), caller, "{workers:?}");
                inside.enter()
            };
            let result = collecting(workers)
                .batch(0..300)
                .on_progress(|p| {
                    let _inside = enter();
                    told.set(p.completed);
                })
                .on_tick(MS(1), |p| {
                    let _inside = enter();
                    ticked.set(ticked.get() + 1);
                    assert_eq!(p.completed, told.get(), "a tick knows what was reported");
                })
                .run(|_| slept::<String>(MS(1)));
            assert!(ran_to_its_end(result).is_success());
            assert!(inside.most() == 1 && ticked.get() > 0, "{workers:?}");
        }
    });
}

#[test]
fn a_tick_that_is_not_due_does_not_come() {
    for workers in settings() {
        let batch = collecting(workers);
        let batch = batch.batch(0..50).on_tick(EVER, |_| panic!("called"));
        assert!(ran_to_its_end(batch.run(|_| Ok::<_, String>(()))).is_success());
    }
}

/// An interval of nothing is taken for a millisecond.
#[test]
fn an_interval_of_nothing_is_a_millisecond() {
    within_a_minute(|| {
        for workers in settings() {
            let (mut calls, mut before) = (0, Duration::ZERO);
            let executor = collecting(workers);
            let batch = executor.batch(0..5).on_tick(Duration::ZERO, |p| {
                assert!(p.elapsed >= before + MS(1), "{:?} after {before:?}", p.elapsed);
                (calls, before) = (calls + 1, p.elapsed);
            });
            let result = ran_to_its_end(batch.run(|_| slept::<String>(MS(5))));
            assert!(calls > 0 && calls <= result.elapsed().as_millis(), "{workers:?}");
        }
    });
}

#[test]
fn a_tick_that_panics_stops_the_batch_and_unwinds_in_the_caller() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, inside, runs) = (way.collecting(), Peak::default(), AtomicUsize::new(0));
            let batch = way.batch(&executor, 0..100_000).on_tick(MS(2), |_| panic!("{MEANT}tick"));
            let run = || {
                batch.run(|_| {
                    let _inside = inside.enter();
                    runs.fetch_add(1, Ordering::SeqCst);
                    slept::<String>(MS(1))
                })
            };
            let payload = catch_unwind(AssertUnwindSafe(run)).err().unwrap();
            assert_eq!(crate::common::text_of(&*payload), format!("{MEANT}tick"), "{way:?}");
            assert_eq!(inside.inside(), 0, "everything that ran has ended");
            assert!(runs.into_inner() < 100_000);
        }
    });
}

#[test]
fn the_last_callback_given_is_the_one_that_is_called() {
    let executor = collecting(2);
    let mut calls = 0;
    let batch = executor.batch(0..9).on_tick(MS(1), |_| panic!("replaced")).on_tick(MS(1), |_| calls += 1);
    assert!(batch.run(|_| slept::<String>(MS(5))).is_success());
    assert!(calls > 0);
}

/// Two of four wait for their next attempt for ever, and two run until a tick has seen that.
#[test]
fn what_runs_and_what_waits_is_told_as_it_is() {
    within_a_minute(|| {
        for reports in [false, true] {
            let (token, seen, gate) = (CancelToken::new(), Cell::new(None), Gate::default());
            let executor = collecting(2);
            let retry = Retry::delays(|| iter::repeat(EVER));
            let mut batch = executor.batch(0..4).retry(retry).cancel_on(&token);
            if reports {
                batch = batch.on_progress(|p| assert_eq!((p.workers, p.retries), (2, 0)));
            }
            let batch = batch.on_tick(MS(1), |p| {
                assert!(p.completed + p.running + p.waiting <= p.total, "{p:?}");
                if (p.running, p.waiting) == (2, 2) {
                    seen.set(Some(*p));
                    gate.open();
                }
                if (p.running, p.waiting, p.completed) == (0, 2, 2) {
                    token.cancel();
                }
            });
            let result = batch.run(|n| {
                if *n < 2 {
                    return Err(());
                }
                gate.pass();
                Ok(())
            });
            assert_eq!(stopped(result).1.succeeded(), 2);
            let seen: Progress = seen.get().unwrap();
            assert_eq!((seen.workers, seen.retries, seen.recorded, seen.paused_for), (2, 0, 0, None));
        }
    });
}

/// One has asked for it, and so has the other if it had started.
#[test]
fn in_a_pause_nothing_runs_and_the_time_that_is_left_is_told() {
    within_a_minute(|| {
        let (token, executor) = (CancelToken::new(), collecting(2));
        let retry = Retry::delays(iter::empty).when(|()| RetryDecision::PauseAll(Duration::from_secs(3600)));
        let batch = executor.batch(0..9).retry(retry).cancel_on(&token).on_tick(MS(1), |p| {
            // After the cancel nothing waits any more, and another tick may come before the batch ends.
            let is_to_see = p.running == 0 && !token.is_cancelled();
            let Some(left) = p.paused_for.filter(|_| is_to_see) else { return };
            assert!(left > Duration::from_secs(3000) && left <= Duration::from_secs(3600), "{left:?}");
            assert!((1..=2).contains(&p.waiting), "{p:?}");
            token.cancel();
        });
        let (reason, partial) = stopped(batch.run(|_| Err::<(), _>(())));
        assert_eq!((reason, partial.skipped()), (StopReason::Cancelled, 9));
    });
}

#[test]
fn retries_are_counted_and_nothing_runs_at_the_end() {
    within_a_minute(|| {
        for workers in settings() {
            let (executor, mut last) = (collecting(workers), None);
            let batch = executor.batch(0..40usize).retry(Retry::delays(|| iter::repeat_n(Duration::ZERO, 3)));
            let batch = batch.on_progress(|p| {
                assert!(p.completed + p.running + p.waiting <= p.total, "{workers:?}: {p:?}");
                assert!(p.running <= p.workers);
                last = Some(*p);
            });
            let result =
                ran_to_its_end(batch.run_with(|n, cx| if cx.attempt() > n % 4 { Ok(()) } else { Err(()) }));
            let (attempts, last) = ((0..40).map(|n| result.attempts(n)).sum::<usize>(), last.unwrap());
            assert_eq!((last.running, last.waiting, last.retries), (0, 0, attempts - 40), "{workers:?}");
        }
    });
}

/// A calling thread that works tells of an item when nothing else of its own runs.
#[test]
fn one_worker_runs_nothing_while_it_reports() {
    for workers in [Workers::Sequential, Workers::Fixed(1)] {
        let executor = collecting(workers);
        let batch = executor.batch(0..20).on_progress(|p| assert_eq!((p.running, p.workers), (0, 1)));
        assert!(ran_to_its_end(batch.run(|_| Ok::<_, String>(()))).is_success());
    }
}

#[cfg(feature = "journal")]
mod recorded {
    use super::*;

    use std::cell::RefCell;
    use std::{env, fs, process};

    use batch_executor::{Journal, Plan};

    const ITEMS: usize = 200;

    /// What the second run tells, whose items take 10 ms: the first has left those that `is_left`
    /// says.
    fn second_run(name: &str, workers: Workers, is_left: impl Fn(usize) -> bool + Sync) -> Vec<Progress> {
        let path = env::temp_dir().join(format!("{name}-{}.jsonl", process::id()));
        let _ = fs::remove_file(&path);
        let executor = collecting(workers);
        let told = RefCell::new(Vec::new());
        for run in 1..=2 {
            let journal = Journal::open(&path, Plan::of(0..ITEMS).unwrap()).unwrap();
            let batch = executor.batch(0..ITEMS).journal(&journal);
            let batch = batch.on_progress(|p| told.borrow_mut().push(*p));
            let result = batch.run(|&n| match run {
                1 if is_left(n) => Err("left".to_owned()),
                1 => Ok(n),
                _ => slept::<String>(MS(10)).map(|()| n),
            });
            assert_eq!(result.stopped(), None);
            if run == 1 {
                assert!(told.borrow().iter().all(|p| p.recorded == 0));
                told.borrow_mut().clear();
            }
        }
        fs::remove_file(path).unwrap();
        told.into_inner()
    }

    /// The rate is not above that of the items which run, and what is left is what is to run.
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    fn assert_is_about_this_run(told: &[Progress], workers: usize, left: usize) {
        assert!(told.iter().map(|p| p.completed).eq(1..=ITEMS));
        assert!(told.windows(2).all(|two| two[0].recorded <= two[1].recorded));
        assert_eq!(told.last().unwrap().recorded, ITEMS - left);
        for p in told.iter().filter(|p| p.completed > p.recorded) {
            let ran = p.completed - p.recorded;
            assert!(p.rate() <= 100.0 * workers as f64, "{} a second: {p:?}", p.rate());
            let eta = p.eta().map_or(0.0, |eta| eta.as_secs_f64());
            assert!((eta * p.rate() - (left - ran) as f64).abs() < 1e-3, "{eta} s for {} items", left - ran);
        }
    }

    #[test]
    fn rate_and_estimate_are_about_this_run_whatever_an_earlier_one_has_done() {
        within_a_minute(|| {
            for (workers, count) in [(Workers::Sequential, 1), (Workers::Fixed(4), 4)] {
                let name = |place| format!("rate-{place}-{count}");
                let told = second_run(&name("first"), workers, |n| n >= 180);
                assert_is_about_this_run(&told, count, 20);
                let told = second_run(&name("last"), workers, |n| n < 20);
                assert_is_about_this_run(&told, count, 20);
                let told = second_run(&name("between"), workers, |n| n % 10 == 3);
                assert_is_about_this_run(&told, count, 20);
            }
        });
    }

    #[test]
    fn while_all_that_is_done_was_recorded_there_is_no_rate() {
        let told = second_run("no-rate", Workers::Sequential, |n| n >= 198);
        for p in &told[..198] {
            assert!(p.rate().abs() < f64::EPSILON);
            assert_eq!((p.eta(), p.recorded), (None, p.completed));
        }
    }
}
