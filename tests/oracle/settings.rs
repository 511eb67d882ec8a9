//! What batches and streams are tried with, and where a plain loop would end.

use std::sync::Once;
use std::time::Duration;

use batch_executor::{
    AdaptiveWorkers, BatchExecutor, BatchExecutorBuilder, Limit, Progress, RateLimit, StopReason, Workers,
};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
pub(crate) enum OnFailure {
    Collect,
    Stop,
    StopAfter(usize),
}

impl OnFailure {
    pub(crate) fn limit(self) -> usize {
        match self {
            OnFailure::Collect => usize::MAX,
            OnFailure::Stop => 1,
            OnFailure::StopAfter(limit) => limit,
        }
    }
}

/// The oracle: the index behind which a plain loop starts nothing more, and why, if it stops; told of each item whether it
/// fails.
pub(crate) fn end_of_failures(
    fails: impl Iterator<Item = bool>,
    on_failure: OnFailure,
) -> Option<(usize, StopReason)> {
    let mut failures = fails.enumerate().filter(|(_, fails)| *fails);
    let (last, _) = failures.nth(on_failure.limit().saturating_sub(1))?;
    match on_failure {
        OnFailure::Collect => None,
        OnFailure::Stop => Some((last, StopReason::ItemFailed { index: last })),
        OnFailure::StopAfter(limit) => Some((last, StopReason::TooManyFailures { limit })),
    }
}

pub(crate) fn workers() -> impl Strategy<Value = Workers> {
    prop_oneof![
        1 => Just(Workers::Sequential),
        8 => (1..=16_usize).prop_map(Workers::Fixed),
        1 => Just(Workers::auto()),
        3 => (1..=3_usize, 3..=16_usize).prop_map(|(min, max)| AdaptiveWorkers::new().min(min).max(max).into()),
    ]
}

pub(crate) fn on_failure() -> impl Strategy<Value = OnFailure> {
    prop_oneof![
        Just(OnFailure::Collect),
        Just(OnFailure::Stop),
        prop_oneof![1..6_usize, 1..40_usize].prop_map(OnFailure::StopAfter)
    ]
}

pub(crate) fn executor(workers: Workers, on_failure: OnFailure) -> BatchExecutor {
    builder(workers, on_failure).build().expect("the settings are good")
}

pub(crate) fn builder(workers: Workers, on_failure: OnFailure) -> BatchExecutorBuilder {
    let builder = BatchExecutor::builder().workers(workers);
    match on_failure {
        OnFailure::Collect => builder.stop_on_error(false),
        OnFailure::Stop => builder.stop_on_error(true),
        OnFailure::StopAfter(limit) => builder.stop_after_failures(limit),
    }
}

/// What a batch tells of the moment adds up.
pub(crate) fn assert_adds_up(p: &Progress) {
    assert_eq!(p.completed, p.succeeded + p.failed);
    assert!(p.completed + p.running + p.waiting <= p.total, "{p:?}");
    assert_eq!((p.recorded, p.workers > 0), (0, true));
}

/// The default hook prints each of thousands of panics; only those of these items are silenced.
pub(crate) fn silence_expected_panics() {
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

pub(crate) fn executor_is_fixed(workers: Workers) -> bool {
    !matches!(workers, Workers::Adaptive(_))
}

/// A limit that lets every item pass in the end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limited {
    AtOnce(usize),
    AtOnceCost(usize),
    Key(usize),
    Rate,
    RateCost,
}

pub(crate) fn limits() -> impl Strategy<Value = Vec<Limited>> {
    let slots = 1..4_usize;
    let limit = prop_oneof![
        slots.clone().prop_map(Limited::AtOnce),
        slots.clone().prop_map(Limited::AtOnceCost),
        slots.prop_map(Limited::Key),
        Just(Limited::Rate),
        Just(Limited::RateCost),
    ];
    prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(limit, 1..4)]
}

impl Limited {
    /// By a number of the item.
    pub(crate) fn limit<'l, I: 'l>(self, number: fn(&I) -> u64) -> Limit<'l, I> {
        let every = |micros| Limit::rate(RateLimit::every(Duration::from_micros(micros)));
        match self {
            Limited::AtOnce(slots) => Limit::at_once(slots),
            Limited::AtOnceCost(slots) => Limit::at_once(slots).cost(move |item: &I| number(item) % 6),
            Limited::Key(slots) => {
                Limit::per_key(move |item: &I| number(item) % 3, move |_| Limit::at_once(slots))
            }
            Limited::Rate => every(20),
            Limited::RateCost => every(10).cost(move |item: &I| number(item) % 3),
        }
    }
}
