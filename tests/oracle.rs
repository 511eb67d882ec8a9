//! Any number of workers equals a plain loop, whatever the items do.

use std::fmt::Write as _;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use batch_executor::{
    AdaptiveWorkers, BatchError, BatchExecutor, BatchItem, BatchResult, ItemError, StopReason, Workers,
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
    let mut failures = acts.iter().enumerate().filter(|(_, act)| !matches!(act, Act::Succeed(_)));
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
