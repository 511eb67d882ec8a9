//! What a journal costs: the same batch without one, with one, and with every outcome in it already, on a disk and in memory.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use batch_executor::{BatchExecutor, Journal, Plan};

use crate::machine;
use crate::row::grouped;
use crate::sample::median;
use crate::table::micros;
use crate::work::{Op, nothing, sleeping};

/// What a batch has of a journal.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Nothing,
    /// One that syncs so.
    Journal(Rule),
    /// The same, of which everything is done.
    Recorded,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    Default,
    /// This many lines, whenever.
    Lines(usize),
    /// After a second, however many.
    Second,
}

impl Rule {
    fn set(self, journal: Journal) -> Journal {
        match self {
            Rule::Default => journal,
            Rule::Lines(lines) => journal.sync_every(lines).sync_interval(Duration::MAX),
            Rule::Second => journal.sync_every(usize::MAX).sync_interval(Duration::from_secs(1)),
        }
    }
}

const CASES: [(&str, Kept); 6] = [
    ("no journal", Kept::Nothing),
    ("as it comes: 100 lines or a second", Kept::Journal(Rule::Default)),
    ("`sync_every(1)`", Kept::Journal(Rule::Lines(1))),
    ("`sync_every(100)`, no interval", Kept::Journal(Rule::Lines(100))),
    ("a second, `sync_every(usize::MAX)`", Kept::Journal(Rule::Second)),
    ("all recorded, nothing run", Kept::Recorded),
];

/// A batch, and how many of its items are enough where each waits for a disk.
struct Load {
    name: &'static str,
    workers: usize,
    items: usize,
    items_if_synced: usize,
}

/// Both loads in both places.
pub fn print(quick: bool) {
    let places = places();
    let names: Vec<String> = places.iter().map(|(name, _)| format!("{name}, ns an item")).collect();
    let header = format!("| {} |\n|---|{}", names.join(" | "), "--:|".repeat(names.len()));
    let no_ops = Load { name: "no-ops, 2 workers", workers: 2, items: 100_000, items_if_synced: 1_000 };
    let sleeps =
        Load { name: "× 1 ms of sleep, 16 workers", workers: 16, items: 8_000, items_if_synced: 2_000 };
    println!("| journal {header}");
    table(&no_ops, nothing(), &places, quick);
    table(&sleeps, sleeping(Duration::from_millis(1)), &places, quick);
    println!("\nMedians; opening the journal is not in it. {}\n", machine::caption());
    for (_, folder) in places {
        let _ = fs::remove_dir_all(folder);
    }
}

fn table(load: &Load, op: impl Op, places: &[(String, PathBuf)], quick: bool) {
    for (name, kept) in CASES {
        let is_synced = matches!(kept, Kept::Journal(Rule::Lines(1)));
        let items = if is_synced { load.items_if_synced } else { load.items };
        let cells: Vec<String> = places
            .iter()
            .map(|(_, folder)| {
                let times: Vec<f64> = (0..if quick { 3 } else { 9 })
                    .map(|_| time(folder, load.workers, items, op, kept))
                    .collect();
                micros(median(&times).unwrap_or_default())
            })
            .collect();
        println!("| {} {}: {name} | {} |", grouped(items), load.name, cells.join(" | "));
    }
}

/// Nanoseconds for one item.
fn time(folder: &Path, workers: usize, items: usize, op: impl Op, kept: Kept) -> f64 {
    let executor = BatchExecutor::builder().workers(workers).build().expect("a valid worker count");
    let ids = 0..items as u64;
    let path = folder.join("journal.jsonl");
    let open =
        || Journal::open(&path, Plan::of(ids.clone()).expect("other ids each")).expect("a place for it");
    let since = match kept {
        Kept::Nothing => {
            let since = Instant::now();
            drop(executor.run(ids, op));
            since
        }
        Kept::Journal(rule) => {
            let journal = rule.set(open());
            let since = Instant::now();
            drop(executor.batch(ids.clone()).journal(&journal).run(op));
            since
        }
        Kept::Recorded => {
            drop(executor.batch(ids.clone()).journal(&open()).run(nothing()));
            let journal = open();
            let since = Instant::now();
            drop(executor.batch(ids.clone()).journal(&journal).run(op));
            since
        }
    };
    let nanos = since.elapsed().as_secs_f64() * 1e9 / items as f64;
    let _ = fs::remove_file(path);
    nanos
}

/// Where this program is, with the name of the file system, and in memory.
fn places() -> Vec<(String, PathBuf)> {
    let own = env::current_exe().expect("a program");
    let disk = own.parent().expect("in a folder").to_owned();
    [(file_system(&disk), disk), ("in memory".to_owned(), PathBuf::from("/dev/shm"))]
        .into_iter()
        .filter(|(_, folder)| folder.is_dir())
        .map(|(name, folder)| (name, folder.join(format!("journal-cost-{}", process::id()))))
        .inspect(|(_, folder)| fs::create_dir_all(folder).expect("room for a folder"))
        .collect()
}

/// Of the mount that is nearest above this folder.
fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    let nearest = above.max_by_key(|fields| fields[1].len());
    nearest.map_or("on disk".to_owned(), |fields| format!("on disk ({})", fields[2]))
}
