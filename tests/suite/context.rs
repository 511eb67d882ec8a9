//! What an operation is told of its run, and what its worker keeps for it.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use batch_executor::{Batch, BatchExecutor, CancelToken, ItemContext, ItemError, Retry, StopReason};

use crate::common::{
    Census, Gate, MEANT, Meeting, Register, Way, all_values, assert_counts_add_up,
    assert_each_outcome_at_its_index, assert_survived, comes, panic_of, ran_to_its_end, silence_meant_panics,
    stopped, wait_until, within_a_minute,
};

#[test]
fn an_item_knows_its_index_and_that_it_is_tried_for_the_first_time() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            let result = way.batch(&executor, 0..500usize).run_with(|&n, cx| {
                assert_eq!((cx.index(), cx.attempt()), (n, 1));
                Ok::<_, String>(cx.index())
            });
            assert_each_outcome_at_its_index(&ran_to_its_end(result), |&n| Some(n));
        }
    });
}

/// No two at work have the same number, and each is below the most that worked at once.
fn assert_numbers_are_unique(way: Way, together: usize) {
    let (executor, meeting) = (way.collecting(), Meeting::default());
    let (at_work, seen) = (Mutex::new(HashSet::new()), Mutex::new(HashSet::new()));
    let retry = Retry::delays(|| std::iter::once(Duration::from_micros(200)));
    let result = way.batch(&executor, 0..400).retry(retry).run_with(|&n, cx| {
        let number = cx.worker();
        assert!(at_work.lock().expect("no panic").insert(number), "{number} is at work already");
        seen.lock().expect("no panic").insert(number);
        if n < together && cx.attempt() == 1 {
            meeting.of(together);
        }
        thread::yield_now();
        at_work.lock().expect("no panic").remove(&number);
        if n % 3 == 0 && cx.attempt() == 1 { Err("later") } else { Ok(()) }
    });
    let result = ran_to_its_end(result);
    assert_eq!(result.failed(), 0, "{:?}", result.failures().next());
    let seen = seen.into_inner().expect("no panic");
    assert!(seen.iter().all(|number| *number < result.workers()), "{seen:?} of {}", result.workers());
    assert!((0..together).all(|number| seen.contains(&number)), "the lowest numbers: {seen:?}");
}

#[test]
fn workers_have_numbers_of_their_own_below_their_count() {
    within_a_minute(|| {
        for way in Way::all() {
            let together = if way.is_parallel() { way.stopping().workers_for(400) } else { 1 };
            assert_numbers_are_unique(way, together);
        }
    });
}

/// Where it was made and dropped; not `Send`.
struct Kept<'a> {
    made_on: ThreadId,
    alive: &'a Mutex<Vec<ThreadId>>,
    used: Rc<Cell<usize>>,
}

impl<'a> Kept<'a> {
    fn new(made: &AtomicUsize, alive: &'a Mutex<Vec<ThreadId>>) -> Self {
        made.fetch_add(1, Ordering::SeqCst);
        let made_on = thread::current().id();
        alive.lock().expect("no panic").push(made_on);
        Kept { made_on, alive, used: Rc::default() }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        assert_eq!(self.made_on, thread::current().id(), "dropped elsewhere");
        let mut alive = self.alive.lock().expect("no panic");
        let at = alive.iter().position(|thread| *thread == self.made_on).expect("it was made here");
        alive.remove(at);
    }
}

#[test]
fn each_worker_has_one_state_that_never_leaves_its_thread() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            for _ in 0..5 {
                let (made, alive) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
                let together = if way.is_parallel() { executor.workers_for(300) } else { 1 };
                let meeting = Meeting::default();
                let init = || Kept::new(&made, &alive);
                let result = way.batch(&executor, 0..300).run_init(init, |&n, cx| {
                    if n < together {
                        meeting.of(together);
                    }
                    let state = &*cx.state;
                    assert_eq!(state.made_on, thread::current().id());
                    state.used.set(state.used.get() + 1);
                    Ok::<_, String>((thread::current().id(), state.used.get()))
                });
                let result = ran_to_its_end(result);
                assert!(result.is_success(), "{way:?}");
                assert!(alive.into_inner().unwrap().is_empty(), "dropped when the batch is over");
                let uses: Vec<_> = result.values().collect();
                let threads: HashSet<_> = uses.iter().map(|(thread, _)| *thread).collect();
                // The first use of a state is counted 1: so many states were used, one for each thread that came, and as
                // many were made.
                let first_uses = uses.iter().filter(|(_, used)| *used == 1).count();
                assert_eq!(first_uses, made.into_inner(), "{way:?}");
                assert!(first_uses >= together);
                if matches!(way.workers, batch_executor::Workers::Fixed(_)) {
                    assert_eq!(first_uses, threads.len(), "one for each worker: {way:?}");
                }
            }
            if way.is_parallel() {
                assert_survived(executor);
            }
        }
    });
}

#[test]
fn the_next_batch_has_states_of_its_own() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, batches) = (way.collecting(), AtomicUsize::new(0));
            for number in 1..=3 {
                batches.store(number, Ordering::SeqCst);
                let init = || batches.load(Ordering::SeqCst);
                let batch = way.batch(&executor, 0..50);
                let result = ran_to_its_end(batch.run_init(init, |_, cx| Ok::<_, String>(*cx.state)));
                assert!(result.values().all(|state| *state == number), "{way:?}");
            }
        }
    });
}

#[test]
fn without_anything_to_do_no_state_is_made() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, made, token) = (way.collecting(), AtomicUsize::new(0), CancelToken::new());
            let init = || made.fetch_add(1, Ordering::SeqCst);
            let empty = way.batch(&executor, 0..0).run_init(init, |_, _| Ok::<_, String>(()));
            assert!(ran_to_its_end(empty).is_success());
            token.cancel();
            let cancelled = way.batch(&executor, 0..99).cancel_on(&token);
            assert_eq!(stopped(cancelled.run_init(init, |_, _| Ok::<_, String>(()))).1.skipped(), 99);
            assert_eq!(made.into_inner(), 0, "{way:?}");
        }
    });
}

#[test]
fn a_panic_of_init_is_the_outcome_of_the_item_at_hand() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, asked, census) = (way.collecting(), AtomicUsize::new(0), Census::of(40));
            let init = || {
                let asked = asked.fetch_add(1, Ordering::SeqCst);
                assert!(asked >= 3, "{MEANT}no connection");
                asked
            };
            let result = way.batch(&executor, 0..40usize).run_init(init, |&n, _| {
                census.count(n);
                Ok::<_, String>(())
            });
            let result = ran_to_its_end(result);
            assert_counts_add_up(&result);
            assert_eq!((result.failed(), census.total()), (3, 37), "{way:?}");
            for failure in result.failures() {
                let text = "panicked: meant: no connection";
                assert_eq!((failure.error.to_string(), census.runs()[failure.index]), (text.to_owned(), 0));
            }
        }
    });
}

#[test]
fn an_init_that_always_panics_fails_every_item_and_is_not_retried() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, asked) = (way.collecting(), AtomicUsize::new(0));
            let retry = Retry::delays(|| std::iter::repeat(Duration::ZERO));
            let init = || -> () {
                asked.fetch_add(1, Ordering::SeqCst);
                panic!("{MEANT}no connection")
            };
            let batch = way.batch(&executor, 0..40).retry(retry);
            let result = ran_to_its_end(batch.run_init(init, |_, _| Ok::<_, String>(())));
            assert_eq!((result.failed(), asked.into_inner()), (40, 40), "{way:?}");
            assert!(result.failures().all(|failure| matches!(failure.error, ItemError::Panicked(_))));
        }
    });
}

/// As an error of `init` does, in the first attempt and in a later one.
#[test]
fn a_panic_of_init_counts_as_an_attempt() {
    silence_meant_panics();
    for errors in 0..3 {
        let (executor, calls) = (crate::common::collecting(1), AtomicUsize::new(0));
        let init = || -> Result<(), &str> {
            assert!(calls.fetch_add(1, Ordering::SeqCst) < errors, "{MEANT}no connection");
            Err("refused")
        };
        let retry = Retry::delays(|| std::iter::repeat(Duration::ZERO));
        let result = executor.batch([7]).retry(retry).try_run_init(init, |_, _| Ok(()));
        assert!(matches!(result.outcomes()[0], Err(ItemError::Panicked(_))));
        assert_eq!(result.attempts(0), errors + 1);
    }
}

/// Its destructor panics.
struct Touchy<'a>(&'a AtomicUsize);

impl Drop for Touchy<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("{MEANT}the end of a state");
    }
}

#[test]
fn a_panic_of_a_states_destructor_unwinds_in_the_caller_when_no_worker_works_any_more() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, values) = (way.collecting(), Register::default());
            let (made, dropped, running) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            let init = || {
                made.fetch_add(1, Ordering::SeqCst);
                Touchy(&dropped)
            };
            let batch = way.batch(&executor, (0..100).map(|_| values.make()));
            let text = panic_of(|| {
                batch.run_init(init, |_, _| {
                    running.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_micros(100));
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, String>(values.make())
                })
            });
            assert_eq!(text, "meant: the end of a state", "{way:?}");
            assert_eq!((running.into_inner(), dropped.into_inner()), (0, made.into_inner()));
            values.assert_all_dropped(values.made());
            if way.is_parallel() {
                assert_survived(executor);
            }
        }
    });
}

#[test]
fn a_panic_of_an_item_leaves_the_state_to_the_next() {
    silence_meant_panics();
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, made) = (way.collecting(), AtomicUsize::new(0));
            let init = || {
                made.fetch_add(1, Ordering::SeqCst);
                0
            };
            let result = way.batch(&executor, 0..60).run_init(init, |&n, cx| {
                *cx.state += 1;
                assert!(n % 2 == 0, "{MEANT}odd");
                Ok::<usize, String>(*cx.state)
            });
            let result = ran_to_its_end(result);
            assert_eq!(result.failed(), 30, "{way:?}");
            if way.is_lone() {
                assert_eq!(made.into_inner(), 1);
                assert!(result.values().copied().eq((1..60).step_by(2)));
            }
        }
    });
}

#[test]
fn the_state_is_there_for_later_attempts() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.collecting();
            let retry = Retry::delays(|| std::iter::repeat_n(Duration::ZERO, 3));
            let init = || RefCell::new(Vec::new());
            let batch = way.batch(&executor, 0..40).retry(retry);
            let result = batch.run_init(init, |&n, cx: &mut ItemContext<'_, RefCell<Vec<usize>>>| {
                cx.state.get_mut().push(n);
                if cx.attempt() < 3 { Err(()) } else { Ok(cx.state.borrow().len()) }
            });
            let result = ran_to_its_end(result);
            assert!(result.is_success(), "{way:?}");
            if way.is_lone() {
                assert_eq!(result.values().max(), Some(&120));
            }
        }
    });
}

#[test]
fn nothing_is_cancelled_while_nothing_stops_the_batch() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, token) = (way.collecting(), CancelToken::new());
            let deadline = Instant::now() + Duration::from_secs(3600);
            let batch = way.batch(&executor, 0..100).cancel_on(&token).deadline(deadline);
            let result =
                batch.run_with(|_, cx| if cx.is_cancelled() { Err("cancelled") } else { Ok(cx.deadline()) });
            assert!(all_values(result).into_iter().all(|told| told == Some(deadline)));
            let result = way.batch(&executor, 0..9).run_with(|_, cx| Ok::<_, String>(cx.deadline()));
            assert!(ran_to_its_end(result).values().all(Option::is_none), "{way:?}");
        }
    });
}

#[test]
fn a_deadline_is_told_and_seen_when_it_passes() {
    within_a_minute(|| {
        for way in Way::all() {
            let executor = way.stopping();
            let since = Instant::now();
            let timeout = Duration::from_millis(20);
            let outcome = way.batch(&executor, 0..5_000).timeout(timeout).run_with(|_, cx| {
                let deadline = cx.deadline().expect("there is one");
                assert!(deadline >= since + timeout);
                assert!(comes(|| cx.is_cancelled()) && Instant::now() >= deadline);
                Ok::<_, String>(deadline)
            });
            let (reason, partial) = stopped(outcome);
            assert_eq!((reason, partial.failed()), (StopReason::DeadlineExceeded, 0), "{way:?}");
            let mut deadlines = partial.values();
            let first = deadlines.next();
            assert!(deadlines.all(|deadline| Some(deadline) == first), "the same for all");
        }
    });
}

#[test]
fn the_earlier_of_deadline_and_timeout_is_told() {
    within_a_minute(|| {
        let (executor, hour) = (crate::common::collecting(1), Duration::from_secs(3600));
        let deadline = Instant::now() + hour;
        let told = |batch: Batch<'_, Range<i32>, Option<Instant>, String>| {
            batch.run_with(|_, cx| Ok(cx.deadline())).into_values().unwrap()[0]
        };
        assert_eq!(told(executor.batch(0..1).timeout(2 * hour).deadline(deadline)), Some(deadline));
        assert!(told(executor.batch(0..1).timeout(hour / 2).deadline(deadline)) < Some(deadline));
        assert_eq!(told(executor.batch(0..1).timeout(Duration::MAX).deadline(deadline)), Some(deadline));
    });
}

/// A time that no clock can tell is not over at once.
#[test]
fn an_item_timeout_without_end_is_none_that_is_felt() {
    let executor = crate::common::collecting(1);
    let seen = executor
        .batch(0..1)
        .item_timeout(Duration::MAX)
        .run_with(|_, cx| Ok::<_, String>((cx.deadline(), cx.is_cancelled())));
    let (deadline, is_cancelled) = seen.into_values().unwrap()[0];
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    assert!(deadline > Some(Instant::now() + 20 * year) && !is_cancelled, "{deadline:?}");
}

#[test]
fn an_item_above_a_failure_sees_that_it_is_not_wanted_and_one_below_does_not() {
    within_a_minute(|| {
        for way in Way::all().into_iter().filter(Way::is_parallel) {
            let executor = way.builder().workers(3).build().unwrap();
            let (meeting, seen) = (Meeting::default(), Gate::default());
            let (reason, partial) = stopped(way.batch(&executor, 0..3).run_with(|&n, cx| {
                meeting.of(3);
                match n {
                    0 => {
                        seen.pass();
                        Ok(cx.is_cancelled())
                    }
                    1 => Err("the middle"),
                    _ => {
                        let cancelled = comes(|| cx.is_cancelled());
                        seen.open();
                        Ok(cancelled)
                    }
                }
            }));
            assert_eq!(reason, StopReason::ItemFailed { index: 1 });
            assert!(partial.values().eq([&false, &true]), "{way:?}");
        }
    });
}

#[test]
fn what_an_item_returns_after_a_cancel_is_its_outcome() {
    within_a_minute(|| {
        for way in Way::all() {
            for fails in [false, true] {
                let (executor, token) = (way.collecting(), CancelToken::new());
                let batch = way.batch(&executor, 0..10_000).cancel_on(&token);
                let (reason, partial) = stopped(batch.run_with(|_, cx| {
                    assert!(!(cx.is_cancelled() && fails) || token.is_cancelled());
                    token.cancel();
                    if fails { Err(cx.is_cancelled()) } else { Ok(cx.is_cancelled()) }
                }));
                assert_eq!(reason, StopReason::Cancelled, "{way:?}");
                assert!(partial.values().all(|cancelled| *cancelled));
                let mut failures = partial.failures();
                assert!(failures.all(|failure| matches!(failure.error, ItemError::Failed(true))));
                assert_eq!((partial.succeeded() > 0, partial.failed() > 0), (!fails, fails));
            }
        }
    });
}

#[test]
fn with_an_item_timeout_each_attempt_has_a_deadline_of_its_own_and_is_waited_for() {
    within_a_minute(|| {
        for way in Way::all() {
            let (executor, time) = (way.collecting(), Duration::from_millis(5));
            let result = way.batch(&executor, 0..6).item_timeout(time).run_with(|_, cx| {
                let (started, deadline) = (Instant::now(), cx.deadline().expect("there is one"));
                while !cx.is_cancelled() {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok::<_, String>((started, deadline, Instant::now()))
            });
            assert_eq!((result.succeeded(), result.stopped()), (6, None), "{way:?}: what it returns counts");
            for (started, deadline, ended) in result.values() {
                assert!(*deadline <= *started + time && ended >= deadline, "{way:?}");
            }
        }
    });
}

#[test]
fn an_attempt_has_the_deadline_of_its_batch_where_that_comes_first() {
    let (soon, late) = (Duration::from_secs(60), Duration::from_secs(3_600));
    for way in Way::all() {
        for (batch, item) in [(soon, late), (late, soon)] {
            let (executor, since) = (way.collecting(), Instant::now());
            let steps = way.batch(&executor, 0..3).timeout(batch).item_timeout(item);
            let result = steps.run_with(|_, cx| Ok::<_, String>(cx.deadline().expect("there is one")));
            assert!(all_values(result).into_iter().all(|deadline| deadline < since + late), "{way:?}");
        }
    }
}

#[test]
fn the_context_prints_what_it_tells() {
    let result =
        crate::common::collecting(1).batch(["x"]).run_with(|_, cx| Ok::<_, String>(format!("{cx:?}")));
    let expected = "ItemContext { index: 0, attempt: 1, worker: 0, is_cancelled: false, deadline: None, .. }";
    assert_eq!(all_values(result), [expected]);
}

#[test]
fn a_batch_prints_with_whatever_steps_it_has() {
    let executor = crate::common::collecting(1);
    let retry = Retry::delays(std::iter::empty);
    let batch = executor.batch::<(), String, _>([1]).on_progress(|_| {}).retry(retry).workers(2);
    let expected =
        "Batch { reports_progress: true, records_timeline: false, retries: true, has_journal: false, .. }";
    assert_eq!(format!("{batch:?}"), expected);
}

/// The threads of the pool, of which there are up to eight for a worker, are elsewhere, so the caller works. When some come, it
/// makes way for them, with all that it has.
#[test]
fn a_caller_that_makes_way_for_helpers_keeps_no_state() {
    struct Counted<'a>(&'a AtomicUsize);

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    within_a_minute(|| {
        let (executor, others, helpers) =
            (&crate::common::collecting(2), &Meeting::default(), Meeting::default());
        let (alive, most, have_come) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let init = || {
            most.fetch_max(alive.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Ok::<_, String>(Counted(&alive))
        };
        thread::scope(|scope| {
            let all_elsewhere: Vec<_> = (0..8)
                .map(|_| {
                    let elsewhere = |_: &i32| {
                        others.of(17);
                        Ok::<_, String>(())
                    };
                    scope.spawn(move || executor.batch(0..2).on_progress(|_| {}).run(elsewhere))
                })
                .collect();
            wait_until("they are elsewhere", || others.arrived() == 16);
            let caller = thread::current().id();
            let result = executor.batch(0..20_000).on_progress(|_| {}).try_run_init(init, |n, _| {
                match have_come.load(Ordering::SeqCst) {
                    2 => {}
                    _ if thread::current().id() != caller => {
                        have_come.fetch_add(1, Ordering::SeqCst);
                        helpers.of(2);
                    }
                    _ if *n == 3 => others.of(17),
                    _ => thread::sleep(Duration::from_millis(1)),
                }
                Ok::<_, String>(())
            });
            assert!(result.is_success());
            assert!(all_elsewhere.into_iter().all(|batch| batch.join().unwrap().is_success()));
        });
        assert_eq!((have_come.into_inner(), alive.into_inner(), most.into_inner()), (2, 0, 2));
    });
}

/// Two items that are under way together, so that each is of another worker.
#[test]
fn whatever_runs_a_batch_its_workers_have_numbers_and_its_items_attempts() {
    within_a_minute(|| {
        let executor = BatchExecutor::builder().workers(2).build().unwrap();
        let batch = || executor.batch(0..2).retry(Retry::delays(|| std::iter::once(Duration::ZERO)));
        let together = Barrier::new(2);
        let op = |worker: usize, attempt: usize| {
            if attempt == 1 {
                return Err("again");
            }
            together.wait();
            let number = worker;
            together.wait();
            Ok((number, attempt))
        };
        let check = |mut seen: Vec<(usize, usize)>, verb: &str| {
            seen.sort_unstable();
            assert_eq!(seen, [(0, 2), (1, 2)], "{verb}");
        };
        let grown = batch().run_growing(|_, cx, _| op(cx.worker(), cx.attempt()));
        check(grown.into_values().unwrap(), "run_growing");
        let tried = batch().try_run_init(|| Ok(()), |_, cx| op(cx.worker(), cx.attempt()));
        check(tried.into_values().unwrap(), "try_run_init");
        let with_state = batch().run_init(|| (), |_, cx| op(cx.worker(), cx.attempt()));
        check(with_state.into_values().unwrap(), "run_init");
        let streamed = batch().stream_with(
            |_, cx| op(cx.worker(), cx.attempt()),
            |results| results.map(|item| item.outcome.unwrap()).collect::<Vec<_>>(),
        );
        check(streamed.output, "stream_with");
        let streamed = batch().stream_init(
            || (),
            |_, cx| op(cx.worker(), cx.attempt()),
            |results| results.map(|item| item.outcome.unwrap()).collect::<Vec<_>>(),
        );
        check(streamed.output, "stream_init");
    });
}
