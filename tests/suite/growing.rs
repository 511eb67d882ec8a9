//! Work that makes more work: `run_growing` comes to what a plain queue comes to, for any number of workers and any timing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{nap, wait_until, within_a_minute};
use batch_executor::{
    AdaptiveWorkers, Batch, BatchExecutor, BatchResult, CancelToken, Concurrency, Control, ItemContext,
    ItemError, Limit, More, RateLimit, Retry, StopReason, TestClock, Workers,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// What the operation does for an item: its children, and whether it fails when it has pushed them.
#[derive(Debug, Clone)]
struct Tree {
    roots: usize,
    /// Of each item that is no root, the one that pushes it: a lower number.
    parents: Vec<usize>,
    fails: Vec<bool>,
    /// How long an item takes, in turns of a loop.
    takes: Vec<u8>,
}

impl Tree {
    fn children(&self, item: usize) -> impl Iterator<Item = usize> {
        let children = self.parents.iter().enumerate().filter(move |(_, parent)| **parent == item);
        children.map(|(child, _)| self.roots + child)
    }

    fn run(&self, item: usize, mut push: impl FnMut(usize)) -> Result<usize, usize> {
        for child in self.children(item) {
            push(child);
            spin(self.takes[child] / 4);
        }
        spin(self.takes[item]);
        if self.fails[item] { Err(item) } else { Ok(item * 10) }
    }

    /// All items in the order of a plain queue.
    fn queue(&self) -> Vec<usize> {
        let (mut queue, mut seen) = ((0..self.roots).collect::<VecDeque<_>>(), Vec::new());
        while let Some(item) = queue.pop_front() {
            queue.extend(self.children(item));
            seen.push(item);
        }
        seen
    }

    /// Those that a plain queue runs up to this many failures, and what is left in the queue then.
    fn queue_until(&self, failures: usize) -> (Vec<usize>, VecDeque<usize>) {
        let (mut queue, mut ran, mut failed) = ((0..self.roots).collect::<VecDeque<_>>(), Vec::new(), 0);
        while failed < failures {
            let Some(item) = queue.pop_front() else { break };
            queue.extend(self.children(item));
            failed += usize::from(self.fails[item]);
            ran.push(item);
        }
        (ran, queue)
    }
}

fn spin(turns: u8) {
    for _ in 0..u32::from(turns) * 4 {
        std::hint::spin_loop();
    }
    if turns > 200 {
        thread::yield_now();
    }
}

/// Another thread resumes what the control has paused, a moment later.
fn resume_soon(control: &Control) {
    let control = control.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_micros(200));
        control.resume();
    });
}

fn trees(failures: u32) -> impl Strategy<Value = Tree> {
    (1_usize..5, 0_usize..60).prop_flat_map(move |(roots, others)| {
        let parents: Vec<_> = (0..others).map(|other| 0..roots + other).collect();
        let fails = vec(prop::bool::weighted(f64::from(failures) / 100.0), roots + others);
        (parents, fails, vec(any::<u8>(), roots + others)).prop_map(move |(parents, fails, takes)| Tree {
            roots,
            parents,
            fails,
            takes,
        })
    })
}

/// Each item pushes up to three others, to a depth of five; two of ten fail.
fn bushy_trees() -> impl Strategy<Value = Tree> {
    (1_usize..4, vec(0_usize..4, 1..60)).prop_flat_map(|(roots, pushes)| {
        let (mut parents, mut depths) = (Vec::new(), vec![0; roots]);
        for (item, pushed) in pushes.into_iter().enumerate() {
            let Some(depth) = depths.get(item).map(|depth| depth + 1).filter(|depth| *depth <= 5) else {
                break;
            };
            parents.extend(iter::repeat_n(item, pushed));
            depths.extend(iter::repeat_n(depth, pushed));
        }
        let items = depths.len();
        (vec(prop::bool::weighted(0.2), items), vec(any::<u8>(), items)).prop_map(move |(fails, takes)| {
            let parents = parents.clone();
            Tree { roots, parents, fails, takes }
        })
    })
}

fn executor(workers: impl Into<Workers>) -> BatchExecutor {
    BatchExecutor::builder().workers(workers).stop_on_error(false).build().unwrap()
}

fn outcomes(result: &BatchResult<usize, usize, usize>) -> Vec<Option<Result<usize, usize>>> {
    let told = |outcome: &Result<usize, ItemError<usize>>| match outcome {
        Ok(value) => Some(Ok(*value)),
        Err(ItemError::Failed(error)) => Some(Err(*error)),
        Err(_) => None,
    };
    result.outcomes().iter().map(told).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn items_and_outcomes_are_those_of_a_plain_queue(tree in trees(10)) {
        for workers in [1, 2, 8] {
            let result = executor(workers).batch(0..tree.roots).run_growing(|item, _, more| tree.run(*item, |child| more.push(child)));
            prop_assert_eq!(result.items(), &tree.queue()[..]);
            let expected: Vec<_> = tree.queue().iter().map(|item| Some(tree.run(*item, |_| ()))).collect();
            prop_assert_eq!(outcomes(&result), expected);
            prop_assert_eq!(result.stopped(), None);
            prop_assert!(result.failures().all(|failure| failure.index < result.total() && tree.fails[*failure.item]));
        }
    }

    #[test]
    fn the_failure_that_counts_is_the_one_that_a_plain_queue_meets(tree in trees(12), limit in 1_usize..4) {
        let (ran, left) = tree.queue_until(limit);
        let is_stopped = tree.fails.iter().filter(|fails| **fails).count() >= limit;
        for workers in [1, 2, 8] {
            let executor = executor(workers);
            let batch = executor.batch(0..tree.roots).stop_after_failures(limit);
            let batch = if limit == 1 { batch.stop_on_error(true) } else { batch };
            let result = batch.run_growing(|item, _, more| tree.run(*item, |child| more.push(child)));
            let reason = match limit {
                _ if !is_stopped => None,
                1 => Some(StopReason::ItemFailed { index: ran.len() - 1 }),
                limit => Some(StopReason::TooManyFailures { limit }),
            };
            prop_assert_eq!(result.stopped(), reason);
            prop_assert_eq!(&result.items()[..ran.len()], &ran[..]);
            let expected: Vec<_> = ran.iter().map(|item| Some(tree.run(*item, |_| ()))).collect();
            prop_assert_eq!(&outcomes(&result)[..ran.len()], &expected[..]);
            for (item, outcome) in result.items().iter().zip(outcomes(&result)).skip(ran.len()) {
                prop_assert!(outcome.is_none_or(|outcome| outcome == tree.run(*item, |_| ())));
            }
            if workers == 1 {
                prop_assert!(result.items()[ran.len()..].iter().eq(&left), "one worker does not go beyond");
                prop_assert_eq!(result.skipped(), left.len());
            }
        }
    }

    #[test]
    fn what_a_repeated_attempt_pushed_counts_once(tree in trees(30), retried in vec(any::<bool>(), 64)) {
        for workers in [1, 2, 8] {
            let retry = Retry::delays(|| [Duration::ZERO, Duration::from_micros(50)].into_iter());
            let result = executor(workers).batch(0..tree.roots).retry(retry).run_growing(|item, cx, more| {
                let outcome = tree.run(*item, |child| more.push(child));
                if retried[*item] && cx.attempt() == 1 { Err(*item) } else { outcome }
            });
            prop_assert_eq!(result.items(), &tree.queue()[..]);
            for (index, item) in result.items().iter().enumerate() {
                let attempts = if tree.fails[*item] { 3 } else { 1 + usize::from(retried[*item]) };
                prop_assert_eq!(result.attempts(index), attempts, "item {}", item);
            }
        }
    }

    #[test]
    fn limits_hold_for_items_that_were_pushed(tree in trees(10), slots in 1_usize..3, stops in any::<bool>()) {
        let (ran, _) = tree.queue_until(if stops { 1 } else { usize::MAX });
        for workers in [1, 2, 8] {
            let at_work: [AtomicUsize; 3] = Default::default();
            let executor = executor(workers);
            let batch = executor.batch(0..tree.roots).stop_on_error(stops);
            let batch = batch.limit(Limit::per_key(|item: &usize| item % 3, move |_| Limit::at_once(slots)));
            let result = batch.run_growing(|item, _, more| {
                assert!(at_work[item % 3].fetch_add(1, Ordering::SeqCst) < slots, "too many at once");
                let outcome = tree.run(*item, |child| more.push(child));
                at_work[item % 3].fetch_sub(1, Ordering::SeqCst);
                outcome
            });
            prop_assert_eq!(&result.items()[..ran.len()], &ran[..]);
            let expected: Vec<_> = ran.iter().map(|item| Some(tree.run(*item, |_| ()))).collect();
            prop_assert_eq!(&outcomes(&result)[..ran.len()], &expected[..]);
        }
    }

    /// All steps together, each or not: whatever they do, up to the failure that stops a plain queue the outcomes are its own.
    #[test]
    fn with_any_steps_the_outcomes_are_those_of_a_plain_queue(
        tree in bushy_trees(),
        workers in 1_usize..12,
        (stops, retries, reports) in any::<(bool, bool, bool)>(),
        (slots, paused_at) in (prop::option::of(1_usize..4), prop::option::of(0_usize..20)),
    ) {
        let (ran, _) = tree.queue_until(if stops { 1 } else { usize::MAX });
        let (executor, control, mut totals) = (executor(workers), Control::new(), Vec::new());
        let mut batch = executor.batch(0..tree.roots).stop_on_error(stops).control(&control);
        if let Some(slots) = slots {
            batch = batch.limit(Limit::per_key(|item: &usize| item % 3, move |_| Limit::at_once(slots)));
        }
        if retries {
            batch = batch.retry(Retry::delays(|| [Duration::from_micros(20)].into_iter()));
        }
        if reports {
            batch = batch.on_progress(|p| totals.push((p.total, p.total_hint)));
        }
        let result = batch.run_growing(|item, cx, more| {
            if paused_at == Some(*item) && cx.attempt() == 1 {
                control.pause();
                resume_soon(&control);
            }
            tree.run(*item, |child| more.push(child))
        });
        prop_assert_eq!(&result.items()[..ran.len()], &ran[..]);
        let expected: Vec<_> = ran.iter().map(|item| Some(tree.run(*item, |_| ()))).collect();
        prop_assert_eq!(&outcomes(&result)[..ran.len()], &expected[..]);
        prop_assert!(totals.is_sorted_by_key(|(total, _)| *total));
        prop_assert!(totals.iter().all(|(_, hint)| hint.is_none_or(|hint| hint == result.total())));
    }

    #[test]
    fn adaptive_workers_come_to_the_same(tree in trees(10)) {
        let result = executor(Workers::adaptive()).batch(0..tree.roots).run_growing(|item, _, more| tree.run(*item, |child| more.push(child)));
        prop_assert_eq!(result.items(), &tree.queue()[..]);
        prop_assert_eq!(result.skipped(), 0);
    }
}

#[test]
fn adaptive_workers_come_for_items_that_were_pushed() {
    let result = executor(AdaptiveWorkers::new().max(128)).batch([true]).run_growing(|is_first, _, more| {
        if *is_first {
            (0..400).for_each(|_| more.push(false));
        }
        thread::sleep(Duration::from_millis(20));
        Ok::<_, String>(())
    });
    assert!(result.is_success() && result.workers() >= 16, "{} workers", result.workers());
}

#[test]
fn no_items_are_a_batch_without_any() {
    for workers in [1, 8] {
        let result = executor(workers).batch(Vec::<u8>::new()).run_growing(|_, _, _| Ok::<_, String>(()));
        assert_eq!((result.total(), result.workers(), result.stopped()), (0, 0, None));
    }
}

#[test]
fn a_chain_is_run_link_by_link() {
    for workers in [1, 2, 8] {
        let result = executor(workers).batch([0_u32]).run_growing(|link, _, more| {
            if *link < 29_999 {
                more.push(link + 1);
            }
            Ok::<_, String>(*link)
        });
        assert!(result.items().iter().copied().eq(0..30_000));
        assert!(result.into_values().unwrap().into_iter().eq(0..30_000));
    }
}

#[test]
fn one_item_may_push_a_hundred_thousand() {
    for workers in [1, 2, 8] {
        let result = executor(workers).batch(["all", "none"]).run_growing(|item, _, more| {
            if *item == "all" {
                (0..100_000).for_each(|_| more.push("more"));
            }
            Ok::<_, String>(item.len())
        });
        assert_eq!((result.total(), result.succeeded()), (100_002, 100_002));
        assert_eq!(result.items()[..3], ["all", "none", "more"]);
    }
}

/// Two long chains and a failure at the end of the second: which comes first is told by their beginnings.
#[test]
fn of_two_chains_that_fail_in_the_end_the_first_counts() {
    for workers in [1, 2, 8] {
        let result = BatchExecutor::new().batch([(0, 'a'), (0, 'b')]).workers(workers).run_growing(
            |(depth, chain), _, more| {
                if *depth == 5_000 {
                    return Err(*chain);
                }
                more.push((depth + 1, *chain));
                Ok(())
            },
        );
        assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 10_000 }));
        assert_eq!(result.into_first_failure().unwrap().item, (5_000, 'a'));
    }
}

#[test]
fn an_item_starts_while_the_one_that_pushed_it_still_runs() {
    let (said, heard) = mpsc::channel();
    let heard = Mutex::new(heard);
    let result = executor(2).batch([true]).run_growing(|is_parent, _, more| {
        if *is_parent {
            more.push(false);
            heard.lock().unwrap().recv_timeout(Duration::from_secs(30)).map_err(|error| error.to_string())
        } else {
            said.send(()).map_err(|error| error.to_string())
        }
    });
    assert!(result.is_success() && result.total() == 2, "{result}");
}

#[test]
fn no_worker_leaves_while_an_item_that_runs_may_push_more() {
    const WORKERS: usize = 6;
    for (has_progress, has_limit) in [(false, false), (true, false), (false, true)] {
        let (meeting, calls) = (Barrier::new(WORKERS), AtomicUsize::new(0));
        let executor = executor(WORKERS);
        let mut batch = executor.batch([0]);
        if has_progress {
            batch = batch.on_progress(|_| _ = calls.fetch_add(1, Ordering::Relaxed));
        }
        if has_limit {
            batch = batch.limit(Limit::at_once(WORKERS));
        }
        // Time for the others to find nothing, before all of them have to be there, twice.
        let result = batch.run_growing(|level, _, more| {
            if *level == 0 || *level == 2 {
                thread::sleep(Duration::from_millis(30));
                let pushed = if *level == 0 { WORKERS } else { WORKERS + 1 };
                (1..=pushed)
                    .for_each(|n| more.push(if *level == 0 { 1 } else { 3 + usize::from(n > WORKERS) }));
            } else if *level != 4 {
                let is_leader = meeting.wait().is_leader();
                if *level == 1 && is_leader {
                    more.push(2);
                }
            }
            Ok::<_, String>(())
        });
        assert_eq!((result.total(), result.workers()), (2 * WORKERS + 3, WORKERS));
        assert_eq!(calls.into_inner(), if has_progress { result.total() } else { 0 });
    }
}

#[test]
fn a_panic_is_an_outcome_and_what_was_pushed_before_runs() {
    for has_retry in [false, true] {
        let executor = executor(4);
        let batch = executor.batch([3_u32]);
        let batch =
            if has_retry { batch.retry(Retry::delays(|| [Duration::ZERO].into_iter())) } else { batch };
        let result = batch.run_growing(|n, _, more| {
            (0..*n).for_each(|smaller| more.push(smaller));
            assert!(*n != 2, "two");
            Ok::<_, String>(*n)
        });
        assert_eq!(result.items(), [3, 0, 1, 2, 0, 0, 1, 0]);
        let panicked: Vec<_> = result.failures().map(|failure| failure.to_string()).collect();
        assert_eq!(panicked, ["item 3: panicked: two"]);
    }
}

#[test]
fn a_cancel_leaves_what_runs_and_nothing_that_was_pushed_is_lost() {
    for workers in [1, 4] {
        let token = CancelToken::new();
        let result = executor(workers).batch(0..3).cancel_on(&token).run_growing(|n: &i32, cx, more| {
            more.push(n + 10);
            if *n == 11 {
                token.cancel();
                assert!(cx.is_cancelled());
                more.push(99);
            }
            Ok::<_, String>(())
        });
        assert_eq!(result.stopped(), Some(StopReason::Cancelled));
        let skipped = |n: i32| {
            let place = result.items().iter().position(|item| *item == n);
            matches!(result.outcomes()[place.unwrap()], Err(ItemError::Skipped))
        };
        // Another worker may have run the first before the cancel.
        assert!(skipped(99) && (workers > 1 || skipped(21)));
        assert!(result.total() >= 8);
    }
}

#[test]
fn a_cancel_when_nothing_is_left_is_none() {
    let token = CancelToken::new();
    let result = executor(2).batch([0]).cancel_on(&token).run_growing(|n: &u32, _, more| {
        if *n == 0 {
            more.push(1);
        } else {
            token.cancel();
        }
        Ok::<_, String>(())
    });
    assert_eq!((result.stopped(), result.succeeded()), (None, 2));
}

#[test]
fn a_deadline_ends_a_batch_that_grows_for_ever() {
    let executor = BatchExecutor::builder().workers(3).clock(TestClock::new()).build().unwrap();
    let batch = executor.batch([0_u64]).limit(Limit::rate(RateLimit::per_second(10)));
    let result = batch.timeout(Duration::from_secs(60)).run_growing(|n, _, more| {
        more.push(2 * n);
        more.push(2 * n + 1);
        Ok::<_, String>(())
    });
    assert_eq!(result.stopped(), Some(StopReason::DeadlineExceeded));
    assert!((600..=620).contains(&result.succeeded()), "{result}");
    assert_eq!(result.total(), 2 * result.succeeded() + 1, "what was pushed is there");
}

/// Whether an item behind a failure hears of it, and one before it does not.
#[test]
fn an_item_hears_when_a_failure_before_it_stops_the_batch() {
    hears_of_a_failure(None);
    hears_of_a_failure(Some(Limit::at_once(3)));
}

fn hears_of_a_failure(limit: Option<Limit<'static, &'static str>>) {
    let (before, behind) = (Barrier::new(3), Barrier::new(2));
    let executor = BatchExecutor::new();
    let mut batch = executor.batch(["before", "parent"]).workers(3);
    if let Some(limit) = limit {
        batch = batch.limit(limit);
    }
    let result = batch.run_growing(|item, cx, more| {
        let wait_for_cancel = || {
            (0..20_000).any(|_| {
                thread::sleep(Duration::from_millis(1));
                cx.is_cancelled()
            })
        };
        match *item {
            "parent" => ["fails", "behind"].into_iter().for_each(|child| more.push(child)),
            "before" => {
                before.wait();
                behind.wait();
                thread::sleep(Duration::from_millis(5));
                more.push("child of before");
                return if cx.is_cancelled() { Err("heard") } else { Ok(()) };
            }
            "fails" => {
                before.wait();
                return Err("stops here");
            }
            "behind" => {
                before.wait();
                let has_heard = wait_for_cancel();
                behind.wait();
                return if has_heard { Ok(()) } else { Err("has not heard") };
            }
            "child of before" => {}
            other => unreachable!("{other}"),
        }
        Ok(())
    });
    // The child comes before the failure, since its parent does: so it runs though it came after the failure.
    assert_eq!(result.items(), ["before", "parent", "child of before", "fails", "behind"]);
    assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 3 }));
    assert_eq!((result.succeeded(), result.skipped()), (4, 0), "{:?}", result.outcomes());
}

/// More than there are CPUs, and so more than the batch begins with.
#[test]
fn each_adaptive_worker_hears_of_a_failure() {
    within_a_minute(|| {
        let many = thread::available_parallelism().map_or(1, usize::from) + 8;
        let meeting = Barrier::new(many);
        let executor = executor(AdaptiveWorkers::new().max(many));
        let result =
            executor.batch(["parent"]).stop_on_error(true).run_growing(|item, cx, more| match *item {
                "parent" => {
                    more.push("fails");
                    (0..4 * many).for_each(|_| more.push("behind"));
                    Ok(())
                }
                "fails" => {
                    meeting.wait();
                    Err("stops here")
                }
                _ => {
                    meeting.wait();
                    wait_until("it hears of that", || cx.is_cancelled());
                    Ok(())
                }
            });
        assert_eq!((result.succeeded(), result.failed()), (many, 1), "{:?}", result.failures().last());
    });
}

#[test]
fn progress_rises_by_one_and_the_total_grows() {
    for workers in [1, 2, 8] {
        let (mut seen, executor) = (Vec::new(), executor(workers));
        let batch = executor.batch([4_u32]).on_progress(|p| seen.push((p.completed, p.total, p.total_hint)));
        let result = batch.run_growing(|n, _, more| {
            (0..*n).for_each(|smaller| more.push(smaller));
            Ok::<_, String>(())
        });
        assert_eq!(result.total(), 16);
        assert!(seen.iter().map(|(completed, ..)| *completed).eq(1..=16), "{seen:?}");
        assert!(seen.is_sorted_by_key(|(_, total, _)| *total), "{seen:?}");
        assert!(
            seen.iter()
                .all(|(completed, total, hint)| completed <= total && hint.is_none_or(|hint| hint == 16))
        );
        assert!(seen[0].1 >= 5, "what the first item pushed is there when it is done: {seen:?}");
        assert_eq!(seen[15], (16, 16, Some(16)), "with the last item all are known");
        assert!(workers > 1 || seen[..15].iter().all(|(_, _, hint)| hint.is_none()), "{seen:?}");
    }
}

#[test]
fn a_timeline_speaks_of_places_in_the_result() {
    for workers in [1, 8] {
        let executor = executor(workers);
        let batch = executor.batch([12_u32]).record_timeline().timeline_spans(300);
        let result = batch.run_growing(|n, _, more| {
            (0..*n).for_each(|smaller| more.push(smaller));
            spin(u8::try_from(n % 5).unwrap());
            Ok::<_, String>(())
        });
        let timeline = result.timeline().unwrap();
        assert_eq!((timeline.attempts(), timeline.is_complete()), (4_096, false));
        assert!(timeline.spans().iter().all(|span| result.items()[span.index()].to_string() == span.id()));
        // With several workers, it depends on how they come to share so little room.
        let (sampled, spans) = (timeline.sample().count(), timeline.spans().len());
        assert!(workers > 1 || (sampled > 100 && sampled < spans), "{sampled} of {spans}");
    }
}

#[test]
fn numbers_are_those_of_arrival_and_with_one_worker_places() {
    for workers in [1, 8] {
        let result = executor(workers).batch([6_u32]).run_growing(|n, cx, more| {
            (0..*n).for_each(|smaller| more.push(smaller));
            Ok::<_, String>(cx.index())
        });
        let mut numbers = result.into_values().unwrap();
        assert!(workers > 1 || numbers.is_sorted());
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..64));
    }
}

#[test]
fn items_are_dropped_once_also_those_of_attempts_that_did_not_count() {
    let alive = Arc::new(());
    for (workers, has_retry) in [(1, true), (8, true), (8, false)] {
        let executor = executor(workers);
        let batch = executor.batch([(5_u32, Arc::clone(&alive))]).stop_after_failures(3);
        let batch =
            if has_retry { batch.retry(Retry::delays(|| [Duration::ZERO].into_iter())) } else { batch };
        let result = batch.run_growing(|(n, alive), cx, more| {
            (0..*n).for_each(|smaller| more.push((smaller, Arc::clone(alive))));
            if n % 2 == 1 && cx.attempt() == 1 { Err(Arc::clone(alive)) } else { Ok(Arc::clone(alive)) }
        });
        let outcomes = result.iter().filter(|item| !matches!(item.outcome, Err(ItemError::Skipped))).count();
        assert_eq!(Arc::strong_count(&alive), 1 + result.total() + outcomes);
        drop(result);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}

#[test]
fn threads_of_the_operation_may_push_too() {
    let result = executor(2).batch([0]).run_growing(|n, _, more: &More<i32>| {
        if *n == 0 {
            thread::scope(|scope| {
                (0..4).for_each(|_| _ = scope.spawn(|| (0..100).for_each(|_| more.push(1))));
            });
        }
        Ok::<_, String>(())
    });
    assert_eq!((result.total(), result.succeeded()), (401, 401));
}

#[test]
fn a_batch_in_an_item_of_another_may_grow() {
    let executor = executor(2);
    let count = |n: &u32, _: &mut ItemContext<'_>, more: &More<u32>| {
        (0..*n).for_each(|smaller| more.push(smaller));
        Ok::<_, String>(())
    };
    let result = executor.batch([3_u32]).run_growing(|n, _, more| {
        (0..*n).for_each(|smaller| more.push(smaller));
        Ok::<_, String>(executor.batch([*n]).run_growing(count).total())
    });
    assert_eq!(result.into_values().unwrap(), [8, 1, 2, 4, 1, 1, 2, 1]);
}

#[test]
fn a_limit_that_others_share_lets_a_batch_grow_when_it_is_free() {
    let slots = Concurrency::new(1);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let result = executor(4).batch([4_u32]).limit(Limit::at_once(slots.clone())).run_growing(
                    |n, _, more| {
                        assert_eq!(slots.in_use(), 1);
                        (0..*n).for_each(|smaller| more.push(smaller));
                        Ok::<_, String>(())
                    },
                );
                assert_eq!((result.total(), result.succeeded()), (16, 16));
            });
        }
    });
    assert_eq!(slots.in_use(), 0);
}

#[test]
fn an_item_that_waits_for_another_attempt_is_interrupted_by_a_failure_before_it() {
    let retried = Barrier::new(2);
    let retry = Retry::delays(|| [Duration::from_secs(3600)].into_iter()).when(|error: &&str| match *error {
        "later" => batch_executor::RetryDecision::Retry,
        _ => batch_executor::RetryDecision::GiveUp,
    });
    let result = BatchExecutor::new().batch(["fails", "later"]).workers(3).retry(retry).run_growing(
        |item, _, more| {
            if *item == "fails" {
                retried.wait();
                thread::sleep(Duration::from_millis(20));
                more.push("pushed by what fails");
            } else {
                assert_eq!(*item, "later", "what comes behind the failure does not start");
                more.push("never");
                retried.wait();
            }
            Err::<(), _>(*item)
        },
    );
    assert_eq!(result.items(), ["fails", "later", "pushed by what fails"]);
    assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 0 }));
    assert!(matches!(result.outcomes()[1], Err(ItemError::Interrupted(Some("later")))));
    assert_eq!((result.attempts(1), result.attempts(2)), (1, 0));
}

#[cfg(feature = "journal")]
#[test]
fn a_journal_is_refused_with_words() {
    use batch_executor::{Journal, Plan};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    let path = std::env::temp_dir().join(format!("growing-{}.jsonl", std::process::id()));
    let journal = Journal::open(&path, Plan::of(["a"]).unwrap()).unwrap();
    let run = || executor(1).batch(["a"]).journal(&journal).run_growing(|_, _, _| Ok::<_, String>(0));
    let refused = catch_unwind(AssertUnwindSafe(run)).expect_err("it must not run");
    drop(journal); // Windows removes no open file
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        crate::common::text_of(&*refused),
        "a journal knows all items before they run, so a batch that grows cannot have one"
    );
}

#[test]
fn a_level_does_not_wait_for_the_one_before_and_what_comes_late_has_its_place() {
    let meeting = Barrier::new(2);
    let executor = executor(2);
    let batch = executor.batch(["slow", "quick"]).record_timeline();
    let result = batch.run_growing(|item, cx, more| {
        match *item {
            "slow" => {
                meeting.wait(); // for the child of the quick one
                more.push("child of slow");
            }
            "quick" => more.push("child of quick"),
            "child of quick" => _ = meeting.wait(),
            _ => {}
        }
        Ok::<_, String>(cx.index())
    });
    assert_eq!(result.items(), ["slow", "quick", "child of slow", "child of quick"]);
    assert_eq!(result.values().collect::<Vec<_>>(), [&0, &1, &3, &2]);
    let spans = result.timeline().unwrap().spans();
    assert!(spans.len() == 4 && spans.iter().all(|span| result.items()[span.index()] == span.id()));
}

#[test]
fn a_paused_batch_starts_nothing_that_was_pushed_until_it_is_resumed() {
    within_a_minute(|| {
        for workers in [1, 2, 8] {
            let (executor, control, started) = (executor(workers), Control::new(), AtomicUsize::new(0));
            let count = |n: &u32, _: &mut ItemContext<'_>, more: &More<u32>| {
                if started.fetch_add(1, Ordering::SeqCst) == 0 {
                    control.pause();
                }
                (0..*n).for_each(|smaller| more.push(smaller));
                Ok::<_, String>(())
            };
            let result = thread::scope(|scope| {
                let paused = scope.spawn(|| {
                    wait_until("it is paused", || control.snapshot().progress.completed == 1);
                    thread::sleep(Duration::from_millis(5));
                    let snapshot = control.snapshot();
                    control.resume();
                    snapshot
                });
                let result = executor.batch([4]).control(&control).run_growing(count);
                let snapshot = paused.join().unwrap();
                assert!(snapshot.running.is_empty(), "{snapshot:?}");
                let progress = snapshot.progress;
                assert_eq!((progress.completed, progress.total, progress.total_hint), (1, 5, None));
                result
            });
            assert_eq!(result.items(), [4, 0, 1, 2, 3, 0, 0, 1, 0, 1, 2, 0, 0, 0, 1, 0]);
            assert!(result.is_success());
        }
    });
}

#[test]
fn a_paused_batch_can_be_cancelled_and_what_was_pushed_is_skipped() {
    within_a_minute(|| {
        for workers in [1, 2, 8] {
            let (executor, control) = (executor(workers), Control::new());
            let result = thread::scope(|scope| {
                scope.spawn(|| {
                    wait_until("it is paused", || control.snapshot().progress.completed == 1);
                    control.cancel();
                });
                executor.batch(["parent"]).control(&control).run_growing(|_, _, more| {
                    control.pause();
                    more.push("child");
                    Ok::<_, String>(())
                })
            });
            assert_eq!(result.stopped(), Some(StopReason::Cancelled));
            assert_eq!(result.items(), ["parent", "child"]);
            assert_eq!((result.succeeded(), result.skipped()), (1, 1));
        }
    });
}

/// More workers than the batch began with: the last of them, too, hears that its item is not wanted.
#[test]
fn a_control_raises_the_number_of_workers_and_each_of_them_hears_of_a_failure() {
    const WORKERS: usize = 9;
    within_a_minute(|| {
        let (control, meeting) = (Control::new(), Barrier::new(WORKERS));
        let executor = executor(1);
        let batch = executor.batch(["parent"]).stop_on_error(true).control(&control);
        let result = batch.run_growing(|item, cx, more| match *item {
            "parent" => {
                more.push("fails");
                (1..WORKERS).for_each(|_| more.push("behind"));
                control.set_workers(WORKERS);
                Ok(())
            }
            "fails" => {
                meeting.wait();
                Err("stops here")
            }
            _ => {
                meeting.wait();
                wait_until("it hears of that", || cx.is_cancelled());
                Ok(())
            }
        });
        assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 1 }));
        assert_eq!((result.workers(), result.succeeded(), result.skipped()), (WORKERS, WORKERS, 0));
    });
}

/// Two items wait for the slot of another when an item between them fails: the one before it runs, the one behind it does not.
#[test]
fn of_items_that_wait_at_a_limit_those_behind_a_failure_do_not_start() {
    within_a_minute(|| {
        let (executor, control) = (executor(4), Control::new());
        let key = |item: &&str| *item == "fails";
        let batch = executor.batch(["holds", "waits", "fails"]).stop_on_error(true).control(&control);
        let batch = batch.limit(Limit::per_key(key, |_| Limit::at_once(1)));
        let result = batch.run_growing(|item, _, more| match *item {
            "holds" => {
                more.push("waits behind");
                wait_until("the other has failed", || control.snapshot().progress.failed == 1);
                Ok(())
            }
            "waits" => {
                more.push("never");
                Ok(())
            }
            "fails" => {
                wait_until("two wait", || control.snapshot().progress.waiting == 2);
                Err("stops here")
            }
            other => unreachable!("{other}"),
        });
        assert_eq!(result.items(), ["holds", "waits", "fails", "waits behind", "never"]);
        assert_eq!(outcomes_of(&result), ["ran", "ran", "failed", "skipped", "skipped"]);
        assert_eq!(result.stopped(), Some(StopReason::ItemFailed { index: 2 }));
    });
}

fn outcomes_of<T, E>(result: &BatchResult<&str, T, E>) -> Vec<&'static str> {
    let word = |outcome: &Result<T, ItemError<E>>| match outcome {
        Ok(_) => "ran",
        Err(ItemError::Skipped) => "skipped",
        Err(_) => "failed",
    };
    result.outcomes().iter().map(word).collect()
}

/// An item that waits an hour for its next attempt lets the others go on, and what it pushes then has its place before theirs.
#[test]
fn what_an_item_pushes_after_a_long_wait_has_its_place() {
    for workers in [1, 2, 8] {
        let executor = BatchExecutor::builder().workers(workers).clock(TestClock::new()).build().unwrap();
        let retry = Retry::delays(|| [Duration::from_secs(3600)].into_iter());
        let order = Mutex::new(Vec::new());
        let result = executor.batch(["retried", "other"]).retry(retry).run_growing(|item, cx, more| {
            order.lock().unwrap().push(*item);
            let child = match *item {
                "retried" => "child of retried",
                "other" => "child of other",
                "child of other" => "grandchild of other",
                "child of retried" => "grandchild of retried",
                _ => return Ok(()),
            };
            more.push(child);
            if *item == "retried" && cx.attempt() == 1 { Err("later") } else { Ok(()) }
        });
        let expected = [
            "retried",
            "other",
            "child of retried",
            "child of other",
            "grandchild of retried",
            "grandchild of other",
        ];
        assert_eq!(result.items(), expected);
        assert!(result.is_success() && result.attempts(0) == 2);
        let order = order.into_inner().unwrap();
        let first = |item| order.iter().position(|other| *other == item).unwrap();
        assert!(first("grandchild of other") < first("child of retried"), "nothing waits for it: {order:?}");
    }
}

#[test]
fn every_item_has_a_permit_of_the_executors_limiter() {
    let clock = TestClock::new();
    let limiter = RateLimit::per_second(1);
    let executor =
        BatchExecutor::builder().workers(2).clock(clock.clone()).rate_limiter(limiter).build().unwrap();
    let result = executor.batch([3_u32]).run_growing(|n, _, more| {
        (0..*n).for_each(|_| more.push(0));
        Ok::<_, String>(())
    });
    assert_eq!((result.succeeded(), clock.elapsed()), (4, Duration::from_secs(3)));
}

#[test]
fn an_item_knows_its_deadline_also_where_items_push_others() {
    let hour = Duration::from_secs(3_600);
    let (executor, latest) = (executor(2), Instant::now() + 2 * hour);
    let knows = |batch: Batch<'_, _, (), String>| {
        let result = batch.run_growing(|n: &u32, cx, more| {
            if *n < 3 {
                more.push(n + 1);
            }
            if cx.deadline().is_some_and(|deadline| deadline < latest) {
                Ok(())
            } else {
                Err("none".to_owned())
            }
        });
        assert!(result.is_success(), "{result}");
    };
    knows(executor.batch(iter::once(0)).timeout(hour));
    knows(executor.batch(iter::once(0)).item_timeout(hour));
}

#[test]
fn an_item_that_is_pushed_waits_for_a_worker_from_then_on() {
    within_a_minute(|| {
        let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
        let result = executor.batch([0]).record_timeline().run_growing(|n: &u32, _, more| {
            nap(Duration::from_secs(5));
            if *n == 0 {
                more.push(1);
            }
            Ok::<_, String>(())
        });
        let waits: Vec<_> =
            result.timeline().unwrap().spans().iter().map(batch_executor::Span::queue_wait).collect();
        assert_eq!(waits, [Duration::ZERO; 2], "the only worker takes it up immediately");
    });
}

/// What the first item pushes at its second attempt comes before what the second one has pushed by then.
#[test]
fn the_sample_of_a_timeline_has_the_items_that_were_drawn_wherever_their_places_are() {
    let executor = BatchExecutor::builder().workers(1).clock(TestClock::new()).build().unwrap();
    let batch = executor.batch(0..2).retry(Retry::delays(|| [Duration::from_secs(3600)].into_iter()));
    let result = batch.record_timeline().timeline_spans(100).run_growing(|item, cx, more| {
        if *item == 0 && cx.attempt() == 1 {
            return Err("down");
        }
        if *item < 2 {
            (0..2_000).for_each(|_| more.push(2));
        }
        Ok(())
    });
    assert_eq!((result.succeeded(), result.items()[1]), (4_002, 1));
    let timeline = result.timeline().unwrap();
    let sampled = timeline.sample().count();
    assert!((30..=100).contains(&sampled), "{sampled}");
}
