//! The lines of a journal, as they are written and read: JSON, with a checksum as the last field.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use siphasher::sip::SipHasher13;

/// Of the file. A file of another version is refused.
const VERSION: u32 = 1;

const KIND: &str = "batch-executor journal";

/// The first line: what the file is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) kind: String,
    pub(super) version: u32,
    /// The fingerprint, or the name that was given.
    pub(super) plan: String,
    /// How many items there are in all shards, if that is known.
    pub(super) items: Option<usize>,
    pub(super) shard: usize,
    pub(super) shards: usize,
}

impl Header {
    pub(super) fn new(plan: String, items: Option<usize>, shard: usize, shards: usize) -> Self {
        Header { kind: KIND.to_owned(), version: VERSION, plan, items, shard, shards }
    }

    /// Whether its lines can be understood.
    pub(super) fn is_of_this_version(&self) -> bool {
        self.kind == KIND && self.version == VERSION
    }

    /// Whether an item with this index may be in the file.
    pub(super) fn check(&self, index: usize) -> Result<(), String> {
        let (shard, shards) = (self.shard, self.shards);
        if index.checked_rem(shards) != Some(shard) {
            return Err(format!("item {index} is not of shard {shard}/{shards}"));
        }
        match self.items {
            Some(items) if index >= items => Err(format!("there is no item {index}, there are {items}")),
            _ => Ok(()),
        }
    }

    /// Whether the first line of a journal may begin with this.
    pub(super) fn may_begin_with(bytes: &[u8]) -> bool {
        let beginning = format!("{{\"kind\":\"{KIND}\",");
        without_zeros(bytes).iter().zip(beginning.as_bytes()).all(|(one, other)| one == other)
    }

    /// Why a file that begins with this line is not the one that is expected; nothing if it is.
    pub(super) fn differs_from(&self, expected: &Header) -> Option<String> {
        let Header { kind, version, shard, shards, .. } = self;
        let problem = if kind != KIND {
            "it is no journal".to_owned()
        } else if *version != VERSION {
            format!("it has the format version {version}; this program writes version {VERSION}")
        } else if *shards != expected.shards {
            format!("it is one of {shards} shards, and this run one of {}", expected.shards)
        } else if *shard != expected.shard {
            format!("it is that of shard {shard}/{shards}, and this run is shard {}/{shards}", expected.shard)
        } else if (&self.plan, self.items) != (&expected.plan, expected.items) {
            let (theirs, own) = (self.plan_and_items(), expected.plan_and_items());
            format!("it was begun for other items: its plan is {theirs}, that of this run {own}")
        } else {
            return None;
        };
        Some(problem)
    }

    /// Whether only the items differ, if anything does.
    pub(super) fn is_like(&self, expected: &Header) -> bool {
        let Header { plan, items, .. } = expected;
        *expected == Header { plan: plan.clone(), items: *items, ..self.clone() }
    }

    fn plan_and_items(&self) -> String {
        let items = self.items.map(|items| format!(" ({items} items)"));
        format!("{}{}", self.plan, items.unwrap_or_default())
    }
}

/// What has become of an item.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kept<V> {
    Value(V),
    Failed(String),
    Panicked(String),
    /// The limiter gave no permit: it never ran.
    Refused(String),
}

/// The same without its value or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    /// It failed or panicked.
    Failure,
    /// It never ran.
    Refusal,
}

impl<V> Kept<V> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Kept::Value(_) => Kind::Value,
            Kept::Failed(_) | Kept::Panicked(_) => Kind::Failure,
            Kept::Refused(_) => Kind::Refusal,
        }
    }
}

/// Any other line: an item that has been decided.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line<'l, V> {
    /// Among the items of all shards.
    pub(super) index: usize,
    #[serde(borrow)]
    pub(super) id: &'l RawValue,
    pub(super) attempts: usize,
    /// When it was written, in seconds since 1970: of two shards that did the same item, the later counts.
    pub(super) at: f64,
    pub(super) outcome: Kept<V>,
}

/// A line as it is read: its value is JSON still.
pub(super) type RawLine<'l> = Line<'l, &'l RawValue>;

/// With a checksum, a line end behind it and none inside: between the tokens of a value that is raw JSON there may be some.
pub(super) fn to_bytes(line: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
    let sum = checksum(&bytes[..bytes.len() - 1]);
    bytes.pop(); // the end of the object
    bytes.extend_from_slice(format!("{SUM}{sum:08x}{END}\n").as_bytes());
    Ok(bytes)
}

/// What stands before the checksum, and behind it.
const SUM: &str = r#","sum":""#;
const END: &str = "\"}";

/// Damage that is valid JSON is seen by it.
fn checksum(text: &[u8]) -> u32 {
    let mut hasher = SipHasher13::new();
    hasher.write(text);
    (hasher.finish() >> 32) as u32
}

/// Whether the line has a checksum, which lines of old journals have not. An error if it is not that of the line.
pub(super) fn check_sum(line: &[u8]) -> Result<bool, String> {
    // Without one, a line ends in a number or in a second bracket.
    let Some(line) = line.trim_ascii_end().strip_suffix(END.as_bytes()) else { return Ok(false) };
    let text = line.len().checked_sub(SUM.len() + 8).map(|end| &line[..end]);
    let text = text
        .filter(|text| line[text.len()..].starts_with(SUM.as_bytes()))
        .ok_or("it has no whole checksum")?;
    let (written, sum) = (&line[line.len() - 8..], format!("{:08x}", checksum(text)));
    if written == sum.as_bytes() {
        return Ok(true);
    }
    Err(format!("its checksum is {}, and that of its text is {sum}", String::from_utf8_lossy(written)))
}

/// The line of an item, if it is what was written.
pub(super) fn parse(bytes: &[u8]) -> Result<RawLine<'_>, String> {
    check_sum(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// What was written, where a crash has left zeros in place of the rest.
pub(super) fn without_zeros(torn: &[u8]) -> &[u8] {
    &torn[..torn.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
}
