//! What items are called in a journal, as JSON, and when two ids name the same item: the keys of a map come in any order.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Error, Value};

/// The id with the keys of all objects in order, which are not the same from run to run where they come out of a `HashMap`.
/// Numbers and texts stay as they are written.
pub(super) fn canonical(id: &str) -> Cow<'_, str> {
    if id.starts_with('"') || !id.contains('{') {
        return Cow::Borrowed(id);
    }
    let mut sorted = String::with_capacity(id.len());
    match serde_json::from_str(id).and_then(|raw| write_sorted(raw, &mut sorted)) {
        Ok(()) => Cow::Owned(sorted),
        Err(_) => Cow::Borrowed(id), // deeper than what can be read
    }
}

/// Whether the ids differ in nothing but the order of keys and of the elements of lists, as those of one set may from run to run.
pub(super) fn are_permuted(one: &str, other: &str) -> bool {
    let unordered = |id| serde_json::from_str(id).map(without_order);
    matches!((unordered(one), unordered(other)), (Ok(one), Ok(other)) if one == other)
}

fn write_sorted(raw: &RawValue, sorted: &mut String) -> Result<(), Error> {
    match raw.get().as_bytes().first() {
        Some(b'{') => {
            let Entries(mut entries) = serde_json::from_str(raw.get())?;
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            write_list(sorted, ['{', '}'], entries, |sorted, (key, value)| {
                sorted.push_str(&serde_json::to_string(&key)?);
                sorted.push(':');
                write_sorted(value, sorted)
            })
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(raw.get())?;
            write_list(sorted, ['[', ']'], elements, |sorted, element| write_sorted(element, sorted))
        }
        _ => {
            sorted.push_str(raw.get());
            Ok(())
        }
    }
}

fn write_list<E>(
    sorted: &mut String,
    [open, close]: [char; 2],
    elements: impl IntoIterator<Item = E>,
    mut write: impl FnMut(&mut String, E) -> Result<(), Error>,
) -> Result<(), Error> {
    sorted.push(open);
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            sorted.push(',');
        }
        write(sorted, element)?;
    }
    sorted.push(close);
    Ok(())
}

/// All of an object, a key that comes twice too.
struct Entries<'r>(Vec<(String, &'r RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;

        impl<'de> Visitor<'de> for OfObject {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = object.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(OfObject)
    }
}

/// As a text: values have no order of their own.
fn without_order(value: Value) -> String {
    let listed = |mut texts: Vec<String>, [open, close]: [char; 2]| {
        texts.sort_unstable();
        format!("{open}{}{close}", texts.join(","))
    };
    match value {
        Value::Array(elements) => listed(elements.into_iter().map(without_order).collect(), ['[', ']']),
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| format!("{key:?}:{}", without_order(value)));
            listed(entries.collect(), ['{', '}'])
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_any_depth_and_all_else_stays() {
        for (id, expected) in [
            (
                r#"{"b":1,"a":[{"d":2,"c":"{\"z\":1,\"y\":2}"}]}"#,
                r#"{"a":[{"c":"{\"z\":1,\"y\":2}","d":2}],"b":1}"#,
            ),
            (
                r#"{"n":340282366920938463463374607431768211455,"f":1.10}"#,
                r#"{"f":1.10,"n":340282366920938463463374607431768211455}"#,
            ),
            (r#"{"a":2,"a":1}"#, r#"{"a":2,"a":1}"#),
            (r#"["x",{"b":1,"a":2}]"#, r#"["x",{"a":2,"b":1}]"#),
            ("[3,1,{}]", "[3,1,{}]"),
            (r#""{b,a}""#, r#""{b,a}""#),
            ("17", "17"),
        ] {
            assert_eq!(canonical(id), expected);
        }
    }

    #[test]
    fn an_id_that_is_too_deep_to_be_read_stays_as_it_is() {
        let deep = format!("{}{}", r#"{"b":"#.repeat(500), "1") + &"}".repeat(500);
        assert_eq!(canonical(&deep), deep);
    }

    #[test]
    fn sets_are_permuted_and_other_lists_are_not() {
        assert!(are_permuted(r#"{"a":[[1,2],[3]],"b":"x"}"#, r#"{"b":"x","a":[[3],[2,1]]}"#));
        assert!(!are_permuted("[1,2]", "[1,2,2]"));
        assert!(!are_permuted("[1,[2]]", "[[1],2]"));
        assert!(!are_permuted("\"a\"", "\"b\""));
    }
}
