//! The rows of the tables: how many items of which work, on how many workers.

use std::time::Duration;

use crate::work::Work;

#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    pub items: usize,
    pub workers: usize,
    /// Of a stream: how many items may be under way.
    pub window: usize,
    pub work: Work,
}

/// What a stream of ours has for its window when it is not told, and items are slow.
pub const fn default_window(workers: usize) -> usize {
    4 * workers
}

/// Every row of the first table, in its order.
pub fn batches() -> Vec<Row> {
    let micros = Duration::from_micros;
    let mut rows = Vec::new();
    let mut add = |name: String, items, workers, work| {
        rows.push(Row { name, items, workers, window: default_window(workers), work });
    };
    for items in [1, 10, 100, 1_000, 10_000, 1_000_000] {
        let name = if items == 1 { "1 no-op".into() } else { format!("{} no-ops", grouped(items)) };
        add(name, items, 2, Work::Nothing);
    }
    for items in [10, 100, 1_000, 20_000] {
        add(format!("{} × 1 µs", grouped(items)), items, 2, Work::Spin(micros(1)));
    }
    add("16 × 100 µs".into(), 16, 2, Work::Spin(micros(100)));
    add("200 × 20 µs".into(), 200, 2, Work::Spin(micros(20)));
    add("skewed: 2,016 × 1 µs, then 32 × 100 µs".into(), 2_048, 2, Work::Skewed(micros(1)));
    add("1,024 × 1 ms of sleep, 32 workers".into(), 1_024, 32, Work::Sleep(micros(1_000)));
    rows
}

/// Every row of the third table.
pub fn streams() -> Vec<Row> {
    let micros = Duration::from_micros;
    let mut rows = Vec::new();
    let mut add = |what: &str, items, workers, window, work| {
        let name = format!("{} {what}, window {}", grouped(items), grouped(window));
        rows.push(Row { name, items, workers, window, work });
    };
    for window in [default_window(2), 64, 4_096] {
        add("no-ops", 1_000_000, 2, window, Work::Nothing);
    }
    for window in [default_window(2), 64, 4_096] {
        add("× 1 µs", 20_000, 2, window, Work::Spin(micros(1)));
    }
    add("× 20 µs", 2_000, 2, default_window(2), Work::Spin(micros(20)));
    add("× 1 ms of sleep, 32 workers", 1_024, 32, default_window(32), Work::Sleep(micros(1_000)));
    rows
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
    groups.join(",")
}
