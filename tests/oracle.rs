//! Any number of workers equals a plain loop, whatever the items do.

use std::fmt::Write as _;
use std::iter;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use batch_executor::{
    AdaptiveWorkers, BatchError, BatchExecutor, BatchItem, BatchResult, CancelToken, ItemContext, ItemError,
    Retry, RetryDecision, StopReason, Workers,
};
use proptest::prelude::*;

/// What an item does, and for how many turns of a loop it keeps its worker busy first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Succeed(u16),
    Fail(u16),
    Panic(u16),
}

#[derive(Debug, Clone, Copy)]
enum OnFailure {
    Collect,
    Stop,
    StopAfter(usize),
}

impl OnFailure {
    fn limit(self) -> usize {
        match self {
            OnFailure::Collect => usize::MAX,
            OnFailure::Stop => 1,
            OnFailure::StopAfter(limit) => limit,
        }
    }
}

fn perform(act: Act) -> Result<u16, String> {
    let (Act::Succeed(turns) | Act::Fail(turns) | Act::Panic(turns)) = act;
    for turn in 0..turns {
        std::hint::black_box(turn);
    }
    match act {
        Act::Succeed(n) => Ok(n),
        Act::Fail(n) => Err(format!("failed at {n}")),
        Act::Panic(n) => panic!("panicked at {n}"),
    }
}

/// An outcome in a form that can be compared.
fn told<T: std::fmt::Debug>(item: &BatchItem<Act, T, String>) -> String {
    match &item.outcome {
        Ok(value) => format!("ok {value:?}"),
        Err(ItemError::Failed(text)) => text.clone(),
        Err(ItemError::Panicked(panic)) => panic.message().to_owned(),
        Err(other) => other.to_string(),
    }
}

/// The oracle: what a plain loop makes of the item.
fn plain(act: Act) -> String {
    match act {
        Act::Succeed(n) => format!("ok {n}"),
        Act::Fail(n) => format!("failed at {n}"),
        Act::Panic(n) => format!("panicked at {n}"),
    }
}

/// The oracle: the index behind which a plain loop starts nothing more, and why, if it stops.
fn end_of(acts: &[Act], on_failure: OnFailure) -> Option<(usize, StopReason)> {
    end_of_failures(acts.iter().map(|act| !matches!(act, Act::Succeed(_))), on_failure)
}

/// The same, told of each item whether it fails.
fn end_of_failures(fails: impl Iterator<Item = bool>, on_failure: OnFailure) -> Option<(usize, StopReason)> {
    let mut failures = fails.enumerate().filter(|(_, fails)| *fails);
    let (last, _) = failures.nth(on_failure.limit().saturating_sub(1))?;
    match on_failure {
        OnFailure::Collect => None,
        OnFailure::Stop => Some((last, StopReason::ItemFailed { index: last })),
        OnFailure::StopAfter(limit) => Some((last, StopReason::TooManyFailures { limit })),
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let turns = prop_oneof![8 => 0..40_u16, 1 => 0..20_000_u16];
    let act = prop_oneof![
        20 => turns.clone().prop_map(Act::Succeed),
        2 => turns.clone().prop_map(Act::Fail),
        1 => turns.prop_map(Act::Panic),
    ];
    let rarely_failing =
        prop_oneof![300 => Just(Act::Succeed(1)), 1 => Just(Act::Fail(2)), 1 => Just(Act::Panic(3))];
    prop_oneof![
        3 => prop::collection::vec(act, 0..150),
        1 => prop::collection::vec(rarely_failing, 0..3_000),
    ]
}

fn workers() -> impl Strategy<Value = Workers> {
    prop_oneof![
        1 => Just(Workers::Sequential),
        8 => (1..=16_usize).prop_map(Workers::Fixed),
        1 => Just(Workers::auto()),
        3 => (1..=3_usize, 3..=16_usize).prop_map(|(min, max)| AdaptiveWorkers::new().min(min).max(max).into()),
    ]
}

fn on_failure() -> impl Strategy<Value = OnFailure> {
    prop_oneof![Just(OnFailure::Collect), Just(OnFailure::Stop), (1..6_usize).prop_map(OnFailure::StopAfter)]
}

/// How a batch is asked for.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Run,
    RunTasks,
}

fn executor(workers: Workers, on_failure: OnFailure) -> BatchExecutor {
    let builder = BatchExecutor::builder().workers(workers);
    let builder = match on_failure {
        OnFailure::Collect => builder.stop_on_error(false),
        OnFailure::Stop => builder.stop_on_error(true),
        OnFailure::StopAfter(limit) => builder.stop_after_failures(limit),
    };
    builder.build().expect("the settings are good")
}

/// The default hook prints each of thousands of panics; only those of this file's items are silenced.
fn silence_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let expected =
                info.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with("panicked at"));
            if !expected {
                default(info);
            }
        }));
    });
}

type Outcome = Result<BatchResult<Act, u16, String>, BatchError<Act, u16, String>>;

fn run(
    executor: &BatchExecutor,
    verb: Verb,
    acts: &[Act],
    progress: Option<&mut Vec<(usize, usize)>>,
) -> (Outcome, Vec<usize>) {
    let runs: Vec<AtomicUsize> = acts.iter().map(|_| AtomicUsize::new(0)).collect();
    let mut batch = executor.batch(acts.to_vec());
    if let Some(seen) = progress {
        batch = batch.on_progress(|p| seen.push((p.completed, p.failed)));
    }
    let outcome = match verb {
        Verb::Run => batch.run(|act| perform(*act)),
        Verb::RunTasks => batch.run_tasks(acts.iter().zip(&runs).map(|(&act, runs)| {
            move || {
                runs.fetch_add(1, Ordering::Relaxed);
                perform(act)
            }
        })),
    };
    (outcome, runs.into_iter().map(AtomicUsize::into_inner).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_worker_count_equals_a_plain_loop(
        acts in acts(),
        workers in workers(),
        on_failure in on_failure(),
        with_progress in any::<bool>(),
        verb in prop_oneof![Just(Verb::Run), Just(Verb::RunTasks)],
    ) {
        silence_expected_panics();
        let executor = executor(workers, on_failure);
        let mut seen = Vec::new();
        let (outcome, runs) = run(&executor, verb, &acts, with_progress.then_some(&mut seen));
        let end = end_of(&acts, on_failure);

        let (result, reason) = match outcome {
            Ok(result) => (result, None),
            Err(BatchError::Stopped { reason, partial }) => (*partial, Some(reason)),
            Err(other) => panic!("{other}"),
        };
        prop_assert_eq!(reason, end.map(|(_, reason)| reason));
        prop_assert_eq!(result.total(), acts.len());

        // Up to the end, exactly what the loop gives; above it, that or nothing.
        let must_be_decided = end.map_or(acts.len(), |(last, _)| last + 1);
        let (mut succeeded, mut failed, mut skipped) = (0, 0, 0);
        for (index, (item, &act)) in result.iter().zip(&acts).enumerate() {
            prop_assert_eq!(item.id, act, "item {}", index);
            if matches!(item.outcome, Err(ItemError::Skipped)) {
                prop_assert!(index >= must_be_decided, "item {} was skipped", index);
                skipped += 1;
            } else {
                prop_assert_eq!(told(item), plain(act), "item {}", index);
                succeeded += usize::from(item.outcome.is_ok());
                failed += usize::from(item.outcome.is_err());
            }
            if matches!(verb, Verb::RunTasks) {
                let started = !matches!(item.outcome, Err(ItemError::Skipped));
                prop_assert_eq!(runs[index], usize::from(started), "runs of item {}", index);
            }
        }
        prop_assert_eq!((result.successful(), result.failed(), result.skipped()), (succeeded, failed, skipped));
        if executor.workers_for(acts.len()) == 1 && executor_is_fixed(workers) {
            prop_assert_eq!(succeeded + failed, must_be_decided, "one worker starts nothing behind the end");
        }

        if with_progress {
            let completed: Vec<usize> = seen.iter().map(|&(completed, _)| completed).collect();
            prop_assert_eq!(completed, (1..=succeeded + failed).collect::<Vec<_>>());
            prop_assert_eq!(seen.last().map_or(0, |&(_, failed)| failed), failed);
        }
    }

    #[test]
    fn batches_in_batches_equal_loops_in_loops(
        outer in prop::collection::vec(0..12_usize, 0..12),
        workers in workers(),
        with_progress in any::<bool>(),
    ) {
        let executor = executor(workers, OnFailure::Collect);
        let square_sum = |&n: &usize| -> Result<usize, String> {
            let mut calls = 0;
            let mut batch = executor.batch(0..n);
            if with_progress {
                batch = batch.on_progress(|_| calls += 1);
            }
            let squares = batch.run(|k| Ok::<_, String>(k * k)).map_err(|error| error.to_string())?;
            let sum = squares.values().sum();
            drop(squares);
            if with_progress && calls != n { Err(format!("{calls} calls for {n} items")) } else { Ok(sum) }
        };
        let result = executor.run(outer.clone(), square_sum).expect("nothing stops it");
        let expected: Vec<usize> = outer.iter().map(|&n| (0..n).map(|k| k * k).sum()).collect();
        let mut failures = String::new();
        for item in result.failures() {
            write!(failures, "{:?} ", item.error())?;
        }
        prop_assert_eq!(result.into_values().map_err(|_| failures), Ok(expected));
    }
}

fn executor_is_fixed(workers: Workers) -> bool {
    !matches!(workers, Workers::Adaptive(_))
}

/// What becomes of an item that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Succeeds,
    FailsForEver,
    /// An error that is not to be retried.
    GivesUp,
    Panics,
}

/// An item that fails so many times, each time with an error that asks for this, and then comes to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stubborn {
    failures: usize,
    decision: RetryDecision,
    last: Last,
}

#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    attempt: usize,
    decision: RetryDecision,
}

impl Stubborn {
    fn attempt(self, attempt: usize) -> Result<usize, Trouble> {
        match self.last {
            _ if attempt <= self.failures => Err(Trouble { attempt, decision: self.decision }),
            Last::Succeeds => Ok(attempt),
            Last::FailsForEver => Err(Trouble { attempt, decision: RetryDecision::Retry }),
            Last::GivesUp => Err(Trouble { attempt, decision: RetryDecision::GiveUp }),
            Last::Panics => panic!("panicked at attempt {attempt}"),
        }
    }

    /// The oracle: how often a plain loop tries it, with so many retries.
    fn attempts(self, retries: usize) -> usize {
        if self.last == Last::FailsForEver { retries + 1 } else { self.failures.min(retries) + 1 }
    }

    fn succeeds(self, retries: usize) -> bool {
        self.last == Last::Succeeds && self.failures <= retries
    }

    /// A pause uses up a retry or not, as it happens; so only who has enough of them asks for one.
    fn with_enough(self, retries: usize) -> Self {
        match self.decision {
            RetryDecision::PauseAll(time) if !self.succeeds(retries) => {
                Stubborn { decision: RetryDecision::RetryAfter(time), ..self }
            }
            _ => self,
        }
    }
}

fn stubborn() -> impl Strategy<Value = Stubborn> {
    let short = (0..80_u64).prop_map(Duration::from_micros);
    let decision = prop_oneof![
        4 => Just(RetryDecision::Retry),
        2 => short.clone().prop_map(RetryDecision::RetryAfter),
        1 => short.prop_map(RetryDecision::PauseAll),
    ];
    let last = prop_oneof![
        20 => Just(Last::Succeeds),
        1 => Just(Last::FailsForEver),
        1 => Just(Last::GivesUp),
        1 => Just(Last::Panics),
    ];
    let failures = prop_oneof![3 => Just(0_usize), 2 => 1..5_usize];
    (failures, decision, last).prop_map(|(failures, decision, last)| Stubborn { failures, decision, last })
}

#[derive(Debug, Clone)]
struct Plan {
    items: Vec<Stubborn>,
    retries: usize,
    delay: Duration,
    on_failure: OnFailure,
    /// The item that cancels the batch when it is first tried.
    cancels: Option<usize>,
    with_progress: bool,
}

fn plans() -> impl Strategy<Value = Plan> {
    let items = prop::collection::vec(stubborn(), 0..60);
    let cancels = prop_oneof![2 => Just(None), 1 => (0..60_usize).prop_map(Some)];
    let delay = (0..100_u64).prop_map(Duration::from_micros);
    (items, 0..4_usize, delay, on_failure(), cancels, any::<bool>()).prop_map(
        |(items, retries, delay, on_failure, cancels, with_progress)| {
            let items = items.into_iter().map(|item| item.with_enough(retries)).collect();
            Plan { items, retries, delay, on_failure, cancels, with_progress }
        },
    )
}

type Retried = BatchResult<Stubborn, usize, Trouble>;

/// What a batch with retries was seen to do.
struct Seen {
    result: Retried,
    reason: Option<StopReason>,
    /// How often each item was tried.
    tried: Vec<usize>,
    completed: Vec<usize>,
    /// How often workers made state, and how many attempts that state has seen.
    made: usize,
    noted: usize,
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
        let retry = Retry::new(|| iter::repeat_n(self.delay, self.retries))
            .when(|trouble: &Trouble| trouble.decision);
        let mut batch = executor.batch(self.items.clone()).cancel_on(&token).retry(retry).state(|| {
            made.fetch_add(1, Ordering::Relaxed);
            Notes { here: 0, all: &noted }
        });
        if self.with_progress {
            batch = batch.on_progress(|p| completed.push(p.completed));
        }
        let outcome = batch.run_with(|item, cx: &mut ItemContext<'_, Notes<'_>>| {
            cx.state.here += 1;
            assert_eq!(tried[cx.index()].fetch_add(1, Ordering::Relaxed) + 1, cx.attempt());
            if self.cancels == Some(cx.index()) {
                token.cancel();
            }
            item.attempt(cx.attempt())
        });
        let (result, reason) = match outcome {
            Ok(result) => (result, None),
            Err(BatchError::Stopped { reason, partial }) => (*partial, Some(reason)),
            Err(other) => panic!("{other:?}"),
        };
        let tried = tried.into_iter().map(AtomicUsize::into_inner).collect();
        Seen { result, reason, tried, completed, made: made.into_inner(), noted: noted.into_inner() }
    }

    /// Whether the item came to what a plain loop makes of it. If not, it was skipped or has the error of its last attempt.
    fn is_as_in_a_loop(&self, seen: &Seen, index: usize) -> Result<bool, TestCaseError> {
        let (item, attempts) = (self.items[index], seen.result.attempts(index));
        let wanted = item.attempts(self.retries);
        prop_assert_eq!(seen.result.items()[index].id, item);
        prop_assert_eq!(attempts, seen.tried[index], "attempts at item {}", index);
        prop_assert!(attempts <= wanted, "item {} was tried {} times", index, attempts);
        match &seen.result.items()[index].outcome {
            Err(ItemError::Skipped) => prop_assert_eq!(attempts, 0, "item {} was skipped", index),
            Err(ItemError::Panicked(panic)) => {
                prop_assert!(item.last == Last::Panics && attempts == wanted, "item {}", index);
                prop_assert_eq!(panic.message(), format!("panicked at attempt {attempts}"));
            }
            Err(ItemError::Failed(trouble)) => {
                let in_a_loop = item.attempt(attempts);
                prop_assert_eq!(Err(trouble), in_a_loop.as_ref(), "item {}", index);
            }
            Err(other) => prop_assert!(false, "item {}: {:?}", index, other),
            Ok(value) => {
                prop_assert!(item.succeeds(self.retries), "item {}", index);
                prop_assert_eq!((*value, attempts), (wanted, wanted), "item {}", index);
            }
        }
        Ok(attempts == wanted)
    }

    /// Up to the end, exactly what the loop gives, unless the batch was cancelled; and `Cancelled` only if it is not that.
    fn check_end(&self, seen: &Seen) -> Result<(), TestCaseError> {
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
            prop_assert_eq!(seen.reason, Some(StopReason::Cancelled));
        } else {
            prop_assert_eq!(seen.reason, end.map(|(_, reason)| reason));
        }
        Ok(())
    }

    fn check_counts(&self, seen: &Seen) -> Result<(), TestCaseError> {
        let result = &seen.result;
        let skipped = result.iter().filter(|item| matches!(item.error(), Some(ItemError::Skipped))).count();
        let counted = (result.values().count(), result.failures().count(), skipped);
        prop_assert_eq!((result.successful(), result.failed(), result.skipped()), counted);
        let calls = if self.with_progress { result.successful() + result.failed() } else { 0 };
        prop_assert_eq!(&seen.completed, &(1..=calls).collect::<Vec<_>>());
        prop_assert_eq!(seen.noted, seen.tried.iter().sum::<usize>(), "attempts with state");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

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
        if executor_is_fixed(workers) {
            // A caller that worked until helpers came had state, too.
            let most = executor.workers_for(plan.items.len()) + usize::from(plan.with_progress);
            prop_assert!(seen.made <= most, "{} states for {} workers", seen.made, most);
        }
    }
}
