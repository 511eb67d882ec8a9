//! The picture: time against the fixed number of workers, four times, and adaptive as a line across.

use std::fmt::Write;

use crate::contest::Contender;
use crate::drawing::{self, text};
use crate::machine;
use crate::row::{Fame, MOST};
use crate::table::Line;

const TITLE: &str = "How long a batch takes with so many workers, and with Workers::adaptive()";
const WIDTH: f64 = 800.0;
const TOP: f64 = 84.0;
/// A panel with its title and numbers, and the plot inside it.
const PANEL: (f64, f64) = (392.0, 232.0);
const PLOT: Frame = Frame { left: 56.0, right: 372.0, top: 20.0, bottom: 186.0 };

const STYLE: &str = "\
.name { font-weight: 600 } .fixed { fill: none; stroke: #6e7781; stroke-width: 2 } .point { fill: #6e7781 }
.adaptive { fill: none; stroke: #0969da; stroke-width: 2.5 } .blue { fill: #0969da } .best { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
.fixed { stroke: #9da7b3 } .point { fill: #9da7b3 } .adaptive { stroke: #58a6ff } .blue { fill: #58a6ff } .best { fill: #3fb950 }
}";

/// Where something is drawn, inside its panel.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// The least and the most seconds on an axis. Logarithmic.
#[derive(Clone, Copy)]
struct Axis {
    least: f64,
    most: f64,
}

/// The whole file, of those lines that are to be in it.
pub fn picture(lines: &[Line]) -> String {
    let pictured: Vec<&Line> = lines.iter().filter(|line| line.row.fame == Fame::Pictured).collect();
    let bottom = TOP + PANEL.1 * pictured.len().div_ceil(2) as f64;
    let mut body = heading();
    for (at, line) in pictured.iter().enumerate() {
        let (x, y) = (8.0 + PANEL.0 * (at % 2) as f64, TOP + PANEL.1 * (at / 2) as f64);
        let _ = writeln!(body, "<g transform=\"translate({x} {y})\">\n{}</g>", panel(line));
    }
    body += &text(16.0, bottom + 14.0, "faint", &machine::caption());
    drawing::file((WIDTH, bottom + 28.0), TITLE, STYLE, &body)
}

fn heading() -> String {
    let how = "Across: fixed number of workers. Upwards: seconds. Both logarithmic, so a straight line down is work that waits.";
    let keys = [("fixed", "point", "a fixed number"), ("adaptive", "blue", "adaptive, at most 128")];
    let mut body = text(16.0, 24.0, "title", TITLE) + &text(16.0, 44.0, "faint", how);
    for (at, (line, class, words)) in keys.into_iter().enumerate() {
        let x = 16.0 + 150.0 * at as f64;
        let _ = writeln!(body, "<path class=\"{line}\" d=\"M{x} 60h22\"/>");
        body += &text(x + 28.0, 64.0, class, words);
    }
    body + "<circle class=\"best\" cx=\"341\" cy=\"60\" r=\"5\"/>\n"
        + &text(352.0, 64.0, "best", "the best fixed number")
}

fn panel(line: &Line) -> String {
    let axis = Axis::around(line);
    let items = format!("{} items", line.row.items);
    let parts = [
        text(PLOT.left, 10.0, "name", &line.row.name),
        text(PLOT.right, 10.0, "faint end", &items),
        grid(axis),
        curve(line, axis),
        adaptive(line, axis),
    ];
    parts.concat()
}

impl Axis {
    /// Room for all that is drawn, and for the words above and below.
    fn around(line: &Line) -> Self {
        let everybody = line.score.fixed.iter().chain([&line.score.adaptive]);
        let (least, most) = everybody
            .map(Contender::seconds)
            .fold((f64::INFINITY, 0.0_f64), |(least, most), seconds| (least.min(seconds), most.max(seconds)));
        let most = most.max(least * 2.0);
        let room = most / least;
        Axis { least: least / room.powf(0.3), most: most * room.powf(0.1) }
    }

    fn down(self, seconds: f64) -> f64 {
        let share = (seconds / self.least).ln() / (self.most / self.least).ln();
        PLOT.bottom - share * (PLOT.bottom - PLOT.top)
    }

    /// Round numbers: all of 1, 2 and 5 if they are few, else only the ones.
    fn ticks(self) -> Vec<f64> {
        let steps: &[f64] = if self.most / self.least > 60.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = (-4..5).map(|exponent| 10_f64.powi(exponent));
        let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * decade));
        ticks.filter(|tick| (self.least..=self.most).contains(tick)).collect()
    }
}

fn across(workers: usize) -> f64 {
    let share = (workers as f64).ln() / (MOST as f64).ln();
    PLOT.left + share * (PLOT.right - PLOT.left)
}

fn grid(axis: Axis) -> String {
    let mut lines = String::new();
    for seconds in axis.ticks() {
        let (y, digits) = (axis.down(seconds), if seconds < 0.1 { 2 } else { usize::from(seconds < 1.0) });
        let _ = writeln!(lines, "<path class=\"grid\" d=\"M{} {y:.1}H{}\"/>", PLOT.left, PLOT.right);
        lines += &text(PLOT.left - 8.0, y + 4.0, "end faint", &format!("{seconds:.digits$} s"));
    }
    for workers in (0..=MOST.ilog2()).map(|exponent| 1_usize << exponent) {
        lines += &text(across(workers), PLOT.bottom + 16.0, "middle faint", &workers.to_string());
    }
    lines
}

fn place(contender: &Contender, axis: Axis) -> (f64, f64) {
    (across(contender.count()), axis.down(contender.seconds()))
}

fn places(line: &Line, axis: Axis) -> Vec<(f64, f64)> {
    line.score.fixed.iter().map(|contender| place(contender, axis)).collect()
}

fn curve(line: &Line, axis: Axis) -> String {
    let places = places(line, axis);
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    let mut drawn = format!("<path class=\"fixed\" d=\"M{}\"/>\n", path.join("L"));
    for (x, y) in places {
        let _ = writeln!(drawn, "<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
    }
    let best = line.score.best();
    let (x, y) = place(best, axis);
    let _ = writeln!(drawn, "<circle class=\"best\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>");
    let lower = y.max(axis.down(line.score.adaptive.seconds()));
    drawn + &label(x, lower + 19.0, "best", &format!("{:.2} s with {}", best.seconds(), best.count()))
}

/// The line, and its time above it, where the curve is furthest away.
fn adaptive(line: &Line, axis: Axis) -> String {
    let y = axis.down(line.score.adaptive.seconds());
    let path = format!("<path class=\"adaptive\" d=\"M{} {y:.1}H{}\"/>\n", PLOT.left, PLOT.right);
    let places = places(line, axis);
    let room = |x: &f64| room_around(&places, *x, y - 11.0);
    let candidates = [PLOT.left, f64::midpoint(PLOT.left, PLOT.right), PLOT.right];
    let x = candidates.into_iter().max_by(|a, b| room(a).total_cmp(&room(b))).unwrap_or(PLOT.left);
    path + &label(x, y - 7.0, "blue", &format!("adaptive {:.2} s", line.score.adaptive.seconds()))
}

/// How far the curve stays away from words there.
fn room_around(places: &[(f64, f64)], x: f64, y: f64) -> f64 {
    const STEPS: u8 = 8;
    let steps = |pair: &[(f64, f64)]| {
        let (from, to) = (pair[0], pair[1]);
        let shares = (0..=STEPS).map(|step| f64::from(step) / f64::from(STEPS));
        let all = shares.map(|share| (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1)));
        all.collect::<Vec<_>>()
    };
    let near = places.windows(2).flat_map(steps).filter(|place| (place.0 - x).abs() < 96.0);
    near.map(|place| (place.1 - y).abs()).fold(f64::INFINITY, f64::min)
}

/// Words around a place, but not beyond the plot.
fn label(x: f64, y: f64, class: &str, words: &str) -> String {
    let class = match x {
        _ if x < PLOT.left + 50.0 => class.to_owned(),
        _ if x > PLOT.right - 50.0 => format!("{class} end"),
        _ => format!("{class} middle"),
    };
    text(x, y, &class, words)
}

#[cfg(test)]
mod tests {
    use super::{Axis, MOST, PLOT, across};

    #[test]
    fn the_axes_end_where_they_end() {
        let axis = Axis { least: 0.1, most: 10.0 };
        assert!((axis.down(0.1) - PLOT.bottom).abs() < 1e-9);
        assert!((axis.down(10.0) - PLOT.top).abs() < 1e-9);
        assert_eq!(axis.ticks().len(), 3);
        assert!((across(1) - PLOT.left).abs() < 1e-9);
        assert!((across(MOST) - PLOT.right).abs() < 1e-9);
    }
}
