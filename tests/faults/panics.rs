//! Panics: of items, payloads, captures, values, callbacks, limiters, iterators and hooks.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use batch_executor::{BatchExecutor, ItemError, limiter_fn};

use crate::common::{
    AT_THE_END, Census, MEANT, Meeting, Register, assert_ends_well, assert_survived, builder, child,
    collecting, ended, panic_of, parallel_settings, ran_to_its_end, settings, silence_meant_panics, stopping,
    text_of, told_to, within_a_minute,
};

/// F01
#[test]
fn one_panic_leaves_the_others_and_every_worker() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let (executor, census, values) = (collecting(workers), Census::of(100), Register::default());
            let result = executor.run(0..100usize, |&n| {
                census.count(n);
                let value = values.make();
                assert!(n != 42, "{MEANT}{n}");
                Ok::<_, String>(value)
            });
            let result = ran_to_its_end(result);
            census.assert_each_ran_once();
            assert_eq!((result.succeeded(), result.failed(), values.dropped()), (99, 1, 1));
            assert_eq!(result.outcomes()[42].as_ref().unwrap_err().to_string(), "panicked: meant: 42");
            drop(result);
            values.assert_all_dropped(100);
            assert_survived(executor);
        }
    });
}

/// F02
#[test]
fn ten_thousand_panics_cost_no_thread() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in parallel_settings() {
            let executor = collecting(workers);
            let threads = Mutex::new(HashSet::new());
            let census = Census::of(10_000);
            let result = executor.run(0..10_000usize, |&n| -> Result<(), String> {
                threads.lock().unwrap_or_else(PoisonError::into_inner).insert(thread::current().id());
                census.count(n);
                panic!("{MEANT}{n}");
            });
            let result = ran_to_its_end(result);
            census.assert_each_ran_once();
            assert_eq!(result.failed(), 10_000);
            for (n, item) in result.iter().enumerate() {
                let Err(ItemError::Panicked(panic)) = item.outcome else { panic!("item {n} did panic") };
                assert_eq!(panic.message(), format!("{MEANT}{n}"));
            }
            let threads = threads.into_inner().unwrap().len();
            // One more than work at once: a caller that coordinates works until the first helper comes.
            assert!(threads <= executor.workers_for(10_000) + 1, "{threads} threads took part");
            assert_survived(executor);
        }
    });
}

/// Its destructor panics, and so does that of what it panics with.
pub(crate) struct Bomb(pub(crate) u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Bomb(self.0 - 1));
        }
    }
}

/// F03
#[test]
fn payloads_whose_destructors_panic_are_dropped_in_peace() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let result = ran_to_its_end(
                executor
                    .run(0..40usize, |&n| if n % 2 == 0 { panic_any(Bomb(3)) } else { Ok::<_, String>(n) }),
            );
            assert_eq!((result.succeeded(), result.failed()), (20, 20));
            drop(result);

            let outcome = executor.execute(|| -> Result<(), String> { panic_any(Bomb(1)) });
            assert!(matches!(&outcome, Err(ItemError::Panicked(_))));
            drop(outcome);

            let bombs = |&n: &usize| if n > 2 { panic_any(Bomb(3)) } else { Ok::<_, String>(n) };
            drop(stopping(workers).run(0..40usize, bombs).into_result().unwrap_err());
            drop(stopping(workers).run(0..40usize, bombs).into_failed());
            drop(stopping(workers).run(0..40usize, bombs).into_first_failure());
            drop(stopping(workers).run(0..40usize, bombs).into_parts());
            assert_survived(executor);
        }
    });
}

/// F03: outcomes with such payloads are thrown away while another panic, with such a payload, is on its way.
#[test]
fn payloads_whose_destructors_panic_do_not_meet_a_panic_of_the_callback() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let ended = catch_unwind(AssertUnwindSafe(|| {
                executor
                    .batch(0..100usize)
                    .on_progress(|p| {
                        if p.completed == 9 {
                            panic_any(Bomb(2));
                        }
                    })
                    .run(|_| -> Result<(), String> { panic_any(Bomb(3)) })
            }));
            let Err(payload) = ended else { panic!("the callback panicked") };
            assert!(payload.is::<Bomb>());
            std::mem::forget(payload);
            assert_survived(executor);
        }
    });
}

/// F04
#[test]
fn a_payload_that_is_no_text_is_kept() {
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let result = executor.run([0, 1], |&n| -> Result<(), String> {
                match n {
                    0 => panic_any(42),
                    _ => panic_any(""),
                }
            });
            let mut items = ran_to_its_end(result).into_iter().map(|item| item.outcome.unwrap_err());
            let (Some(ItemError::Panicked(number)), Some(ItemError::Panicked(empty))) =
                (items.next(), items.next())
            else {
                panic!("both panicked")
            };
            assert_eq!(
                (number.message(), number.to_string().as_str()),
                ("non-string panic payload", "non-string panic payload")
            );
            assert_eq!(number.into_payload().downcast_ref(), Some(&42));
            assert_eq!((empty.message(), empty.to_string().as_str()), ("", ""));
            assert!(format!("{empty:?}").contains("Panic"));
            assert_survived(executor);
        }
    });
}

/// Panics when it is dropped, unless a panic is on its way already.
struct Fragile(&'static str);

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(thread::panicking(), "{MEANT}{}", self.0);
    }
}

/// F05
#[test]
fn a_capture_that_panics_after_the_value_was_made_takes_the_value_with_it() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let (executor, values) = (collecting(workers), Register::default());
            let tasks = (0..60usize).map(|n| {
                let (capture, values) = (Fragile("a capture"), &values);
                move || {
                    let value = values.make();
                    if n % 2 == 0 {
                        std::mem::forget(capture);
                    } else {
                        let _dropped_after_the_value = capture;
                    }
                    Ok::<_, String>(value)
                }
            });
            let result = executor.execute_batch(tasks, 0..60usize).unwrap();
            for item in &result {
                match &item.outcome {
                    Ok(_) => assert_eq!(item.item % 2, 0),
                    Err(error) => assert_eq!(error.to_string(), "panicked: meant: a capture"),
                }
            }
            assert_eq!((result.succeeded(), result.failed(), values.dropped()), (30, 30, 30));
            drop(result);
            values.assert_all_dropped(60);
            assert_survived(executor);
        }
    });
}

/// A value whose destructor panics whatever else goes on, and counts before that.
struct Stubborn(Option<crate::common::Registered>);

impl Drop for Stubborn {
    fn drop(&mut self) {
        assert!(self.0.take().is_none(), "{MEANT}stubborn");
    }
}

/// A value whose destructor panics if it is armed, and counts in any case.
struct Value {
    armed: bool,
    _registered: crate::common::Registered,
}

impl Drop for Value {
    fn drop(&mut self) {
        assert!(!self.armed || thread::panicking(), "{MEANT}a value");
    }
}

/// F06: the panic of one value does not keep the others from being dropped, and meets no other panic.
#[test]
fn a_value_that_panics_when_it_is_thrown_away_leaves_the_others() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let (executor, values) = (collecting(workers), Register::default());
            let text = panic_of(|| {
                executor
                    .batch(0..50usize)
                    .on_progress(|p| assert!(p.completed != 20, "{MEANT}the callback"))
                    .run(|&n| Ok::<_, String>(Value { armed: n == 3, _registered: values.make() }))
            });
            assert_eq!(text, "meant: the callback");
            values.assert_all_dropped(values.made());
            assert_survived(executor);
        }
    });
}

/// F06: in a child process, since two panics at once abort it.
#[test]
fn several_values_that_panic_when_they_are_thrown_away_abort_nothing() {
    const TEST: &str = "panics::several_values_that_panic_when_they_are_thrown_away_abort_nothing";
    if told_to().is_none() {
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    silence_meant_panics();
    for workers in settings() {
        let (executor, values) = (collecting(workers), Register::default());
        let text = panic_of(|| {
            executor
                .batch(0..50)
                .on_progress(|p| assert!(p.completed != 20, "{MEANT}the callback"))
                .run(|_| Ok::<_, String>(Stubborn(Some(values.make()))))
        });
        assert_eq!(text, "meant: the callback");
        values.assert_all_dropped(values.made());
        assert_survived(executor);
    }
    println!("{AT_THE_END}");
}

/// F05, for tasks that were never started: in a child process, since two panics at once abort it.
#[test]
fn several_unstarted_tasks_that_panic_when_they_are_dropped_abort_nothing() {
    const TEST: &str = "panics::several_unstarted_tasks_that_panic_when_they_are_dropped_abort_nothing";
    if told_to().is_none() {
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    silence_meant_panics();
    let register = Register::default();
    let executor = BatchExecutor::new();
    let tasks = (0..20usize).map(|n| {
        let capture = Stubborn((n > 0).then(|| register.make()));
        move || {
            let _capture = capture;
            if n == 0 { Err("the first") } else { Ok(()) }
        }
    });
    let tasks: Vec<_> = tasks.collect();
    assert_eq!(panic_of(|| executor.execute_batch(tasks, 0..20)), "meant: stubborn");
    register.assert_all_dropped(19);

    // The same while a panic of the callback is on its way.
    let tasks = (0..20).map(|n| {
        let capture = Stubborn((n > 10).then(|| register.make()));
        move || {
            let _capture = capture;
            Ok::<_, String>(())
        }
    });
    let tasks: Vec<_> = tasks.collect();
    let batch = executor.batch(0..20).on_progress(|_| panic!("{MEANT}the callback"));
    assert_eq!(panic_of(|| batch.run_tasks(tasks)), "meant: the callback");
    register.assert_all_dropped(28);
    assert_survived(executor);
    println!("{AT_THE_END}");
}

/// F07
#[test]
fn a_callback_that_panics_is_called_no_more_and_everything_is_dropped() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            for at in [1, 7, 100] {
                let (executor, items, values) =
                    (collecting(workers), Register::default(), Register::default());
                let calls = AtomicUsize::new(0);
                let text = panic_of(|| {
                    executor
                        .batch((0..100).map(|_| items.make()))
                        .on_progress(|p| {
                            calls.fetch_add(1, Ordering::SeqCst);
                            assert!(p.completed < at, "{MEANT}call {at}");
                        })
                        .run(|_| Ok::<_, String>(values.make()))
                });
                assert_eq!((text, calls.into_inner()), (format!("{MEANT}call {at}"), at));
                items.assert_all_dropped(100);
                values.assert_all_dropped(values.made());
                assert_survived(executor);
            }
        }
    });
}

/// F08
#[test]
fn a_limiter_that_panics_fails_the_items_that_ask_and_no_others() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let asked = AtomicUsize::new(0);
            let limiter = limiter_fn(move || {
                assert!(asked.fetch_add(1, Ordering::SeqCst) < 30, "{MEANT}no more");
                Ok(Duration::ZERO)
            });
            let builder = builder().workers(workers).stop_on_error(false);
            let executor = builder.rate_limiter(limiter).build().unwrap();
            let (census, values) = (Census::of(100), Register::default());
            let result = executor.run(0..100usize, |&n| {
                census.count(n);
                Ok::<_, String>(values.make())
            });
            let result = ran_to_its_end(result);
            assert_eq!((result.succeeded(), result.failed(), census.total()), (30, 70, 30));
            census.assert_none_ran_twice();
            drop(result);
            values.assert_all_dropped(30);
            let alone = executor.execute(|| -> Result<(), String> { unreachable!("it has no permit") });
            assert!(
                matches!(alone, Err(ItemError::Panicked(panic)) if panic.message() == format!("{MEANT}no more"))
            );
            // I5: the limiter panics for good.
        }
    });
}

/// F10
#[test]
fn an_iterator_that_panics_drops_what_it_gave_and_runs_nothing() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let (executor, register, census) = (collecting(workers), Register::default(), Census::of(1));
            for from in [0, 1, 50] {
                let before = register.made();
                let items = || {
                    (0..100).map(|n| {
                        assert!(n < from, "{MEANT}next");
                        register.make()
                    })
                };
                let text = panic_of(|| {
                    executor.run(items(), |_| {
                        census.count(0);
                        Ok::<_, String>(())
                    })
                });
                assert_eq!(text, "meant: next");
                register.assert_all_dropped(before + from);

                // The iterator of the ids, and that of the tasks.
                let task = || {
                    census.count(0);
                    Ok::<_, String>(())
                };
                assert_eq!(
                    panic_of(|| executor.execute_batch((0..100).map(|_| task), items())),
                    "meant: next"
                );
                let tasks = items().map(|value| {
                    let census = &census;
                    move || {
                        let _value = value;
                        census.count(0);
                        Ok::<_, String>(())
                    }
                });
                assert_eq!(panic_of(|| executor.execute_batch(tasks, 0..100)), "meant: next");
                register.assert_all_dropped(before + 3 * from);
            }
            assert_eq!(census.total(), 0);
            assert_survived(executor);
        }
    });
}

/// F12: Rust aborts where a destructor panics during a panic, on any thread.
#[cfg(unix)]
#[test]
fn a_panic_during_a_panic_of_an_item_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;

    struct Always;

    impl Drop for Always {
        fn drop(&mut self) {
            panic!("{MEANT}in the destructor");
        }
    }

    const TEST: &str = "panics::a_panic_during_a_panic_of_an_item_ends_the_process";
    if told_to().is_some() {
        let result = collecting(2).run(0..4, |_| -> Result<(), String> {
            let _always = Always;
            panic!("{MEANT}in the item");
        });
        println!("{AT_THE_END}: {result:?}");
        return;
    }
    let (status, printed) = ended(child(&[], TEST, "run"));
    assert_eq!(status.signal(), Some(6), "SIGABRT, and not {status}: {printed}");
    assert!(!printed.contains(AT_THE_END));
}

/// F14: the executor holds no lock while an item panics, so a hook may use it.
#[test]
fn a_panic_hook_may_run_a_batch() {
    const TEST: &str = "panics::a_panic_hook_may_run_a_batch";
    if told_to().is_none() {
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    for workers in settings() {
        let executor = collecting(workers);
        let sum = std::sync::Arc::new(AtomicUsize::new(0));
        let (hook_executor, hook_sum) = (executor.clone(), std::sync::Arc::clone(&sum));
        std::panic::set_hook(Box::new(move |_| {
            let result = hook_executor.batch(0..10).on_progress(|_| {}).run(|&n| Ok::<_, String>(n));
            hook_sum.fetch_add(result.values().sum(), Ordering::SeqCst);
        }));
        let meeting = Meeting::default();
        let together = executor.workers_for(100);
        let result = executor.run(0..100usize, |&n| -> Result<(), String> {
            if n < together {
                meeting.of(together);
            }
            panic!("{n}")
        });
        drop(std::panic::take_hook());
        assert_eq!(
            (ran_to_its_end(result).failed(), sum.load(Ordering::SeqCst)),
            (100, 4_500),
            "{workers:?}"
        );
        assert_survived(executor);
    }
    println!("{AT_THE_END}");
}

/// F14: Rust aborts where a panic hook panics.
#[cfg(unix)]
#[test]
fn a_panic_hook_that_panics_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;

    const TEST: &str = "panics::a_panic_hook_that_panics_ends_the_process";
    if told_to().is_some() {
        std::panic::set_hook(Box::new(|_| panic!("the hook")));
        let result = collecting(2).run(0..4, |_| -> Result<(), String> { panic!("the item") });
        println!("{AT_THE_END}: {result:?}");
        return;
    }
    let (status, printed) = ended(child(&[], TEST, "run"));
    assert_eq!(status.signal(), Some(6), "SIGABRT, and not {status}: {printed}");
}

/// F15
#[test]
fn a_lock_that_an_item_poisoned_fails_the_items_behind_it_and_nothing_else() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let executor = collecting(workers);
            let lock = Mutex::new(());
            let result = executor.run(0..50usize, |&n| {
                let _held = lock.lock().unwrap_or_else(|_| panic!("{MEANT}poisoned"));
                assert!(n != 10, "{MEANT}poisons");
                Ok::<_, String>(n)
            });
            let result = ran_to_its_end(result);
            assert_eq!(
                result.outcomes()[10].as_ref().unwrap_err().to_string().replace("poisoned", "poisons"),
                "panicked: meant: poisons"
            );
            assert_eq!(result.skipped(), 0);
            assert!(lock.is_poisoned());
            assert_survived(executor);
        }
    });
}

/// F16
#[test]
fn a_batch_runs_in_a_destructor_while_its_caller_unwinds() {
    struct RunsABatch<'a>(&'a BatchExecutor, &'a AtomicUsize);

    impl Drop for RunsABatch<'_> {
        fn drop(&mut self) {
            assert!(thread::panicking());
            let result = self.0.batch(0..30usize).on_progress(|_| {}).run(|&n| {
                // A panic that is caught inside the destructor does no harm either.
                assert!(n % 10 != 9, "{MEANT}inside");
                Ok::<_, String>(n)
            });
            let result = ran_to_its_end(result);
            self.1.fetch_add(result.succeeded() * 100 + result.failed(), Ordering::SeqCst);
        }
    }

    silence_meant_panics();
    within_a_minute(|| {
        for workers in settings() {
            let (executor, ran) = (collecting(workers), AtomicUsize::new(0));
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let _runs = RunsABatch(&executor, &ran);
                panic!("{MEANT}outside");
            }));
            assert_eq!(text_of(&*ended.unwrap_err()), "meant: outside");
            assert_eq!(ran.into_inner(), 2_703, "{workers:?}");
            assert_survived(executor);
        }
    });
}

/// F05, for tasks and ids that do not match: in a child process, since two panics at once abort it.
#[test]
fn tasks_that_panic_when_they_are_refused_abort_nothing() {
    const TEST: &str = "panics::tasks_that_panic_when_they_are_refused_abort_nothing";
    if told_to().is_none() {
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    silence_meant_panics();
    let register = Register::default();
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let capture = Stubborn(Some(register.make()));
            move || {
                let _capture = &capture;
                Ok::<_, String>(())
            }
        })
        .collect();
    let ids: Vec<_> = (0..2).map(|_| Stubborn(Some(register.make()))).collect();
    let executor = BatchExecutor::new();
    assert_eq!(panic_of(|| executor.execute_batch(tasks, ids)), "meant: stubborn");
    register.assert_all_dropped(5);
    assert_survived(executor);
    println!("{AT_THE_END}");
}

/// F06, for what the callback and the operation own: the outcomes are dropped all the same.
#[test]
fn a_callback_and_an_operation_that_panic_when_they_are_dropped_abort_and_leak_nothing() {
    const TEST: &str =
        "panics::a_callback_and_an_operation_that_panic_when_they_are_dropped_abort_and_leak_nothing";
    if told_to().is_none() {
        assert_ends_well(child(&[], TEST, "run"));
        return;
    }
    silence_meant_panics();
    for workers in settings() {
        let (executor, owned, values) = (collecting(workers), Register::default(), Register::default());
        let (by_callback, by_op) = (Stubborn(Some(owned.make())), Mutex::new(Stubborn(Some(owned.make()))));
        let text = panic_of(|| {
            let values = values.clone();
            executor
                .batch(0..50)
                .on_progress(move |_| {
                    let _owned = &by_callback;
                })
                .run(move |_| {
                    let _owned = &by_op;
                    Ok::<_, String>(values.make())
                })
        });
        assert_eq!(text, "meant: stubborn");
        owned.assert_all_dropped(2);
        values.assert_all_dropped(50);
        assert_survived(executor);
    }
    println!("{AT_THE_END}");
}
