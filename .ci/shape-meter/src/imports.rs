//! Which file imports which: the paths of [`names`](crate::names) led to the files whose modules they name.
//!
//! A path is led to the last module on it: `crate::a::b::Thing` to `a::b`, also where `b` only hands `Thing` on. The root is
//! another matter, since a crate's root is its front page: what it hands on is led to where it comes from, and only what it
//! declares itself, or brings in from another crate, or has from a macro, is led to the root.

use std::collections::BTreeMap;

use crate::names::{Named, Names, Scope};
use crate::tree::Module;

/// For a file that imports and one that it imports, by their numbers: the first line that does.
pub type Imports = BTreeMap<(usize, usize), usize>;

pub fn imports(names: &Names) -> Imports {
    let mut found = Imports::new();
    for Named { file, scope, path, line } in &names.named {
        let module = target(names, scope, path, DEEPEST);
        let files = module.iter().flat_map(|module| &names.scopes[module].files);
        for imported in files.filter(|imported| *imported != file) {
            found.entry((*file, *imported)).or_insert(*line);
        }
    }
    found
}

/// How many `use` items a path may lead through. `use a::a` leads through itself for ever.
const DEEPEST: usize = 8;

/// The module that a path names, seen from a scope. `None` for what is of another crate or no path to a module.
fn target(names: &Names, scope: &Module, path: &[String], deepest: usize) -> Option<Module> {
    let deepest = deepest.checked_sub(1)?;
    let (first, rest) = path.split_first()?;
    let (start, rest) = match first.as_str() {
        "crate" => (Module::new(), rest),
        "self" => (scope.clone(), rest),
        "super" => (parent(scope)?, rest),
        first if names.scopes.contains_key(&child(scope, first)) => (scope.clone(), path),
        first => {
            let bound = names.scopes.get(scope)?.bound.get(first)?;
            return target(names, scope, &[bound, rest].concat(), deepest);
        }
    };
    let (module, rest) = descend(names, start, rest)?;
    let handed_on = if module.is_empty() { through_root(names, rest, deepest) } else { None };
    handed_on.or(Some(module))
}

/// As far as there are modules, and what of the path is left.
fn descend<'p>(names: &Names, mut module: Module, mut path: &'p [String]) -> Option<(Module, &'p [String])> {
    while let Some((first, rest)) = path.split_first() {
        module = match child(&module, first) {
            _ if first == "super" => parent(&module)?,
            child if names.scopes.contains_key(&child) => child,
            _ => break,
        };
        path = rest;
    }
    Some((module, path))
}

/// Where the root has from what it hands on.
fn through_root(names: &Names, path: &[String], deepest: usize) -> Option<Module> {
    let (root, front) = (Module::new(), names.scopes.get(&Module::new())?);
    let (first, rest) = path.split_first()?;
    if let Some(bound) = front.bound.get(first) {
        return target(names, &root, &[bound, rest].concat(), deepest);
    }
    let mut from = front.globs.iter().filter_map(|glob| target(names, &root, glob, deepest));
    from.find(|module| has(&names.scopes[module], first))
}

fn has(scope: &Scope, name: &str) -> bool {
    scope.items.contains(name) || scope.bound.contains_key(name)
}

fn child(module: &Module, name: &str) -> Module {
    [module.as_slice(), &[name.to_owned()]].concat()
}

fn parent(module: &Module) -> Option<Module> {
    module.split_last().map(|(_, parent)| parent.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made_up;

    /// `b` is the text of a module beside `a`, `a::deep` and `d`.
    #[track_caller]
    fn imported_by(b: &str) -> Vec<String> {
        let root = "mod a; mod b; mod d; pub use a::{Thing, deep as shallow}; use d::*; pub use std::sync; pub struct Own;";
        let a = "mod deep; pub use self::deep::Other; pub struct Thing; pub mod inline { pub struct Inner; }";
        let files = [
            ("lib.rs", root),
            ("a.rs", a),
            ("b.rs", b),
            ("a/deep.rs", "pub struct Other;"),
            ("d.rs", "pub fn dig() {} pub struct Thing;"),
        ];
        let files = made_up(&files).expect("a crate");
        let module = |number: usize| files[number].module.join("::");
        let found = imports(&Names::of(&files));
        found.keys().filter(|(from, _)| module(*from) == "b").map(|(_, to)| module(*to)).collect()
    }

    #[test]
    fn a_path_leads_to_the_last_module_on_it() {
        assert_eq!(imported_by("use crate::a::deep::Other;"), ["a::deep"]);
        assert_eq!(imported_by("use crate::a::Other;"), ["a"], "which hands it on");
        assert_eq!(imported_by("use super::a::{deep};"), ["a::deep"]);
        assert_eq!(imported_by("use crate::d::Thing;"), ["d"], "another than the root hands on");
        assert_eq!(imported_by("fn f() { crate::a::inline::Inner; }"), ["a"]);
        assert_eq!(imported_by("mod c { use super::super::d::dig; }"), ["d"]);
        assert_eq!(imported_by("mod c { use super::g; } fn g() {}"), [""; 0]);
    }

    #[test]
    fn what_the_root_hands_on_is_imported_from_where_it_comes_from() {
        assert_eq!(imported_by("use crate::Thing;"), ["a"]);
        assert_eq!(imported_by("use super::shallow::Other;"), ["a::deep"]);
        assert_eq!(imported_by("fn f() { crate::dig() }"), ["d"]);
    }

    #[test]
    fn what_the_root_has_itself_is_imported_from_the_root() {
        assert_eq!(imported_by("use crate::Own;"), [""]);
        assert_eq!(imported_by("use crate::sync::Arc;"), [""]);
        assert_eq!(imported_by("use super::*;"), [""]);
        assert_eq!(imported_by("fn f() { crate::made_by_a_macro!() }"), [""]);
    }

    #[test]
    fn a_name_that_was_brought_in_leads_on() {
        assert_eq!(imported_by("use crate::a; fn f() { a::deep::g() }"), ["a::deep", "a"]);
        assert_eq!(imported_by("use crate::a as b; fn f(_: b::deep::Other) {}"), ["a::deep", "a"]);
    }

    #[test]
    fn of_a_module_with_two_files_both_are_imported_and_both_import() {
        let root = "mod a; #[cfg_attr(unix, path = \"c.rs\")] mod b;";
        let a = "use crate::b::B;";
        let files = [("lib.rs", root), ("a.rs", a), ("b.rs", "use crate::a;"), ("c.rs", "\nuse crate::a;")];
        let found = imports(&Names::of(&made_up(&files).expect("a crate")));
        assert_eq!(found, Imports::from([((0, 1), 1), ((0, 2), 1), ((1, 0), 2), ((2, 0), 1)]));
    }

    #[test]
    fn other_crates_and_names_that_lead_to_themselves_are_no_imports() {
        assert_eq!(
            imported_by(
                "use std::fmt; use e::e; use g::h as g; fn f() { fmt::a(); e::b(); Self::d(); a::deep(); }"
            ),
            [""; 0]
        );
    }
}
