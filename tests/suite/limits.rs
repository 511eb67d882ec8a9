//! Limits that see the item: rates, slots, costs and keys. What waits holds no worker, and nothing is lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{
    MEANT, Peak, collecting, ran_to_its_end, silence_meant_panics, stopping, wait_until, within_a_minute,
};
use batch_executor::{
    Batch, BatchExecutor, CancelToken, Concurrency, Control, ItemError, Limit, LimiterError, RateLimit,
    RateLimiter, Retry, RetryDecision, StopReason, TestClock, limiter_fn,
};

const SOON: Duration = Duration::from_millis(2);
const NEVER: Duration = Duration::from_secs(3600);

/// Counts what runs at once, for each key: now, and at most.
#[derive(Default)]
struct AtOnce(Mutex<HashMap<usize, (u64, u64)>>);

impl AtOnce {
    fn run(&self, key: usize, cost: u64) {
        self.add(key, |now| now + cost);
        thread::sleep(Duration::from_micros(300));
        self.add(key, |now| now - cost);
    }

    fn add(&self, key: usize, change: impl Fn(u64) -> u64) {
        let mut counts = self.0.lock().expect("no operation panics here");
        let (now, most) = counts.entry(key).or_default();
        *now = change(*now);
        *most = (*most).max(*now);
    }

    fn most(&self, key: usize) -> u64 {
        self.0.lock().expect("no operation panics here").get(&key).map_or(0, |(_, most)| *most)
    }
}

#[test]
fn no_more_items_run_at_once_than_there_are_slots() {
    within_a_minute(|| {
        let at_once = AtOnce::default();
        let result = stopping(8).batch(0..200).limit(Limit::at_once(3)).run(|_| {
            at_once.run(0, 1);
            Ok::<_, String>(())
        });
        assert!(result.is_success());
        assert_eq!(at_once.most(0), 3);
    });
}

#[test]
fn each_key_has_its_own_limit() {
    within_a_minute(|| {
        let at_once = AtOnce::default();
        let result = stopping(8)
            .batch(0..300usize)
            .limit(Limit::per_key(|n: &usize| n % 3, |key| Limit::at_once(key + 1)))
            .run(|n| {
                at_once.run(n % 3, 1);
                Ok::<_, String>(())
            });
        assert!(result.is_success());
        assert_eq!([at_once.most(0), at_once.most(1), at_once.most(2)], [1, 2, 3]);
    });
}

#[test]
fn costs_are_slots_and_a_giant_runs_alone() {
    within_a_minute(|| {
        let at_once = AtOnce::default();
        let cost = |n: &u64| if *n == 50 { 1_000 } else { n % 4 };
        let result = stopping(8).batch(0..200u64).limit(Limit::at_once(6).cost(cost)).run(|n| {
            at_once.run(0, cost(n));
            Ok::<_, String>(())
        });
        assert!(result.is_success());
        assert_eq!(at_once.most(0), 1_000, "nothing ran beside the giant");
    });
}

#[test]
fn an_item_that_waits_holds_no_worker() {
    within_a_minute(|| {
        // One worker; the first item's key is closed until the last item has run.
        let gate = Arc::new(Mutex::new(NEVER));
        let closed = || {
            let gate = gate.clone();
            limiter_fn(move || Ok(*gate.lock().unwrap()))
        };
        let order = Mutex::new(Vec::new());
        let token = CancelToken::new();
        let result = stopping(1)
            .batch(0..5)
            .limit(Limit::per_key(
                |n: &i32| *n == 0,
                |is_first| {
                    if *is_first { Limit::rate(closed()) } else { Limit::at_once(1) }
                },
            ))
            .cancel_on(&token)
            .run(|n| {
                order.lock().unwrap().push(*n);
                if *n == 4 {
                    token.cancel();
                }
                Ok::<_, String>(())
            });
        assert_eq!(*order.lock().unwrap(), [1, 2, 3, 4]);
        assert!(matches!(result.outcomes()[0], Err(ItemError::Skipped)));
        assert_eq!(result.stopped(), Some(StopReason::Cancelled));
    });
}

#[test]
fn of_a_limiter_that_cannot_tell_as_many_permits_are_taken_ahead_as_there_are_workers() {
    within_a_minute(|| {
        let (asked, token) = (AtomicUsize::new(0), CancelToken::new());
        let limiter = limiter_fn(|| {
            let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            Ok::<_, LimiterError>(if is_first { Duration::ZERO } else { NEVER })
        });
        let executor = stopping(2);
        let batch = executor.batch(0..1_000).limit(Limit::rate(&limiter)).cancel_on(&token);
        let result = batch.run(|_| {
            wait_until("others have permits ahead", || asked.load(Ordering::SeqCst) >= 3);
            thread::sleep(5 * SOON);
            token.cancel();
            Ok::<_, String>(())
        });
        assert_eq!((result.succeeded(), result.skipped(), asked.load(Ordering::SeqCst)), (1, 999, 3));
    });
}

#[test]
fn items_of_one_key_start_in_input_order() {
    within_a_minute(|| {
        for round in 0..20 {
            let starts: Mutex<HashMap<usize, Vec<usize>>> = Mutex::default();
            let result = stopping(4)
                .batch(0..120usize)
                .limit(Limit::per_key(|n: &usize| n % 5, |_| Limit::at_once(1)))
                .run(|n| {
                    starts.lock().unwrap().entry(n % 5).or_default().push(*n);
                    Ok::<_, String>(())
                });
            assert!(result.is_success());
            for (key, started) in starts.into_inner().unwrap() {
                assert!(started.is_sorted(), "round {round}, key {key}: {started:?}");
            }
        }
    });
}

#[test]
fn all_limits_hold_together() {
    within_a_minute(|| {
        let (all, by_key) = (AtOnce::default(), AtOnce::default());
        let started = Instant::now();
        let result = stopping(16)
            .batch(0..100usize)
            .limit(Limit::rate(RateLimit::per_second(2_000)))
            .limit(Limit::at_once(5))
            .limit(Limit::per_key(|n: &usize| n % 4, |_| Limit::at_once(2)))
            .run(|n| {
                all.run(0, 1);
                by_key.run(n % 4, 1);
                Ok::<_, String>(())
            });
        assert!(result.is_success());
        assert!(all.most(0) <= 5 && (0..4).all(|key| by_key.most(key) <= 2));
        assert!(started.elapsed() >= Duration::from_millis(49), "100 permits take 99 intervals of 0.5 ms");
    });
}

#[test]
fn the_limiter_of_the_executor_holds_beside_the_limits_of_the_batch() {
    within_a_minute(|| {
        let second = Duration::from_secs(1);
        for limit in [Limit::at_once(2), Limit::rate(RateLimit::per_second(1_000))] {
            let clock = TestClock::new();
            let builder =
                BatchExecutor::builder().rate_limiter(RateLimit::every(second)).clock(clock.clone());
            let batch = ran_to_its_end(
                builder.build().unwrap().batch(0..4).limit(limit).run(|n| Ok::<_, String>(*n)),
            );
            assert_eq!((batch.succeeded(), clock.elapsed()), (4, 3 * second));
        }
    });
}

/// Whichever of two limits it is that all wait for.
#[test]
fn while_items_wait_for_what_all_need_no_others_are_taken_up() {
    within_a_minute(|| {
        for slots in [[1, 50], [50, 1]] {
            let (executor, mut most) = (collecting(4), 0);
            let batch = slots
                .into_iter()
                .fold(executor.batch(0..100), |batch, slots| batch.limit(Limit::at_once(slots)));
            let batch = batch.on_progress(|p| most = most.max(p.waiting));
            let result = batch.run(|_| {
                thread::sleep(Duration::from_micros(300));
                Ok::<_, String>(())
            });
            assert!(result.is_success());
            assert!(most < 10, "{most} wait, {slots:?}");
        }
    });
}

#[test]
fn a_rate_counts_costs() {
    within_a_minute(|| {
        let started = Instant::now();
        let result = stopping(4)
            .batch(0..20u64)
            .limit(Limit::rate(RateLimit::per_second(10_000)).cost(|_| 50))
            .run(|_| Ok::<_, String>(()));
        assert!(result.is_success());
        assert!(started.elapsed() >= Duration::from_millis(95), "1,000 permits at 10,000 a second");
    });
}

#[test]
fn an_item_that_costs_nothing_does_not_wait() {
    within_a_minute(|| {
        let (token, ran) = (CancelToken::new(), AtomicUsize::new(0));
        let result = stopping(2)
            .batch(0..10u64)
            .limit(Limit::rate(limiter_fn(|| Ok(NEVER))).cost(|n| u64::from(*n < 2)))
            .cancel_on(&token)
            .run(|_| {
                if ran.fetch_add(1, Ordering::SeqCst) == 7 {
                    token.cancel(); // all others have begun
                }
                Ok::<_, String>(())
            });
        let skipped = |n: &usize| matches!(result.outcomes()[*n], Err(ItemError::Skipped));
        assert_eq!((0..10).filter(skipped).collect::<Vec<_>>(), [0, 1]);
    });
}

#[test]
fn a_slot_is_given_back_when_the_attempt_ends_also_by_a_panic() {
    within_a_minute(|| {
        let slots = Concurrency::new(2);
        let result = stopping(4).batch(0..60).stop_on_error(false).limit(Limit::at_once(&slots)).run(|n| {
            match n % 3 {
                0 => panic!("on purpose"),
                1 => Err("no"),
                _ => Ok(()),
            }
        });
        assert_eq!((result.succeeded(), result.failed()), (20, 40));
        assert_eq!(slots.in_use(), 0);
    });
}

#[test]
fn each_attempt_needs_its_permit_anew() {
    within_a_minute(|| {
        let permits = AtomicUsize::new(0);
        let count = || {
            permits.fetch_add(1, Ordering::Relaxed);
            Ok(Duration::ZERO)
        };
        let tried = AtomicUsize::new(0);
        let result = stopping(3)
            .batch(0..10)
            .retry(Retry::exponential(SOON, SOON, 2))
            .limit(Limit::rate(limiter_fn(count)))
            .limit(Limit::at_once(2))
            .run(|n| {
                tried.fetch_add(1, Ordering::Relaxed);
                if *n == 3 { Err("always") } else { Ok(()) }
            });
        assert_eq!(result.failed(), 1);
        assert_eq!(tried.load(Ordering::Relaxed), permits.load(Ordering::Relaxed));
        assert_eq!(result.attempts(3), 3);
    });
}

/// 40 items, of which each fifth fails once. At most this many others of its key start between its attempts.
fn most_before_a_retry(
    workers: usize,
    limits: impl IntoIterator<Item = Limit<'static, usize>>,
    keys: usize,
    is_stream: bool,
) -> usize {
    let starts = Mutex::new(Vec::new());
    let executor = collecting(workers);
    let batch = executor.batch(0..40).retry(Retry::delays(|| [Duration::ZERO].into_iter()));
    let batch = limits.into_iter().fold(batch, Batch::limit).window(40);
    let op = |item: &usize| {
        let mut starts = starts.lock().expect("no operation panics here");
        let is_first = !starts.contains(item);
        starts.push(*item);
        if item % 5 == 3 && is_first { Err("busy") } else { Ok(()) }
    };
    let all_well = if is_stream {
        batch.stream(op, |results| results.all(|item| item.outcome.is_ok())).output
    } else {
        batch.run(op).is_success()
    };
    assert!(all_well);
    let starts = starts.into_inner().expect("no operation panics here");
    let others_between = |item: usize| {
        let mut at = (0..starts.len()).filter(|at| starts[*at] == item);
        let (first, second) = (at.next().expect("it started"), at.next().expect("it was tried again"));
        starts[first + 1..second].iter().filter(|other| *other % keys == item % keys).count()
    };
    (0..40).filter(|item| item % 5 == 3).map(others_between).max().unwrap_or_default()
}

#[test]
fn an_item_that_is_tried_again_takes_turns_with_those_that_wait_whatever_the_limit() {
    within_a_minute(|| {
        for is_stream in [false, true] {
            let most = |workers, keys, limits: Vec<Limit<'static, usize>>| {
                most_before_a_retry(workers, limits, keys, is_stream)
            };
            let slot = || Limit::at_once(1);
            let rate = || Limit::rate(RateLimit::every(Duration::from_micros(200)));
            let by_key = || Limit::per_key(|item: &usize| item % 2, |_| Limit::at_once(1));
            let told = [
                most(4, 1, vec![slot()]),
                most(4, 1, vec![slot().cost(|_: &usize| 1)]),
                most(4, 2, vec![by_key()]),
                most(1, 1, vec![rate()]),
                most(1, 1, vec![rate().cost(|_: &usize| 1)]),
                most(1, 1, vec![rate().cost(|_: &usize| 1), slot()]),
                most(4, 1, vec![rate().cost(|_: &usize| 1), slot(), by_key()]),
            ];
            assert!(told.iter().all(|between| *between <= 5), "streamed: {is_stream}, {told:?}");
        }
    });
}

#[test]
fn slots_are_shared_by_batches() {
    within_a_minute(|| {
        let (slots, at_once) = (Concurrency::new(3), AtOnce::default());
        let executor = stopping(8);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let result = executor.batch(0..80).limit(Limit::at_once(&slots)).run(|_| {
                        at_once.run(0, 1);
                        Ok::<_, String>(())
                    });
                    assert!(result.is_success());
                });
            }
        });
        assert_eq!((at_once.most(0), slots.in_use()), (3, 0));
    });
}

#[test]
fn more_slots_let_more_items_start_while_they_wait() {
    within_a_minute(|| {
        let slots = Concurrency::new(1);
        let all_run = Barrier::new(4);
        let result = stopping(4).batch(0..4).limit(Limit::at_once(&slots)).run(|n| {
            if *n == 0 {
                slots.set(4);
            }
            all_run.wait();
            Ok::<_, String>(())
        });
        assert!(result.is_success());
    });
}

#[test]
fn a_batch_inside_an_item_may_use_the_same_slots_while_one_is_left() {
    within_a_minute(|| {
        let (executor, slots) = (stopping(1), Concurrency::new(2));
        let result = executor.batch(0..5).limit(Limit::at_once(&slots)).run(|_| {
            let inner = executor.batch(0..5).limit(Limit::at_once(&slots)).run(|n| Ok::<_, String>(*n));
            inner.is_success().then_some(()).ok_or("the inner batch failed")
        });
        assert!(result.is_success());
    });
}

#[test]
fn a_cancel_and_a_deadline_end_every_wait() {
    within_a_minute(|| {
        for workers_here in [1, 4] {
            let token = CancelToken::new();
            let waits = stopping(workers_here)
                .batch(0..20)
                .limit(Limit::rate(limiter_fn(|| Ok(NEVER))))
                .timeout(SOON)
                .run(|_| Ok::<_, String>(()));
            assert_eq!(waits.stopped(), Some(StopReason::DeadlineExceeded));
            assert_eq!(waits.skipped(), 20);
            thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(SOON);
                    token.cancel();
                });
                let slots = Concurrency::new(1);
                slots.set(0);
                let waits = stopping(workers_here)
                    .batch(0..20)
                    .limit(Limit::at_once(&slots))
                    .cancel_on(&token)
                    .run(|_| Ok::<_, String>(()));
                assert_eq!((waits.stopped(), waits.skipped()), (Some(StopReason::Cancelled), 20));
            });
        }
    });
}

#[test]
fn with_a_limit_the_lowest_failure_still_stops_the_batch() {
    within_a_minute(|| {
        for workers_here in [1, 2, 8] {
            let result = stopping(workers_here)
                .batch(0..200usize)
                .limit(Limit::per_key(|n: &usize| n % 7, |_| Limit::at_once(1)))
                .run(|n| if [40, 90, 91].contains(n) { Err(format!("{n}")) } else { Ok(*n) });
            assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 40 }));
            assert!(result.outcomes()[..40].iter().all(Result::is_ok));
        }
    });
}

#[test]
fn an_error_of_a_limiter_and_a_panic_of_a_cost_are_outcomes() {
    within_a_minute(|| {
        let refuses = || Err(LimiterError::from(Box::from("the store is down")));
        let result = stopping(2)
            .batch(0..6u64)
            .stop_on_error(false)
            .limit(Limit::rate(limiter_fn(refuses)).cost(|n| u64::from(*n == 1)))
            .limit(Limit::at_once(1).cost(|n| if *n == 2 { panic!("no cost") } else { 1 }))
            .limit(Limit::rate(limiter_fn(|| panic!("no permit"))).cost(|n| u64::from(*n == 3)))
            .run(|n| Ok::<_, String>(*n));
        assert!(matches!(&result.outcomes()[1], Err(ItemError::RateLimiter(_))));
        assert!(
            matches!(&result.outcomes()[2], Err(ItemError::Panicked(panic)) if panic.message() == "no cost")
        );
        assert!(
            matches!(&result.outcomes()[3], Err(ItemError::Panicked(panic)) if panic.message() == "no permit")
        );
        assert_eq!(result.succeeded(), 3);
    });
}

#[test]
fn a_stream_keeps_limits_and_order() {
    within_a_minute(|| {
        for unordered in [false, true] {
            let at_once = AtOnce::default();
            let executor = stopping(6);
            let mut batch = executor
                .batch(0..150usize)
                .window(12)
                .limit(Limit::per_key(|n: &usize| n % 3, |_| Limit::at_once(1)))
                .limit(Limit::rate(RateLimit::per_second(10_000)));
            if unordered {
                batch = batch.unordered();
            }
            let streamed = batch.stream(
                |n| {
                    at_once.run(n % 3, 1);
                    Ok::<_, String>(*n)
                },
                |results| results.map(|item| item.outcome.unwrap()).collect::<Vec<_>>(),
            );
            let mut output = streamed.output;
            assert!(unordered || output.is_sorted());
            output.sort_unstable();
            assert!(output.into_iter().eq(0..150));
            assert!((0..3).all(|key| at_once.most(key) == 1));
        }
    });
}

#[test]
fn many_keys_are_no_trouble() {
    within_a_minute(|| {
        let made = AtomicUsize::new(0);
        let result = stopping(4)
            .batch(0..100_000usize)
            .limit(Limit::per_key(
                |n: &usize| n % 20_000,
                |_| {
                    made.fetch_add(1, Ordering::Relaxed);
                    Limit::at_once(1)
                },
            ))
            .run(|n| Ok::<_, String>(*n));
        assert!(result.is_success());
        assert!(made.load(Ordering::Relaxed) >= 20_000);
    });
}

/// Of two costs, that of the key's own limit holds, also beside one of 0.
#[test]
fn the_cost_of_a_limit_by_key_is_for_keys_that_have_none() {
    let (one, other) = (Concurrency::new(1), Concurrency::new(1));
    let of_key = |key: &usize| match key {
        0 => Limit::at_once(&one).cost(|_| 1),
        _ => Limit::at_once(&other),
    };
    let limit = Limit::per_key(|n: &usize| n % 2, of_key).cost(|_| 0);
    let result =
        stopping(1).batch(0..4usize).limit(limit).run(|_| Ok::<_, String>((one.in_use(), other.in_use())));
    assert_eq!(result.into_values().unwrap(), [(1, 0), (0, 0), (1, 0), (0, 0)]);
}

/// Of two limiters that open one after the other, an item holds no permit of the first while it waits for the second.
#[test]
fn a_permit_is_not_held_while_another_limit_is_waited_for() {
    within_a_minute(|| {
        let fast = RateLimit::per_second(1_000);
        let result = stopping(8)
            .batch(0..40usize)
            .limit(Limit::rate(&fast))
            .limit(Limit::per_key(
                |n: &usize| n % 2,
                |odd| Limit::rate(RateLimit::every(Duration::from_millis(if *odd == 1 { 10 } else { 1 }))),
            ))
            .run(|n| Ok::<_, String>((*n, Instant::now())));
        let mut starts: Vec<_> = result.values().copied().collect();
        starts.sort_by_key(|(_, at)| *at);
        let even_done = starts.iter().rposition(|(n, _)| n % 2 == 0).unwrap();
        assert!(even_done < 36, "even items do not wait behind odd ones: {even_done}");
        assert!(fast.reserve().unwrap() < Duration::from_secs(1));
    });
}

/// A worker that is not told sleeps on: nothing runs that could tell it otherwise.
#[test]
fn a_batch_of_which_all_items_wait_for_slots_hears_of_more() {
    within_a_minute(|| {
        let (slots, control) = (Concurrency::new(1), Control::new());
        slots.set(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("all wait", || control.snapshot().progress.waiting == 3);
                assert_eq!(control.snapshot().progress.running, 0);
                slots.set(2);
            });
            let limit = Limit::per_key(|n: &i32| *n, |_| Limit::at_once(&slots));
            let result = stopping(4).batch(0..3).limit(limit).control(&control).run(|n| Ok::<_, String>(*n));
            assert!(result.is_success());
        });
        assert_eq!(slots.in_use(), 0);
    });
}

/// The second item of the first batch runs until one of the other batch has run.
#[test]
fn a_slot_that_one_batch_gives_back_is_anothers_though_more_are_in_use() {
    within_a_minute(|| {
        let (slots, other, has_run) = (Concurrency::new(2), Control::new(), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("both are taken", || slots.in_use() == 2);
                let batch = stopping(2).batch(0..1).limit(Limit::at_once(&slots)).control(&other).run(|_| {
                    has_run.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, String>(())
                });
                assert!(batch.is_success());
            });
            let result = stopping(2).batch(0..2).limit(Limit::at_once(&slots)).run(|n| {
                wait_until("the other batch waits", || {
                    has_run.load(Ordering::SeqCst) == 1 || other.snapshot().progress.waiting == 1
                });
                if *n == 1 {
                    wait_until("an item of the other batch has run", || has_run.load(Ordering::SeqCst) == 1);
                }
                Ok::<_, String>(())
            });
            assert!(result.is_success());
        });
    });
}

/// Each copies from one host to another, which may be the same.
#[test]
fn an_item_that_needs_the_same_slots_by_two_limits_takes_them_together() {
    within_a_minute(|| {
        let hosts = [1, 2, 3].map(Concurrency::new);
        let of_host = |&host: &usize| Limit::at_once(&hosts[host]);
        let pairs = (0..90).map(|n| (n % 3, n / 3 % 3));
        let executor = collecting(8);
        let batch = executor.batch(pairs);
        let batch = batch.limit(Limit::per_key(|(from, _)| *from, of_host));
        let batch = batch.limit(Limit::per_key(|(_, to)| *to, of_host));
        let at_work: [Peak; 3] = Default::default();
        let result = batch.run(|&(from, to)| {
            let _uses = [from, to].map(|host| at_work[host].enter());
            thread::yield_now();
            Ok::<_, String>(())
        });
        assert!(result.is_success(), "{:?}", result.failures().next());
        // Twice the one slot of the first host is more than it has, so such an item runs alone.
        let most = at_work.map(|peak| peak.most());
        assert!(most[..2] == [2, 2] && most[2] <= 3, "{most:?} uses of 1, 2 and 3 slots");
        assert!(hosts.iter().all(|host| host.in_use() == 0));
    });
}

/// While an item runs, 200 other keys come. From 64 on, the batch forgets limits that no item uses.
#[test]
fn a_limit_by_two_keys_is_kept_while_an_item_uses_it() {
    within_a_minute(|| {
        let (others, is_second) = (AtomicUsize::new(0), AtomicBool::new(false));
        let of_outer = |_: &usize| Limit::per_key(|_: &usize| (), |()| Limit::at_once(1));
        // The first and the last item have the same keys.
        let limit = Limit::per_key(|n: &usize| n % 201, of_outer);
        let executor = collecting(4);
        let result = executor.batch(0..=201).limit(limit).run(|n| {
            match n {
                0 => {
                    wait_until("all others have run", || others.load(Ordering::SeqCst) == 200);
                    thread::sleep(Duration::from_millis(20));
                    assert!(!is_second.load(Ordering::SeqCst), "both run at the same time");
                }
                201 => is_second.store(true, Ordering::SeqCst),
                _ => _ = others.fetch_add(1, Ordering::SeqCst),
            }
            Ok::<_, String>(())
        });
        assert!(result.is_success(), "{:?}", result.failures().next());
    });
}

/// An item that waits for the same slots by two limits takes no part of them meanwhile.
#[test]
fn an_item_that_waits_for_two_slots_keeps_none() {
    within_a_minute(|| {
        let (slots, control, executor) = (Concurrency::new(3), Control::new(), stopping(2));
        let batch = executor.batch(0..2).control(&control);
        let batch = batch.limit(Limit::at_once(&slots)).limit(Limit::at_once(&slots));
        let began = AtomicUsize::new(0);
        let result = batch.run(|_| {
            if began.fetch_add(1, Ordering::SeqCst) == 0 {
                wait_until("the other waits", || control.snapshot().progress.waiting == 1);
                assert_eq!(slots.in_use(), 2);
            }
            Ok::<_, String>(())
        });
        assert!(result.is_success());
        assert_eq!(slots.in_use(), 0);
    });
}

/// Its permit is due in a millisecond, and so its slot is kept for it; by a clock that stands still until the batch is cancelled.
#[test]
fn an_item_that_is_stopped_just_before_it_starts_gives_its_slot_back() {
    within_a_minute(|| {
        let (slots, token, rate) =
            (Concurrency::new(2), CancelToken::new(), RateLimit::every(Duration::from_micros(500)));
        let executor = BatchExecutor::builder().workers(2).clock(TestClock::new()).build().unwrap();
        let batch = executor.batch(0..2).cancel_on(&token);
        let result = batch.limit(Limit::rate(&rate)).limit(Limit::at_once(&slots)).run(|n| {
            assert_eq!(*n, 0, "the clock stands still");
            wait_until("the next item has its slot", || slots.in_use() == 2);
            token.cancel();
            Ok::<_, String>(())
        });
        assert_eq!((result.succeeded(), result.skipped(), slots.in_use()), (1, 1, 0));
    });
}

/// How often limits are made for a thousand keys that are met twice. One that is forgotten is made anew.
fn made(
    limit: impl Fn() -> Limit<'static, usize> + Send + Sync,
    more: Option<Limit<'static, usize>>,
) -> usize {
    let made = AtomicUsize::new(0);
    let executor = collecting(1); // a second worker that is slow would keep its key
    let of_key = |_: &usize| {
        made.fetch_add(1, Ordering::SeqCst);
        limit()
    };
    let mut batch = executor.batch(0..2_000usize).limit(Limit::per_key(|n: &usize| n % 1_000, of_key));
    if let Some(more) = more {
        batch = batch.limit(more);
    }
    let result = batch.run(|_| Ok::<_, String>(()));
    assert_eq!(result.total(), 2_000);
    made.into_inner()
}

#[test]
fn a_key_is_forgotten_whatever_became_of_its_items() {
    within_a_minute(|| {
        let refusing = || limiter_fn(|| Err(LimiterError::new("none today")));
        assert_eq!(made(|| Limit::at_once(1), None), 2_000, "they have run");
        assert_eq!(made(|| Limit::at_once(1), Some(Limit::rate(refusing()))), 2_000, "they were refused");
        assert_eq!(made(|| Limit::at_once(1).cost(|_: &usize| 0), None), 2_000, "they cost nothing");
        let own = || Limit::rate(limiter_fn(|| Ok(Duration::ZERO)));
        assert_eq!(made(own, None), 1_000, "a limiter of the user's may have something to remember");
    });
}

/// The pool's threads are all taken, so the caller works by itself at first. When they are free, they come beside it.
#[test]
fn a_caller_that_takes_turns_with_its_callback_gives_its_slot_back() {
    within_a_minute(|| {
        let (executor, is_over, inside) = (collecting(2), AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    executor.batch(0..2).on_progress(|_| ()).run(|_| {
                        inside.fetch_add(1, Ordering::SeqCst);
                        wait_until("the other batch runs", || is_over.load(Ordering::SeqCst));
                        Ok::<_, String>(())
                    })
                });
            }
            wait_until("all threads are taken", || inside.load(Ordering::SeqCst) == 16);
            let result = executor.batch(0..40).limit(Limit::at_once(1)).on_progress(|_| ()).run(|_| {
                is_over.store(true, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(5));
                Ok::<_, String>(())
            });
            assert_eq!(ran_to_its_end(result).succeeded(), 40);
        });
    });
}

/// Item 1 waits for the slot, so that the batch hears of it. Then it has the slot and waits for its permit, which is due in a
/// millisecond.
#[test]
fn a_batch_that_stops_just_before_a_permit_is_due_gives_shared_slots_back() {
    within_a_minute(|| {
        let (slots, asked) = (Concurrency::new(1), AtomicUsize::new(0));
        let executor = BatchExecutor::builder().workers(2).clock(TestClock::new()).build().unwrap();
        let cost = |_: &i32| {
            asked.fetch_add(1, Ordering::SeqCst);
            1
        };
        let result = executor
            .batch(0..2)
            .limit(Limit::at_once(&slots).cost(cost))
            .limit(Limit::rate(RateLimit::every(Duration::from_millis(1))))
            .timeout(Duration::from_micros(500))
            .run(|_| {
                wait_until("item 1 waits for the slot", || asked.load(Ordering::SeqCst) == 2);
                Ok::<_, String>(())
            });
        assert_eq!((result.succeeded(), result.stopped()), (1, Some(StopReason::DeadlineExceeded)));
        assert_eq!(slots.in_use(), 0);
    });
}

#[test]
fn an_item_whose_limiter_or_cost_panicked_was_not_tried() {
    silence_meant_panics();
    within_a_minute(|| {
        let limiter = limiter_fn(|| panic!("{MEANT}the limiter"));
        let executor = BatchExecutor::builder().stop_on_error(false).rate_limiter(limiter).build().unwrap();
        let cost = Limit::at_once(1).cost(|_: &usize| panic!("{MEANT}the cost"));
        let results = [
            executor.run([1_usize], |_| Ok::<_, String>(())),
            BatchExecutor::new().batch([1_usize]).limit(cost).run(|_| Ok::<_, String>(())),
        ];
        for result in results {
            assert!(matches!(result.outcomes()[0], Err(ItemError::Panicked(_))));
            assert_eq!((result.attempts(0), result.failures().next().unwrap().attempts), (0, 0));
        }
    });
}

/// Two hosts refuse at the same time, which is one pause of the batch.
#[test]
fn the_limiter_of_each_host_that_refuses_hears_of_the_pause() {
    struct Counts(AtomicUsize);

    impl RateLimiter for Counts {
        fn reserve(&self) -> Result<Duration, LimiterError> {
            Ok(Duration::ZERO)
        }

        fn pause(&self, _: Duration) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    within_a_minute(|| {
        let (limiters, both) = ([0, 0].map(|none| Counts(AtomicUsize::new(none))), Barrier::new(2));
        let told = |host: usize| limiters[host].0.load(Ordering::SeqCst);
        let retry = Retry::delays(|| [Duration::ZERO].into_iter()).when(|_| RetryDecision::PauseAll(SOON));
        let executor = collecting(2);
        let batch = executor.batch(0..2_usize).retry(retry);
        let batch = batch.limit(Limit::per_key(|host: &usize| *host, |host| Limit::rate(&limiters[*host])));
        let result = batch.run_with(|host, cx| {
            if cx.attempt() > 1 {
                return Ok(());
            }
            both.wait();
            wait_until("the other has paused", || *host == 0 || told(0) == 1);
            Err("429")
        });
        assert!(result.is_success());
        assert_eq!((told(0), told(1)), (1, 1));
    });
}
