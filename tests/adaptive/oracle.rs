//! The best fixed number of workers for each workload, found by trying many: a table, since trying takes a minute.

use crate::simulation::Simulation;
use crate::sizing::Sizing;
use crate::workloads::Workload;

pub(crate) const SEEDS: u64 = 20;

const TABLE: &str = include_str!("oracle.txt");

/// The batch of that number.
pub(crate) fn seed(number: u64) -> u64 {
    number * 7_919 + 17
}

/// What is tried: every number up to 12, then an eighth more each time, and one for each item.
fn candidates(items: usize, most: usize) -> Vec<usize> {
    let larger = std::iter::successors(Some(13), |n| Some(n + n / 8)).take_while(|n| *n < most);
    (1..=12).chain(larger).chain([most.min(items)]).filter(|n| *n <= items).collect()
}

/// Seconds for each value.
pub(crate) fn fixed(workload: &Workload, workers: usize, number: u64) -> f64 {
    let items = workload.items(seed(number));
    let mut simulation = Simulation::new(&workload.machine, &items, Sizing::Fixed(workers));
    simulation.makespan() / simulation.values.max(1) as f64
}

/// The number with the least mean time, by trying.
pub(crate) fn find(workload: &Workload) -> usize {
    if let Some(best) = workload.best {
        return best;
    }
    let mean = |workers: &usize| (0..SEEDS).map(|number| fixed(workload, *workers, number)).sum::<f64>();
    let tried =
        candidates(workload.items, workload.most).into_iter().map(|workers| (mean(&workers), workers));
    tried.min_by(|a, b| a.0.total_cmp(&b.0)).expect("some candidates").1
}

/// The line of the table.
pub(crate) fn line(workload: &Workload, cores: usize, best: usize) -> String {
    format!("{best:4} | {cores:2} cores | {}: {}", workload.group, workload.name)
}

/// The number with the least mean time, from the table.
pub(crate) fn look_up(workload: &Workload, cores: usize) -> usize {
    let wanted = line(workload, cores, 0);
    let found = TABLE.lines().find(|found| found[4..] == wanted[4..]);
    let found = found.unwrap_or_else(|| panic!("not in oracle.txt:{}", &wanted[4..]));
    found[..4].trim().parse().expect("a number of workers")
}
