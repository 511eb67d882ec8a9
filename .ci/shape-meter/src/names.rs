//! What a file says about modules: the paths that it names, in its scopes, and what each scope declares.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Ident, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{Item, UseTree};

use crate::tree::{Module, SourceFile};

/// A path as it stands in the code, or the path to one of the things that a `use` brings in.
pub struct Named {
    /// The number of the file.
    pub file: usize,
    pub scope: Module,
    pub path: Vec<String>,
    pub line: usize,
}

/// What a module, be it a file or in braces, has.
#[derive(Default)]
pub struct Scope {
    /// The numbers of its files: of one, unless a `cfg` chooses.
    pub files: BTreeSet<usize>,
    /// Its items, by name.
    pub items: BTreeSet<String>,
    /// What its `use` items call the things that they bring in, and the paths to them.
    pub bound: BTreeMap<String, Vec<String>>,
    /// The paths before `::*`.
    pub globs: Vec<Vec<String>>,
}

/// Everything that the files of a crate say.
#[derive(Default)]
pub struct Names {
    pub scopes: BTreeMap<Module, Scope>,
    pub named: Vec<Named>,
}

impl Names {
    pub fn of(files: &[SourceFile]) -> Self {
        let mut names = Names::default();
        for (number, file) in files.iter().enumerate() {
            let mut reader = Reader { file: number, scope: file.module.clone(), names: &mut names };
            reader.enter(&file.syntax.items);
            reader.visit_file(&file.syntax);
        }
        names
    }
}

struct Reader<'n> {
    file: usize,
    scope: Module,
    names: &'n mut Names,
}

impl Reader<'_> {
    fn enter(&mut self, items: &[Item]) {
        let (file, scope) = (self.file, self.scope());
        scope.files.insert(file);
        scope.items.extend(items.iter().filter_map(name_of).map(name));
    }

    fn scope(&mut self) -> &mut Scope {
        self.names.scopes.entry(self.scope.clone()).or_default()
    }

    fn add(&mut self, path: Vec<String>, line: usize) {
        self.names.named.push(Named { file: self.file, scope: self.scope.clone(), path, line });
    }

    fn bind(&mut self, binding: String, path: Vec<String>, line: usize) {
        self.scope().bound.insert(binding, path.clone());
        self.add(path, line);
    }

    /// Goes down a `use` item; `before` is the path so far.
    fn follow(&mut self, tree: &UseTree, mut before: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(name(&path.ident));
                self.follow(&path.tree, before);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.follow(tree, before.clone())),
            UseTree::Name(last) => self.follow_name(&last.ident, None, before),
            UseTree::Rename(last) => self.follow_name(&last.ident, Some(&last.rename), before),
            UseTree::Glob(glob) => {
                self.scope().globs.push(before.clone());
                self.add(before, glob.star_token.span.start().line);
            }
        }
    }

    fn follow_name(&mut self, last: &Ident, rename: Option<&Ident>, mut path: Vec<String>) {
        if last != "self" || path.is_empty() {
            path.push(name(last));
        }
        let binding = rename.map(name).or_else(|| path.last().cloned());
        self.bind(binding.unwrap_or_default(), path, last.span().start().line);
    }

    /// Paths of two names or more in what a macro is given. `$crate` is as good as `crate`.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let path = path_at(&tokens[at..]);
            if path.len() > 1 {
                self.add(path.clone(), token.span().start().line);
            }
            if let TokenTree::Group(group) = token {
                self.scan(group.stream());
            }
            at += 1 + path.len().saturating_sub(1) * 3;
        }
    }
}

impl Visit<'_> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &syn::ItemMod) {
        let Some((_, items)) = &module.content else { return };
        self.scope.push(name(&module.ident));
        self.enter(items);
        visit::visit_item_mod(self, module);
        self.scope.pop();
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.follow(&item.tree, Vec::new());
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let first = path.segments.first().filter(|_| path.leading_colon.is_none() && path.segments.len() > 1);
        if let Some(first) = first {
            let names = path.segments.iter().map(|segment| name(&segment.ident)).collect();
            self.add(names, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &syn::Macro) {
        self.scan(invocation.tokens.clone());
        visit::visit_macro(self, invocation);
    }

    /// `pub(in crate::a)` says who may see something, and needs nothing of them.
    fn visit_vis_restricted(&mut self, _: &syn::VisRestricted) {}
}

/// The names from here on that `::` stands between.
fn path_at(tokens: &[TokenTree]) -> Vec<String> {
    match tokens {
        [TokenTree::Ident(first), TokenTree::Punct(a), TokenTree::Punct(b), rest @ ..]
            if (a.as_char(), b.as_char()) == (':', ':') && matches!(rest, [TokenTree::Ident(_), ..]) =>
        {
            [vec![name(first)], path_at(rest)].concat()
        }
        [TokenTree::Ident(last), ..] => vec![name(last)],
        _ => Vec::new(),
    }
}

fn name(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// Of an item that a path may lead to and that is no module.
fn name_of(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::TraitAlias(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made_up;

    #[track_caller]
    fn named(text: &str) -> Vec<String> {
        let names = Names::of(&made_up(&[("lib.rs", text)]).expect("a crate"));
        let written =
            |named: &Named| [named.scope.as_slice(), &["/".to_owned()], &named.path].concat().join(" ");
        names.named.iter().map(written).collect()
    }

    #[test]
    fn a_use_item_names_each_of_what_it_brings_in() {
        let text = "use a::{b, c::{self, d as e}, f::*}; use self::g; fn h() { use super::i; }";
        assert_eq!(named(text), ["/ a b", "/ a c", "/ a c d", "/ a f", "/ self g", "/ super i"]);
    }

    #[test]
    fn what_a_use_item_brings_in_has_the_name_that_it_gives() {
        let names = Names::of(&made_up(&[("lib.rs", "use a::{self, b as c, d::*};")]).expect("a crate"));
        let scope = &names.scopes[&Module::new()];
        let bound: Vec<String> =
            scope.bound.iter().map(|(name, path)| format!("{name}={}", path.join("::"))).collect();
        assert_eq!(bound, ["a=a", "c=a::b"]);
        assert_eq!(scope.globs, [["a", "d"]]);
    }

    #[test]
    fn paths_are_found_in_types_in_expressions_and_in_macros() {
        assert_eq!(named("fn a(b: c::D<e::F>) { g::h(); }"), ["/ c D", "/ e F", "/ g h"]);
        assert_eq!(
            named("fn a() { b!(c, d::e::f(g, h::i), [j::k::<l::m>()]); }"),
            ["/ d e f", "/ h i", "/ j k", "/ l m"]
        );
        assert_eq!(named("macro_rules! a { () => { $crate::b::c() } }"), ["/ crate b c"]);
    }

    #[test]
    fn a_module_in_braces_is_a_scope_of_its_own() {
        assert_eq!(named("mod a { use super::b; } use c::d;"), ["a / super b", "/ c d"]);
    }

    #[test]
    fn who_may_see_something_is_not_named_and_nor_is_another_crate() {
        assert_eq!(
            named(
                "pub(in crate::a) fn b() {} pub(crate) struct C(pub(super) u8); use ::d::e; fn f() { ::g::h() }"
            ),
            [""; 0]
        );
    }

    #[test]
    fn comments_and_texts_name_nothing() {
        assert_eq!(named("/// [`crate::a::B`]\nfn c() { \"crate::d::e\"; /* crate::f::g */ }"), [""; 0]);
    }
}
