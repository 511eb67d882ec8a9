//! `shape-meter [--check | --cycles | --bodies NUMBER] FOLDER...`: numbers of the style of Rust sources.

mod body;
mod cycles;
mod imports;
mod limits;
mod lines;
mod names;
mod product;
mod shape;
mod table;
mod tree;
mod unsafety;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use shape::Shape;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(told) => {
            print!("{told}");
            ExitCode::SUCCESS
        }
        Err(told) => {
            eprintln!("{told}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<String, String> {
    match arguments {
        ["--check", folders @ ..] => check(&shapes(folders)?),
        ["--cycles", folders @ ..] => Ok(each(&shapes(folders)?, imports_of_cycles)),
        ["--bodies", number, folders @ ..] => {
            let number = number.parse().map_err(|_| format!("--bodies {number}: not a number"))?;
            Ok(each(&shapes(folders)?, |shape| table::longest(shape, number)))
        }
        [option, ..] if option.starts_with('-') => Err(format!("{option}: no such option")),
        folders => Ok(table::table(&shapes(folders)?)),
    }
}

fn shapes(folders: &[&str]) -> Result<Vec<Shape>, String> {
    folders.iter().map(|folder| Shape::of(Path::new(folder))).collect()
}

fn each(shapes: &[Shape], told: impl Fn(&Shape) -> String) -> String {
    shapes.iter().map(told).collect()
}

fn imports_of_cycles(shape: &Shape) -> String {
    let imports = shape.cycles.iter().flat_map(|cycle| &cycle.imports);
    imports.map(|import| format!("{}: {import}\n", shape.name)).collect()
}

fn check(shapes: &[Shape]) -> Result<String, String> {
    let told = |shape: &Shape| -> Vec<String> {
        limits::exceeded(shape).into_iter().map(|what| format!("{}: {what}", shape.name)).collect()
    };
    let exceeded: Vec<String> = shapes.iter().flat_map(told).collect();
    if exceeded.is_empty() {
        Ok(table::table(shapes) + "within the limits\n")
    } else {
        Err(exceeded.join("\n"))
    }
}
