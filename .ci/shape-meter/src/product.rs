//! What of a file is in a user's build: the file without its tests, and without what only docs and checkers see.

use std::mem;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, File, Meta, Token};

/// What no user's build sets.
const NEVER_SET: [&str; 7] = ["test", "doc", "doctest", "loom", "shuttle", "miri", "kani"];

/// `None` if nothing is left, because the file as a whole is for tests.
pub fn of(text: &str) -> syn::Result<Option<File>> {
    let mut file: File = syn::parse_str(text)?;
    if file.attrs.iter().any(is_for_tests) {
        return Ok(None);
    }
    Product.visit_file_mut(&mut file);
    Ok(Some(file))
}

/// Takes out of a tree what is for tests.
struct Product;

impl VisitMut for Product {
    fn visit_file_mut(&mut self, file: &mut File) {
        keep(&mut file.items);
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            keep(items);
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        keep(&mut item.items);
        visit_mut::visit_item_impl_mut(self, item);
    }

    fn visit_item_trait_mut(&mut self, item: &mut syn::ItemTrait) {
        keep(&mut item.items);
        visit_mut::visit_item_trait_mut(self, item);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        keep(&mut block.stmts);
        visit_mut::visit_block_mut(self, block);
    }

    fn visit_expr_match_mut(&mut self, expr: &mut syn::ExprMatch) {
        keep(&mut expr.arms);
        visit_mut::visit_expr_match_mut(self, expr);
    }

    fn visit_fields_named_mut(&mut self, fields: &mut syn::FieldsNamed) {
        keep_listed(&mut fields.named);
        visit_mut::visit_fields_named_mut(self, fields);
    }

    fn visit_expr_struct_mut(&mut self, expr: &mut syn::ExprStruct) {
        keep_listed(&mut expr.fields);
        visit_mut::visit_expr_struct_mut(self, expr);
    }

    fn visit_item_enum_mut(&mut self, item: &mut syn::ItemEnum) {
        keep_listed(&mut item.variants);
        visit_mut::visit_item_enum_mut(self, item);
    }
}

fn keep<T: ToTokens>(nodes: &mut Vec<T>) {
    nodes.retain(is_product);
}

fn keep_listed<T: ToTokens>(nodes: &mut Punctuated<T, Token![,]>) {
    *nodes = mem::take(nodes).into_pairs().filter(|pair| is_product(pair.value())).collect();
}

fn is_product(node: &impl ToTokens) -> bool {
    !attributes(node).iter().any(is_for_tests)
}

/// Those before the node. Its tokens begin with them, whatever it is.
fn attributes(node: &impl ToTokens) -> Vec<Attribute> {
    let before = |input: ParseStream| {
        let attributes = Attribute::parse_outer(input)?;
        input.parse::<TokenStream>()?;
        Ok(attributes)
    };
    before.parse2(node.to_token_stream()).unwrap_or_default()
}

/// `#[test]`, `#[bench]`, such by the path of some crate, or a `cfg` that no user's build meets.
fn is_for_tests(attribute: &Attribute) -> bool {
    let path = attribute.path();
    let is_test = path.segments.last().is_some_and(|last| last.ident == "test" || last.ident == "bench");
    let condition = || attribute.parse_args::<Meta>().map_or(Holds::Sometimes, |meta| holds(&meta));
    is_test || (path.is_ident("cfg") && condition() == Holds::Never)
}

/// In which users' builds a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    Never,
    Sometimes,
    Always,
}

pub fn holds(condition: &Meta) -> Holds {
    match condition {
        Meta::Path(name) if NEVER_SET.iter().any(|never| name.is_ident(never)) => Holds::Never,
        Meta::List(list) => holds_of_list(list).unwrap_or(Holds::Sometimes),
        _ => Holds::Sometimes,
    }
}

fn holds_of_list(list: &syn::MetaList) -> syn::Result<Holds> {
    let inner = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)?;
    let inner = inner.iter().map(holds);
    Ok(match list.path.require_ident()?.to_string().as_str() {
        "all" => inner.min().unwrap_or(Holds::Always),
        "any" => inner.max().unwrap_or(Holds::Never),
        "not" => inner.map(opposite).min().unwrap_or(Holds::Sometimes),
        _ => Holds::Sometimes,
    })
}

fn opposite(holds: Holds) -> Holds {
    match holds {
        Holds::Never => Holds::Always,
        Holds::Sometimes => Holds::Sometimes,
        Holds::Always => Holds::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is_left(text: &str) -> bool {
        let file = of(text).expect("Rust").expect("a product");
        file.to_token_stream().to_string().contains("gone")
    }

    #[test]
    fn tests_are_left_out_wherever_they_stand() {
        for text in [
            "#[cfg(test)] mod gone;",
            "#[cfg(test)] mod gone {}",
            "mod a { #[test] fn gone() {} }",
            "#[tokio::test] async fn gone() {}",
            "#[bench] fn gone() {}",
            "impl A { #[cfg(test)] fn gone() {} }",
            "trait A { #[cfg(test)] fn gone() {} }",
            "fn a() { #[cfg(test)] gone(); }",
            "fn a() { match b { #[cfg(test)] gone => (), _ => () } }",
            "struct A { #[cfg(test)] gone: u8, b: u8 }",
            "fn a() { A { #[cfg(test)] gone: 1, b: 2 } }",
            "enum A { B, #[cfg(test)] B2(gone) }",
        ] {
            assert!(!is_left(text), "{text}");
        }
    }

    #[test]
    fn a_condition_decides_as_a_whole() {
        for (condition, left) in [
            ("test", false),
            ("loom", false),
            ("all(test, unix)", false),
            ("all(unix, any(loom, shuttle))", false),
            ("not(not(test))", false),
            ("not(any(unix, not(test)))", false),
            ("any(test, unix)", true),
            ("not(test)", true),
            ("not(any(loom, shuttle))", true),
            ("feature = \"test\"", true),
            ("all(unix, windows)", true),
        ] {
            assert_eq!(is_left(&format!("#[cfg({condition})] fn gone() {{}}")), left, "{condition}");
        }
    }

    #[test]
    fn a_file_that_says_it_is_for_tests_is_none() {
        assert!(of("#![cfg(test)] fn a() {}").expect("Rust").is_none());
        assert!(of("#![cfg(unix)] fn a() {}").expect("Rust").is_some());
    }

    #[test]
    fn an_attribute_that_only_mentions_tests_takes_nothing_out() {
        assert!(is_left("#[doc(test(no_crate_inject))] #[cfg_attr(test, allow(dead_code))] fn gone() {}"));
    }
}
