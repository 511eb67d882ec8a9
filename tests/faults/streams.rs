//! Streams whose consumer, input, operation, callback or destructors panic, and streams in streams.

use std::sync::atomic::{AtomicUsize, Ordering};

use batch_executor::{BatchExecutor, CancelToken, ItemError, Results, StopReason};

use crate::common::streams::{Ledger, WINDOWS};
use crate::common::{
    Census, MEANT, Meeting, Peak, Register, Registered, Way, assert_survived, collecting, comes, panic_of,
    parallel_settings, ran_to_its_end, silence_meant_panics, wait_until, within_a_minute,
};

/// Its destructor panics, if it is armed.
struct Fuse {
    is_armed: bool,
    _held: Registered,
}

impl Drop for Fuse {
    fn drop(&mut self) {
        assert!(!self.is_armed, "{MEANT}a destructor");
    }
}

/// As far as there are threads to come.
#[track_caller]
fn assert_it_survived(way: Way, executor: BatchExecutor) {
    if way.is_parallel() || executor.workers_for(100) == 1 {
        assert_survived(executor);
    }
}

#[test]
fn a_consumer_that_panics_ends_its_stream_and_nothing_runs_when_that_unwinds() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            for window in WINDOWS {
                let (values, running, ledger) = (Register::default(), Peak::default(), Ledger::default());
                let input = ledger.input((0..).map(|n: usize| (n, values.make())));
                let text = panic_of(|| {
                    way.batch(&executor, input).window(window).stream(
                        |_| {
                            let _inside = running.enter();
                            Ok::<_, String>(values.make())
                        },
                        |results| {
                            assert!(results.take(20).count() < 20, "{MEANT}the consumer");
                        },
                    )
                });
                assert_eq!((text.as_str(), running.inside()), ("meant: the consumer", 0), "{way:?}");
                assert!(ledger.pulled() <= 19 + window);
                values.assert_all_dropped(values.made());
            }
            assert_it_survived(way, executor);
        }
    });
}

#[test]
fn items_that_run_see_that_the_consumer_has_panicked_and_are_waited_for() {
    silence_meant_panics();
    within_a_minute(|| {
        for workers in parallel_settings() {
            let (executor, meeting, told) = (collecting(workers), Meeting::default(), AtomicUsize::new(0));
            let together = executor.workers_for(100);
            let text = panic_of(|| {
                executor.batch(0..).window(100).stream_with(
                    |_: &usize, cx| {
                        meeting.of(together + 1);
                        assert!(comes(|| cx.is_cancelled()));
                        told.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, String>(())
                    },
                    |_| {
                        meeting.of(together + 1);
                        panic!("{MEANT}the consumer")
                    },
                )
            });
            assert_eq!((text.as_str(), told.into_inner()), ("meant: the consumer", together), "{workers:?}");
            assert_survived(executor);
        }
    });
}

/// Everything before it may or may not be handed on; the panic goes out when the consumer is done.
#[test]
fn an_input_that_panics_ends_its_stream_and_is_not_asked_again() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            for window in WINDOWS {
                for at in [0, 1, 25, 600] {
                    let (values, running, asked) =
                        (Register::default(), Peak::default(), AtomicUsize::new(0));
                    let input = (0..).map(|n: usize| {
                        asked.fetch_add(1, Ordering::SeqCst);
                        assert!(n != at, "{MEANT}the input");
                        (n, values.make())
                    });
                    let (mut seen, mut ended) = (0, false);
                    let text = panic_of(|| {
                        way.batch(&executor, input).window(window).stream(
                            |(n, _)| {
                                let _inside = running.enter();
                                Ok::<_, String>((*n, values.make()))
                            },
                            |results| {
                                for item in results.by_ref() {
                                    assert_eq!(item.outcome.unwrap().0, seen);
                                    seen += 1;
                                }
                                ended = results.next().is_none();
                            },
                        )
                    });
                    assert_eq!((text.as_str(), running.inside()), ("meant: the input", 0), "{way:?}");
                    assert_eq!((asked.into_inner(), ended), (at + 1, true));
                    assert!(seen <= at, "{seen} of {at}");
                    values.assert_all_dropped(values.made());
                }
            }
            assert_it_survived(way, executor);
        }
    });
}

#[test]
fn a_panic_of_an_operation_stops_its_stream() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            for window in WINDOWS {
                let fails = |&n: &usize| {
                    assert_ne!(n, 3, "{MEANT}");
                    Ok::<_, String>(n)
                };
                let count = |results: &mut Results<'_, _, _, _>| results.count();
                let streamed = way.batch(&executor, 0..100usize).window(window).stream(fails, count);
                assert_eq!(streamed.stopped, Some(StopReason::ItemFailed { index: 3 }), "{way:?}");
                assert_eq!((streamed.output, streamed.succeeded, streamed.failed), (4, 3, 1), "{way:?}");
            }
        }
    });
}

#[test]
fn a_panic_of_an_operation_is_its_outcome_in_its_place() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            for window in WINDOWS {
                let (census, values) = (Census::of(100), Register::default());
                let streamed = way.batch(&executor, 0..100usize).window(window).stream(
                    |&n| {
                        census.count(n);
                        let value = values.make();
                        assert!(n % 10 != 3, "{MEANT}{n}");
                        Ok::<_, String>(value)
                    },
                    |results| {
                        for (n, item) in results.enumerate() {
                            match item.outcome {
                                Err(ItemError::Panicked(panic)) => {
                                    assert_eq!(panic.message(), format!("{MEANT}{n}"));
                                }
                                outcome => assert!(outcome.is_ok() && n % 10 != 3),
                            }
                            assert_eq!(item.item, n);
                        }
                    },
                );
                assert_eq!((streamed.succeeded, streamed.failed), (90, 10), "{way:?}");
                census.assert_each_ran_once();
                values.assert_all_dropped(100);
            }
            assert_it_survived(way, executor);
        }
    });
}

#[test]
fn a_callback_that_panics_ends_its_stream_while_the_consumer_asks() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            let executor = way.collecting();
            for window in WINDOWS {
                let (values, running, calls) = (Register::default(), Peak::default(), AtomicUsize::new(0));
                let text = panic_of(|| {
                    let batch = executor.batch((0..).map(|_| values.make())).window(window);
                    let batch = batch.on_progress(|p| {
                        calls.fetch_add(1, Ordering::SeqCst);
                        assert!(p.completed != 9, "{MEANT}the callback");
                    });
                    batch.stream(
                        |_| {
                            let _inside = running.enter();
                            Ok::<_, String>(values.make())
                        },
                        |results| results.count(),
                    )
                });
                assert_eq!((text.as_str(), running.inside()), ("meant: the callback", 0), "{way:?}");
                assert_eq!(calls.into_inner(), 9, "calls");
                values.assert_all_dropped(values.made());
            }
            assert_it_survived(way, executor);
        }
    });
}

/// The owner of what panics when it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Item,
    Outcome,
    Input,
    Operation,
    State,
}

/// A stream of which `owner`'s destructors panic; the consumer takes three and leaves.
fn run_with_fuse(executor: &BatchExecutor, way: Way, window: usize, owner: Owner) -> String {
    let (values, running, armed) = (&Register::default(), &Peak::default(), &AtomicUsize::new(0));
    let fuse = |of: Owner, n: usize| {
        let is_armed = of == owner && n >= 3;
        let fuse = Fuse { is_armed, _held: values.make() };
        armed.fetch_add(usize::from(is_armed), Ordering::SeqCst);
        fuse
    };
    let input_fuse = fuse(Owner::Input, 9);
    let input = (0..).map(move |n: usize| {
        let _ = &input_fuse;
        (n, fuse(Owner::Item, n))
    });
    let op_fuse = fuse(Owner::Operation, 9);
    let text = panic_of(|| {
        way.batch(executor, input).window(window).stream_init(
            move || fuse(Owner::State, 9),
            move |(n, _), _| {
                let _ = &op_fuse;
                let _inside = running.enter();
                Ok::<_, String>(fuse(Owner::Outcome, *n))
            },
            |results| {
                let ready = results.take(3).count();
                assert_eq!(ready, 3);
                // Others go on to the fourth, which is the first that is armed.
                if way.is_parallel() {
                    wait_until("there is something to go off", || armed.load(Ordering::SeqCst) > 0);
                }
            },
        )
    });
    assert_eq!(running.inside(), 0, "something ran while it unwound");
    values.assert_all_dropped(values.made());
    text
}

#[test]
fn a_destructor_that_panics_stops_the_stream_and_drops_everything_else() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            for window in [2, 8, 100] {
                for owner in [Owner::Input, Owner::Operation, Owner::State] {
                    let text = run_with_fuse(&executor, way, window, owner);
                    assert_eq!(text, "meant: a destructor", "{way:?}, window {window}, {owner:?}");
                }
                if way.is_parallel() {
                    for owner in [Owner::Item, Owner::Outcome] {
                        let text = run_with_fuse(&executor, way, window, owner);
                        assert_eq!(text, "meant: a destructor", "{way:?}, window {window}, {owner:?}");
                    }
                }
            }
            assert_it_survived(way, executor);
        }
    });
}

/// Two panics that would meet: the consumer's goes on, the destructors' are swallowed.
#[test]
fn destructors_that_panic_do_not_meet_the_panic_of_the_consumer() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, values) = (way.collecting(), Register::default());
            let fuse = || Fuse { is_armed: true, _held: values.make() };
            let text = panic_of(|| {
                // An item and its value meet nowhere either.
                let input = std::iter::repeat_with(fuse);
                way.batch(&executor, input).window(8).stream(
                    |_| Ok::<_, String>(fuse()),
                    |results| {
                        let mut first = results.next().expect("an item without end");
                        first.item.is_armed = false;
                        first.outcome.iter_mut().for_each(|value| value.is_armed = false);
                        drop(first);
                        panic!("{MEANT}the consumer");
                    },
                )
            });
            assert_eq!(values.dropped(), values.made(), "{way:?}");
            assert_eq!(text, "meant: the consumer", "{way:?}");
            assert_it_survived(way, executor);
        }
    });
}

#[test]
fn an_output_is_dropped_where_a_destructor_panics() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, outputs) = (way.collecting(), Register::default());
            let fuse = Fuse { is_armed: true, _held: Register::default().make() };
            let text = panic_of(|| {
                let input = (0..50).inspect(move |_| _ = &fuse);
                way.batch(&executor, input)
                    .stream(|&n| Ok::<_, String>(n), |results| (results.count(), outputs.make()))
            });
            assert_eq!(text, "meant: a destructor", "{way:?}");
            outputs.assert_all_dropped(1);
            assert_it_survived(way, executor);
        }
    });
}

#[test]
fn streams_and_batches_in_items_and_in_consumers_finish_three_deep() {
    fn deep(executor: &BatchExecutor, depth: usize) -> usize {
        if depth == 0 {
            return ran_to_its_end(executor.run(0..4, |_| Ok::<_, String>(1))).values().sum();
        }
        let streamed = executor.batch(0..4usize).window(3).stream(
            |_| Ok::<_, String>(deep(executor, depth - 1)),
            |results| {
                let inside = deep(executor, depth - 1);
                inside + results.map(|item| item.outcome.unwrap()).sum::<usize>()
            },
        );
        streamed.output
    }

    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            assert_eq!(deep(&executor, 3), 4 * 5 * 5 * 5, "{way:?}");
            assert_it_survived(way, executor);
        }
    });
}

/// Every worker is in an item that streams on the same executor at the same time.
#[test]
fn a_stream_in_every_worker_at_once_finishes() {
    within_a_minute(|| {
        for workers in parallel_settings() {
            for is_ordered in [true, false] {
                let executor = collecting(workers);
                let together = executor.workers_for(100);
                let meeting = Meeting::default();
                let batch = executor.batch(0..3 * together).window(2 * together);
                let batch = if is_ordered { batch } else { batch.unordered() };
                let streamed = batch.stream(
                    |&n| {
                        if n < together {
                            meeting.of(together);
                        }
                        let inner = executor.batch(0..50usize).window(5);
                        let inner = inner.stream(
                            |&n| Ok::<_, String>(n),
                            |results| results.map(|item| item.item).sum::<usize>(),
                        );
                        Ok::<_, String>(inner.output)
                    },
                    |results| {
                        // The consumer streams, too, beside its own results.
                        let beside = executor.batch(0..50usize).stream(
                            |&n| Ok::<_, String>(n),
                            |results| results.map(|item| item.item).sum::<usize>(),
                        );
                        results.map(|item| item.outcome.unwrap()).sum::<usize>() + beside.output
                    },
                );
                assert_eq!(streamed.output, (3 * together + 1) * 1225, "{workers:?}");
                assert_survived(executor);
            }
        }
    });
}

#[test]
fn a_stream_for_each_result_of_another_finishes() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token) = (way.collecting(), CancelToken::new());
            let streamed = way.batch(&executor, 0..20usize).window(4).stream(
                |&n| Ok::<_, String>(n),
                |results| {
                    let lengths = results.map(|item| {
                        let inner = way.batch(&executor, 0..).window(4).cancel_on(&token);
                        let inner = inner.stream(
                            |&n: &usize| Ok::<_, String>(n),
                            |results| results.take(item.item).count(),
                        );
                        inner.output
                    });
                    lengths.collect::<Vec<_>>()
                },
            );
            assert_eq!(streamed.output, (0..20).collect::<Vec<_>>(), "{way:?}");
            assert_it_survived(way, executor);
        }
    });
}

#[test]
fn a_state_that_cannot_be_made_is_the_outcome_of_the_item_at_hand() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            let init = || -> usize { panic!("{MEANT}init") };
            let streamed = way.batch(&executor, 0..50usize).window(7).stream_init(
                init,
                |&n, cx| Ok::<_, String>(n + *cx.state),
                |results| results.filter(|item| matches!(item.outcome, Err(ItemError::Panicked(_)))).count(),
            );
            assert_eq!((streamed.output, streamed.failed, streamed.stopped), (50, 50, None), "{way:?}");
            assert_it_survived(way, executor);
        }
    });
}

/// The same in a batch.
#[test]
fn an_item_and_its_value_whose_destructors_panic_do_not_meet_in_a_batch() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::with_threads() {
            let (executor, values) = (way.collecting(), Register::default());
            let fuse = || Fuse { is_armed: true, _held: values.make() };
            let text = panic_of(|| {
                let batch = executor.batch(std::iter::repeat_with(fuse).take(40));
                let batch = batch.on_progress(|p| assert!(p.completed < 9, "{MEANT}the callback"));
                std::mem::forget(batch.run(|_| Ok::<_, String>(fuse())));
            });
            assert_eq!(text, "meant: the callback", "{way:?}");
            values.assert_all_dropped(values.made());
            assert_it_survived(way, executor);
        }
    });
}
