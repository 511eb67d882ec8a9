//! How often code says `unsafe`: blocks, impls and functions, in macros too. Not the types of unsafe functions, nor unsafe traits
//! and attributes: those only ask.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

pub fn count(tokens: TokenStream) -> usize {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let here = (0..tokens.len()).filter(|&at| is(&tokens[at], "unsafe") && does(&tokens[at + 1..])).count();
    here + tokens.into_iter().map(within).sum::<usize>()
}

fn within(token: TokenTree) -> usize {
    match token {
        TokenTree::Group(group) => count(group.stream()),
        _ => 0,
    }
}

/// Whether what follows `unsafe` is a block, an impl, or a function with a name.
fn does(rest: &[TokenTree]) -> bool {
    match rest {
        [TokenTree::Group(group), ..] => group.delimiter() == Delimiter::Brace,
        [first, ..] if is(first, "impl") => true,
        rest => matches!(behind_abi(rest), [first, TokenTree::Ident(_), ..] if is(first, "fn")),
    }
}

fn behind_abi(tokens: &[TokenTree]) -> &[TokenTree] {
    match tokens {
        [first, TokenTree::Literal(_), rest @ ..] | [first, rest @ ..] if is(first, "extern") => rest,
        tokens => tokens,
    }
}

fn is(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn counted(text: &str) -> usize {
        count(text.parse().expect("tokens"))
    }

    #[test]
    fn blocks_impls_and_functions_count() {
        assert_eq!(counted("fn a() { unsafe { b() } }"), 1);
        assert_eq!(counted("fn a() { unsafe { c!(unsafe { b() }) } }"), 2);
        assert_eq!(counted("unsafe impl<T> Send for A<T> {}"), 1);
        assert_eq!(counted("pub unsafe fn a() {}"), 1);
        assert_eq!(counted("trait A { unsafe fn b(); }"), 1);
        assert_eq!(counted("unsafe extern \"C\" fn a() {} unsafe extern fn b() {}"), 2);
    }

    #[test]
    fn what_only_asks_does_not_count() {
        assert_eq!(counted("type A = unsafe fn(u8); type B = unsafe extern \"C\" fn();"), 0);
        assert_eq!(counted("unsafe trait A {} #[unsafe(no_mangle)] fn a() {} unsafe extern \"C\" {}"), 0);
    }

    #[test]
    fn texts_and_comments_do_not_count() {
        assert_eq!(
            counted("fn a() { \"unsafe { b() }\"; /* unsafe { /* */ unsafe { } */ } // unsafe { }"),
            0
        );
    }
}
