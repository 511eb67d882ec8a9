//! The table: a row for each shape, and below it the cycles.

use crate::shape::{Cycle, Shape};

const HEAD: &str = "\
| crate | version | files | lines of code | functions with a body | median lines in a body | nine in ten have at most | over 30 lines | longest body | import cycles | `unsafe` |
|---|---|---|---|---|---|---|---|---|---|---|
";

pub fn table(shapes: &[Shape]) -> String {
    let rows: String = shapes.iter().map(row).collect();
    let cycles: String =
        shapes.iter().flat_map(|shape| shape.cycles.iter().map(|cycle| members(shape, cycle))).collect();
    format!("{HEAD}{rows}\n{cycles}")
}

fn row(shape: &Shape) -> String {
    let longest =
        shape.bodies.first().map_or("-".to_owned(), |(_, body)| format!("{} (`{}`)", body.lines, body.name));
    let Shape { name, version, files, lines, unsafes, .. } = shape;
    let (bodies, median, most, cycles) =
        (shape.bodies.len(), shape.at_most(50), shape.at_most(90), shape.cycles.len());
    let long = percent(shape.longer_than(30), bodies);
    format!(
        "| {name} | {version} | {files} | {lines} | {bodies} | {median} | {most} | {long} | {longest} | {cycles} | {unsafes} |\n"
    )
}

/// With one digit behind the point, rounded down.
fn percent(part: usize, whole: usize) -> String {
    let thousandths = part * 1000 / whole.max(1);
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

fn members(shape: &Shape, cycle: &Cycle) -> String {
    format!("{}: a cycle of {} modules: {}\n", shape.name, cycle.modules.len(), cycle.modules.join(", "))
}

/// The longest bodies, so many, each with where it stands.
pub fn longest(shape: &Shape, number: usize) -> String {
    let first = shape.bodies.iter().take(number);
    first
        .map(|(path, body)| format!("{:4} {} {}:{}\n", body.lines, body.name, path.display(), body.line))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::body::Body;

    fn shape() -> Shape {
        let body = |lines| Body { name: format!("A::b{lines}"), line: 7, lines };
        Shape {
            name: "c".to_owned(),
            version: "1.2.3".to_owned(),
            files: 4,
            lines: 99,
            bodies: [31, 30, 2].map(|lines| (PathBuf::from("d.rs"), body(lines))).into(),
            cycles: vec![Cycle { modules: vec!["e".to_owned(), "f".to_owned()], imports: Vec::new() }],
            unsafes: 5,
        }
    }

    #[test]
    fn a_row_has_the_numbers_and_the_cycles_are_below() {
        let table = table(&[shape()]);
        let below = table.strip_prefix(HEAD).expect("the head");
        let row = "| c | 1.2.3 | 4 | 99 | 3 | 30 | 31 | 33.3 % | 31 (`A::b31`) | 1 | 5 |";
        assert_eq!(below, format!("{row}\n\nc: a cycle of 2 modules: e, f\n"));
    }

    #[test]
    fn the_longest_bodies_say_where_they_stand() {
        assert_eq!(longest(&shape(), 2), "  31 A::b31 d.rs:7\n  30 A::b30 d.rs:7\n");
    }
}
