//! Promise 4: a panic of an item is its outcome; any other stops the batch, waits for what runs, and goes on to the
//! caller.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use batch_executor::{BatchExecutor, ItemError, LimiterError, Retry, StopReason, limiter_fn};

use crate::common::{
    Census, Gate, MEANT, Meeting, Peak, Register, assert_still_works, collecting, meant_panics_in, panic_of,
    parallel_settings, ran_to_its_end, settings, silence_meant_panics, stopped, stopping, within_a_minute,
};

#[test]
fn a_panic_in_one_item_leaves_the_others_alone() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let census = Census::of(300);
            let result = executor.run(0..300usize, |&n| {
                census.count(n);
                assert!(n % 100 != 50, "{MEANT}item {n}");
                Ok::<_, String>(n)
            });
            let result = ran_to_its_end(result);
            census.assert_each_ran_once();
            assert_eq!((result.succeeded(), result.failed()), (297, 3));
            for (item, n) in result.failures().zip([50, 150, 250]) {
                let ItemError::Panicked(panic) = item.error else { panic!("{n} did panic") };
                assert_eq!((*item.item, panic.message()), (n, format!("{MEANT}item {n}").as_str()));
            }
            assert_still_works(&executor);
        }
    });
}

#[test]
fn a_panic_keeps_its_payload() {
    #[derive(Debug, PartialEq)]
    struct Details(u32, &'static str);

    within_a_minute(|| {
        for workers in settings() {
            let result = collecting(workers).run(0..3u32, |&n| -> Result<(), String> {
                match n {
                    0 => panic_any(Details(7, "seven")),
                    1 => panic!("{MEANT}a formatted {}", "text"),
                    _ => panic!("a plain text"),
                }
            });
            let mut panics = ran_to_its_end(result).into_iter().map(|item| match item.outcome {
                Err(ItemError::Panicked(panic)) => panic,
                other => panic!("it did panic: {other:?}"),
            });
            let details = panics.next().unwrap();
            assert_eq!(details.message(), "non-string panic payload");
            assert_eq!(details.into_payload().downcast_ref(), Some(&Details(7, "seven")));
            let formatted = panics.next().unwrap();
            assert_eq!(formatted.message(), "meant: a formatted text");
            assert!(formatted.into_payload().is::<String>());
            let plain = panics.next().unwrap();
            assert_eq!(plain.message(), "a plain text");
            assert_eq!(panic_of(|| plain.resume()), "a plain text");
        }
    });
}

/// Else its message is printed twice.
#[test]
fn a_panic_that_goes_on_does_not_run_the_hook_again() {
    silence_meant_panics();
    let fail = |()| -> Result<(), String> { panic!("{MEANT}an item") };
    let by_the_user = || match stopping(1).execute(|| fail(())) {
        Err(ItemError::Panicked(panic)) => panic.resume(),
        other => assert_eq!(other.ok(), None, "it did panic"),
    };
    let times = meant_panics_in(|| assert_eq!(panic_of(by_the_user), "meant: an item"));
    assert_eq!(times, 1);

    let (executor, tell) = (stopping(1), |_: &_| panic!("{MEANT}a callback"));
    let by_the_batch = || drop(executor.batch([()]).on_progress(tell).run(|()| Ok::<_, String>(())));
    let times = meant_panics_in(|| assert_eq!(panic_of(by_the_batch), "meant: a callback"));
    assert_eq!(times, 1);
}

#[test]
fn a_panic_counts_as_a_failure_and_stops_a_batch_that_stops() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let op = |&n: &usize| {
                assert!(n != 5 && n != 9, "{MEANT}{n}");
                Ok::<_, String>(n)
            };
            let (reason, partial) = stopped(stopping(workers).run(0..50usize, op));
            assert_eq!(reason, StopReason::ItemFailed { index: 5 });
            assert!(matches!(partial.failures().next().unwrap().error, ItemError::Panicked(_)));

            let twice = BatchExecutor::builder().workers(workers).stop_after_failures(2).build().unwrap();
            let (reason, _) = stopped(twice.run(0..50usize, op));
            assert_eq!(reason, StopReason::TooManyFailures { limit: 2 });
        }
    });
}

#[test]
fn a_task_that_panics_alone_gives_an_error_and_no_panic() {
    silence_meant_panics();
    let executor = BatchExecutor::new();
    let outcome = executor.execute(|| -> Result<(), String> { panic!("{MEANT}alone") });
    let Err(ItemError::Panicked(panic)) = outcome else { panic!("it did panic") };
    assert_eq!(panic.message(), "meant: alone");
    assert_eq!(executor.execute(|| Ok::<_, String>(3)).unwrap(), 3);
}

#[test]
fn a_panic_of_the_limiter_is_that_items_outcome() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let asked = AtomicUsize::new(0);
            let limiter = limiter_fn(move || match asked.fetch_add(1, Ordering::SeqCst) {
                5 => panic!("{MEANT}the limiter"),
                8 => Err(LimiterError::new("refused")),
                _ => Ok(Duration::ZERO),
            });
            let executor =
                BatchExecutor::builder().workers(workers).stop_on_error(false).rate_limiter(limiter);
            let census = Census::of(50);
            let result = executor.build().unwrap().run(0..50usize, |&n| {
                census.count(n);
                Ok::<_, String>(n)
            });
            let result = ran_to_its_end(result);
            let mut texts: Vec<String> = result.failures().map(|item| item.error.to_string()).collect();
            texts.sort();
            assert_eq!(texts, ["no permit from the rate limiter: refused", "panicked: meant: the limiter"]);
            assert_eq!((result.succeeded(), census.total()), (48, 48), "{workers:?}");
        }
    });
}

#[test]
fn a_panic_of_the_callback_reaches_the_caller_when_nothing_runs_any_more() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let (running, values) = (Peak::default(), Register::default());
            let mut calls = 0;
            let text = panic_of(|| {
                executor
                    .batch(0..2_000usize)
                    .on_progress(|_| {
                        calls += 1;
                        assert!(calls != 3, "{MEANT}the callback");
                    })
                    .run(|_| {
                        let _inside = running.enter();
                        thread::sleep(Duration::from_micros(50));
                        Ok::<_, String>(values.make())
                    })
            });
            assert_eq!(running.inside(), 0, "an item was still running, {workers:?}");
            assert_eq!(text, "meant: the callback");
            assert_eq!(calls, 3, "it was called again");
            values.assert_all_dropped(values.made());
            assert_still_works(&executor);
        }
    });
}

/// One item is held inside until long after the panic; the others are so many that some would start meanwhile.
#[test]
fn after_a_panic_of_the_callback_nothing_starts_and_what_runs_is_waited_for() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = collecting(workers);
            let together = executor.workers_for(1_000);
            let (meeting, panicking) = (Meeting::default(), Gate::default());
            let (started, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let text = panic_of(|| {
                executor
                    .batch(0..1_000usize)
                    .on_progress(|_| {
                        panicking.open();
                        panic!("{MEANT}at the first call");
                    })
                    .run(|&n| {
                        started.fetch_add(1, Ordering::SeqCst);
                        if n < together {
                            meeting.of(together);
                        }
                        if n > 0 {
                            panicking.pass();
                            // Long enough for the panic to get out, if it did not wait.
                            thread::sleep(Duration::from_millis(20));
                        }
                        finished.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, String>(())
                    })
            });
            assert_eq!(text, "meant: at the first call");
            let finished = finished.load(Ordering::SeqCst);
            assert_eq!(started.load(Ordering::SeqCst), finished, "something still runs, {workers:?}");
            // Before the panic is known a few more may start; all of them would take seconds.
            assert!(finished < 1_000, "everything ran, {workers:?}");
            assert_still_works(&executor);
        }
    });
}

#[test]
fn a_panic_of_the_iterator_reaches_the_caller_and_drops_the_items_once() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let register = Register::default();
            let items = (0..100).map(|n| {
                assert!(n != 60, "{MEANT}the iterator");
                register.make()
            });
            let text = panic_of(|| executor.run(items, |_| Ok::<_, String>(())));
            assert_eq!(text, "meant: the iterator");
            register.assert_all_dropped(60);
            assert_still_works(&executor);
        }
    });
}

struct PanicsOnDrop(&'static str);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        assert!(thread::panicking(), "{MEANT}{}", self.0);
    }
}

#[test]
fn a_panic_of_the_operations_destructor_reaches_the_caller_when_nothing_runs_any_more() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let running = Peak::default();
            let bomb = PanicsOnDrop("the operation");
            let text = panic_of(|| {
                let running = &running;
                let bomb = AssertUnwindSafe(bomb);
                executor.run(0..200, move |_| {
                    let _inside = running.enter();
                    let _hold = &bomb;
                    Ok::<_, String>(())
                })
            });
            assert_eq!(text, "meant: the operation");
            assert_eq!(running.inside(), 0, "{workers:?}");
            assert_still_works(&executor);
        }
    });
}

#[test]
fn a_panic_of_the_callbacks_destructor_reaches_the_caller_when_nothing_runs_any_more() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let running = Peak::default();
            let bomb = PanicsOnDrop("the callback's destructor");
            let text = panic_of(|| {
                executor
                    .batch(0..200)
                    .on_progress(move |_| {
                        let _hold = &bomb;
                    })
                    .run(|_| {
                        let _inside = running.enter();
                        Ok::<_, String>(())
                    })
            });
            assert_eq!(text, "meant: the callback's destructor");
            assert_eq!(running.inside(), 0, "{workers:?}");
            assert_still_works(&executor);
        }
    });
}

#[test]
fn a_panic_of_a_tasks_capture_is_that_tasks_outcome() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let tasks = (0..40usize).map(|n| {
                let bomb = (n == 13).then(|| PanicsOnDrop("the capture"));
                move || {
                    let _capture = bomb;
                    Ok::<_, String>(n)
                }
            });
            let result = executor.execute_batch(tasks, 0..40usize).unwrap();
            assert_eq!((result.succeeded(), result.failed()), (39, 1));
            let error = result.outcomes()[13].as_ref().unwrap_err();
            assert_eq!(error.to_string(), "panicked: meant: the capture", "{workers:?}");
            assert_still_works(&executor);
        }
    });
}

#[test]
fn a_panic_of_an_unstarted_tasks_destructor_reaches_the_caller() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = stopping(workers);
            let register = Register::default();
            let tasks = (0..40usize).map(|n| {
                let bomb = (n == 39).then(|| PanicsOnDrop("never started"));
                let value = register.make();
                move || {
                    let (_bomb, _value) = (bomb, value);
                    if n == 0 { Err("the first") } else { Ok(()) }
                }
            });
            let tasks: Vec<_> = tasks.collect();
            // With several workers the last task may have run before the first failed: it is an outcome then.
            let ended = catch_unwind(AssertUnwindSafe(|| executor.batch(0..40usize).run_tasks(tasks)));
            match ended {
                Err(payload) => assert_eq!(crate::common::text_of(&*payload), "meant: never started"),
                Ok(result) => {
                    let (reason, partial) = stopped(result);
                    assert_eq!(reason, StopReason::ItemFailed { index: 0 });
                    assert!(matches!(partial.outcomes()[39], Err(ItemError::Panicked(_))));
                }
            }
            register.assert_all_dropped(40);
            assert_still_works(&executor);
        }
    });
}

#[test]
fn of_several_panics_outside_of_items_the_first_goes_on() {
    struct Error;
    impl Drop for Error {
        fn drop(&mut self) {
            panic!("{MEANT} of the error");
        }
    }
    struct Delays;
    impl Iterator for Delays {
        type Item = Duration;
        fn next(&mut self) -> Option<Duration> {
            Some(Duration::ZERO)
        }
    }
    impl Drop for Delays {
        fn drop(&mut self) {
            panic!("{MEANT} of the delays");
        }
    }

    silence_meant_panics();
    let executor = BatchExecutor::new();
    let retried = catch_unwind(AssertUnwindSafe(|| {
        executor
            .batch([0])
            .retry(Retry::delays(|| Delays))
            .run_with(|_, cx| if cx.attempt() == 1 { Err(Error) } else { Ok(()) })
            .succeeded()
    }));
    let text = retried.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(*text, format!("{MEANT} of the error"));
}
