//! The bodies of functions and how long they are.
//!
//! A body's lines are the lines of code between its braces. So one on the line of its `fn` has 1, an empty one 0, and a nested
//! function's lines are also those of the function around it. A closure is no function. A function that a macro makes, or that
//! stands in an invocation of a macro, is not seen.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Block, Ident, Signature};

use crate::lines::Lines;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Behind its type or trait.
    pub name: String,
    /// Where its name stands in the file.
    pub line: usize,
    pub lines: usize,
}

pub fn bodies(file: &syn::File, lines: &Lines<'_>) -> Vec<Body> {
    let mut finder = Finder { lines, owner: None, found: Vec::new() };
    finder.visit_file(file);
    finder.found
}

struct Finder<'t> {
    lines: &'t Lines<'t>,
    /// The type or trait that the functions are of.
    owner: Option<Ident>,
    found: Vec<Body>,
}

impl Finder<'_> {
    fn add(&mut self, signature: &Signature, block: &Block) {
        let inside: TokenStream = block.stmts.iter().map(ToTokens::to_token_stream).collect();
        let name = match &self.owner {
            Some(owner) => format!("{owner}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        let line = signature.ident.span().start().line;
        self.found.push(Body { name, line, lines: self.lines.count(inside) });
    }

    fn within(&mut self, owner: Option<Ident>, visit: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.owner, owner);
        visit(self);
        self.owner = outer;
    }
}

impl Visit<'_> for Finder<'_> {
    fn visit_item_fn(&mut self, function: &syn::ItemFn) {
        self.within(None, |this| {
            this.add(&function.sig, &function.block);
            visit::visit_item_fn(this, function);
        });
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_impl(&mut self, item: &syn::ItemImpl) {
        self.within(name_of(&item.self_ty), |this| visit::visit_item_impl(this, item));
    }

    fn visit_item_trait(&mut self, item: &syn::ItemTrait) {
        self.within(Some(item.ident.clone()), |this| visit::visit_item_trait(this, item));
    }
}

fn name_of(mut of: &syn::Type) -> Option<Ident> {
    while let syn::Type::Reference(reference) = of {
        of = &reference.elem;
    }
    let syn::Type::Path(path) = of else { return None };
    path.path.segments.last().map(|last| last.ident.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn found(text: &str) -> Vec<(String, usize)> {
        let file = syn::parse_str(text).expect("Rust");
        bodies(&file, &Lines::of(text)).into_iter().map(|body| (body.name, body.lines)).collect()
    }

    #[track_caller]
    fn lengths(text: &str) -> Vec<usize> {
        found(text).into_iter().map(|(_, lines)| lines).collect()
    }

    #[test]
    fn a_body_on_the_line_of_its_fn_has_one_line_and_an_empty_one_none() {
        assert_eq!(lengths("fn a() { 1 }"), [1]);
        assert_eq!(lengths("fn a() {}"), [0]);
        assert_eq!(lengths("fn a() {\n    // Nothing.\n\n}"), [0]);
    }

    #[test]
    fn a_body_is_what_is_between_its_braces() {
        assert_eq!(
            lengths("fn a(\n    b: u8,\n)\n{\n    b;\n\n    // c\n    if b {\n        d\n    }\n}\n"),
            [4]
        );
    }

    #[test]
    fn a_fn_without_a_body_is_none() {
        assert_eq!(lengths("trait A { fn b(); } extern \"C\" { fn c(); } type D = fn(); "), [0; 0]);
    }

    #[test]
    fn functions_are_named_by_what_they_belong_to() {
        let text = "fn a() {} impl<T> B<T> { fn b() {} } impl C for &D { fn c() { fn d() {} } } trait E { fn e() { 1 } fn f(); }";
        let names: Vec<String> = found(text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "B::b", "D::c", "d", "E::e"]);
    }

    #[test]
    fn a_nested_function_counts_for_itself_and_for_the_one_around_it() {
        assert_eq!(lengths("fn a() {\n    fn b() {\n        1\n    }\n    b()\n}"), [4, 1]);
    }

    #[test]
    fn closures_and_macros_have_no_bodies() {
        let text = "fn a() {\n    let b = |c| {\n        c\n    };\n}\nmacro_rules! d { () => { fn e() { 1 } } }\nf! { fn g() { 1 } }";
        assert_eq!(lengths(text), [3]);
    }

    #[test]
    fn a_body_is_found_where_its_name_stands() {
        let text = "\n#[inline]\npub\nfn a() {}";
        assert_eq!(bodies(&syn::parse_str(text).expect("Rust"), &Lines::of(text))[0].line, 4);
    }
}
