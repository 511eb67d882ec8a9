//! A table: rows by peers, in Markdown.

use crate::contest::Score;
use crate::machine;
use crate::peers::RAYON_GLOBAL;
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

/// What a table says of its rows.
pub struct Table {
    /// What a row is.
    pub what: &'static str,
    pub unit: Unit,
    /// Those after ours.
    pub columns: &'static [Column],
}

/// In which ours is told.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    Micros,
    NanosAnItem,
}

pub struct Column {
    pub name: &'static str,
    /// The crate whose version it has; none for the standard library and for ours.
    pub package: Option<&'static str>,
}

impl Table {
    pub fn header(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        let (names, rules) = (names.join(" | "), "--:|".repeat(names.len()));
        format!("| {} | ours, {} | {names} |\n|---|--:|{rules}", self.what, self.unit.name())
    }

    pub fn line(&self, line: &Line) -> String {
        let cells: Vec<String> = self.columns.iter().map(|column| cell(line.score(column.name))).collect();
        let ours = self.unit.told(line.scores[0].micros, line.row.items);
        format!("| {} | {ours} | {} |", line.row.name, cells.join(" | "))
    }

    /// What a reader must know, below the table.
    pub fn caption(&self) -> String {
        let versions: Vec<String> =
            self.versions().iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "Our time divided by the peer's: below 1, ours is quicker. 2 workers unless it says otherwise; medians of paired \
             repetitions in one process. {}; {}.",
            machine::caption(),
            versions.join(", ")
        )
    }

    fn versions(&self) -> Vec<(&'static str, &'static str)> {
        let mut crates = vec!["batch-executor"];
        crates.extend(self.columns.iter().filter_map(|column| column.package));
        crates.dedup();
        crates.into_iter().map(|name| (name, machine::version(name))).collect()
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Micros => "µs",
            Unit::NanosAnItem => "ns an item",
        }
    }

    fn told(self, time: f64, items: usize) -> String {
        match self {
            Unit::Micros => micros(time),
            Unit::NanosAnItem => micros(time * 1e3 / items as f64),
        }
    }
}

fn cell(score: Option<&Score>) -> String {
    score.map_or_else(String::new, |score| ratio(score.ratio))
}

/// With as many digits as say something.
pub fn ratio(ratio: f64) -> String {
    if ratio < 0.095 { format!("{ratio:.3}") } else { format!("{ratio:.2}") }
}

/// Of whatever unit.
pub fn micros(micros: f64) -> String {
    match micros {
        ..9.995 => format!("{micros:.2}"),
        9.995..99.95 => format!("{micros:.1}"),
        _ => crate::row::grouped(micros.round() as usize),
    }
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
