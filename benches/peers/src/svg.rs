//! The picture of the first table: a dot for each peer in each row, further right the longer it took than ours did.

use std::fmt::Write;

use crate::contest::Score;
use crate::drawing::{self, text};
use crate::machine;
use crate::peers::COLUMNS;
use crate::table::{Line, micros};

const TITLE: &str = "What others take for the same batch, in times of batch-executor";
const WIDTH: f64 = 960.0;
/// Where the plot begins and ends.
const LEFT: f64 = 272.0;
const RIGHT: f64 = 850.0;
const TOP: f64 = 118.0;
const ROW: f64 = 30.0;
/// What the axis reaches from and to, in times of ours; who is outside stands at the edge, as an arrow.
const LEAST: f64 = 0.2;
const MOST: f64 = 1_000.0;
const TICKS: &[(f64, &str)] = &[
    (0.25, "¼ ×"),
    (0.5, "½ ×"),
    (1.0, "ours"),
    (2.0, "2 ×"),
    (5.0, "5 ×"),
    (10.0, "10 ×"),
    (30.0, "30 ×"),
    (100.0, "100 ×"),
    (300.0, "300 ×"),
    (1_000.0, "1000 ×"),
];

/// Colours that can be told apart on white and on black, and by most who see colours differently.
const STYLE: &str = "\
.ours { stroke: #24292f; stroke-width: 2 } .band { fill: #8c959f; opacity: .09 }
.p0 { fill: #d1242f } .p1 { fill: #e57b23 } .p2 { fill: #0969da } .p3 { fill: #1a7f37 } .p4 { fill: #9a6700 }
.p5 { fill: #8250df } .p6 { fill: #0a9396 } .p7 { fill: #bf3989 } .p8 { fill: #6e7781 }
@media (prefers-color-scheme: dark) {
.ours { stroke: #e6edf3 }
.p0 { fill: #ff7b72 } .p1 { fill: #ffa657 } .p2 { fill: #58a6ff } .p3 { fill: #3fb950 } .p4 { fill: #d4a72c }
.p5 { fill: #bc8cff } .p6 { fill: #56d4dd } .p7 { fill: #ff80c8 } .p8 { fill: #9da7b3 }
}";

/// The whole file.
pub fn picture(lines: &[Line]) -> String {
    let bottom = TOP + ROW * lines.len() as f64;
    let height = bottom + 62.0;
    let parts = [heading(), grid(bottom), rows(lines), footer(bottom)];
    drawing::file((WIDTH, height), TITLE, STYLE, &parts.concat())
}

fn heading() -> String {
    let mut text = text(16.0, 26.0, "title", TITLE);
    text += &self::text(
        16.0,
        46.0,
        "faint",
        "Each dot is a peer; right of the line it took longer. Logarithmic.",
    );
    for (at, column) in COLUMNS.iter().enumerate() {
        let (x, y) = (24.0 + 186.0 * (at % 5) as f64, 68.0 + 19.0 * (at / 5) as f64);
        text += &dot(x, y, at);
        text += &self::text(x + 10.0, y + 4.0, "", column.name);
    }
    text
}

fn grid(bottom: f64) -> String {
    let mut lines = String::new();
    for (times, label) in TICKS {
        let (x, class) = (across(*times), if *label == "ours" { "ours" } else { "grid" });
        let _ = writeln!(lines, "<path class=\"{class}\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
        lines += &text(x, bottom + 18.0, "middle", label);
    }
    lines + &text(WIDTH - 12.0, TOP - 6.0, "end faint", "ours")
}

fn rows(lines: &[Line]) -> String {
    let mut all = String::new();
    for (row, line) in lines.iter().enumerate() {
        let top = TOP + ROW * row as f64;
        if row % 2 == 0 {
            let _ = writeln!(
                all,
                "<rect class=\"band\" x=\"0\" y=\"{top}\" width=\"{WIDTH}\" height=\"{ROW}\"/>"
            );
        }
        let middle = top + ROW / 2.0;
        all += &text(LEFT - 12.0, middle + 4.0, "end", &line.row.name);
        all +=
            &text(WIDTH - 12.0, middle + 4.0, "end faint", &format!("{} µs", micros(line.scores[0].micros)));
        all += &dots(line, middle);
    }
    all
}

/// Every column has its own height in the row, so that none hides another; the first, rayon, is drawn last.
fn dots(line: &Line, middle: f64) -> String {
    let place = |(at, score): (usize, &Score)| {
        let step = (ROW - 9.0) / COLUMNS.len() as f64;
        let y = middle + (at as f64 - (COLUMNS.len() - 1) as f64 / 2.0) * step;
        mark(1.0 / score.ratio, y, at)
    };
    let scores = COLUMNS.iter().enumerate().filter_map(|(at, column)| Some((at, line.score(column.name)?)));
    scores.rev().map(place).collect()
}

fn mark(times: f64, y: f64, column: usize) -> String {
    let x = across(times);
    match times {
        ..LEAST => format!("<path class=\"p{column}\" d=\"M{x:.1} {y:.1}l8 -4v8z\"/>\n"),
        LEAST..=MOST => dot(x, y, column),
        _ => format!("<path class=\"p{column}\" d=\"M{x:.1} {y:.1}l-8 -4v8z\"/>\n"),
    }
}

/// Rayon's are diamonds, since they are the ones to look for.
fn dot(x: f64, y: f64, column: usize) -> String {
    if column < 2 {
        format!("<path class=\"p{column}\" d=\"M{x:.1} {y:.1}m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z\"/>\n")
    } else {
        format!("<circle class=\"p{column}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\"/>\n")
    }
}

fn footer(bottom: f64) -> String {
    let caption =
        format!("2 workers unless it says otherwise; medians of paired repetitions. {}", machine::caption());
    text(16.0, bottom + 44.0, "faint", &caption)
}

/// How far right this many times of ours stand.
fn across(times: f64) -> f64 {
    let share = (times.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + share * (RIGHT - LEFT)
}

#[cfg(test)]
mod tests {
    use super::{LEAST, LEFT, MOST, RIGHT, across};

    #[test]
    fn the_axis_ends_where_it_ends() {
        assert!((across(LEAST) - LEFT).abs() < 1e-9);
        assert!((across(MOST * 5.0) - RIGHT).abs() < 1e-9);
        assert!(across(1.0) > across(0.9));
    }
}
