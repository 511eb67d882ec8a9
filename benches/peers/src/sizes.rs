//! Items of many sizes: ours beside a rayon that drops the items, and one that hands them back with the outcomes.

use std::env;
use std::hint::black_box;
use std::process::{self, Command};
use std::time::Instant;

use batch_executor::BatchExecutor;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::machine;
use crate::options::Options;
use crate::row::grouped;
use crate::sample::median;
use crate::table::{micros, ratio};
use crate::work::Outcome;

const WORKERS: usize = 2;

/// For glibc. With its own thresholds it gives large vectors back to the system and gets them again page by page, which
/// takes longer than the batch, now on one side and now on the other.
const MALLOC: [(&str, &str); 2] =
    [("MALLOC_TRIM_THRESHOLD_", "2000000000"), ("MALLOC_MMAP_THRESHOLD_", "2000000000")];

/// What stands in a batch.
trait Item: Send + Sync + 'static {
    fn new(number: usize) -> Self;

    /// A number that is made from the item.
    fn value(&self) -> u64;
}

impl<const WORDS: usize> Item for [u64; WORDS] {
    fn new(number: usize) -> Self {
        let mut words = [0; WORDS];
        words[0] = number as u64;
        words
    }

    fn value(&self) -> u64 {
        self[0] * 3
    }
}

impl Item for String {
    fn new(number: usize) -> Self {
        format!("item number {number}")
    }

    fn value(&self) -> u64 {
        self.len() as u64
    }
}

/// The operation of all sides. Each calls it: the compiler cannot make one loop of it on one side alone.
#[inline(never)]
#[allow(clippy::unnecessary_wraps, reason = "as operations are")]
fn op<I: Item>(item: &I) -> Outcome {
    Ok(item.value())
}

/// What runs the batches.
struct Sides {
    ours: BatchExecutor,
    rayon: ThreadPool,
}

impl Sides {
    fn new() -> Self {
        let ours = BatchExecutor::builder().workers(WORKERS).stop_on_error(false).build();
        let rayon = ThreadPoolBuilder::new().num_threads(WORKERS).build();
        Sides { ours: ours.expect("a valid worker count"), rayon: rayon.expect("threads for a pool") }
    }

    fn dropping<I: Item>(&self, items: Vec<I>) -> Vec<Outcome> {
        self.rayon.install(|| items.into_par_iter().map(|item| op(&item)).collect())
    }

    fn handing_back<I: Item>(&self, items: Vec<I>) -> Vec<(I, Outcome)> {
        let run = |item| {
            let outcome = op(&item);
            (item, outcome)
        };
        self.rayon.install(|| items.into_par_iter().map(run).collect())
    }

    /// The batch once on that side, in microseconds. Dropping the results is part of the time, making the items is not.
    fn time<I: Item>(&self, side: Side, items: usize) -> f64 {
        let items: Vec<I> = (0..items).map(I::new).collect();
        let since = Instant::now();
        match side {
            Side::Ours => drop(black_box(self.ours.run(items, op::<I>))),
            Side::Dropping => drop(black_box(self.dropping(items))),
            Side::HandingBack => drop(black_box(self.handing_back(items))),
        }
        since.elapsed().as_secs_f64() * 1e6
    }

    /// # Panics
    ///
    /// If a side has other outcomes than a plain loop.
    fn check<I: Item>(&self) {
        let items = || (0..1_000).map(I::new).collect::<Vec<I>>();
        let plain: Vec<Outcome> = items().iter().map(op).collect();
        let (_, ours) = self.ours.run(items(), op::<I>).into_parts();
        assert!(ours.into_iter().map(Result::ok).eq(plain.iter().cloned().map(Result::ok)), "ours");
        assert!(self.dropping(items()) == plain, "rayon that drops the items");
        assert!(
            self.handing_back(items()).into_iter().map(|(_, outcome)| outcome).eq(plain),
            "rayon that hands them back"
        );
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Ours,
    Dropping,
    HandingBack,
}

const SIDES: [Side; 3] = [Side::Ours, Side::Dropping, Side::HandingBack];

/// The table, in a process whose memory stays its own.
pub fn print(options: &Options) {
    if env::var_os(MALLOC[0].0).is_none() {
        run_again();
    }
    println!(
        "| batch | ours, µs | rayon, items dropped, µs | rayon, items handed back, µs | ours / rayon | \
         ours / rayon with items |\n|---|--:|--:|--:|--:|--:|"
    );
    let sides = Sides::new();
    row::<[u64; 1]>(&sides, 10_000, "8 bytes", options);
    row::<[u64; 1]>(&sides, 100_000, "8 bytes", options);
    row::<[u64; 1]>(&sides, 1_000_000, "8 bytes", options);
    row::<[u64; 3]>(&sides, 1_000_000, "24 bytes", options);
    row::<[u64; 16]>(&sides, 100_000, "128 bytes", options);
    row::<[u64; 64]>(&sides, 20_000, "512 bytes", options);
    row::<String>(&sides, 100_000, "a `String`", options);
    println!(
        "\n{WORKERS} workers; medians of {}, ratios of the same repetition; malloc keeps its memory. {}, rayon {}.\n",
        repetitions(options),
        machine::caption(),
        machine::version("rayon")
    );
}

/// This program once more with those settings of malloc, which it reads when it starts. Ends this one.
fn run_again() -> ! {
    let own = env::current_exe().expect("a program");
    let ended = Command::new(own).args(env::args_os().skip(1)).envs(MALLOC).status();
    process::exit(ended.expect("this program starts again").code().unwrap_or(1))
}

fn repetitions(options: &Options) -> usize {
    if options.quick { 5 } else { 25 }
}

fn row<I: Item>(sides: &Sides, items: usize, of: &str, options: &Options) {
    let name = format!("{} × {of}", grouped(items));
    if !options.wants_row(&name) {
        return;
    }
    sides.check::<I>();
    let mut times: [Vec<f64>; 3] = Default::default();
    for repetition in 0..repetitions(options) {
        // Another side begins each time.
        for step in 0..SIDES.len() {
            let at = (repetition + step) % SIDES.len();
            times[at].push(sides.time::<I>(SIDES[at], items));
        }
    }
    let [ours, dropping, handing_back] = &times;
    let middle = |numbers: &[f64]| median(numbers).unwrap_or_default();
    let to = |theirs: &[f64]| {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        ratio(middle(&ratios))
    };
    let [of_ours, of_dropping, of_handing_back] = times.each_ref().map(|times| micros(middle(times)));
    println!(
        "| {name} | {of_ours} | {of_dropping} | {of_handing_back} | {} | {} |",
        to(dropping),
        to(handing_back)
    );
}
