//! The lines of a journal, as they are written and read.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

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
        bytes.iter().zip(beginning.as_bytes()).all(|(one, other)| one == other)
    }

    /// Why a file that begins with this line is no journal for these; nothing if it is one.
    pub(super) fn differs_from(&self, expected: &Header) -> Option<String> {
        if self.kind != KIND {
            return Some("it is no journal".into());
        }
        if self.version != VERSION {
            let version = self.version;
            return Some(format!(
                "it has the format version {version}; this program writes version {VERSION}"
            ));
        }
        if self.shards != expected.shards {
            let (theirs, ours) = (self.shards, expected.shards);
            return Some(format!("it is one of {theirs} shards, and this run one of {ours}"));
        }
        if self.shard != expected.shard {
            let (theirs, ours, shards) = (self.shard, expected.shard, self.shards);
            return Some(format!(
                "it is that of shard {theirs}/{shards}, and this run is shard {ours}/{shards}"
            ));
        }
        if (&self.plan, self.items) != (&expected.plan, expected.items) {
            let counts =
                [self.items, expected.items].map(|items| items.map(|items| format!(" ({items} items)")));
            let [theirs, ours] = counts.map(Option::unwrap_or_default);
            let (plan, own) = (&self.plan, &expected.plan);
            return Some(format!(
                "it was begun for other items: its plan is {plan}{theirs}, that of this run {own}{ours}"
            ));
        }
        None
    }
}

/// What has become of an item.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kept<V, M> {
    Value(V),
    Failed(M),
    Panicked(M),
    /// The limiter gave no permit: it never ran.
    Refused(M),
}

/// Any other line: an item that has been decided.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line<I, V, M> {
    /// Among the items of all shards.
    pub(super) index: usize,
    pub(super) id: I,
    pub(super) attempts: usize,
    /// When it was written, in seconds since 1970: of two shards that did the same item, the later counts.
    pub(super) at: f64,
    pub(super) outcome: Kept<V, M>,
}

/// A line that was read, of which nothing is copied.
pub(super) type Read<'l> = Line<&'l RawValue, &'l RawValue, String>;

/// A line to be written.
pub(super) type Written<'l, T> = Line<&'l RawValue, &'l T, String>;

/// With its end, and no other: between the tokens of a value that is raw JSON there may be some.
pub(super) fn to_bytes(line: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
    bytes.push(b'\n');
    Ok(bytes)
}
