//! Streams: any window, any workers, either order, against a plain loop over the same items.

use std::iter;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use batch_executor::{
    BatchItem, CancelToken, ItemError, Outcome, Results, Retry, StopReason, Streamed, Workers,
};
use proptest::prelude::*;

use crate::common::{NO_ROOM, REFUSES_THREADS, within_a_minute};
use crate::settings::{
    Limited, OnFailure, assert_adds_up, builder, end_of_failures, limits, on_failure,
    silence_expected_panics, workers,
};
use crate::stubborn::{Last, Stubborn, Trouble, stubborn};

/// An item, and for how many turns of a loop it keeps its worker busy first.
#[derive(Debug, Clone, Copy)]
struct Step {
    item: Stubborn,
    turns: u16,
}

impl Step {
    fn quick(item: Stubborn) -> Self {
        Step { item, turns: 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Input,
    Completion,
}

/// What the source does before it gives an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Gives,
    /// Waits until the consumer has the item this many places before, or as many items.
    Waits {
        behind: usize,
    },
    /// Gives this many, and waits until the consumer has as many.
    GivesBursts {
        of: usize,
    },
}

impl Asked {
    /// How many items the consumer must have before it gives the one at `index`.
    fn needed(self, index: usize) -> usize {
        match self {
            Asked::Gives => 0,
            Asked::Waits { behind } => (index + 1).saturating_sub(behind),
            Asked::GivesBursts { of } => index - index % of,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consumer {
    TakesAll,
    Leaves {
        after: usize,
    },
    /// Takes nothing before the window is full, and then all.
    WaitsForAFullWindow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cancels {
    Never,
    /// The item, when it is first tried.
    Item(usize),
    /// The consumer, when it has this many.
    Consumer(usize),
}

#[allow(clippy::struct_excessive_bools, reason = "a plan says what is on and what is off")]
#[derive(Debug, Clone)]
struct Plan {
    steps: Vec<Step>,
    /// None where nothing is said of retries.
    retries: Option<usize>,
    delay: Duration,
    on_failure: OnFailure,
    workers: Workers,
    has_threads: bool,
    window: usize,
    order: Order,
    asked: Asked,
    tells_length: bool,
    consumer: Consumer,
    cancels: Cancels,
    reports: bool,
    ticks: bool,
    limits: Vec<Limited>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let turns = prop_oneof![12 => 0..40_u16, 1 => 0..20_000_u16];
    let step = (stubborn(), turns).prop_map(|(item, turns)| Step { item, turns });
    let rarely_failing = prop_oneof![200 => Just(Stubborn::that_ends(Last::Succeeds)), 1 => stubborn()];
    let rarely_failing = rarely_failing.prop_map(Step::quick);
    prop_oneof![
        4 => prop::collection::vec(step, 0..80),
        1 => prop::collection::vec(rarely_failing, 0..800),
    ]
}

/// The first fails when several above it have failed, and more have succeeded.
fn steps_behind_a_late_one() -> impl Strategy<Value = Vec<Step>> {
    let last = prop_oneof![6 => Just(Last::Succeeds), 1 => Just(Last::FailsForEver)];
    let others = prop::collection::vec(last.prop_map(|last| Step::quick(Stubborn::that_ends(last))), 0..300);
    let late = prop_oneof![Just(0_u16), 10_000..=u16::MAX];
    let late = late.prop_map(|turns| Step { item: Stubborn::that_ends(Last::FailsForEver), turns });
    (late, others).prop_map(|(late, others)| iter::once(late).chain(others).collect())
}

fn plans() -> impl Strategy<Value = Plan> {
    let window = prop_oneof![8 => 1..=64_usize, 1 => 65..3_000_usize, 1 => Just(usize::MAX)];
    let retries = prop_oneof![2 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    let delay = prop_oneof![1 => Just(0_u64), 1 => 0..100_u64].prop_map(Duration::from_micros);
    let asked = prop_oneof![
        3 => Just(Asked::Gives),
        1 => (1..=70_usize).prop_map(|behind| Asked::Waits { behind }),
        1 => Just(Asked::Waits { behind: 1 }),
        1 => (2..=40_usize).prop_map(|of| Asked::GivesBursts { of }),
    ];
    let consumer = prop_oneof![
        3 => Just(Consumer::TakesAll),
        2 => (0..90_usize).prop_map(|after| Consumer::Leaves { after }),
        1 => Just(Consumer::WaitsForAFullWindow),
    ];
    let cancels = prop_oneof![
        4 => Just(Cancels::Never),
        1 => (0..90_usize).prop_map(Cancels::Item),
        1 => (0..90_usize).prop_map(Cancels::Consumer),
    ];
    let order = prop_oneof![Just(Order::Input), Just(Order::Completion)];
    let has_threads = prop_oneof![6 => Just(true), 1 => Just(!REFUSES_THREADS)];
    let items = (steps(), retries, delay, on_failure(), limits());
    let run = (workers(), has_threads, window, order, cancels, any::<(bool, bool)>());
    (items, run, asked, any::<bool>(), consumer).prop_map(|(items, run, asked, tells_length, consumer)| {
        let (steps, retries, delay, on_failure, limits) = items;
        let (workers, has_threads, window, order, cancels, (reports, ticks)) = run;
        let of_this = |step: Step| Step { item: step.item.with_enough(retries.unwrap_or(0)), ..step };
        let steps = steps.into_iter().map(of_this).collect();
        Plan {
            steps,
            retries,
            delay,
            on_failure,
            workers,
            has_threads,
            window,
            order,
            asked,
            tells_length,
            consumer,
            cancels,
            reports,
            ticks,
            limits,
        }
        .without_a_vain_wait()
    })
}

/// What the source and the consumer know of each other.
#[derive(Default)]
struct Marks {
    pulled: AtomicUsize,
    /// Items that the consumer has, and those that it has asked beyond.
    taken: AtomicUsize,
    handed_on: AtomicUsize,
    is_gone: AtomicBool,
    /// The most that were pulled and not handed on.
    most: AtomicUsize,
}

struct Source<'p> {
    plan: &'p Plan,
    marks: &'p Marks,
    next: usize,
    has_ended: bool,
}

impl Iterator for Source<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        assert!(!self.has_ended, "asked again after its end");
        let (marks, index) = (self.marks, self.next);
        let under_way = index + 1 - marks.handed_on.load(Ordering::SeqCst);
        marks.most.fetch_max(under_way, Ordering::SeqCst);
        let needed = self.plan.asked.needed(index);
        if needed > 0 {
            let is_there = || marks.taken.load(Ordering::SeqCst) >= needed;
            wait_until(|| is_there() || marks.is_gone.load(Ordering::SeqCst));
        }
        self.has_ended = index == self.plan.steps.len();
        self.next += 1;
        (!self.has_ended).then(|| marks.pulled.fetch_add(1, Ordering::SeqCst))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.plan.steps.len() - self.next;
        if self.plan.tells_length { (left, Some(left)) } else { (0, None) }
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < Duration::from_secs(20), "it never comes");
        thread::yield_now();
    }
}

/// What the consumer had.
struct Taken {
    items: Vec<BatchItem<usize, Outcome<usize, Trouble>>>,
    has_seen_the_end: bool,
}

struct Seen {
    streamed: Streamed<Taken>,
    /// How often each item was tried.
    tried: Vec<usize>,
    completed: Vec<usize>,
    most: usize,
}

impl Plan {
    /// The window fills by itself only where others pull, and neither wait for the consumer nor stop.
    fn without_a_vain_wait(mut self) -> Self {
        let is_parallel = self.has_threads
            && matches!(self.workers, Workers::Fixed(2..))
            && self.window.min(self.steps.len()) > 1;
        let goes_on = matches!(self.on_failure, OnFailure::Collect) && self.cancels == Cancels::Never;
        if self.consumer == Consumer::WaitsForAFullWindow {
            (self.asked, self.limits) = (Asked::Gives, Vec::new());
            if !is_parallel || !goes_on {
                self.consumer = Consumer::TakesAll;
            }
        }
        self
    }

    fn run(&self) -> Seen {
        let builder = builder(self.workers, self.on_failure);
        let builder = if self.has_threads { builder } else { builder.stack_size(NO_ROOM) };
        let executor = builder.build().expect("the settings are good");
        let tried: Vec<AtomicUsize> = self.steps.iter().map(|_| AtomicUsize::new(0)).collect();
        let (marks, token, mut completed) = (Marks::default(), CancelToken::new(), Vec::new());
        let source = Source { plan: self, marks: &marks, next: 0, has_ended: false };
        let mut batch = executor.batch(source).window(self.window).cancel_on(&token);
        if self.reports {
            batch = batch.on_progress(|p| {
                assert_adds_up(p);
                completed.push(p.completed);
            });
        }
        if self.ticks {
            batch = batch.on_tick(Duration::ZERO, assert_adds_up);
        }
        if self.order == Order::Completion {
            batch = batch.unordered();
        }
        if let Some(retries) = self.retries {
            let delays = move || iter::repeat_n(self.delay, retries);
            batch = batch.retry(Retry::delays(delays).when(|trouble: &Trouble| trouble.decision));
        }
        for limited in &self.limits {
            batch = batch.limit(limited.limit(|index| *index as u64));
        }
        let streamed = batch.stream_with(
            |&index, cx| {
                let attempt = tried[index].fetch_add(1, Ordering::Relaxed) + 1;
                assert_eq!((cx.index(), cx.attempt()), (index, attempt));
                if self.cancels == Cancels::Item(index) {
                    token.cancel();
                }
                let Step { item, turns } = self.steps[index];
                for turn in 0..turns {
                    std::hint::black_box(turn);
                }
                item.attempt(attempt)
            },
            |results| self.consume(results, &token, &marks),
        );
        let tried = tried.into_iter().map(AtomicUsize::into_inner).collect();
        Seen { streamed, tried, completed, most: marks.most.into_inner() }
    }

    fn consume(
        &self,
        results: &mut Results<'_, usize, usize, Trouble>,
        token: &CancelToken,
        marks: &Marks,
    ) -> Taken {
        let mut taken = Taken { items: Vec::new(), has_seen_the_end: false };
        if self.consumer == Consumer::WaitsForAFullWindow {
            let full = self.window.min(self.steps.len());
            wait_until(|| marks.pulled.load(Ordering::SeqCst) == full);
        }
        while self.consumer != (Consumer::Leaves { after: taken.items.len() }) {
            if self.cancels == Cancels::Consumer(taken.items.len()) {
                token.cancel();
            }
            marks.handed_on.store(taken.items.len(), Ordering::SeqCst);
            let Some(item) = results.next() else {
                taken.has_seen_the_end = results.next().is_none();
                break;
            };
            taken.items.push(item);
            marks.taken.store(taken.items.len(), Ordering::SeqCst);
        }
        marks.is_gone.store(true, Ordering::SeqCst);
        taken
    }
}

/// The oracle.
impl Plan {
    /// How many items a plain loop comes to, and why it ends there, if it stops.
    fn end(&self) -> (usize, Option<StopReason>) {
        let retries = self.retries.unwrap_or(0);
        let fails = self.steps.iter().map(|step| !step.item.succeeds(retries));
        let end = end_of_failures(fails, self.on_failure);
        end.map_or((self.steps.len(), None), |(last, reason)| (last + 1, Some(reason)))
    }

    fn check(&self, seen: &Seen) -> Result<(), TestCaseError> {
        let Taken { items, has_seen_the_end } = &seen.streamed.output;
        prop_assert!(seen.most <= self.window, "{} pulled and not handed on", seen.most);
        self.check_counts(seen)?;
        let is_as_in_a_loop = self.check_items(seen)?;
        prop_assert!(items.iter().all(|item| item.index == item.item), "an index of another item");
        let mut ids: Vec<usize> = items.iter().map(|item| item.item).collect();
        if self.order == Order::Completion {
            ids.sort_unstable();
            prop_assert!(ids.is_sorted_by(|one, two| one < two), "twice: {:?}", ids);
            prop_assert!(ids.iter().all(|&index| seen.tried[index] > 0), "never ran, of {:?}", ids);
            if *has_seen_the_end {
                self.check_kept_back(seen, &ids)?;
            }
        } else {
            prop_assert_eq!(&ids, &(0..ids.len()).collect::<Vec<_>>());
        }
        let (length, _) = self.end();
        let is_complete =
            is_as_in_a_loop && ids.len() >= length && ids[..length].iter().copied().eq(0..length);
        self.check_end(seen, is_complete)
    }

    /// Of all that ran, an unordered stream that ended hands on what was decided, and keeps back what was interrupted.
    fn check_kept_back(&self, seen: &Seen, ids: &[usize]) -> Result<(), TestCaseError> {
        let has_run = |index: &usize| seen.tried[*index] > 0 && ids.binary_search(index).is_err();
        for index in (0..self.steps.len()).filter(has_run) {
            let most = self.steps[index].item.most_attempts(self.retries.unwrap_or(0));
            prop_assert!(seen.tried[index] < most, "item {} was decided, and not handed on", index);
            prop_assert!(seen.streamed.stopped.is_some(), "item {} was lost", index);
        }
        Ok(())
    }

    fn check_counts(&self, seen: &Seen) -> Result<(), TestCaseError> {
        let Streamed { succeeded, failed, ref output, .. } = seen.streamed;
        let values = output.items.iter().filter(|item| item.outcome.is_ok()).count();
        prop_assert_eq!((succeeded, failed), (values, output.items.len() - values));
        let calls = seen.completed.len();
        prop_assert_eq!(&seen.completed, &(1..=calls).collect::<Vec<_>>());
        prop_assert!(calls >= output.items.len() || !self.reports, "{} calls of on_progress", calls);
        Ok(())
    }

    /// Whether every outcome is what a plain loop makes of the item, as far as that comes.
    fn check_items(&self, seen: &Seen) -> Result<bool, TestCaseError> {
        let retries = self.retries.unwrap_or(0);
        for (step, &tried) in self.steps.iter().zip(&seen.tried) {
            prop_assert!(tried <= step.item.most_attempts(retries), "{:?} was tried {} times", step, tried);
        }
        let (mut are_all, (length, _)) = (true, self.end());
        for item in &seen.streamed.output.items {
            let (id, is_interrupted) = (item.item, matches!(item.outcome, Err(ItemError::Interrupted(_))));
            prop_assert!(!is_interrupted, "item {} was handed on, and interrupted", id);
            let is_as_in_a_loop =
                self.steps[id].item.is_as_in_a_loop(&item.outcome, seen.tried[id], retries)?;
            are_all &= is_as_in_a_loop || id >= length;
        }
        Ok(are_all)
    }

    /// How far it came, and what it says of that.
    fn check_end(&self, seen: &Seen, is_complete: bool) -> Result<(), TestCaseError> {
        let Taken { ref items, has_seen_the_end } = seen.streamed.output;
        let (stopped, taken) = (seen.streamed.stopped, items.len());
        let ((length, reason), is_cancelled) = (self.end(), self.cancels != Cancels::Never);
        let cancelled = Some(StopReason::Cancelled);
        if self.order == Order::Input {
            prop_assert!(taken <= length, "{} items", taken);
        }
        let tells_why = has_seen_the_end || (self.order == Order::Input && is_complete && reason.is_some());
        if !tells_why {
            prop_assert!(stopped.is_none() || (is_cancelled && stopped == cancelled), "{:?}", stopped);
            prop_assert_eq!(self.consumer, Consumer::Leaves { after: taken });
        } else if is_complete {
            let may_not_know = is_cancelled && reason.is_none() && stopped == cancelled;
            prop_assert!(stopped == reason || may_not_know, "{:?}", stopped);
        } else {
            prop_assert!(is_cancelled, "{} items of {}", taken, length);
            prop_assert_eq!(stopped, cancelled);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_equals_a_plain_loop(plan in plans()) {
        silence_expected_panics();
        let runs = plan.clone();
        plan.check(&within_a_minute(move || runs.run()))?;
    }
    #[test]
    fn a_late_failure_ends_a_stream_where_it_ends_a_plain_loop(
        plan in plans(),
        steps in steps_behind_a_late_one(),
        failures in 1..10_usize,
        workers in 2..5_usize,
    ) {
        let plan = Plan {
            steps,
            retries: None,
            on_failure: OnFailure::StopAfter(failures),
            workers: Workers::Fixed(workers),
            has_threads: true,
            window: plan.window.max(64),
            consumer: Consumer::TakesAll,
            cancels: Cancels::Never,
            ..plan
        };
        let runs = plan.clone();
        plan.check(&within_a_minute(move || runs.run()))?;
    }
}
