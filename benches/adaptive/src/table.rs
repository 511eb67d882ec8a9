//! The table: a workload a line, in Markdown.

use crate::contest::{Contender, Score};
use crate::machine;
use crate::peers::PEERS;
use crate::row::{MOST, Row};

pub struct Line {
    pub row: Row,
    pub score: Score,
}

pub fn header() -> String {
    let names = PEERS.map(|(name, _)| name).join(" | ");
    format!(
        "| workload | best fixed | workers | adaptive | ratio | slowest | auto | {names} |\n\
         |---|--:|--:|--:|--:|--:|--:|{}",
        "--:|".repeat(PEERS.len())
    )
}

pub fn line(line: &Line) -> String {
    let score = &line.score;
    format!(
        "| {} | {:.2} s | {} | {} | {:.2} | {:.2} | {} | {} |",
        line.row.name,
        score.best_seconds(),
        score.best().count(),
        seconds(&score.adaptive),
        score.adaptive_ratio(),
        score.ratio(score.adaptive.slowest()),
        ratio(score.auto_ratio()),
        score.peers.iter().map(|peer| ratio(score.ratio(peer.seconds()))).collect::<Vec<_>>().join(" | "),
    )
}

/// The fixed numbers that were tried, with their times.
pub fn sweep(line: &Line) -> String {
    let entries: Vec<String> =
        line.score.fixed.iter().map(|fixed| format!("{}: {}", fixed.count(), seconds(fixed))).collect();
    format!("| {} | | | | | | |{}", entries.join(", "), " |".repeat(PEERS.len()))
}

/// The geometric means.
pub fn footer(lines: &[Line]) -> String {
    let mean = |of: &dyn Fn(&Score) -> f64| geometric_mean(lines.iter().map(|line| of(&line.score)));
    let peer = |place: usize| ratio(mean(&|score| score.ratio(score.peers[place].seconds())));
    let peers = (0..PEERS.len()).map(peer).collect::<Vec<_>>().join(" | ");
    let (adaptive, auto) = (mean(&Score::adaptive_ratio), ratio(mean(&Score::auto_ratio)));
    format!("| geometric mean | | | | {adaptive:.2} | | {auto} | {peers} |")
}

fn seconds(contender: &Contender) -> String {
    let about = if contender.is_whole() { "" } else { "≈ " };
    format!("{about}{:.2} s", contender.seconds())
}

fn ratio(ratio: f64) -> String {
    if ratio < 9.95 { format!("{ratio:.2}") } else { format!("{ratio:.0}") }
}

pub fn geometric_mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = ratios.fold((0.0, 0), |(sum, count), ratio| (sum + ratio.ln(), count + 1));
    (sum / f64::from(count)).exp()
}

/// What a reader must know, below the table.
pub fn caption() -> String {
    format!(
        "Ratios are to the best fixed number, of the powers of 2 up to {MOST} and the number of cores; \
         \"workers\" is the smallest that comes within 2 % of it. Medians of turns in \
         one process, each on a new executor; starting its threads is part of the time. \"slowest\" is the ratio of \
         adaptive's slowest turn. Auto and the peers are ratios, too. ≈: items failed, or it was cut short: the time for all at \
         the rate of those that succeeded. batch-executor {}, {}.",
        machine::version("batch-executor"),
        machine::caption()
    )
}

#[cfg(test)]
mod tests {
    use super::geometric_mean;

    #[test]
    fn half_and_double_cancel_out() {
        assert!((geometric_mean([0.5, 2.0, 8.0].into_iter()) - 2.0).abs() < 1e-12);
    }
}
