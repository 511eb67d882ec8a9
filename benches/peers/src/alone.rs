//! The second table: ours beside ours, to see what a feature, a longer batch or more workers cost.

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, BatchExecutorBuilder, Workers, limiter_fn};

use crate::row::grouped;
use crate::sample::median;
use crate::table::{micros, ratio};
use crate::work::{Op, nothing, spinning};

/// What the others of a group are divided by.
#[derive(Debug, Clone, Copy)]
enum Base {
    First,
    /// The quickest.
    Best,
}

/// Cases that are compared with one another, by their time for one item.
pub struct Group {
    base: Base,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    items: usize,
    /// Runs one batch of these items, results dropped.
    run: Box<dyn Fn(Vec<u64>)>,
}

impl Case {
    fn new(name: impl Into<String>, items: usize, run: impl Fn(Vec<u64>) + 'static) -> Self {
        Case { name: name.into(), items, run: Box::new(run) }
    }

    /// A batch that runs to its end, with nothing to it.
    fn plain(name: impl Into<String>, items: usize, executor: BatchExecutor, op: impl Op) -> Self {
        Case::new(name, items, move |ids| drop(black_box(executor.run(ids, op))))
    }

    /// Nanoseconds for one item.
    fn time(&self) -> f64 {
        let ids = (0..self.items as u64).collect();
        let since = Instant::now();
        (self.run)(ids);
        since.elapsed().as_secs_f64() * 1e9 / self.items as f64
    }
}

/// The items of a batch where its length is not the question.
const MANY: usize = 100_000;

pub fn groups() -> Vec<Group> {
    vec![
        progress("sequential", Workers::Sequential),
        progress("2 workers", Workers::Fixed(2)),
        limiter("sequential", Workers::Sequential),
        limiter("2 workers", Workers::Fixed(2)),
        timeline("sequential", Workers::Sequential),
        timeline("2 workers", Workers::Fixed(2)),
        stop_half_way(),
        lengths(),
        worker_counts(),
    ]
}

fn collecting(workers: impl Into<Workers>) -> BatchExecutorBuilder {
    BatchExecutor::builder().workers(workers).stop_on_error(false)
}

fn built(builder: BatchExecutorBuilder) -> BatchExecutor {
    builder.build().expect("a valid configuration")
}

fn many(what: &str) -> String {
    format!("{} no-ops, {what}", grouped(MANY))
}

fn progress(on: &str, workers: Workers) -> Group {
    let executor = built(collecting(workers));
    let counting = move |ids| {
        let mut calls = 0_u64;
        let result = executor.batch(ids).on_progress(|_| calls += 1).run(nothing());
        drop(black_box((result, calls)));
    };
    let plain = Case::plain(many(on), MANY, built(collecting(workers)), nothing());
    let with = Case::new(many(&format!("{on}, `on_progress` counting")), MANY, counting);
    Group { base: Base::First, cases: vec![plain, with] }
}

fn limiter(on: &str, workers: Workers) -> Group {
    let limited = collecting(workers).rate_limiter(limiter_fn(|| Ok(Duration::ZERO)));
    let plain = Case::plain(many(on), MANY, built(collecting(workers)), nothing());
    let with = many(&format!("{on}, a limiter that always grants"));
    Group { base: Base::First, cases: vec![plain, Case::plain(with, MANY, built(limited), nothing())] }
}

fn timeline(on: &str, workers: Workers) -> Group {
    const ITEMS: usize = 1_000_000;
    let executor = built(collecting(workers));
    let recorded = move |ids| drop(black_box(executor.batch(ids).record_timeline().run(nothing())));
    let name = |what: &str| format!("{} no-ops, {on}{what}", grouped(ITEMS));
    let plain = Case::plain(name(""), ITEMS, built(collecting(workers)), nothing());
    Group { base: Base::First, cases: vec![plain, Case::new(name(", `record_timeline`"), ITEMS, recorded)] }
}

fn stop_half_way() -> Group {
    let stopping = || built(BatchExecutor::builder().workers(2));
    let half = MANY as u64 / 2;
    let fails_half_way = move |id: &u64| if *id == half { Err("half way".to_owned()) } else { Ok(*id) };
    let all = Case::plain(many("2 workers, all well"), MANY, stopping(), nothing());
    let stopped =
        Case::plain(many("2 workers, stopped by an error half way"), MANY, stopping(), fails_half_way);
    Group { base: Base::First, cases: vec![all, stopped] }
}

fn lengths() -> Group {
    let no_ops =
        |items| Case::plain(format!("{} no-ops", grouped(items)), items, built(collecting(2)), nothing());
    Group { base: Base::Best, cases: [1_000, 10_000, 100_000, 1_000_000, 10_000_000].map(no_ops).into() }
}

fn worker_counts() -> Group {
    let op = spinning(Duration::from_micros(20));
    let on = |workers| {
        let name = if workers == 1 { "1 worker".into() } else { format!("{workers} workers") };
        Case::plain(format!("2,000 × 20 µs, {name}"), 2_000, built(collecting(workers)), op)
    };
    Group { base: Base::Best, cases: [1, 2, 4, 8, 16, 32, 64].map(on).into() }
}

pub fn header() -> &'static str {
    "| ours beside ours | µs | ns an item | ratio |\n|---|--:|--:|--:|"
}

/// Runs the group, and says what came of it: times, and ratios paired like those of the first table.
pub fn lines(group: &Group, quick: bool) -> String {
    let times = measure(group, quick);
    let base = base(group.base, &times);
    let mut text = String::new();
    for (case, of_case) in group.cases.iter().zip(&times) {
        let ratios: Vec<f64> = of_case.iter().zip(&times[base]).map(|(time, base)| time / base).collect();
        let (nanos, to_base) = (median(of_case).unwrap_or_default(), median(&ratios).unwrap_or_default());
        let batch = micros(nanos * case.items as f64 / 1e3);
        let _ = writeln!(text, "| {} | {batch} | {} | {} |", case.name, micros(nanos), ratio(to_base));
    }
    text.trim_end().to_owned()
}

/// For every case the same number of times, taken in turns that start with another one each.
fn measure(group: &Group, quick: bool) -> Vec<Vec<f64>> {
    let budget = Duration::from_millis(if quick { 600 } else { 6_000 });
    let count = group.cases.len();
    let mut times = vec![Vec::new(); count];
    let since = Instant::now();
    for repetition in 0..1_000 {
        if repetition >= 3 && since.elapsed() > budget {
            break;
        }
        for step in 0..count {
            let at = (repetition + step) % count;
            times[at].push(group.cases[at].time());
        }
    }
    times
}

fn base(base: Base, times: &[Vec<f64>]) -> usize {
    let by_median =
        |a: &usize, b: &usize| median(&times[*a]).partial_cmp(&median(&times[*b])).expect("no NaN");
    match base {
        Base::First => 0,
        Base::Best => (0..times.len()).min_by(by_median).unwrap_or_default(),
    }
}
