//! The controller of adaptive workers, in virtual time: how much longer a batch takes with it than with the best fixed
//! number of workers, which no user would know.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a simulator reckons in fractions"
)]

#[path = "../../src/adaptive/mod.rs"]
#[allow(dead_code, reason = "the simulator hands nothing back")]
mod controller;
mod cores;
mod held_back;
mod liveness;
mod machine;
mod oracle;
mod rng;
mod score;
mod server;
mod shared;
mod simulation;
mod sizing;
mod workloads;

use score::Summary;
use sizing::Senses;
use workloads::Length;

const CORES: [usize; 3] = [2, 8, 32];

fn assert_goals(cores: usize) {
    let rows =
        score::run(&workloads::all(cores), cores, Senses::All, |workload| oracle::look_up(workload, cores));
    score::print(&rows, cores, Senses::All);
    let long = score::of(&rows, |row| row.length == Length::Long);
    let worst = if cores == 2 { 1.75 } else { 1.45 };
    assert!(long.mean <= 1.10 && long.near >= 0.93 && long.worst_mean <= worst, "long: {long:?}");
    let mean = |chosen: fn(&score::Row) -> bool| score::of(&rows, chosen).mean;
    assert!(mean(|row| row.group == "cpu") <= 1.03);
    assert!(mean(|row| row.length == Length::Tiny) <= 1.05);
    assert!(mean(|row| row.length == Length::Medium) <= 1.5);
    assert_servers(&rows);
    let worst = score::of(&rows, |_| true).worst_seed;
    assert!(worst <= 2.6, "a batch took {worst} times as long");
}

/// What gets worse with too many workers.
fn assert_servers(rows: &[score::Row]) {
    let declining = score::of(rows, |row| row.group == "declining");
    assert!(declining.mean <= 1.25 && declining.worst_mean <= 1.7, "{declining:?}");
    let refusing = score::of(rows, |row| row.group == "refusing");
    assert!(refusing.mean <= 1.10 && refusing.worst_mean <= 1.25, "{refusing:?}: goodput of 0.8 and more");
    let refused =
        rows.iter().filter(|row| row.group == "refusing").map(|row| row.failures).fold(0.0, f64::max);
    assert!(refused < 1.0, "{refused} refusals for each item");
    let failing = score::of(rows, |row| row.group == "failing");
    assert!(failing.mean <= 1.5, "what fails anyway lowers the number: {failing:?}");
}

#[test]
fn on_2_cores_batches_take_a_tenth_longer_than_with_the_best_fixed_number() {
    assert_goals(2);
}

#[test]
fn on_8_cores_batches_take_a_tenth_longer_than_with_the_best_fixed_number() {
    assert_goals(8);
}

#[test]
fn on_32_cores_batches_take_a_tenth_longer_than_with_the_best_fixed_number() {
    assert_goals(32);
}

#[test]
fn with_late_or_no_cpu_times_or_without_runnable_threads_it_is_a_little_worse() {
    let bounds =
        [(Senses::LateCpu, 1.10), (Senses::NoDelay, 1.10), (Senses::NoRunnable, 1.10), (Senses::Clock, 1.12)];
    for (senses, bound) in bounds {
        let mut every_third = workloads::all(8);
        every_third.retain(|workload| workload.length != Length::Any);
        let every_third: Vec<_> = every_third.into_iter().step_by(3).collect();
        let rows = score::run(&every_third, 8, senses, |workload| oracle::look_up(workload, 8));
        let Summary { mean, worst_mean, worst_seed, .. } = score::of(&rows, |_| true);
        let told = format!("{senses:?}: {mean:.3} / {worst_mean:.2} / {worst_seed:.2}");
        println!("{told}");
        assert!(mean <= bound && worst_mean <= 2.0 && worst_seed <= 2.6, "{told}");
    }
}

#[test]
fn no_more_workers_run_than_the_limiter_lets_pass() {
    let limited: Vec<_> =
        workloads::all(8).into_iter().filter(|workload| workload.group == "limiter").collect();
    let rows = score::run(&limited, 8, Senses::All, |workload| oracle::look_up(workload, 8));
    let paced = |name: &str| rows.iter().find(|row| row.name == name).expect("a row");
    assert!(paced("500 a second, 20 ms").most <= 20, "10 would do: {:?}", paced("500 a second, 20 ms"));
}

#[test]
fn the_table_holds_what_trying_finds() {
    let mut tried = 0;
    for workload in workloads::all(2).iter().filter(|workload| workload.items <= 160) {
        assert_eq!(oracle::find(workload), oracle::look_up(workload, 2), "{}", workload.name);
        tried += 1;
    }
    assert!(tried > 20, "only {tried} workloads were tried");
}

#[test]
#[ignore = "3 minutes: prints the table anew, for oracle.txt"]
fn table() {
    let lines = |cores| {
        let line = |workload: &workloads::Workload| oracle::line(workload, cores, oracle::find(workload));
        workloads::all(cores).iter().map(line).collect::<Vec<_>>().join("\n")
    };
    std::thread::scope(|scope| {
        let threads = CORES.map(|cores| scope.spawn(move || lines(cores)));
        for thread in threads {
            println!("{}", thread.join().expect("no panic"));
        }
    });
}

#[test]
#[ignore = "2 minutes: every row with every set of senses, and workloads held back"]
fn report() {
    for cores in CORES {
        for senses in [
            Senses::All,
            Senses::LateCpu,
            Senses::NoDelay,
            Senses::OnlyRunnable,
            Senses::NoRunnable,
            Senses::Clock,
        ] {
            let rows = score::run(&workloads::all(cores), cores, senses, |workload| {
                oracle::look_up(workload, cores)
            });
            score::print(&rows, cores, senses);
        }
    }
    for cores in [4, 16] {
        for senses in [Senses::All, Senses::LateCpu, Senses::Clock] {
            score::print(&score::run(&held_back::all(cores), cores, senses, oracle::find), cores, senses);
        }
    }
}
