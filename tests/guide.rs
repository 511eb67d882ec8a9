//! The pages of the guide and their index: their shape, their links for readers on a code host, and examples that show every line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide")
}

/// The texts of the pages and of their index by their paths, without the files of definitions for rustdoc.
fn pages() -> BTreeMap<PathBuf, String> {
    let files =
        fs::read_dir(guide()).expect("a folder of the repository").flatten().map(|entry| entry.path());
    let is_page =
        |path: &PathBuf| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("links"));
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).expect("a page is text"));
    let pages: BTreeMap<_, _> = files.filter(is_page).map(read).collect();
    assert!(pages.len() > 15);
    pages
}

/// The lines outside of examples, or the lines of examples in Rust.
fn lines(text: &str, of_examples: bool) -> Vec<&str> {
    let (mut open, mut is_rust, mut found) = (false, false, Vec::new());
    for line in text.lines() {
        if line.starts_with("```") {
            (open, is_rust) = (!open, line.starts_with("```rust"));
        } else if (open && is_rust && of_examples) || (!open && !of_examples) {
            found.push(line);
        }
    }
    found
}

/// A line `[label]: target`.
fn definition(line: &str) -> Option<(&str, &str)> {
    let (label, target) = line.strip_prefix('[')?.rsplit_once("]: ")?;
    (!target.contains(' ')).then_some((label, target))
}

#[test]
fn each_page_has_the_same_shape() {
    for (path, text) in pages().into_iter().filter(|(path, _)| !path.ends_with("README.md")) {
        let headings: Vec<_> =
            lines(&text, false).into_iter().filter(|line| line.starts_with("# ")).collect();
        let shape = ["# The lines that do it", "# What to know", "# Known limits"];
        // Recipes are lines and nothing else.
        let shape = if path.ends_with("recipes.md") { vec![shape[0], shape[2]] } else { shape.to_vec() };
        assert_eq!(headings, shape, "{}", path.display());
        assert!(text.starts_with(|first: char| first.is_uppercase()), "{}: what you want", path.display());
    }
}

#[test]
fn examples_hide_no_line() {
    for (path, text) in pages() {
        for line in lines(&text, true) {
            assert!(!line.trim_start().starts_with("# "), "{}: {line}", path.display());
        }
        assert!(!text.contains("\n```\nuse "), "{}: an example names its language", path.display());
    }
}

#[test]
fn links_lead_to_files_on_a_code_host_and_to_items_in_rustdoc() {
    let for_rustdoc: Vec<String> = ["links.md", "links_indicatif.md", "links_journal.md", "links_tokio.md"]
        .iter()
        .map(|name| fs::read_to_string(guide().join(name)).expect("definitions are text"))
        .collect();
    let for_rustdoc: BTreeMap<&str, &str> =
        for_rustdoc.iter().flat_map(|text| text.lines()).filter_map(definition).collect();
    let lower: BTreeMap<String, &str> =
        for_rustdoc.keys().map(|label| (label.to_lowercase(), *label)).collect();
    assert_eq!(lower.len(), for_rustdoc.len(), "Markdown takes labels that differ in case for the same");

    let (mut used, mut seen) = (BTreeSet::new(), 0);
    for (path, text) in pages() {
        assert!(!text.contains("](crate::"), "{}: a link that no code host knows", path.display());
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (label, target) in lines(&text, false).into_iter().filter_map(definition) {
            let file = path.with_file_name(target.split('#').next().unwrap_or_default());
            assert!(file.exists(), "{}: {target}", path.display());
            assert!(
                for_rustdoc.contains_key(label),
                "{}: no definition of {label} for rustdoc",
                path.display()
            );
            assert!(
                one_line.matches(&format!("[{label}]")).count() > 1,
                "{}: {label} is not used",
                path.display()
            );
            used.insert(label.to_owned());
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} links were found");
    for label in for_rustdoc.keys() {
        assert!(used.contains(*label), "no page uses {label}");
    }
}

/// rustdoc finds labels that have no definition when they stand alone; a code host shows their brackets.
#[test]
fn labels_in_code_have_definitions() {
    for (path, text) in pages() {
        let prose = lines(&text, false).join("\n");
        for (at, _) in prose.match_indices("[`") {
            let label = prose[at + 1..].split(']').next().unwrap_or_default();
            let after = &prose[at + 1 + label.len() + 1..];
            let label = match after.strip_prefix('[') {
                Some(explicit) => explicit.split(']').next().unwrap_or_default(),
                None => label,
            };
            let label = label.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(prose.contains(&format!("\n[{label}]: ")), "{}: {label}", path.display());
        }
    }
}
