//! Batches and streams in a task, whose futures are woken in any order.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::iter;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use batch_executor::{BatchItem, CancelToken, Outcome, Retry, StopReason};
use proptest::prelude::*;

use crate::retries::{Plan, Seen, plans};
use crate::settings::{
    Limited, OnFailure, assert_adds_up, end_of_failures, executor, limits, on_failure,
    silence_expected_panics, workers,
};
use crate::stubborn::{Stubborn, Trouble, stubborn};

/// Futures wait here, and are woken in an order that follows from a seed.
struct World {
    waiting: RefCell<Vec<Waker>>,
    seed: Cell<u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        World { waiting: RefCell::default(), seed: Cell::new(seed | 1) }
    }

    /// Xorshift, Marsaglia 2003.
    fn random(&self, below: usize) -> usize {
        let mut seed = self.seed.get();
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        self.seed.set(seed);
        usize::try_from(seed % below as u64).expect("it is below that")
    }

    /// Waits to be woken up to this many times.
    async fn turns(&self, most: usize) {
        for _ in 0..self.random(most + 1) {
            let mut has_waited = false;
            poll_fn(|cx| {
                if has_waited {
                    return Poll::Ready(());
                }
                has_waited = true;
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }

    /// Runs the future in a runtime whose time passes only while nothing else can happen. Polls it when it was woken, and now and then
    /// though nothing woke it; while it is not, wakes others.
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let (mut future, flag) = (pin!(future), Arc::new(Flag::default()));
        let waker = Waker::from(Arc::clone(&flag));
        flag.is_woken.store(true, Ordering::SeqCst);
        let driven = poll_fn(|cx| {
            *flag.runtime.lock().expect("no lock is poisoned") = Some(cx.waker().clone());
            loop {
                if flag.is_woken.swap(false, Ordering::SeqCst) || self.random(8) == 0 {
                    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return Poll::Ready(output);
                    }
                }
                let waiting = self.waiting.borrow().len();
                if waiting > 0 {
                    let other = self.waiting.borrow_mut().swap_remove(self.random(waiting));
                    other.wake();
                } else if !flag.is_woken.load(Ordering::SeqCst) {
                    return Poll::Pending; // for a timer
                }
            }
        });
        runtime.expect("a runtime of one thread").block_on(driven)
    }
}

/// Notes that a future was woken, and has the runtime look.
#[derive(Default)]
struct Flag {
    is_woken: AtomicBool,
    runtime: Mutex<Option<Waker>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        if let Some(waker) = &*self.runtime.lock().expect("no lock is poisoned") {
            waker.wake_by_ref();
        }
    }
}

fn run_in_task(plan: &Plan, executor: &batch_executor::BatchExecutor, seed: u64) -> Seen {
    let tried: Vec<Cell<usize>> = plan.items.iter().map(|_| Cell::new(0)).collect();
    let (token, mut completed, world) = (CancelToken::new(), Vec::new(), World::new(seed));
    let retry =
        Retry::delays(|| iter::repeat_n(plan.delay, plan.retries)).when(|trouble: &Trouble| trouble.decision);
    let mut batch = executor.batch(plan.items.clone()).cancel_on(&token).retry(retry);
    if plan.with_progress {
        batch = batch.on_progress(|p| {
            assert_adds_up(p);
            completed.push(p.completed);
        });
    }
    if plan.ticks {
        batch = batch.on_tick(Duration::ZERO, assert_adds_up);
    }
    if plan.recorded {
        batch = batch.record_timeline();
    }
    for limited in &plan.limits {
        batch = batch.limit(limited.limit(Stubborn::number));
    }
    let run = batch.run_async_with(async |item, cx| {
        tried[cx.index()].set(tried[cx.index()].get() + 1);
        assert_eq!(tried[cx.index()].get(), cx.attempt());
        world.turns(2).await;
        if plan.cancels == Some(cx.index()) {
            token.cancel();
        }
        world.turns(1).await;
        item.attempt(cx.attempt())
    });
    let result = world.run(run);
    let tried: Vec<usize> = tried.into_iter().map(Cell::into_inner).collect();
    let noted = tried.iter().sum();
    Seen { result, tried, completed, made: 0, noted, is_task: true }
}

/// What a stream hands on, its end, and how far it had pulled beyond that at most.
struct Streamed {
    got: Vec<BatchItem<(usize, Stubborn), Outcome<usize, Trouble>>>,
    stopped: Option<StopReason>,
    most: usize,
}

#[derive(Debug, Clone)]
struct Flow {
    items: Vec<Stubborn>,
    window: usize,
    is_ordered: bool,
    leaves_after: usize,
    on_failure: OnFailure,
    limits: Vec<Limited>,
}

fn flows() -> impl Strategy<Value = Flow> {
    let leaves_after = prop_oneof![3 => Just(usize::MAX), 1 => 0..40_usize];
    let items = prop::collection::vec(stubborn(), 0..60);
    (items, 1..20_usize, any::<bool>(), leaves_after, on_failure(), limits()).prop_map(
        |(items, window, is_ordered, leaves_after, on_failure, limits)| {
            let items = items.into_iter().map(|item| item.with_enough(3)).collect();
            Flow { items, window, is_ordered, leaves_after, on_failure, limits }
        },
    )
}

impl Flow {
    fn run(&self, executor: &batch_executor::BatchExecutor, seed: u64) -> Streamed {
        let (world, pulled, taken, most) = (World::new(seed), Cell::new(0), Cell::new(0), Cell::new(0));
        let items = self.items.iter().copied().enumerate().inspect(|_| {
            pulled.set(pulled.get() + 1);
            most.set(most.get().max(pulled.get() - taken.get()));
        });
        let retry = Retry::delays(|| iter::repeat_n(Duration::from_micros(20), 3))
            .when(|trouble: &Trouble| trouble.decision);
        let mut batch = executor.batch(items).window(self.window).retry(retry);
        if !self.is_ordered {
            batch = batch.unordered();
        }
        for limited in &self.limits {
            batch = batch.limit(limited.limit(|(index, _)| *index as u64));
        }
        let attempts: Vec<Cell<usize>> = self.items.iter().map(|_| Cell::new(0)).collect();
        let stream = batch.stream_async(
            async |(index, item)| {
                attempts[*index].set(attempts[*index].get() + 1);
                world.turns(2).await;
                item.attempt(attempts[*index].get())
            },
            async |results| {
                let mut got = Vec::new();
                while got.len() < self.leaves_after {
                    let Some(item) = results.next().await else { break };
                    got.push(item);
                    world.turns(2).await;
                    taken.set(got.len());
                }
                got
            },
        );
        let streamed = world.run(stream);
        Streamed { got: streamed.output, stopped: streamed.stopped, most: most.get() }
    }

    fn check(&self, seen: &Streamed) -> Result<(), TestCaseError> {
        let fails = self.items.iter().map(|item| !item.succeeds(3));
        let end = end_of_failures(fails, self.on_failure);
        let length = end.map_or(self.items.len(), |(last, _)| last + 1);
        let mut indices: Vec<usize> = seen.got.iter().map(|item| item.index).collect();
        prop_assert!(seen.got.iter().all(|item| item.item == (item.index, self.items[item.index])));
        prop_assert!(seen.most <= self.window, "{} pulled and not handed on", seen.most);
        if self.is_ordered {
            prop_assert_eq!(&indices, &(0..length.min(self.leaves_after)).collect::<Vec<_>>());
        } else {
            indices.sort_unstable();
            prop_assert!(indices.is_sorted_by(|one, two| one < two), "twice: {:?}", indices);
            if self.leaves_after == usize::MAX {
                prop_assert!((0..length).all(|index| indices.binary_search(&index).is_ok()), "{:?}", indices);
            }
        }
        for item in &seen.got {
            prop_assert_eq!(item.outcome.is_ok(), item.item.1.succeeds(3), "{:?}", item.item);
        }
        if self.leaves_after == usize::MAX {
            prop_assert_eq!(seen.stopped, end.map(|(_, reason)| reason));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_task_equals_a_plain_loop_in_whatever_order_its_futures_are_woken(
        plan in plans(),
        workers in workers(),
        seed in any::<u64>(),
    ) {
        silence_expected_panics();
        let seen = run_in_task(&plan, &executor(workers, plan.on_failure), seed);
        plan.check_end(&seen)?;
        plan.check_counts(&seen)?;
        plan.check_timeline(&seen)?;
    }

    #[test]
    fn a_stream_in_a_task_equals_a_plain_loop(flow in flows(), workers in workers(), seed in any::<u64>()) {
        silence_expected_panics();
        flow.check(&flow.run(&executor(workers, flow.on_failure), seed))?;
    }
}
