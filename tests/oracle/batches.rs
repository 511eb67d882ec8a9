//! Batches without retries, and batches in batches.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use batch_executor::{BatchExecutor, BatchResult, ItemError, StopReason};
use proptest::prelude::*;

use crate::settings::{
    OnFailure, end_of_failures, executor, executor_is_fixed, on_failure, silence_expected_panics, workers,
};

/// What an item does, and for how many turns of a loop it keeps its worker busy first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Succeed(u16),
    Fail(u16),
    Panic(u16),
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
fn told<T: std::fmt::Debug>(outcome: &Result<T, ItemError<String>>) -> String {
    match outcome {
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

/// How a batch is asked for.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Run,
    RunTasks,
}

fn run(
    executor: &BatchExecutor,
    verb: Verb,
    acts: &[Act],
    progress: Option<&mut Vec<(usize, usize)>>,
) -> (BatchResult<Act, u16, String>, Vec<usize>) {
    let runs: Vec<AtomicUsize> = acts.iter().map(|_| AtomicUsize::new(0)).collect();
    let mut batch = executor.batch(acts.to_vec());
    if let Some(seen) = progress {
        batch = batch.on_progress(|p| seen.push((p.completed, p.failed)));
    }
    let result = match verb {
        Verb::Run => batch.run(|act| perform(*act)),
        Verb::RunTasks => batch.run_tasks(acts.iter().zip(&runs).map(|(&act, runs)| {
            move || {
                runs.fetch_add(1, Ordering::Relaxed);
                perform(act)
            }
        })),
    };
    (result, runs.into_iter().map(AtomicUsize::into_inner).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

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
        let (result, runs) = run(&executor, verb, &acts, with_progress.then_some(&mut seen));
        let end = end_of(&acts, on_failure);

        prop_assert_eq!(result.stopped(), end.map(|(_, reason)| reason));
        prop_assert_eq!(result.total(), acts.len());

        // Up to the end, exactly what the loop gives; above it, that or nothing.
        let must_be_decided = end.map_or(acts.len(), |(last, _)| last + 1);
        let (mut succeeded, mut failed, mut skipped) = (0, 0, 0);
        for (index, (item, &act)) in result.iter().zip(&acts).enumerate() {
            prop_assert_eq!((item.index, *item.item), (index, act));
            if matches!(item.outcome, Err(ItemError::Skipped)) {
                prop_assert!(index >= must_be_decided, "item {} was skipped", index);
                skipped += 1;
            } else {
                prop_assert_eq!(told(item.outcome), plain(act), "item {}", index);
                succeeded += usize::from(item.outcome.is_ok());
                failed += usize::from(item.outcome.is_err());
            }
            if matches!(verb, Verb::RunTasks) {
                let started = !matches!(item.outcome, Err(ItemError::Skipped));
                prop_assert_eq!(runs[index], usize::from(started), "runs of item {}", index);
            }
        }
        prop_assert_eq!((result.succeeded(), result.failed(), result.skipped()), (succeeded, failed, skipped));
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
            let squares = batch.run(|k| Ok::<_, String>(k * k)).into_values();
            let sum = squares.map_err(|error| error.to_string())?.into_iter().sum();
            if with_progress && calls != n { Err(format!("{calls} calls for {n} items")) } else { Ok(sum) }
        };
        let result = executor.run(outer.clone(), square_sum);
        let expected: Vec<usize> = outer.iter().map(|&n| (0..n).map(|k| k * k).sum()).collect();
        let mut failures = String::new();
        for failure in result.failures() {
            write!(failures, "{failure} ")?;
        }
        prop_assert_eq!(result.into_values().map_err(|_| failures), Ok(expected));
    }
}
