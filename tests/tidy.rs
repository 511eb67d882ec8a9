//! The rules of the house, checked on the source: who may import whom, where the unsafe expression stands, where panics
//! are caught, and what the repository must not contain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the ground up. Each may import those of earlier rows; none its own row's, none a later one's.
const ROWS: &[&[&str]] = &[
    &["sync::real", "adaptive::number", "seconds"],
    &["timeline::span", "timeline::json", "journal::error", "journal::line"],
    &[
        "sync",
        "adaptive::crowd",
        "adaptive::ramp",
        "adaptive::share",
        "adaptive::course",
        "timeline::density",
    ],
    &["panic", "senses", "adaptive::estimate", "timeline::track"],
    &["timeline::recording"],
    &["timeline::stats", "timeline::trace"],
    &["timeline::page"],
    &["timeline"],
    &["error", "cancel", "context", "retry", "adaptive::cohort"],
    &["result", "workers", "rate_limit", "shard", "adaptive", "keep", "journal::disk", "journal::recovery"],
    &["journal::plan", "journal::writer"],
    &["journal::notebook"],
    &["journal::merge", "journal::journaled"],
    &["journal"],
    &["batch_error", "progress", "pool::latch", "adaptive::trial"],
    &["pool::roster", "stream", "progress_bar"],
    &["pool"],
    &["engine::pace", "engine::collect", "engine::chunk", "engine::tally"],
    &["engine::pause", "engine::waiting", "engine::numbers", "engine::work", "engine::supply"],
    &["engine::limits", "engine::record", "engine::event"],
    &["engine::events", "engine::nobody"],
    &["engine::crew", "engine::window"],
    &["engine::stop", "engine::carve", "engine::slots"],
    &["engine::worker", "engine::outlet"],
    &["engine::job"],
    &["engine::stint", "engine::tray"],
    &["engine::retrying"],
    &["engine::shift"],
    &["engine::coordinate"],
    &["engine::inlet"],
    &["engine::stream"],
    &["engine"],
    &["batch"],
    &["executor"],
];

/// Lines in a body. Most have three; one in twenty may have thirty.
const LONGEST_BODY: usize = 45;

struct Module {
    name: String,
    path: PathBuf,
    /// Without comments and without the unit tests.
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

fn modules() -> Vec<Module> {
    let src = root().join("src");
    let module = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("source is text");
        let inside = path.strip_prefix(&src).expect("below src").with_extension("");
        let name = inside.to_string_lossy().replace('/', "::").replace("::mod", "");
        Module { name, path, code: code_of(&text) }
    };
    // Scenarios for the model checkers, and what stands in for threads and locks there, are tests.
    let is_model = |path: &PathBuf| {
        let models = ["models.rs", "models/control.rs", "models/streams.rs", "sync/model.rs"];
        models.iter().any(|model| path.ends_with(model))
    };
    files_below(&src, ".rs").into_iter().filter(|path| !is_model(path)).map(module).collect()
}

fn code_of(text: &str) -> String {
    let tests = [
        "#[cfg(test)]\nmod tests",
        "#[cfg(all(test, target_os = \"linux\", not(any(loom, shuttle))))]\nmod tests",
    ];
    let production = &text[..tests.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len())];
    let lines = production.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| line.split(" // ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules that a module names, by `crate::`, `super::`, or as its child.
fn imports(module: &Module, names: &[&str]) -> Vec<String> {
    let parent = module.name.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = Vec::new();
    for (start, within) in [
        ("crate::", ""),
        ("super::", parent),
        ("use ", module.name.as_str()),
        ("self::", module.name.as_str()),
    ] {
        for (at, _) in module.code.match_indices(start) {
            let rest = &module.code[at + start.len()..];
            let path: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
            let full = if within.is_empty() { path } else { format!("{within}::{path}") };
            let longest =
                names.iter().filter(|name| is_or_is_within(&full, name)).max_by_key(|name| name.len());
            match longest {
                Some(name) => found.push((*name).to_owned()),
                None if ["use ", "self::"].contains(&start) => {}
                None => panic!("{}: `{start}{full}` names no module of ROWS", module.path.display()),
            }
        }
    }
    found
}

fn is_or_is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn imports_run_downwards_and_never_through_the_root() {
    let row_of: BTreeMap<&str, usize> =
        ROWS.iter().enumerate().flat_map(|(row, names)| names.iter().map(move |name| (*name, row))).collect();
    let names: Vec<&str> = row_of.keys().copied().collect();
    let mut seen = 0;
    for module in
        modules().iter().filter(|module| !["lib", "doctests", "guide"].contains(&module.name.as_str()))
    {
        let row = row_of.get(module.name.as_str()).unwrap_or_else(|| panic!("{} has no row", module.name));
        for import in imports(module, &names).iter().filter(|import| **import != module.name) {
            assert!(
                row_of[import.as_str()] < *row,
                "{} imports {import}, which is not below it",
                module.name
            );
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} imports were found");
}

#[test]
fn the_front_page_has_no_logic() {
    let lib = modules().into_iter().find(|module| module.name == "lib").expect("there is a lib.rs");
    for line in lib.code.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let declares = ["mod ", "pub use ", "pub mod ", "#![", "#[cfg(", "#[cfg_attr("]
            .iter()
            .any(|start| line.starts_with(start));
        assert!(declares, "lib.rs: {line}");
    }
}

#[test]
fn two_expressions_are_unsafe_one_in_the_pool_and_one_in_the_slots() {
    let mut places: Vec<String> = modules()
        .iter()
        .flat_map(|module| module.code.matches("unsafe {").map(|_| module.name.clone()))
        .collect();
    places.sort();
    assert_eq!(places, ["engine::slots", "pool"]);
}

#[test]
fn panics_are_caught_and_let_go_in_one_place() {
    for module in modules() {
        let catches = ["catch_unwind", "resume_unwind"].iter().any(|name| module.code.contains(name));
        assert_eq!(catches, module.name == "panic", "{}", module.path.display());
    }
}

#[test]
fn locks_are_those_that_ignore_poison() {
    for module in modules().iter().filter(|module| module.name != "sync::real") {
        let poisons = |line: &&str| {
            line.contains("std::sync")
                && ["Mutex", "RwLock", "Condvar"].iter().any(|name| line.contains(name))
        };
        assert_eq!(module.code.lines().find(poisons), None, "{}", module.path.display());
    }
}

#[test]
fn every_file_opens_with_a_sentence_that_says_what_it_is() {
    for module in modules() {
        let text = fs::read_to_string(&module.path).expect("source is text");
        assert!(text.starts_with("//! "), "{}", module.path.display());
    }
}

#[test]
fn bodies_are_short() {
    for module in modules() {
        let (mut start, mut open) = (None, String::new());
        for (number, line) in module.code.lines().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            if start.is_none() && line.contains("fn ") && line.ends_with('{') {
                (start, open) = (Some(number), indent.to_owned());
            } else if let Some(first) = start.filter(|_| line == format!("{open}}}")) {
                let length = number - first - 1;
                assert!(
                    length <= LONGEST_BODY,
                    "{}: a body of {length} lines, {line}",
                    module.path.display()
                );
                start = None;
            }
        }
    }
}

#[test]
fn the_repository_names_no_machine_and_no_registry() {
    // Put together here, so that this file does not contain what it looks for.
    let forbidden = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/ho", "me/"].concat(),
        ["crates", ".io"].concat(),
        ["docs", ".rs/"].concat(),
        ["py", "pi.org"].concat(),
        ["npm", "js.com"].concat(),
    ];
    let mut files: Vec<PathBuf> = ["src", "tests", "examples", "benches", ".ci", "batch-executor-redis"]
        .iter()
        .filter(|folder| root().join(folder).is_dir())
        .flat_map(|folder| files_below(&root().join(folder), ""))
        .filter(|path| !path.components().any(|part| part.as_os_str() == "target"))
        .filter(|path| path.file_name().is_none_or(|name| name != "Cargo.lock"))
        .collect();
    files.extend(
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "DESIGN.md", "Cargo.toml"]
            .map(|name| root().join(name)),
    );
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for word in &forbidden {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}

#[test]
fn every_promise_has_a_file_of_tests() {
    for number in 1..=10 {
        let start = format!("promise_{number:02}_");
        let found = files_below(&root().join("tests"), ".rs")
            .iter()
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
            .count();
        assert_eq!(found, 1, "tests/{start}*.rs");
    }
}
