//! The first table: rows by peers, in Markdown.

use crate::contest::Score;
use crate::machine;
use crate::peers::{COLUMNS, RAYON_GLOBAL};
use crate::row::Row;

/// A row with what came of it; ours is the first score.
pub struct Line {
    pub row: Row,
    pub scores: Vec<Score>,
}

impl Line {
    pub fn score(&self, name: &str) -> Option<&Score> {
        self.scores.iter().find(|score| score.name == name)
    }
}

pub fn header() -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    format!("| batch | ours, µs | {} |\n|---|--:|{}", names.join(" | "), "--:|".repeat(names.len()))
}

pub fn line(line: &Line) -> String {
    let cells: Vec<String> = COLUMNS.iter().map(|column| cell(line.score(column.name))).collect();
    format!("| {} | {} | {} |", line.row.name, micros(line.scores[0].micros), cells.join(" | "))
}

fn cell(score: Option<&Score>) -> String {
    score.map_or_else(String::new, |score| ratio(score.ratio))
}

/// With as many digits as say something.
pub fn ratio(ratio: f64) -> String {
    if ratio < 0.095 { format!("{ratio:.3}") } else { format!("{ratio:.2}") }
}

pub fn micros(micros: f64) -> String {
    match micros {
        ..9.995 => format!("{micros:.2}"),
        9.995..99.95 => format!("{micros:.1}"),
        _ => crate::row::grouped(micros.round() as usize),
    }
}

/// What a reader must know, below the table.
pub fn caption() -> String {
    let versions: Vec<String> =
        versions().iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!(
        "Our time divided by the peer's: below 1, ours is quicker. 2 workers unless it says otherwise; medians of paired \
         repetitions in one process. {}; {}.",
        machine::caption(),
        versions.join(", ")
    )
}

fn versions() -> Vec<(&'static str, &'static str)> {
    let mut crates = vec!["batch-executor"];
    crates.extend(COLUMNS.iter().filter_map(|column| column.package));
    crates.dedup();
    crates.into_iter().map(|name| (name, machine::version(name))).collect()
}

/// rayon's global pool, which stands in no column.
pub fn note(line: &Line) -> Option<String> {
    let global = line.score(RAYON_GLOBAL)?;
    Some(format!(
        "A batch of one on rayon's global pool, called from outside, runs where it is called: {} µs, ours / its {}.",
        micros(global.micros),
        ratio(global.ratio)
    ))
}
