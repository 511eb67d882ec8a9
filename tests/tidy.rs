//! The rules of the house, checked on the source: which layer may import which, where unsafe code stands, where panics are
//! caught, and what the repository must not contain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the ground up. A module may import those of earlier layers; none of its own layer, none of a later one.
const LAYERS: &[&[&str]] = &[
    &["sync", "seconds", "counts", "home"],
    &["panic", "thread_meter", "adaptive", "cancel", "clock", "listeners", "progress"],
    &["context"],
    &["error", "pool", "progress_bar", "retry"],
    &["journal_hook", "rate_limit", "shard", "timeline", "workers", "batch_error", "slots"],
    &["control", "limit", "result", "trace"],
    &["stream", "journal"],
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
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let name = parts.join("::").replace("::mod", "");
        Module { name, path, code: code_of(&text) }
    };
    // Scenarios for the model checkers, and what stands in for threads and locks there, are tests.
    let is_model = |path: &PathBuf| {
        let models = [
            "models.rs",
            "models/control.rs",
            "models/limits.rs",
            "models/streams.rs",
            "sync/model.rs",
            "schedule/tests.rs",
            "tests/orders.rs",
        ];
        models.iter().any(|model| path.ends_with(model))
    };
    files_below(&src, ".rs").into_iter().filter(|path| !is_model(path)).map(module).collect()
}

fn code_of(text: &str) -> String {
    let tests = [
        "#[cfg(test)]\nmod tests {",
        "#[cfg(test)]\n#[cfg(not(any(loom, shuttle)))]\nmod tests {",
        "#[cfg(all(test, target_os = \"linux\", not(any(loom, shuttle))))]\nmod tests {",
    ];
    let production = &text[..tests.iter().filter_map(|start| text.find(start)).min().unwrap_or(text.len())];
    let lines = production.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.map(|line| line.split(" // ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules of the crate's root that a module names.
fn imports(module: &Module) -> Vec<&str> {
    let paths = module.code.match_indices("crate::").map(|(at, start)| &module.code[at + start.len()..]);
    paths
        .map(|path| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .collect()
}

#[test]
fn imports_run_downwards() {
    let layer_of: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, names)| names.iter().map(move |name| (*name, layer)))
        .collect();
    let mut seen = 0;
    for module in modules() {
        let own = module.name.split("::").next().unwrap_or_default();
        if ["lib", "doctests", "guide"].contains(&own) {
            continue;
        }
        let layer = layer_of.get(own).unwrap_or_else(|| panic!("{own} has no layer"));
        for import in imports(&module).into_iter().filter(|import| *import != own) {
            let below =
                layer_of.get(import).unwrap_or_else(|| panic!("{}: {import} has no layer", module.name));
            assert!(below < layer, "{} imports {import}, which is not below it", module.name);
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} imports were found");
}

#[test]
fn the_schedule_knows_no_thread_no_lock_and_no_clock() {
    let parts: Vec<Module> =
        modules().into_iter().filter(|module| module.name.starts_with("engine::schedule")).collect();
    assert!(parts.len() > 5);
    for module in parts {
        for word in ["crate::sync", "Instant", "std::sync", "thread::", "unsafe"] {
            assert!(!module.code.contains(word), "{} has {word}", module.name);
        }
    }
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
fn unsafe_code_is_in_the_pool_and_the_slots_and_says_why() {
    let (mut places, mut arguments) = (BTreeMap::new(), 0);
    for module in modules() {
        let here = module.code.matches("unsafe {").count() + module.code.matches("unsafe impl").count();
        if here > 0 {
            let text = fs::read_to_string(&module.path).expect("source is text");
            arguments += text.matches("// SAFETY: ").count();
            places.insert(module.name.clone(), here);
        }
    }
    assert_eq!(places.keys().collect::<Vec<_>>(), ["pool", "slots"]);
    assert!(arguments > places.len(), "{arguments} arguments for {places:?}");
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

/// The names of the atomics that a module reads or writes in a relaxed way: what stands before `.load(` or the like.
fn relaxed(module: &Module) -> Vec<&str> {
    let before = module.code.match_indices("Ordering::Relaxed").map(|(at, _)| &module.code[..at]);
    let calls = [".load(", ".store(", ".swap(", ".fetch_add(", ".fetch_sub(", ".fetch_min(", ".fetch_max("];
    let call = |before: &'_ str| calls.iter().filter_map(|call| before.rfind(call)).max();
    before
        .map(|before| {
            let name = &before[..call(before).expect("a call of an atomic")];
            let name = name.strip_suffix("()").unwrap_or(name);
            name.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
        })
        .collect()
}

#[test]
fn what_orders_each_relaxed_atomic_is_said() {
    let text = fs::read_to_string(root().join("src/sync.rs")).expect("source is text");
    let mut seen = 0;
    for module in modules().iter().filter(|module| !module.name.starts_with("models")) {
        for name in relaxed(module) {
            assert!(text.contains(&format!("`{name}`")), "{}: sync.rs says nothing of {name}", module.name);
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} relaxed atomics were found");
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
    for number in 1..=12 {
        let start = format!("promise_{number:02}_");
        let found = files_below(&root().join("tests"), ".rs")
            .iter()
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
            .count();
        assert_eq!(found, 1, "tests/{start}*.rs");
    }
}
