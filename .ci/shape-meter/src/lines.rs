//! Lines of code: those that a token stands on. A blank line is none, also within a text of several lines, and a line that has
//! only a comment is none.

use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::{Span, TokenStream, TokenTree};

/// The lines of a file.
pub struct Lines<'t> {
    text: &'t str,
    blank: BTreeSet<usize>,
}

impl<'t> Lines<'t> {
    pub fn of(text: &'t str) -> Self {
        let numbered = (1..).zip(text.lines());
        let blank = numbered.filter(|(_, line)| line.trim().is_empty()).map(|(number, _)| number).collect();
        Lines { text, blank }
    }

    /// How many lines these tokens stand on.
    pub fn count(&self, tokens: TokenStream) -> usize {
        let mut found = BTreeSet::new();
        self.find(tokens, &mut found);
        found.difference(&self.blank).count()
    }

    fn find(&self, tokens: TokenStream, found: &mut BTreeSet<usize>) {
        for token in tokens.into_iter().filter(|token| self.is_code(token.span())) {
            match token {
                TokenTree::Group(group) => {
                    found.extend(written_on(group.span_open()));
                    self.find(group.stream(), found);
                    found.extend(written_on(group.span_close()));
                }
                token => found.extend(written_on(token.span())),
            }
        }
    }

    /// Doc comments are tokens, too: those of an attribute, each of which stands where the comment does.
    fn is_code(&self, span: Span) -> bool {
        let at = span.byte_range();
        at.is_empty() || !["//", "/*"].iter().any(|start| self.text[at.start..].starts_with(start))
    }
}

/// The lines from a token's first to its last. Some tokens stand nowhere: the parser has put them in.
fn written_on(span: Span) -> Range<usize> {
    if span.byte_range().is_empty() { 0..0 } else { span.start().line..span.end().line + 1 }
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;

    use super::*;

    #[track_caller]
    fn lines(text: &str) -> usize {
        let file: syn::File = syn::parse_str(text).expect("Rust");
        Lines::of(text).count(file.to_token_stream())
    }

    #[test]
    fn blank_lines_and_comments_are_no_code() {
        assert_eq!(
            lines("//! a\n\n// b\n/* c\n/* d */ fn e() {}\n*/\n/// f\n/** g\n*/\nfn h() {} // i\n"),
            1
        );
    }

    #[test]
    fn comments_in_a_macro_are_no_code() {
        assert_eq!(
            lines("macro_rules! a {\n    () => {\n        /// b\n        // c\n        fn d() {}\n    };\n}"),
            5
        );
    }

    #[test]
    fn what_looks_like_a_comment_in_a_text_is_code() {
        assert_eq!(lines("const A: &str = \"\n// b\n/* c\n\";\n"), 4);
        assert_eq!(lines("const A: &str = r#\"\"//\n\n/*\"#;\n"), 2);
    }

    #[test]
    fn lifetimes_and_characters_are_code_and_open_no_text() {
        assert_eq!(lines("fn a<\n'b,\n// '\n'c,\n>() {\n'\\''\n;\n'\"'\n; b'/' }"), 8);
    }

    #[test]
    fn an_attribute_is_code_and_so_is_a_brace_alone() {
        assert_eq!(lines("#[doc = \"a\"]\n#[inline]\nfn b()\n{\n}\n"), 5);
    }

    #[test]
    fn letters_of_several_bytes_shift_nothing() {
        assert_eq!(lines("const A: &str = \"äöü…\"; // ß\n// ß\n/// ß\nfn b() {}\n"), 2);
    }
}
