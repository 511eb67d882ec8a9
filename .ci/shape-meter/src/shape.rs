//! The numbers of a folder of sources.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use quote::ToTokens;

use crate::body::{self, Body};
use crate::cycles::cycles;
use crate::imports::imports;
use crate::lines::Lines;
use crate::names::Names;
use crate::tree::{self, SourceFile};
use crate::unsafety;

#[derive(Default)]
pub struct Shape {
    pub name: String,
    pub version: String,
    /// Those with code in them.
    pub files: usize,
    pub lines: usize,
    /// The longest first, each with its file.
    pub bodies: Vec<(PathBuf, Body)>,
    pub cycles: Vec<Cycle>,
    pub unsafes: usize,
}

/// Files that reach each other by imports.
pub struct Cycle {
    pub modules: Vec<String>,
    pub imports: Vec<String>,
}

impl Shape {
    /// Of a package, or of a folder with sources. Its crates start with `lib.rs` and `main.rs`, and where there is neither, with
    /// each of the files.
    pub fn of(folder: &Path) -> Result<Self, String> {
        let src = folder.join("src");
        let sources = if src.is_dir() { &src } else { folder };
        let (name, version) = name_and_version(folder);
        let mut shape = Shape { name, version, ..Shape::default() };
        for first in first_files(sources)? {
            shape.add(&tree::files(&first, &|path| fs::read_to_string(path).ok())?);
        }
        shape.bodies.sort_by_key(|(_, body)| Reverse(body.lines));
        shape.bodies.iter_mut().for_each(|(path, _)| *path = relative(path, folder));
        Ok(shape)
    }

    fn add(&mut self, files: &[SourceFile]) {
        for file in files {
            let lines = Lines::of(&file.text);
            let count = lines.count(file.syntax.to_token_stream());
            self.files += usize::from(count > 0);
            self.lines += count;
            self.unsafes += unsafety::count(file.syntax.to_token_stream());
            let bodies = body::bodies(&file.syntax, &lines);
            self.bodies.extend(bodies.into_iter().map(|body| (file.path.clone(), body)));
        }
        self.cycles.extend(cycles_of(files));
    }

    /// The least number of lines that so many bodies of a hundred have at most. So half of four bodies have what the second
    /// shortest has.
    pub fn at_most(&self, percent: usize) -> usize {
        let above = self.bodies.len() * (100 - percent) / 100;
        self.bodies.get(above).map_or(0, |(_, body)| body.lines)
    }

    pub fn longer_than(&self, lines: usize) -> usize {
        self.bodies.iter().filter(|(_, body)| body.lines > lines).count()
    }
}

fn cycles_of(files: &[SourceFile]) -> Vec<Cycle> {
    let found = imports(&Names::of(files));
    let name = |file: &usize| match files[*file].module.as_slice() {
        [] => "the root".to_owned(),
        module => module.join("::"),
    };
    let within = |cycle: &BTreeSet<usize>| Cycle {
        modules: cycle.iter().map(name).collect(),
        imports: found
            .iter()
            .filter(|((from, to), _)| cycle.contains(from) && cycle.contains(to))
            .map(|((from, to), line)| format!("{} imports {} in line {line}", name(from), name(to)))
            .collect(),
    };
    cycles(&found).iter().map(within).collect()
}

fn first_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = first_of(entries.flatten().map(|entry| entry.path()).collect());
    if files.is_empty() { Err(format!("{}: no Rust files", folder.display())) } else { Ok(files) }
}

fn first_of(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_first = |path: &PathBuf| path.ends_with("lib.rs") || path.ends_with("main.rs");
    files.retain(|path| path.extension().is_some_and(|ending| ending == "rs"));
    if files.iter().any(is_first) {
        files.retain(is_first);
    }
    files.sort();
    files
}

fn relative(path: &Path, folder: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).to_owned()
}

/// As its `Cargo.toml` has them; of a folder without one, its name.
fn name_and_version(folder: &Path) -> (String, String) {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let name = value(&manifest, "name").unwrap_or_else(|| folder.display().to_string());
    (name, value(&manifest, "version").unwrap_or_else(|| "-".to_owned()))
}

/// The text that a key has in the section `[package]`.
fn value(manifest: &str, key: &str) -> Option<String> {
    let (_, package) = manifest.split_once("[package]")?;
    let section = package.lines().take_while(|line| !line.starts_with('['));
    let mut pairs = section.filter_map(|line| line.split_once('='));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made_up;

    fn with_bodies(lines: &[usize]) -> Shape {
        let body = |lines: &usize| (PathBuf::new(), Body { name: String::new(), line: 1, lines: *lines });
        Shape { bodies: lines.iter().map(body).collect(), ..Shape::default() }
    }

    #[test]
    fn a_crate_starts_with_its_lib_or_main_and_else_each_file_is_one() {
        let first = |names: &[&str]| first_of(names.iter().map(PathBuf::from).collect());
        assert_eq!(
            first(&["a/main.rs", "a/b.rs", "a/lib.rs"]),
            [Path::new("a/lib.rs"), Path::new("a/main.rs")]
        );
        assert_eq!(first(&["b.rs", "a.rs", "c.md", "d"]), [Path::new("a.rs"), Path::new("b.rs")]);
    }

    #[test]
    fn half_of_the_bodies_and_nine_in_ten_have_at_most() {
        let ten = with_bodies(&[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!((ten.at_most(50), ten.at_most(90)), (5, 9));
        let three = with_bodies(&[30, 20, 10]);
        assert_eq!((three.at_most(50), three.at_most(90)), (20, 30));
        assert_eq!(with_bodies(&[]).at_most(90), 0);
        assert_eq!(ten.longer_than(8), 2);
    }

    #[test]
    fn a_made_up_crate_has_the_numbers_that_were_counted_by_hand() {
        let root = "//! A.\n\nmod a;\nmod b;\n\nfn c() {\n    // D.\n    unsafe { a::e() }\n}\n\n#[cfg(test)]\nmod tests {\n    fn f() { unsafe {} }\n}\n";
        let a = "use crate::b::G;\n\npub unsafe fn e() {\n    G;\n    \"\n\n\";\n}\n";
        let b = "use super::a::e;\nuse crate::h as outside;\n\npub struct G;\n";
        let comments = "//! Nothing.\n";
        let files =
            made_up(&[("lib.rs", &format!("mod h;{root}")), ("a.rs", a), ("b.rs", b), ("h.rs", comments)]);
        assert!(files.is_err(), "a doc comment behind code");
        let root = format!("{root}mod h;\n");
        let files =
            made_up(&[("lib.rs", &root), ("a.rs", a), ("b.rs", b), ("h.rs", comments)]).expect("a crate");
        let mut shape = Shape::default();
        shape.add(&files);
        assert_eq!((shape.files, shape.lines, shape.unsafes), (3, 6 + 6 + 3, 2));
        let bodies: Vec<(&str, usize)> =
            shape.bodies.iter().map(|(_, body)| (body.name.as_str(), body.lines)).collect();
        assert_eq!(bodies, [("e", 3), ("c", 1)]);
        let [cycle] = shape.cycles.as_slice() else { panic!("{} cycles", shape.cycles.len()) };
        assert_eq!(cycle.modules, ["a", "b"]);
        assert_eq!(cycle.imports, ["a imports b in line 1", "b imports a in line 1"]);
    }

    #[test]
    fn a_package_has_the_name_and_version_of_its_manifest() {
        let manifest = "# name = \"a\"\n[package]\nname = \"b\"\nversion = \"1.2.3\"\n\n[[bin]]\nname = \"c\"\nlicense = \"d\"\n";
        assert_eq!(value(manifest, "name").as_deref(), Some("b"));
        assert_eq!(value(manifest, "version").as_deref(), Some("1.2.3"));
        assert_eq!(value(manifest, "license"), None);
    }
}
