//! `tests/faults/README.md` says which test is for which fault; here is whether it says so truly.

use std::fs;
use std::path::{Path, PathBuf};

const CASES: usize = 64;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each case with what its row has in the last column.
fn rows() -> Vec<(String, String)> {
    let table = read(&tests().join("faults/README.md"));
    let rows = table.lines().filter(|line| line.starts_with("| F"));
    let cells = rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    cells
        .map(|cells| match cells[..] {
            [case, _, tests] => (case.to_owned(), tests.to_owned()),
            _ => panic!("a row of three columns: {cells:?}"),
        })
        .collect()
}

/// What stands between backticks.
fn named(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether the file has it: a function that is a test, or, of what must not compile, a heading.
fn has(file: &str, name: &str) -> bool {
    let text = read(&tests().join(file));
    if Path::new(file).extension().is_some_and(|ending| ending == "md") {
        let mut headings = text.lines().filter(|line| line.starts_with("## "));
        return headings.any(|line| line.contains(name));
    }
    let mut tests = text.split("#[test]").skip(1);
    tests.any(|test| test.split_once("fn ").is_some_and(|(_, rest)| rest.starts_with(&format!("{name}()"))))
}

#[test]
fn every_case_has_a_row_and_no_other() {
    let cases: Vec<String> = rows().into_iter().map(|(case, _)| case).collect();
    let expected: Vec<String> = (1..=CASES).map(|number| format!("F{number:02}")).collect();
    assert_eq!(cases, expected);
}

#[test]
fn every_test_in_the_table_exists() {
    for (case, cell) in rows() {
        for name in named(&cell) {
            match name.split_once("::") {
                Some((file, test)) => assert!(has(file, test), "{case}: there is no test {name}"),
                None => assert!(tests().join("..").join(name).is_file(), "{case}: there is no file {name}"),
            }
        }
    }
}

#[test]
fn every_case_has_a_test() {
    for (case, cell) in rows() {
        assert!(named(&cell).count() > 0, "{case} has no test");
    }
}

#[test]
fn every_test_of_a_case_stands_in_its_row() {
    let mut seen = 0;
    for file in files() {
        let parts =
            file.strip_prefix(tests()).expect("below tests").iter().map(|part| part.to_string_lossy());
        let name = parts.collect::<Vec<_>>().join("/");
        let text = read(&file);
        // The doc comment of a test begins with its cases.
        for (at, _) in text.match_indices("/// F") {
            let (doc, rest) = text[at + 4..].split_once("#[test]").expect("a case is that of a test");
            let test =
                rest.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).expect("a function").0;
            for case in cases_at_the_start_of(doc) {
                let row = rows().into_iter().find(|(name, _)| name == case).expect("a row").1;
                assert!(
                    named(&row).any(|named| named == format!("{name}::{test}")),
                    "{case}: {name}::{test}"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "only {seen} cases were found");
}

/// `F33, F08: words` has two.
fn cases_at_the_start_of(doc: &str) -> impl Iterator<Item = &str> {
    let line = doc.lines().next().unwrap_or_default();
    let words = line.split([',', ' ', ':', ';']).filter(|word| !word.is_empty());
    words.take_while(|word| word.len() == 3 && word.starts_with('F'))
}

fn files() -> Vec<PathBuf> {
    let folder = fs::read_dir(tests().join("faults")).expect("a folder");
    let paths = folder.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

/// The body of each test of a file, by its name.
fn bodies(text: &str) -> Vec<(&str, &str)> {
    let body = |test| {
        let (before, rest): (&str, &str) = str::split_once(test, "fn ").expect("a function");
        let indent = before.rsplit('\n').next().unwrap_or_default();
        let end = rest.find(&format!("\n{indent}}}\n")).expect("an end");
        (rest.split_once('(').expect("a function").0, &rest[..end])
    };
    text.split("#[test]").skip(1).map(body).collect()
}

#[test]
fn every_case_is_followed_by_what_must_hold_after_it() {
    let helpers = ["assert_many_trivial_items_work(", "go_deep("];
    let mut seen = 0;
    for file in files() {
        let text = read(&file);
        for (name, body) in bodies(&text) {
            let has = |words: &[&str]| words.iter().chain(&helpers).any(|word| body.contains(word));
            let runs = has(&[
                ".run(",
                ".run_with(",
                ".run_tasks(",
                ".execute(",
                ".execute_batch(",
                ".run_async",
                ".stream_async(",
                "runs(",
            ]);
            let comes_back = has(&["within_a_minute(", "assert_ends_well(", "ended(", "assert_aborts("]);
            // Where the process has ended, nothing is left to hold; what cannot hold is named.
            let dies = has(&["ended(child("]);
            let survives = dies || has(&["assert_survived(", "assert_it_survived(", "// I5", "// I6"]);
            assert!(!runs || comes_back && survives, "{}: {name}", file.display());
            seen += usize::from(runs);
        }
    }
    assert!(seen > 60, "only {seen} tests were found");
}
