//! Batches in which a few items take nearly all of the time: ours in each way, beside rayon and two loops that hand out
//! one item at a time.

use std::fs;
use std::hint::black_box;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, process};

use batch_executor::{AdaptiveWorkers, BatchExecutor, Journal, Plan, Workers};

use crate::contestant::Contestant;
use crate::machine;
use crate::options::Options;
use crate::peers;
use crate::row::grouped;
use crate::sample::median;
use crate::work::{Op, napping};

/// A batch, whose other items do nothing.
struct Case {
    name: &'static str,
    items: usize,
    workers: usize,
    slow: Range<usize>,
    each: Duration,
    /// Whether ours has a journal, in which all but the slow items are done.
    is_recorded: bool,
    /// Of ours; the others have none.
    timeout: Option<Duration>,
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

const CASES: [Case; 4] = [
    Case {
        name: "64 × 50 ms in the middle of 10,000",
        items: 10_064,
        workers: 16,
        slow: 5_000..5_064,
        each: millis(50),
        is_recorded: false,
        timeout: None,
    },
    Case {
        name: "64 × 100 ms behind 100,000",
        items: 100_064,
        workers: 16,
        slow: 100_000..100_064,
        each: millis(100),
        is_recorded: false,
        timeout: None,
    },
    Case {
        name: "100 × 50 ms behind 9,900 that a journal has",
        items: 10_000,
        workers: 16,
        slow: 9_900..10_000,
        each: millis(50),
        is_recorded: true,
        timeout: None,
    },
    Case {
        name: "item 7 of 50 hangs for 900 ms, a timeout of 300 ms",
        items: 50,
        workers: 2,
        slow: 7..8,
        each: millis(900),
        is_recorded: false,
        timeout: Some(millis(300)),
    },
];

/// How ours is asked for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Run,
    Progress,
    Adaptive,
    Streamed,
    Unordered,
}

const WAYS: [(&str, Way); 5] = [
    ("ours", Way::Run),
    ("ours, `on_progress`", Way::Progress),
    ("ours, adaptive", Way::Adaptive),
    ("ours, streamed", Way::Streamed),
    ("ours, streamed, unordered", Way::Unordered),
];

/// What came of one batch.
#[derive(Debug, Clone, Copy)]
struct Ended {
    seconds: f64,
    /// Items without an outcome.
    undecided: usize,
}

/// One contestant, with what it has done so far.
struct Turn<'c> {
    name: &'static str,
    run: Box<dyn Fn() -> Ended + 'c>,
    times: Vec<f64>,
    /// The most that a batch left undecided.
    undecided: usize,
}

pub fn print(options: &Options) {
    println!("| batch | contestant | ms | at least | undecided |\n|---|---|--:|--:|--:|");
    for case in CASES.iter().filter(|case| options.wants_row(case.name)) {
        case.print(options);
    }
    println!(
        "\nMedians of {}. \"At least\" is what the slow items take on that number of workers. {}, rayon {}.\n",
        repetitions(options),
        machine::caption(),
        machine::version("rayon")
    );
}

fn repetitions(options: &Options) -> usize {
    if options.quick { 1 } else { 5 }
}

impl Case {
    fn print(&self, options: &Options) {
        let folder = Folder::new();
        let recorded = self.is_recorded.then(|| self.record(&folder));
        let mut turns = self.turns(recorded.as_deref());
        turns.retain(|turn| options.wants_peer(turn.name));
        for _ in 0..repetitions(options) {
            turns.iter_mut().for_each(Turn::take);
        }
        for turn in &turns {
            let ms = median(&turn.times).unwrap_or_default() * 1e3;
            println!(
                "| {}, {} workers | {} | {ms:.0} | {} | {} |",
                self.name,
                self.workers,
                turn.name,
                grouped(self.least().as_millis() as usize),
                turn.undecided
            );
        }
    }

    fn least(&self) -> Duration {
        self.each * self.slow.len().div_ceil(self.workers) as u32
    }

    fn op(&self) -> impl Op + use<> {
        napping(self.slow.clone(), self.each)
    }

    fn turns<'c>(&'c self, recorded: Option<&'c Path>) -> Vec<Turn<'c>> {
        let ours = |(name, way)| Turn::new(name, move || self.run(way, recorded));
        let mut turns: Vec<Turn<'c>> = WAYS.into_iter().map(ours).collect();
        let op = self.op();
        turns.extend(peers::rivals(self.workers).into_iter().map(|rival| self.rival(rival, op)));
        turns
    }

    fn rival<O: Op>(&self, rival: Contestant<O>, op: O) -> Turn<'_> {
        // With items before the first slow one.
        rival.check(self.slow.start.min(1_000), op);
        Turn::new(rival.name, move || Ended {
            seconds: rival.time(self.items, op).as_secs_f64(),
            undecided: 0,
        })
    }

    fn run(&self, way: Way, recorded: Option<&Path>) -> Ended {
        let workers = match way {
            Way::Adaptive => AdaptiveWorkers::new().max(self.workers).into(),
            _ => Workers::Fixed(self.workers),
        };
        let executor = executor(workers, false);
        let journal = recorded.map(|path| self.open(path));
        let mut calls = 0_u64;
        let mut batch = executor.batch(0..self.items as u64);
        if let Some(journal) = &journal {
            batch = batch.journal(journal);
        }
        if let Some(timeout) = self.timeout {
            batch = batch.timeout(timeout);
        }
        if way == Way::Progress {
            batch = batch.on_progress(|_| calls += 1);
        }
        if way == Way::Unordered {
            batch = batch.unordered();
        }
        let since = Instant::now();
        let decided = match way {
            Way::Streamed | Way::Unordered => batch.stream(self.op(), |results| results.count()).output,
            _ => {
                let result = black_box(batch.run(self.op()));
                result.total() - result.skipped()
            }
        };
        let seconds = since.elapsed().as_secs_f64();
        black_box(calls);
        Ended { seconds, undecided: self.items - decided }
    }

    /// A journal that has all but the slow items.
    fn record(&self, folder: &Folder) -> PathBuf {
        let path = folder.0.join("recorded.jsonl");
        let journal = self.open_at(&path);
        let first_slow = self.slow.start as u64;
        let op = |id: &u64| if *id < first_slow { Ok(*id) } else { Err("the power is gone".to_owned()) };
        let stopping = executor(Workers::Sequential, true);
        let result = stopping.batch(0..self.items as u64).journal(&journal).run(op);
        assert_eq!(result.succeeded(), self.slow.start, "items that the journal has");
        path
    }

    /// A copy of it.
    fn open(&self, recorded: &Path) -> Journal {
        let path = recorded.with_file_name("run.jsonl");
        fs::copy(recorded, &path).expect("room for a journal");
        self.open_at(&path)
    }

    fn open_at(&self, path: &Path) -> Journal {
        let plan = Plan::of(0..self.items as u64).expect("other ids each");
        Journal::open(path, plan).expect("a place for a journal")
    }
}

impl<'c> Turn<'c> {
    fn new(name: &'static str, run: impl Fn() -> Ended + 'c) -> Self {
        Turn { name, run: Box::new(run), times: Vec::new(), undecided: 0 }
    }

    fn take(&mut self) {
        let Ended { seconds, undecided } = (self.run)();
        self.times.push(seconds);
        self.undecided = self.undecided.max(undecided);
    }
}

fn executor(workers: Workers, stop_on_error: bool) -> BatchExecutor {
    let built = BatchExecutor::builder().workers(workers).stop_on_error(stop_on_error).build();
    built.expect("a valid worker count")
}

/// A folder that goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("uneven-{}", process::id()));
        fs::create_dir_all(&path).expect("room for a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
