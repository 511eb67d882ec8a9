//! How the controller does on workloads: its times in those of the best fixed number.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::controller::Setup;
use crate::oracle::{self, SEEDS};
use crate::simulation::Simulation;
use crate::sizing::{Senses, Sizing};
use crate::workloads::{Length, Workload};

/// One workload: its number in the list, and how it went over all seeds.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) length: Length,
    pub(crate) best: usize,
    pub(crate) mean: f64,
    pub(crate) worst: f64,
    /// The most workers that there were at once.
    pub(crate) most: usize,
    /// Attempts that failed, for each item, with the worst seed.
    pub(crate) failures: f64,
}

pub(crate) fn run(
    workloads: &[Workload],
    cores: usize,
    senses: Senses,
    best: impl Fn(&Workload) -> usize + Sync,
) -> Vec<Row> {
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(workload) = workloads.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = row(workload, cores, senses, best(workload));
                    rows.lock().expect("no panic").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no panic");
    rows.sort_by_key(|row| workloads.iter().position(|w| (w.group, &w.name) == (row.group, &row.name)));
    rows
}

fn row(workload: &Workload, cores: usize, senses: Senses, best: usize) -> Row {
    let (mut sum, mut worst, mut most, mut failures) = (0.0, 0.0_f64, 0, 0.0_f64);
    for number in 0..SEEDS {
        let items = workload.items(oracle::seed(number));
        let setup = Setup { least: 1, most: workload.most, cpus: cores, items: Some(items.len()) };
        let mut simulation = Simulation::new(&workload.machine, &items, Sizing::adaptive(setup, senses));
        let each = simulation.makespan() / simulation.values.max(1) as f64;
        let ratio = each / oracle::fixed(workload, best, number);
        failures = failures.max(simulation.failures as f64 / items.len() as f64);
        (sum, worst, most) = (sum + ratio, worst.max(ratio), most.max(simulation.most_present));
    }
    let Workload { group, length, .. } = *workload;
    Row { group, name: workload.name.clone(), length, best, mean: sum / SEEDS as f64, worst, most, failures }
}

/// Of some rows.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) mean: f64,
    pub(crate) worst_mean: f64,
    pub(crate) worst_seed: f64,
    /// The part of the workloads whose mean is at most 1.25.
    pub(crate) near: f64,
}

pub(crate) fn of(rows: &[Row], chosen: impl Fn(&Row) -> bool) -> Summary {
    let rows: Vec<&Row> = rows.iter().filter(|row| chosen(row)).collect();
    let part = |count: usize| count as f64 / rows.len() as f64;
    Summary {
        mean: rows.iter().map(|row| row.mean).sum::<f64>() / rows.len() as f64,
        worst_mean: rows.iter().map(|row| row.mean).fold(0.0, f64::max),
        worst_seed: rows.iter().map(|row| row.worst).fold(0.0, f64::max),
        near: part(rows.iter().filter(|row| row.mean <= 1.25).count()),
    }
}

pub(crate) fn print(rows: &[Row], cores: usize, senses: Senses) {
    println!(
        "\n{cores} cores, {senses:?}: mean, worst seed, most workers (the best fixed number), failures for each item"
    );
    for row in rows {
        println!(
            "  {:9} {:60} {:5.2} {:5.2} {:4} ({}) {:.2}",
            row.group, row.name, row.mean, row.worst, row.most, row.best, row.failures
        );
    }
    let mut groups: Vec<&str> = rows.iter().map(|row| row.group).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let Summary { mean, worst_mean, worst_seed, .. } = of(rows, |row| row.group == group);
        println!("{group:8} {mean:5.2} / {worst_mean:.2} / {worst_seed:.2}");
    }
    for length in [Length::Long, Length::Medium, Length::Tiny, Length::Any] {
        if rows.iter().any(|row| row.length == length) {
            let Summary { mean, worst_mean, worst_seed, near } = of(rows, |row| row.length == length);
            println!("{length:?}: {mean:.3} / {worst_mean:.2} / {worst_seed:.2}, {:.0} % near", 100.0 * near);
        }
    }
}
