//! What others take for the same work: ours and each peer in turn, in one process, as tables and as a picture.

mod alone;
mod contest;
#[path = "../../common/drawing.rs"]
mod drawing;
#[path = "../../common/machine.rs"]
mod machine;
mod options;
mod peers;
mod row;
#[path = "../../common/sample.rs"]
mod sample;
#[path = "../../common/spin.rs"]
mod spin;
mod svg;
mod table;
mod work;

use std::fs;

use options::Options;
use table::Line;

fn main() {
    let options = Options::from_args();
    if !options.only_ours {
        let lines = first_table(&options);
        if let Some(path) = &options.svg {
            fs::write(path, svg::picture(&lines)).expect("the picture's path can be written");
        }
    }
    if options.wants_second_table() {
        second_table(&options);
    }
}

/// Prints each line as soon as it is known.
fn first_table(options: &Options) -> Vec<Line> {
    println!("{}", table::header());
    let rows = row::all().into_iter().filter(|row| options.wants_row(&row.name));
    let run = |row| {
        let line = Line { scores: contest::hold(&row, options), row };
        println!("{}", table::line(&line));
        line
    };
    let lines: Vec<Line> = rows.map(run).collect();
    println!("\n{}", table::caption());
    for note in lines.iter().filter_map(table::note) {
        println!("\n{note}");
    }
    lines
}

fn second_table(options: &Options) {
    println!("\n{}", alone::header());
    for group in alone::groups() {
        println!("{}", alone::lines(&group, options.quick));
    }
}
