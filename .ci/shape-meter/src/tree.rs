//! The files of a crate, found as the compiler finds them: by their `mod` declarations, from the first file on. What no
//! declaration leads to is not of the crate, and neither is what only tests lead to.

use std::path::{Path, PathBuf};
use std::slice;

use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Item, ItemMod, Lit, Meta, Token};

use crate::product::{self, Holds};

/// The names that lead to a module from the crate's root, which has none.
pub type Module = Vec<String>;

pub struct SourceFile {
    pub path: PathBuf,
    pub module: Module,
    pub text: String,
    /// Without its tests.
    pub syntax: syn::File,
}

/// Gives the text of a file, if there is such a file.
pub type Read<'r> = &'r dyn Fn(&Path) -> Option<String>;

/// All files of the crate that starts with `first`.
pub fn files(first: &Path, read: Read<'_>) -> Result<Vec<SourceFile>, String> {
    let mut tree = Tree { read, files: Vec::new() };
    tree.add(first, folder_of(first), Module::new())?;
    Ok(tree.files)
}

struct Tree<'r> {
    read: Read<'r>,
    files: Vec<SourceFile>,
}

impl Tree<'_> {
    /// Adds a file and what it declares. The files of its modules are in `below`.
    fn add(&mut self, path: &Path, below: &Path, module: Module) -> Result<(), String> {
        let text = (self.read)(path).ok_or_else(|| format!("{}: cannot be read", path.display()))?;
        let syntax = product::of(&text).map_err(|error| not_rust(path, &error))?;
        let Some(syntax) = syntax else { return Ok(()) };
        self.follow(&syntax.items, folder_of(path), below, &module)?;
        self.files.push(SourceFile { path: path.to_owned(), module, text, syntax });
        Ok(())
    }

    fn follow(&mut self, items: &[Item], beside: &Path, below: &Path, module: &Module) -> Result<(), String> {
        for item in items {
            if let Item::Mod(declared) = item {
                self.declared(declared, beside, below, module)?;
            }
        }
        Ok(())
    }

    fn declared(
        &mut self,
        declared: &ItemMod,
        beside: &Path,
        below: &Path,
        within: &Module,
    ) -> Result<(), String> {
        let name = declared.ident.unraw().to_string();
        let module = [within.as_slice(), slice::from_ref(&name)].concat();
        let folder = below.join(&name);
        if let Some((_, items)) = &declared.content {
            return self.follow(items, &folder, &folder, &module);
        }
        let elsewhere = elsewhere(declared);
        for (_, path) in elsewhere.iter().filter(|(holds, _)| *holds != Holds::Never) {
            let path = beside.join(path);
            self.add(&path, folder_of(&path), module.clone())?;
        }
        if elsewhere.iter().any(|(holds, _)| *holds == Holds::Always) {
            return Ok(());
        }
        let file = below.join(format!("{name}.rs"));
        let path = if (self.read)(&file).is_some() { file } else { folder.join("mod.rs") };
        self.add(&path, &folder, module)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn not_rust(path: &Path, error: &syn::Error) -> String {
    format!("{}:{}: {error}", path.display(), error.span().start().line)
}

/// The files of `#[path = ".."]`, which is the module's, and of `#[cfg_attr(.., path = "..")]`, which may be.
fn elsewhere(module: &ItemMod) -> Vec<(Holds, String)> {
    let always = |attribute: &Attribute| path_in(&attribute.meta).map(|path| (Holds::Always, path));
    module.attrs.iter().filter_map(|attribute| always(attribute).or_else(|| sometimes(attribute))).collect()
}

fn sometimes(attribute: &Attribute) -> Option<(Holds, String)> {
    let attribute = Some(attribute).filter(|attribute| attribute.path().is_ident("cfg_attr"))?;
    let parts = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let path = parts.iter().skip(1).find_map(path_in)?;
    Some((product::holds(parts.first()?), path))
}

fn path_in(meta: &Meta) -> Option<String> {
    match meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    }
}

/// A crate that somebody made up.
#[cfg(test)]
pub fn made_up(files_of_it: &[(&str, &str)]) -> Result<Vec<SourceFile>, String> {
    let read = |path: &Path| {
        let found = files_of_it.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    files(Path::new("lib.rs"), &read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn found(files_of_it: &[(&str, &str)]) -> Vec<String> {
        let files = made_up(files_of_it).expect("a crate");
        files.iter().map(|file| format!("{}={}", file.module.join("::"), file.path.display())).collect()
    }

    #[test]
    fn modules_are_found_where_the_compiler_looks() {
        let files = [
            ("lib.rs", "mod a; mod r#b; mod c { mod d; } #[path = \"x/y.rs\"] mod e;"),
            ("a.rs", "mod f;"),
            ("a/f.rs", ""),
            ("b/mod.rs", "mod g;"),
            ("b/g.rs", ""),
            ("c/d.rs", ""),
            ("x/y.rs", "mod h;"),
            ("x/h.rs", ""),
        ];
        let expected = [
            "a::f=a/f.rs",
            "a=a.rs",
            "b::g=b/g.rs",
            "b=b/mod.rs",
            "c::d=c/d.rs",
            "e::h=x/h.rs",
            "e=x/y.rs",
            "=lib.rs",
        ];
        assert_eq!(found(&files), expected);
    }

    #[test]
    fn a_module_of_two_files_has_both_unless_one_is_for_checkers() {
        let files = [
            (
                "lib.rs",
                "#[cfg_attr(not(unix), path = \"b.rs\")] mod a; #[cfg_attr(loom, path = \"d.rs\")] mod c;",
            ),
            ("a.rs", ""),
            ("b.rs", ""),
            ("c.rs", ""),
        ];
        assert_eq!(found(&files), ["a=b.rs", "a=a.rs", "c=c.rs", "=lib.rs"]);
    }

    #[test]
    fn what_only_tests_declare_is_not_there() {
        let files = [
            ("lib.rs", "#[cfg(all(test, loom))] mod a; #[cfg(test)] mod tests { mod b; } mod c; mod d;"),
            ("a.rs", ""),
            ("tests/b.rs", ""),
            ("c.rs", "#![cfg(test)] mod e;"),
            ("c/e.rs", ""),
            ("d.rs", ""),
            ("orphan.rs", ""),
        ];
        assert_eq!(found(&files), ["d=d.rs", "=lib.rs"]);
    }

    #[test]
    fn what_is_missing_or_no_rust_is_named() {
        let error = |files_of_it: &[(&str, &str)]| made_up(files_of_it).err().expect("no crate");
        assert_eq!(error(&[("lib.rs", "mod a;")]), "a/mod.rs: cannot be read");
        assert_eq!(error(&[("lib.rs", "\nfn {}")]), "lib.rs:2: expected identifier");
    }
}
