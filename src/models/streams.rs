//! Streams: items that are pulled while others are worked on, and outcomes that are waited for.
//!
//! Time stands still, or passes for a moment at a time: a thread that has nothing to do and no reason to look around soon is called, or
//! sleeps for ever.

use std::iter;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::control::cancel_elsewhere;
use super::executor;
use crate::batch::Batch;
use crate::batch_error::StopReason;
use crate::cancel::CancelToken;
use crate::error::ItemError;
use crate::executor::BatchExecutor;
use crate::panic;
use crate::retry::Retry;
use crate::stream::{Results, Streamed};
use crate::sync::model::{Borrowed, check, check_long, let_time_pass_up_to, refuse_threads_after};
use crate::sync::{Condvar, Mutex, thread};

/// How long a worker waits that watches one that pulls, and a caller that looks for helpers.
const MOMENT: Duration = Duration::from_millis(1);

/// What a stream is to be.
#[derive(Debug, Clone, Copy)]
struct Plan {
    items: usize,
    window: usize,
    ordered: bool,
}

const fn ordered(items: usize, window: usize) -> Plan {
    Plan { items, window, ordered: true }
}

const fn unordered(items: usize, window: usize) -> Plan {
    Plan { items, window, ordered: false }
}

impl Plan {
    fn batch<It: Iterator, T, E>(self, executor: &BatchExecutor, source: It) -> Batch<'_, It, T, E> {
        let batch = executor.batch(source).window(self.window);
        if self.ordered { batch } else { batch.unordered() }
    }

    /// Items are their own number. The consumer got this many of them, each once, and in order those before a gap.
    fn assert_got(self, got: &[usize], items: usize) {
        let mut numbers = got.to_vec();
        if !self.ordered {
            numbers.sort_unstable();
            numbers.dedup();
        }
        assert_eq!((got.len(), numbers.len()), (items, items));
        assert!(!self.ordered || numbers.into_iter().eq(0..items));
    }
}

/// How far the source and the consumer of a stream are, and memory of the caller's that both and the operation use.
struct Course {
    plan: Plan,
    memory: Borrowed,
    // The standard library's, which adds no interleavings. A checker runs one thread at a time.
    pulled: AtomicUsize,
    asked: AtomicUsize,
    /// Where the source waits for the consumer: how many items that has got, without end when it is done.
    answers: Option<Mutex<usize>>,
    answered: Condvar,
}

impl Course {
    fn new(plan: Plan) -> Self {
        Course {
            plan,
            memory: Borrowed::new(),
            pulled: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            answers: None,
            answered: Condvar::default(),
        }
    }

    /// One whose source may wait for the consumer.
    fn with_answers(plan: Plan) -> Self {
        Course { answers: Some(Mutex::default()), ..Course::new(plan) }
    }

    /// Holds the worker that pulls until the consumer has got this many.
    fn wait_for(&self, items: usize) {
        let Some(answers) = &self.answers else { return };
        let mut got = answers.lock();
        while *got < items {
            got = self.answered.wait(got);
        }
    }

    fn answer(&self, got: usize) {
        if let Some(answers) = &self.answers {
            *answers.lock() = got;
            self.answered.notify_all();
        }
    }

    /// Numbers, pulled no further than the window allows. `before` is told of each.
    fn source<'c>(&'c self, before: impl Fn(usize) + Send + 'c) -> impl Iterator<Item = usize> + Send + 'c {
        (0..self.plan.items).inspect(move |&item| {
            self.memory.touch();
            before(item);
            assert_eq!(self.pulled.fetch_add(1, Ordering::Relaxed), item);
            let handed_on = self.asked.load(Ordering::Relaxed).saturating_sub(1);
            assert!(item < handed_on + self.plan.window);
        })
    }

    /// Takes up to this many.
    fn take(&self, results: &mut Results<'_, usize, usize, usize>, most: usize) -> Vec<usize> {
        let mut got = Vec::new();
        while got.len() < most {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let Some(item) = results.next() else { break };
            let (Ok(number) | Err(ItemError::Failed(number))) = item.outcome else { panic!("it has run") };
            assert_eq!((number, number), (item.item, item.index));
            got.push(number);
            self.answer(got.len());
        }
        self.answer(usize::MAX);
        got
    }

    fn free(self) {
        self.memory.free();
    }
}

/// Runs a stream to its end.
fn stream_all(executor: &BatchExecutor, plan: Plan) {
    let course = Course::new(plan);
    let streamed = plan.batch(executor, course.source(|_| ())).stream(
        |&item| {
            course.memory.touch();
            Ok(item)
        },
        |results| course.take(results, usize::MAX),
    );
    assert_complete(plan, &streamed);
    course.free();
}

fn assert_complete(plan: Plan, streamed: &Streamed<Vec<usize>>) {
    plan.assert_got(&streamed.output, plan.items);
    assert_eq!((streamed.stopped, streamed.succeeded, streamed.failed), (None, plan.items, 0));
}

/// The consumer wants this many and no more.
fn leave_after(executor: &BatchExecutor, plan: Plan, wanted: usize) {
    let course = Course::new(plan);
    let streamed = plan.batch(executor, course.source(|_| ())).stream(
        |&item| {
            course.memory.touch();
            Ok(item)
        },
        |results| course.take(results, wanted),
    );
    plan.assert_got(&streamed.output, wanted);
    assert_eq!((streamed.stopped, streamed.succeeded), (None, wanted));
    course.free();
}

/// The consumer panics after the first item if `item` is none; otherwise the source does before that one.
fn panic_at(executor: &BatchExecutor, plan: Plan, item: Option<usize>) {
    let course = Course::new(plan);
    let source = course.source(|pulled| {
        if item == Some(pulled) {
            resume_unwind(Box::new("the source's"));
        }
    });
    let unwound = panic::catch(|| {
        plan.batch(executor, source).stream(
            |&item| {
                course.memory.touch();
                Ok(item)
            },
            |results| {
                course.take(results, item.map_or(1, |_| usize::MAX));
                resume_unwind(Box::new("the consumer's"))
            },
        )
    });
    assert!(unwound.is_err());
    course.free();
}

/// Before item `kept` is there, the stream has to be over.
fn cancel(executor: &BatchExecutor, plan: Plan, kept: Option<usize>) {
    let (course, token) = (Course::with_answers(plan), CancelToken::new());
    let before = |item| {
        if kept == Some(item) {
            course.wait_for(usize::MAX)
        }
    };
    let canceller = cancel_elsewhere(&token);
    let streamed = plan.batch(executor, course.source(before)).cancel_on(&token).stream(
        |&item| {
            course.memory.touch();
            Ok(item)
        },
        |results| course.take(results, usize::MAX),
    );
    plan.assert_got(&streamed.output, streamed.succeeded);
    let is_cancelled = streamed.stopped == Some(StopReason::Cancelled);
    assert!(is_cancelled || (streamed.stopped, streamed.succeeded) == (None, plan.items));
    course.free();
    canceller.join().unwrap();
}

/// One item fails. Source and consumer are those of the course; `before` is told of each item.
fn fail(plan: Plan, workers: usize, failing: usize, course: &Course, before: impl Fn(usize) + Send) {
    let executor = BatchExecutor::builder().workers(workers).build().unwrap();
    let streamed = plan.batch(&executor, course.source(before)).stream(
        |&item| {
            course.memory.touch();
            if item == failing { Err(item) } else { Ok(item) }
        },
        |results| course.take(results, usize::MAX),
    );
    let got = &streamed.output;
    plan.assert_got(got, streamed.succeeded + 1);
    assert!(got.contains(&failing) && (0..failing).all(|item| got.contains(&item)));
    assert!(!plan.ordered || got.len() == failing + 1);
    assert_eq!((streamed.stopped, streamed.failed), (Some(StopReason::ItemFailed { index: failing }), 1));
}

/// Before item `item` is there, the consumer has to have got `needs(item)` others.
fn wait_for_answers(executor: &BatchExecutor, plan: Plan, needs: impl Fn(usize) -> usize + Sync) {
    let course = Course::with_answers(plan);
    let streamed = plan.batch(executor, course.source(|item| course.wait_for(needs(item)))).stream(
        |&item| {
            course.memory.touch();
            Ok(item)
        },
        |results| course.take(results, usize::MAX),
    );
    assert_complete(plan, &streamed);
    course.free();
}

/// The last item but one waits until the last one begins.
fn wait_for_the_next(executor: &BatchExecutor, plan: Plan) {
    let course = Course::with_answers(plan);
    let streamed = plan.batch(executor, course.source(|_| ())).stream(
        |&item| {
            course.memory.touch();
            match plan.items - item {
                2 => course.wait_for(item + 1),
                1 => course.answer(item),
                _ => {}
            }
            Ok(item)
        },
        |results| course.take(results, usize::MAX),
    );
    assert_complete(plan, &streamed);
    course.free();
}

/// Item 0 fails once and is tried again after `delay`. Before item `item` is there, the consumer has to have got `needs(item)`
/// others.
fn try_again(
    executor: &BatchExecutor,
    plan: Plan,
    delay: Duration,
    fails: impl Fn(usize) -> bool + Sync,
    needs: impl Fn(usize) -> usize + Sync,
) {
    let course = Course::with_answers(plan);
    let batch = plan.batch(executor, course.source(|item| course.wait_for(needs(item))));
    let streamed = batch.retry(Retry::delays(move || iter::once(delay))).stream_with(
        |&item, cx| {
            course.memory.touch();
            if fails(item) && cx.attempt() == 1 { Err(item) } else { Ok(item) }
        },
        |results| course.take(results, usize::MAX),
    );
    assert_complete(plan, &streamed);
    course.free();
}

#[test]
fn a_stream_is_complete_and_in_order() {
    check_long(|| stream_all(&executor(2), ordered(3, 2)));
}

#[test]
fn an_unordered_stream_is_complete() {
    check_long(|| stream_all(&executor(2), unordered(3, 2)));
}

#[test]
#[cfg_attr(loom, ignore = "it takes loom minutes; shuttle runs it")]
fn a_stream_whose_workers_pull_several_items_is_complete() {
    check_long(|| stream_all(&executor(2), ordered(4, 4)));
}

#[test]
fn a_stream_without_helpers_is_complete() {
    check(|| stream_all(&executor(2), ordered(3, 1)));
}

#[test]
fn a_stream_that_gets_no_thread_is_complete() {
    check(|| {
        let_time_pass_up_to(MOMENT);
        refuse_threads_after(0);
        stream_all(&executor(2), ordered(3, 2));
    });
}

#[test]
fn who_wants_no_more_waits_for_those_who_work() {
    check_long(|| leave_after(&executor(2), ordered(4, 2), 1));
}

#[test]
fn a_consumer_that_panics_waits_for_those_who_work() {
    check_long(|| panic_at(&executor(2), ordered(3, 2), None));
}

#[test]
fn a_source_that_panics_ends_the_stream() {
    check_long(|| panic_at(&executor(2), ordered(3, 2), Some(1)));
}

#[test]
fn a_cancel_from_elsewhere_ends_a_stream_without_a_gap() {
    check_long(|| cancel(&executor(2), ordered(2, 2), None));
}

#[test]
fn a_stream_ends_behind_the_item_that_failed() {
    check_long(|| {
        let course = Course::new(ordered(3, 2));
        fail(course.plan, 2, 1, &course, |_| ());
        course.free();
    });
}

#[test]
fn what_was_pulled_is_handed_on_while_the_source_waits_for_that() {
    check_long(|| wait_for_answers(&executor(2), ordered(3, 2), |item| item));
}

/// Who pulls item 3 has item 2 already.
#[test]
fn who_is_kept_waiting_is_relieved_of_what_it_has_pulled() {
    check_long(|| {
        let_time_pass_up_to(MOMENT);
        wait_for_answers(&executor(2), ordered(4, 4), |item| if item == 3 { 3 } else { 0 });
    });
}

/// Items that were pulled are run while the worker that pulled them waits for what comes of them.
#[test]
#[cfg_attr(loom, ignore = "it takes loom minutes; shuttle runs it")]
fn pulled_items_are_run_while_the_worker_that_pulls_waits_for_them() {
    check_long(|| {
        let_time_pass_up_to(MOMENT);
        wait_for_answers(&executor(2), ordered(5, 8), |item| if item < 3 { 0 } else { item });
    });
}

/// Where the caller runs the item by itself, since those before were quick, a helper that oversees it takes the source.
#[test]
fn an_item_that_waits_for_the_next_one_gets_it() {
    check_long(|| {
        let_time_pass_up_to(MOMENT);
        wait_for_the_next(&executor(2), ordered(4, 2));
    });
}

/// It has lost patience and comes to work at the moment when a helper does.
#[test]
fn a_caller_does_not_pull_what_waits_for_its_consumer() {
    check_long(|| {
        let_time_pass_up_to(MOMENT);
        wait_for_answers(&executor(2), ordered(2, 2), |item| item);
    });
}

#[test]
fn an_item_is_tried_again_while_the_source_waits_for_it() {
    check_long(|| try_again(&executor(2), ordered(2, 2), Duration::ZERO, |item| item == 0, |item| item));
}

#[test]
fn an_item_is_tried_again_when_it_is_due_while_the_source_waits_for_it() {
    check_long(|| {
        let_time_pass_up_to(MOMENT);
        try_again(&executor(2), ordered(2, 2), MOMENT, |item| item == 0, |item| item);
    });
}

/// Its failure ends the stream while the one who has pulled it is still kept waiting for the next.
#[test]
fn an_item_fails_of_which_somebody_was_relieved() {
    check_long(|| {
        let_time_pass_up_to(MOMENT);
        let course = Course::with_answers(unordered(4, 4));
        fail(course.plan, 2, 2, &course, |item| course.wait_for(if item == 3 { usize::MAX } else { 0 }));
        course.free();
    });
}

/// It comes for another item when the one before has not failed yet, and gets it when the caller has looked at that.
#[test]
fn who_pulls_behind_the_end_is_not_waited_for() {
    check(|| {
        let course = Course::with_answers(unordered(2, 2));
        let before = |item| if item == 0 { thread::yield_now() } else { course.wait_for(usize::MAX) };
        fail(course.plan, 2, 0, &course, before);
        course.free();
    });
}

/// Too many threads and steps for every interleaving: random ones.
#[cfg(shuttle)]
mod large {
    use super::super::Gauge;
    use super::*;
    use crate::sync::model::let_time_pass;
    use crate::workers::AdaptiveWorkers;

    /// Windows in which workers pull several items at a time, and in which there is no room for that.
    const PLANS: [Plan; 5] = [ordered(8, 8), unordered(8, 8), ordered(8, 6), unordered(8, 3), ordered(8, 2)];

    fn check_each(scenario: impl Fn(Plan) + Clone + Send + Sync + 'static) {
        for plan in PLANS {
            let scenario = scenario.clone();
            check(move || scenario(plan));
        }
    }

    #[test]
    fn a_stream_is_complete_though_time_stands_still() {
        check_each(|plan| stream_all(&executor(3), plan));
    }

    #[test]
    fn who_wants_no_more_or_panics_waits_for_those_who_work() {
        check_each(|plan| {
            let executor = executor(3);
            leave_after(&executor, plan, 3);
            panic_at(&executor, plan, None);
            panic_at(&executor, plan, Some(5));
            stream_all(&executor, plan);
        });
    }

    #[test]
    fn a_cancel_meets_all_that_a_stream_does() {
        check_each(|plan| cancel(&executor(3), plan, None));
    }

    #[test]
    fn a_cancel_ends_a_stream_whose_source_waits_for_that() {
        check_each(|plan| {
            let_time_pass_up_to(MOMENT);
            cancel(&executor(3), plan, Some(4));
        });
    }

    #[test]
    fn the_lowest_failure_ends_the_stream_while_the_source_waits() {
        check_each(|plan| {
            let_time_pass_up_to(MOMENT);
            let course = Course::with_answers(plan);
            fail(plan, 3, 4, &course, |item| course.wait_for(if item == 6 { usize::MAX } else { 0 }));
            course.free();
        });
    }

    #[test]
    fn the_source_waits_for_each_item_or_for_some() {
        check_each(|plan| {
            let_time_pass_up_to(MOMENT);
            wait_for_answers(&executor(3), plan, |item| item);
            wait_for_answers(&executor(3), plan, |item| item / 3 * 3);
            wait_for_answers(&executor(3), plan, |item| item.saturating_sub(1));
        });
    }

    #[test]
    fn items_are_tried_again_while_the_source_waits() {
        check_each(|plan| {
            let_time_pass_up_to(MOMENT);
            try_again(&executor(3), plan, MOMENT, |item| item % 2 == 0, |item| item / 2 * 2);
        });
    }

    /// The others wait for what is never due, and are called.
    #[test]
    fn items_are_tried_again_at_once_though_time_stands_still() {
        check_each(|plan| try_again(&executor(3), plan, Duration::ZERO, |item| item % 3 != 1, |item| item));
    }

    #[test]
    fn threads_are_refused_in_the_middle_of_a_stream() {
        for started in 0..3 {
            check_each(move |plan| {
                let_time_pass_up_to(MOMENT);
                refuse_threads_after(started);
                let executor = executor(3);
                stream_all(&executor, plan);
                try_again(&executor, plan, MOMENT, |item| item == 2, |_| 0);
            });
        }
    }

    #[test]
    fn an_adaptive_stream_is_complete() {
        check_each(|plan| {
            let_time_pass();
            let executor = executor(AdaptiveWorkers::new().min(1).max(3));
            stream_all(&executor, plan);
            wait_for_answers(&executor, plan, |item| item);
        });
    }

    #[test]
    fn streams_in_a_stream_share_its_threads() {
        check(|| {
            let executor = executor(2);
            let (plan, gauge) = (ordered(4, 4), Gauge::default());
            let streamed = plan.batch(&executor, 0..4).on_progress(|_| ()).stream(
                |&item| {
                    gauge.during();
                    stream_all(&executor, unordered(3, 2));
                    Ok::<_, ()>(item)
                },
                |results| {
                    stream_all(&executor, ordered(3, 2));
                    results.map(|item| item.item).collect()
                },
            );
            assert_complete(plan, &streamed);
            assert!(gauge.most.load(Ordering::Relaxed) <= 2);
        });
    }
}
