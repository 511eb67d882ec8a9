//! Adaptive workers against the best fixed number and against auto, on real threads: as a table, a list of goals and a
//! picture.

mod backend;
mod contest;
mod dice;
#[path = "../../common/drawing.rs"]
mod drawing;
mod gate;
mod goals;
#[path = "../../common/machine.rs"]
mod machine;
mod options;
mod peers;
mod picture;
mod row;
mod run;
#[path = "../../common/sample.rs"]
mod sample;
#[path = "../../common/spin.rs"]
mod spin;
mod table;
mod workloads;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use table::Line;

fn main() -> ExitCode {
    let options = Options::from_args();
    // Measures the machine, which must not happen inside the first item.
    spin::rounds_in(Duration::from_millis(1));
    let lines = lines(&options);
    if let Some(path) = &options.svg {
        fs::write(path, picture::picture(&lines)).expect("the picture's path can be written");
    }
    let goals = goals::of(&lines);
    println!("\n{}", goals.iter().map(goals::Goal::text).collect::<Vec<_>>().join("\n"));
    let missed = options.is_complete() && goals.iter().any(|goal| !goal.holds());
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Prints each line as soon as it is known.
fn lines(options: &Options) -> Vec<Line> {
    println!("{}", table::header());
    let rows = workloads::all().into_iter().filter(|row| options.wants(row));
    let run = |row| {
        let line = Line { score: contest::hold(&row, options), row };
        println!("{}", table::line(&line));
        if options.sweep {
            println!("{}", table::sweep(&line));
        }
        line
    };
    let lines: Vec<Line> = rows.map(run).collect();
    println!("{}\n\n{}", table::footer(&lines), table::caption());
    lines
}
