//! What adaptive workers are to reach, and whether they do.

use crate::row::Group;
use crate::table::{Line, geometric_mean};

pub struct Goal {
    what: &'static str,
    most: f64,
    /// `None` if no row was about it.
    found: Option<(f64, String)>,
}

impl Goal {
    pub fn holds(&self) -> bool {
        self.found.as_ref().is_none_or(|(ratio, _)| *ratio <= self.most)
    }

    pub fn text(&self) -> String {
        let verdict = if self.holds() { "holds" } else { "MISSED" };
        let Some((ratio, name)) = &self.found else {
            return format!("- not looked at: {} ≤ {:.2}", self.what, self.most);
        };
        format!("- {verdict}: {} ≤ {:.2}, is {ratio:.2}{name}", self.what, self.most)
    }
}

pub fn of(lines: &[Line]) -> Vec<Goal> {
    let ratios = lines.iter().map(|line| line.score.adaptive_ratio());
    let mean = (!lines.is_empty()).then(|| (geometric_mean(ratios), String::new()));
    let worst_of = |group| worst(lines.iter().filter(move |line| line.row.group == group));
    vec![
        Goal { what: "geometric mean", most: 1.10, found: mean },
        Goal { what: "CPU, the worst", most: 1.05, found: worst_of(Group::Cpu) },
        Goal { what: "flat backend, the worst", most: 1.05, found: worst_of(Group::Flat) },
        Goal { what: "declining backend, the worst", most: 1.50, found: worst_of(Group::Declining) },
        Goal { what: "refusing server, the worst", most: 1.25, found: worst_of(Group::Refusing) },
        Goal { what: "the worst of all", most: 1.60, found: worst(lines.iter()) },
    ]
}

fn worst<'a>(lines: impl Iterator<Item = &'a Line>) -> Option<(f64, String)> {
    let ratios = lines.map(|line| (line.score.adaptive_ratio(), format!(" ({})", line.row.name)));
    ratios.max_by(|a, b| a.0.total_cmp(&b.0))
}
