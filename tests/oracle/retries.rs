//! Batches that try items again, with state, progress and cancels.

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use batch_executor::{
    BatchExecutor, BatchItem, BatchResult, CancelToken, Ending, ItemContext, ItemError, Retry, Span,
    StopReason,
};
use proptest::prelude::*;

use crate::settings::{
    Limited, OnFailure, assert_adds_up, end_of_failures, executor, executor_is_fixed, limits, on_failure,
    silence_expected_panics, workers,
};
use crate::stubborn::{Stubborn, Trouble, stubborn};

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) items: Vec<Stubborn>,
    pub(crate) retries: usize,
    pub(crate) delay: Duration,
    pub(crate) on_failure: OnFailure,
    /// The item that cancels the batch when it is first tried.
    pub(crate) cancels: Option<usize>,
    pub(crate) with_progress: bool,
    pub(crate) ticks: bool,
    pub(crate) recorded: bool,
    pub(crate) limits: Vec<Limited>,
}

pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let items = prop::collection::vec(stubborn(), 0..60);
    let cancels = prop_oneof![2 => Just(None), 1 => (0..60_usize).prop_map(Some)];
    let delay = (0..100_u64).prop_map(Duration::from_micros);
    (items, 0..4_usize, delay, on_failure(), cancels, any::<(bool, bool, bool)>(), limits()).prop_map(
        |(items, retries, delay, on_failure, cancels, (with_progress, ticks, recorded), limits)| {
            let items = items.into_iter().map(|item| item.with_enough(retries)).collect();
            Plan { items, retries, delay, on_failure, cancels, with_progress, ticks, recorded, limits }
        },
    )
}

pub(crate) type Retried = BatchResult<Stubborn, usize, Trouble>;

/// What a batch with retries was seen to do.
pub(crate) struct Seen {
    pub(crate) result: Retried,
    /// How often each item was tried.
    pub(crate) tried: Vec<usize>,
    pub(crate) completed: Vec<usize>,
    /// How often workers made state, and how many attempts that state has seen.
    pub(crate) made: usize,
    pub(crate) noted: usize,
    /// Whether it ran in a task, which cuts off what is in flight.
    pub(crate) is_task: bool,
}

/// A worker's own count of attempts.
struct Notes<'n> {
    here: usize,
    all: &'n AtomicUsize,
}

impl Drop for Notes<'_> {
    fn drop(&mut self) {
        self.all.fetch_add(self.here, Ordering::Relaxed);
    }
}

impl Plan {
    fn run(&self, executor: &BatchExecutor) -> Seen {
        let tried: Vec<AtomicUsize> = self.items.iter().map(|_| AtomicUsize::new(0)).collect();
        let (made, noted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (token, mut completed) = (CancelToken::new(), Vec::new());
        let retry = Retry::delays(|| iter::repeat_n(self.delay, self.retries))
            .when(|trouble: &Trouble| trouble.decision);
        let mut batch = executor.batch(self.items.clone()).cancel_on(&token).retry(retry);
        if self.with_progress {
            batch = batch.on_progress(|p| {
                assert_adds_up(p);
                completed.push(p.completed);
            });
        }
        if self.ticks {
            batch = batch.on_tick(Duration::ZERO, assert_adds_up);
        }
        if self.recorded {
            batch = batch.record_timeline();
        }
        for limited in &self.limits {
            batch = batch.limit(limited.limit(Stubborn::number));
        }
        let init = || {
            made.fetch_add(1, Ordering::Relaxed);
            Notes { here: 0, all: &noted }
        };
        let result = batch.run_init(init, |item, cx: &mut ItemContext<'_, Notes<'_>>| {
            cx.state.here += 1;
            assert_eq!(tried[cx.index()].fetch_add(1, Ordering::Relaxed) + 1, cx.attempt());
            if self.cancels == Some(cx.index()) {
                token.cancel();
            }
            item.attempt(cx.attempt())
        });
        let tried = tried.into_iter().map(AtomicUsize::into_inner).collect();
        Seen { result, tried, completed, made: made.into_inner(), noted: noted.into_inner(), is_task: false }
    }

    /// Whether the item came to what a plain loop makes of it. If not, it was skipped or interrupted.
    fn is_as_in_a_loop(&self, seen: &Seen, index: usize) -> Result<bool, TestCaseError> {
        let (item, attempts) = (self.items[index], seen.result.attempts(index));
        prop_assert_eq!(seen.result.items()[index], item);
        prop_assert_eq!(attempts, seen.tried[index], "attempts at item {}", index);
        let outcome = &seen.result.outcomes()[index];
        if matches!(outcome, Err(ItemError::Skipped)) {
            prop_assert_eq!(attempts, 0, "item {} was skipped", index);
            return Ok(false);
        }
        if matches!(outcome, Err(ItemError::Interrupted(None))) {
            prop_assert!(seen.is_task && attempts > 0, "item {} was cut off", index);
            return Ok(false);
        }
        item.is_as_in_a_loop(outcome, attempts, self.retries)
    }

    /// Up to the end, exactly what the loop gives, unless the batch was cancelled; and `Cancelled` only if it is not that.
    pub(crate) fn check_end(&self, seen: &Seen) -> Result<(), TestCaseError> {
        let mut differs = None;
        for index in 0..self.items.len() {
            if !self.is_as_in_a_loop(seen, index)? {
                differs = differs.or(Some(index));
            }
        }
        let end =
            end_of_failures(self.items.iter().map(|item| !item.succeeds(self.retries)), self.on_failure);
        let is_kept_from_it = differs.is_some_and(|index| end.is_none_or(|(last, _)| index <= last));
        if is_kept_from_it {
            prop_assert!(self.cancels.is_some(), "item {:?} differs", differs);
            prop_assert_eq!(seen.result.stopped(), Some(StopReason::Cancelled));
        } else {
            prop_assert_eq!(seen.result.stopped(), end.map(|(_, reason)| reason));
        }
        Ok(())
    }

    /// A span for each attempt, one after another, the last of which ended as its item did.
    pub(crate) fn check_timeline(&self, seen: &Seen) -> Result<(), TestCaseError> {
        let Some(timeline) = seen.result.timeline() else {
            prop_assert!(!self.recorded);
            return Ok(());
        };
        let is_cut =
            |item: &BatchItem<_, &Result<_, _>>| matches!(item.outcome, Err(ItemError::Interrupted(None)));
        for item in seen.result.iter().filter(|item| !is_cut(item)) {
            let index = item.index;
            let spans: Vec<&Span> = timeline.spans().iter().filter(|span| span.index() == index).collect();
            let numbers = spans.iter().map(|span| span.attempt());
            prop_assert!(numbers.eq(1..=seen.result.attempts(index)), "{:?}", spans);
            prop_assert!(spans.windows(2).all(|pair| pair[0].ended() <= pair[1].queued()), "{:?}", spans);
            let Some((last, before)) = spans.split_last() else { continue };
            prop_assert!(before.iter().all(|span| span.ending() == Ending::Retried), "{:?}", spans);
            let ending = match &item.outcome {
                Ok(_) => Ending::Succeeded,
                Err(ItemError::Panicked(_)) => Ending::Panicked,
                Err(ItemError::Interrupted(_)) => Ending::Retried,
                Err(_) => Ending::Failed,
            };
            prop_assert_eq!(last.ending(), ending, "{:?}", last);
        }
        let cut = seen.result.iter().filter(is_cut).count();
        prop_assert_eq!(timeline.attempts() + cut, seen.tried.iter().sum::<usize>());
        Ok(())
    }

    pub(crate) fn check_counts(&self, seen: &Seen) -> Result<(), TestCaseError> {
        let result = &seen.result;
        let is_undecided = |item: &BatchItem<_, &Result<_, _>>| {
            matches!(item.outcome, Err(ItemError::Skipped | ItemError::Interrupted(_)))
        };
        let skipped = result.iter().filter(is_undecided).count();
        let counted = (result.values().count(), result.failures().count(), skipped);
        prop_assert_eq!((result.succeeded(), result.failed(), result.skipped()), counted);
        let calls = if self.with_progress { result.succeeded() + result.failed() } else { 0 };
        prop_assert_eq!(&seen.completed, &(1..=calls).collect::<Vec<_>>());
        prop_assert_eq!(seen.noted, seen.tried.iter().sum::<usize>(), "attempts with state");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn trying_again_with_any_worker_count_equals_a_plain_loop_that_tries_again(
        plan in plans(),
        workers in workers(),
    ) {
        silence_expected_panics();
        let executor = executor(workers, plan.on_failure);
        let seen = plan.run(&executor);
        plan.check_end(&seen)?;
        plan.check_counts(&seen)?;
        plan.check_timeline(&seen)?;
        if executor_is_fixed(workers) {
            // A caller that worked until helpers came had state, too.
            let most = executor.workers_for(plan.items.len()) + usize::from(plan.with_progress || plan.ticks);
            prop_assert!(seen.made <= most, "{} states for {} workers", seen.made, most);
        }
    }
}
