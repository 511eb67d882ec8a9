//! Who keeps which promise: a cell of the table comes from running a check, the same one for everybody, on each
//! candidate in its ordinary way of use. What that is stands at the candidate. Says so where there was nothing to run.

mod candidate;
mod checks;
mod ours;
mod pariter;
mod rayon;
mod threadpool;
mod tokio;

use std::panic;

use candidate::Candidate;
use checks::Check;

/// A candidate, its type forgotten.
struct Column {
    name: &'static str,
    idiom: &'static str,
    checks: Vec<Check>,
}

impl Column {
    fn of<C: Candidate>() -> Self {
        Column { name: C::NAME, idiom: C::IDIOM, checks: checks::all::<C>() }
    }
}

fn main() {
    // Panics are part of what is checked, and none of them is news.
    panic::set_hook(Box::new(|_| {}));
    let columns = [
        Column::of::<ours::Ours>(),
        Column::of::<rayon::Rayon>(),
        Column::of::<threadpool::Jobs>(),
        Column::of::<pariter::Pariter>(),
        Column::of::<tokio::Tokio>(),
    ];
    println!("| promise | {} |", columns.each_ref().map(|column| column.name).join(" | "));
    println!("|---|{}", ":-:|".repeat(columns.len()));
    for (row, check) in columns[0].checks.iter().enumerate() {
        let cells = columns.each_ref().map(|column| column.checks[row].verdict().to_string());
        println!("| {} | {} |", check.promise, cells.join(" | "));
    }
    println!(
        "\nEvery cell comes from a run, except where the compiler refuses (`'static`) or there is nothing to run (has none). Used \
              like this:\n"
    );
    for column in &columns {
        println!("- {}: {}", column.name, column.idiom);
    }
}
