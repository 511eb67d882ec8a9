//! The rows of the first table: how many items of which work, on how many workers.

use std::time::Duration;

use crate::work::Work;

#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    pub items: usize,
    pub workers: usize,
    pub work: Work,
}

/// Every row, in the order of the table.
pub fn all() -> Vec<Row> {
    let micros = Duration::from_micros;
    let mut rows = Vec::new();
    let mut add = |name: String, items, workers, work| rows.push(Row { name, items, workers, work });
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

/// `1234567` as `1,234,567`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
    groups.join(",")
}
