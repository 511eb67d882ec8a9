//! What others take for the same work: ours and each peer in turn, in one process, as tables and as a picture.

mod alone;
mod contest;
mod contestant;
#[path = "../../common/drawing.rs"]
mod drawing;
mod journal;
#[path = "../../common/machine.rs"]
mod machine;
mod memory;
mod options;
mod peers;
mod row;
#[path = "../../common/sample.rs"]
mod sample;
mod sizes;
#[path = "../../common/spin.rs"]
mod spin;
mod streams;
mod svg;
mod table;
mod tasks;
mod uneven;
mod work;

use std::fs;

use contestant::Field;
use options::{Options, Part};
use row::Row;
use table::{Line, Table};

fn main() {
    let options = Options::from_args();
    if options.wants(Part::Batches) {
        first_table(&options);
    }
    if options.wants(Part::Ours) {
        second_table(&options);
    }
    if options.wants(Part::Streams) {
        compare(&streams::TABLE, &streams::Everybody, row::streams(), &options);
    }
    if options.wants(Part::Memory) {
        memory::print();
    }
    if options.wants(Part::Journal) {
        journal::print(options.quick);
    }
    if options.wants(Part::Sizes) {
        sizes::print(&options);
    }
    if options.wants(Part::Uneven) {
        uneven::print(&options);
    }
    if options.wants(Part::Tasks) {
        tasks::print(&options);
    }
}

fn first_table(options: &Options) {
    let lines = compare(&peers::TABLE, &peers::Everybody, row::batches(), options);
    for note in lines.iter().filter_map(table::note) {
        println!("{note}\n");
    }
    if let Some(path) = &options.svg {
        fs::write(path, svg::picture(&lines)).expect("the picture's path can be written");
    }
}

/// Prints each line as soon as it is known, and nothing if no row is wanted.
fn compare(table: &Table, field: &impl Field, rows: Vec<Row>, options: &Options) -> Vec<Line> {
    let rows: Vec<Row> = rows.into_iter().filter(|row| options.wants_row(&row.name)).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    println!("{}", table.header());
    let run = |row| {
        let line = Line { scores: contest::hold(field, &row, options), row };
        println!("{}", table.line(&line));
        line
    };
    let lines = rows.into_iter().map(run).collect();
    println!("\n{}\n", table.caption());
    lines
}

fn second_table(options: &Options) {
    println!("{}", alone::header());
    for group in alone::groups() {
        println!("{}", alone::lines(&group, options.quick));
    }
    println!();
}
