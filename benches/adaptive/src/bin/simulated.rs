//! The simulator of `tests/adaptive` with the peers as columns: mean ratio of each group to the best fixed number, on 2, 8 and 32
//! cores, 20 seeds each. Half a minute.
#![allow(dead_code, reason = "the simulator's tests use more of it")]
#![allow(
    clippy::collapsible_if,
    clippy::enum_glob_use,
    reason = "the simulator is linted as part of its own crate"
)]

#[path = "../../../../src/adaptive/mod.rs"]
mod controller;
#[path = "../../../../tests/adaptive/cores.rs"]
mod cores;
#[path = "../../../../tests/adaptive/machine.rs"]
mod machine;
#[path = "../../../../tests/adaptive/oracle.rs"]
mod oracle;
#[path = "../peers.rs"]
mod peers;
#[path = "../../../../tests/adaptive/rng.rs"]
mod rng;
#[path = "../../../../tests/adaptive/server.rs"]
mod server;
#[path = "../../../../tests/adaptive/shared.rs"]
mod shared;
#[path = "../../../../tests/adaptive/simulation.rs"]
mod simulation;
#[path = "../../../../tests/adaptive/sizing.rs"]
mod sizing;
#[path = "../../../../tests/adaptive/workloads.rs"]
mod workloads;

use std::collections::BTreeMap;
use std::thread;

use controller::Setup;
use peers::PEERS;
use simulation::Simulation;
use sizing::{Senses, Sizing};
use workloads::Workload;

/// The ratios of adaptive and of each peer, and how many attempts failed for each item.
type Columns = Vec<(f64, f64)>;

struct Heard(Box<dyn peers::Peer>);

impl sizing::Peer for Heard {
    fn limit(&self) -> usize {
        self.0.limit()
    }

    fn ended(&mut self, now: f64, rtt: f64, in_flight: usize, failed: bool) {
        self.0.ended(now, rtt, in_flight, failed);
    }
}

fn sizings(workload: &Workload, cores: usize) -> Vec<Sizing> {
    let setup = Setup { least: 1, most: workload.most, cpus: cores, items: Some(workload.items) };
    let peers = PEERS.iter().map(|(_, make)| Sizing::Peer(Box::new(Heard(make(workload.most))), 0));
    [Sizing::adaptive(setup, Senses::All)].into_iter().chain(peers).collect()
}

fn columns(workload: &Workload, cores: usize) -> Columns {
    let best = oracle::look_up(workload, cores);
    let mut columns = vec![(0.0, 0.0); 1 + PEERS.len()];
    for number in 0..oracle::SEEDS {
        let items = workload.items(oracle::seed(number));
        let least = oracle::fixed(workload, best, number) * oracle::SEEDS as f64;
        for (column, sizing) in columns.iter_mut().zip(sizings(workload, cores)) {
            let mut simulation = Simulation::new(&workload.machine, &items, sizing);
            column.0 += simulation.makespan() / simulation.values.max(1) as f64 / least;
            column.1 += simulation.failures as f64 / items.len() as f64 / oracle::SEEDS as f64;
        }
    }
    columns
}

fn all(cores: usize) -> Vec<(&'static str, String, Columns)> {
    let row = |workload: Workload| (workload.group, workload.name.clone(), columns(&workload, cores));
    workloads::all(cores).into_iter().map(row).collect()
}

fn line(name: &str, cores: usize, columns: &Columns) {
    let cells = columns.iter().map(|(ratio, failed)| match *failed {
        failed if failed > 0.005 => format!("{ratio:.2} ({failed:.2})"),
        _ => format!("{ratio:.2}"),
    });
    println!("| {name} | {cores} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

fn main() {
    let shows_all = std::env::args().any(|arg| arg == "--all");
    let names: Vec<&str> = PEERS.iter().map(|(name, _)| *name).collect();
    println!(
        "| group | cores | adaptive | {} |\n|---|--:|--:{}|",
        names.join(" | "),
        "|--:".repeat(names.len())
    );
    thread::scope(|scope| {
        let threads = [2, 8, 32].map(|cores| (cores, scope.spawn(move || all(cores))));
        for (cores, thread) in threads {
            let rows = thread.join().expect("no panic");
            let mut groups: BTreeMap<&str, Vec<&Columns>> = BTreeMap::new();
            for (group, name, columns) in &rows {
                groups.entry(group).or_default().push(columns);
                if shows_all {
                    line(&format!("{group}: {name}"), cores, columns);
                }
            }
            for (group, rows) in groups {
                let mean = |column: usize, of: fn(&(f64, f64)) -> f64| {
                    rows.iter().map(|row| of(&row[column])).sum::<f64>() / rows.len() as f64
                };
                let means = (0..=PEERS.len()).map(|column| (mean(column, |c| c.0), mean(column, |c| c.1)));
                line(group, cores, &means.collect());
            }
        }
    });
}
