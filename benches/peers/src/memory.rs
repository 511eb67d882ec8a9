//! What a long stream keeps: by how much the peak of the process's memory grows while millions of items go through.

use std::fs;
use std::time::Instant;

use batch_executor::{Batch, BatchExecutor};

use crate::row::grouped;
use crate::table::micros;
use crate::work::nothing;

const WORKERS: usize = 2;

/// A stream with the default window, which grows for items as short as these, and one with a window of its own.
pub fn print() {
    let executor = BatchExecutor::builder().workers(WORKERS).build().expect("a valid worker count");
    for (items, window) in [(5_000_000, None), (50_000_000, Some(4_096))] {
        let before = peak();
        let nanos = stream(&executor, items, window);
        let grown = before.zip(peak()).map(|(before, after)| after - before);
        let told = grown.map_or("not told by this system".to_owned(), |kib| format!("{} KiB", grouped(kib)));
        let window = window.map_or("the default window".to_owned(), |size| format!("a window of {size}"));
        let items = grouped(items as usize);
        println!("{items} no-ops, {window}: {} ns an item; growth of the peak: {told}", micros(nanos));
    }
}

/// Nanoseconds for one item.
fn stream(executor: &BatchExecutor, items: u64, window: Option<usize>) -> f64 {
    let batch = executor.batch(0..items);
    let batch = window.into_iter().fold(batch, Batch::window);
    let since = Instant::now();
    let streamed =
        batch.stream(nothing(), |results| results.filter_map(|item| item.outcome.ok()).sum::<u64>());
    let nanos = since.elapsed().as_secs_f64() * 1e9 / items as f64;
    assert_eq!(streamed.output, items * (items - 1) / 2);
    nanos
}

/// The most memory that this process has had so far, in KiB. Linux tells it.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
