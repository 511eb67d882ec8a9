//! Just enough JSON to write what a page or a trace reads: texts, and lists.

use std::fmt;

/// A text as JSON, safe inside a `<script>` too: what could end it or start another is written as an escape.
pub(super) struct Text<'t>(pub(super) &'t str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        let mut written = 0;
        for (at, c) in self.0.char_indices().filter(|(_, c)| must_be_escaped(*c)) {
            f.write_str(&self.0[written..at])?;
            write_escaped(f, c)?;
            written = at + c.len_utf8();
        }
        f.write_str(&self.0[written..])?;
        f.write_str("\"")
    }
}

fn must_be_escaped(c: char) -> bool {
    matches!(c, '"' | '\\' | '<' | '>' | '&' | '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{2028}' | '\u{2029}')
}

fn write_escaped(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '"' => f.write_str("\\\""),
        '\\' => f.write_str("\\\\"),
        c => write!(f, "\\u{:04x}", u32::from(c)),
    }
}

/// Values whose texts are JSON, as a list of it.
#[derive(Clone)]
pub(super) struct List<V>(pub(super) V);

impl<V: IntoIterator<Item: fmt::Display> + Clone> fmt::Display for List<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "[";
        for value in self.0.clone() {
            write!(f, "{separator}{value}")?;
            separator = ",";
        }
        f.write_str(if separator == "[" { "[]" } else { "]" })
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_text_or_a_script_is_escaped() {
        assert_eq!(Text(r#"a "b" \ c"#).to_string(), r#""a \"b\" \\ c""#);
        assert_eq!(Text("</script>&").to_string(), r#""\u003c/script\u003e\u0026""#);
        assert_eq!(Text("<!--\n\u{2028}").to_string(), r#""\u003c!--\u000a\u2028""#);
        assert_eq!(Text("grüße 🦀").to_string(), "\"grüße 🦀\"");
    }

    #[test]
    fn a_list_has_commas_between_its_values() {
        let list = |values: &[u64]| List(values).to_string();
        assert_eq!([&[][..], &[1], &[1, 2]].map(list), ["[]", "[1]", "[1,2]"]);
    }
}
