//! What a run is to do, as far as another run has to know to go on with it: which items there are, and which of them are this
//! shard's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hasher;

use serde::Serialize;
use siphasher::sip128::{Hasher128, SipHasher};

use crate::shard::Shard;

use super::error::JournalError;
use super::id::{are_permuted, canonical};
use super::line::Header;

/// A name is in the first line of the file, which is read whole.
const LONGEST_NAME: usize = 512;

/// The work of a run: a fingerprint of its items, and the shard of them that it takes. A [`Journal`](crate::Journal) refuses a
/// plan that differs from the one in its file.
///
/// ```
/// use batch_executor::{Plan, Shard};
///
/// let files = ["a.txt", "b.txt", "c.txt"];
/// let all = Plan::of(files)?;                                     // these items, in this order
/// let some = Plan::of(files)?.shard(Shard::new(1, 3)?);           // of them, what is this shard's
/// let unknown = Plan::named("orders of 2026-11");                 // whatever the items are
/// assert!(Plan::of(["a.txt", "a.txt"]).is_err());                 // a journal could not tell them apart
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) items: Items,
    pub(super) shard: Shard,
}

#[derive(Debug, Clone)]
pub(super) enum Items {
    /// Known by the hashes of their ids, in order.
    Known {
        fingerprint: String,
        /// What it was before the keys of maps were sorted, where that differs: old journals have it.
        unsorted: Option<String>,
        hashes: Vec<u64>,
        /// Whether any id has a list in it, which may be a set.
        has_lists: bool,
    },
    /// Not known before they come.
    Named(String),
}

impl Plan {
    /// The plan to run these items, in this order. Their ids are the items as JSON. Give it all items, also those of other shards.
    ///
    /// The keys of maps are sorted first, since a `HashMap` has another order in each run. The elements of a list keep their
    /// order, which is data, and so do those of a set, since JSON does not distinguish the two. Use a `BTreeSet`, or
    /// [`Plan::named`].
    ///
    /// Takes 8 bytes an item as long as the journal exists, and some 50 until this call returns.
    ///
    /// # Errors
    ///
    /// [`JournalError::DuplicateId`], or [`JournalError::Id`] for an item that cannot be written as JSON, such as a path that is not
    /// UTF-8: make the plan of texts then, and give the batch the same by [`journal_as`](crate::Batch::journal_as).
    pub fn of<I: Serialize>(items: impl IntoIterator<Item = I>) -> Result<Self, JournalError> {
        let (mut ids, mut hashes, mut has_lists) = (Ids::default(), Vec::new(), false);
        let (mut sorted, mut unsorted) = (SipHasher::new(), SipHasher::new());
        for (index, item) in items.into_iter().enumerate() {
            let id = id_of(index, &item)?;
            ids.add(index, &id)?;
            add_to(&mut sorted, &canonical(&id));
            add_to(&mut unsorted, &id);
            hashes.push(hash(&id).0);
            has_lists |= may_have_a_set(&id);
        }
        let (fingerprint, unsorted) = (text_of(&sorted), text_of(&unsorted));
        let unsorted = Some(unsorted).filter(|unsorted| *unsorted != fingerprint);
        let items = Items::Known { fingerprint, unsorted, hashes, has_lists };
        Ok(Plan { items, shard: Shard::default() })
    }

    /// A plan that knows a name instead of items: for items that are unknown before they come, as in an endless stream, and for a list
    /// that grows at its end from run to run. Works with `run` and with `stream`.
    ///
    /// The batch checks each item as it comes: whether its id is the one that was recorded at its index, and whether another item has
    /// it (in a stream, for some 50 bytes in memory each). It cannot notice that items are missing at the end, in a batch or in
    /// [`Merged::missing`](crate::Merged::missing), or that a shard got all items instead of [its own](Shard::select). Two ids that
    /// differ only in the order of the elements of a list count as the same, since the lists may be sets.
    ///
    /// A name has at most 512 bytes: [`Journal::open`](crate::Journal::open) refuses a longer one.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Journal, Plan};
    ///
    /// # let path = std::env::temp_dir().join(format!("named-{}.jsonl", std::process::id()));
    /// for words in [&["a", "b"][..], &["a", "b", "c"]] {              // one more has come since
    ///     let journal = Journal::open(&path, Plan::named("words"))?;
    ///     let result = BatchExecutor::new().batch(words).journal(&journal).run(|word| Ok::<_, String>(word.len()));
    ///     assert_eq!((journal.done(), result.succeeded()), (words.len(), words.len()));
    /// }
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn named(name: impl Into<String>) -> Self {
        Plan { items: Items::Named(name.into()), shard: Shard::default() }
    }

    /// Only this shard's items are run: those that [`Shard::select`] gives.
    #[must_use]
    pub fn shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }

    /// The index among all items of one that has this position in the batch.
    pub(super) fn index(&self, position: usize) -> usize {
        position.saturating_mul(self.shard.count()).saturating_add(self.shard.index())
    }

    /// How many items there are in all, if that is known.
    pub(super) fn total(&self) -> Option<usize> {
        match &self.items {
            Items::Known { hashes, .. } => Some(hashes.len()),
            Items::Named(_) => None,
        }
    }

    /// How many of them are this shard's.
    pub(super) fn own(&self) -> Option<usize> {
        self.total().map(|total| total.saturating_sub(self.shard.index()).div_ceil(self.shard.count()))
    }

    /// Whether the item at this index may have this id, as far as the plan knows.
    pub(super) fn check(&self, index: usize, id: &str) -> Result<(), String> {
        match &self.items {
            Items::Known { hashes, .. } if hashes.get(index) != Some(&hash(id).0) => {
                let hint = if may_have_a_set(id) { SETS } else { "" };
                Err(format!("item {index} is {id}, which the plan does not have there{hint}"))
            }
            _ => Ok(()),
        }
    }

    /// The first line of a journal for it.
    pub(super) fn header(&self) -> Header {
        let (Items::Known { fingerprint: name, .. } | Items::Named(name)) = &self.items;
        Header::new(name.clone(), self.total(), self.shard.index(), self.shard.count())
    }

    /// Whether its header can be a line of the file.
    pub(super) fn check_name(&self) -> Result<(), String> {
        match &self.items {
            Items::Named(name) if name.len() > LONGEST_NAME => Err(format!(
                "the name of the plan has {} bytes; it may have at most {LONGEST_NAME}",
                name.len()
            )),
            _ => Ok(()),
        }
    }

    /// Why a file that begins with this line is not one of this plan; nothing if it is.
    pub(super) fn differs_from(&self, header: &Header) -> Option<String> {
        let mut expected = self.header();
        if let Items::Known { unsorted: Some(unsorted), .. } = &self.items {
            if *unsorted == header.plan {
                expected.plan.clone_from(unsorted);
            }
        }
        let problem = header.differs_from(&expected)?;
        let is_other_list = header.is_like(&expected);
        let hint = match &self.items {
            Items::Known { has_lists: true, .. } if is_other_list && header.items == expected.items => SETS,
            Items::Known { .. } if is_other_list => CHANGES,
            _ => "",
        };
        Some(problem + hint)
    }

    /// Whether an item that was recorded with one id is the one that has the other now.
    pub(super) fn is_same(&self, recorded: &str, id: &str) -> bool {
        let is_permuted = || matches!(self.items, Items::Named(_)) && are_permuted(recorded, id);
        recorded == id || canonical(recorded) == canonical(id) || is_permuted()
    }
}

/// The ways out, behind a refusal.
const CHANGES: &str =
    "; a list that grows only at its end can have Plan::named, and another list needs another file";
const SETS: &str = "; if it has a set in it, such as a HashSet, the order of that differs from run to run, and cannot be \
                    sorted here, since it may be data: use a BTreeSet, or Plan::named";

/// Whether the id has a list in it. Sets are lists as JSON.
fn may_have_a_set(id: &str) -> bool {
    !id.starts_with('"') && id.contains('[')
}

fn add_to(whole: &mut SipHasher, id: &str) {
    whole.write(&(id.len() as u64).to_le_bytes());
    whole.write(id.as_bytes());
}

fn text_of(whole: &SipHasher) -> String {
    let whole = whole.finish128();
    format!("{:016x}{:016x}", whole.h1, whole.h2)
}

/// Ids that have been seen, by hashes of 128 bits, of which no two are the same in practice.
#[derive(Debug, Default)]
pub(super) struct Ids(HashMap<(u64, u64), usize>);

impl Ids {
    pub(super) fn add(&mut self, index: usize, id: &str) -> Result<(), JournalError> {
        match self.0.entry(hash(id)) {
            Entry::Vacant(place) => {
                place.insert(index);
                Ok(())
            }
            Entry::Occupied(other) => {
                // In a stream, workers may look the later one up first.
                let (first, second) = (index.min(*other.get()), index.max(*other.get()));
                Err(JournalError::DuplicateId { first, second, id: id.to_owned() })
            }
        }
    }
}

/// What an item is called in a journal: itself, as JSON.
pub(super) fn id_of(index: usize, item: &impl Serialize) -> Result<String, JournalError> {
    let id = serde_json::to_string(item);
    let id = id.map_err(|error| JournalError::Id { index, problem: error.to_string() })?;
    Ok(id.replace('\n', " ")) // between the tokens of raw JSON there may be some
}

/// Of the id with its keys in order: `SipHash` with 128 bits, whose results do not change from one version of Rust to the next.
fn hash(id: &str) -> (u64, u64) {
    let mut hasher = SipHasher::new();
    hasher.write(canonical(id).as_bytes());
    let hash = hasher.finish128();
    (hash.h1, hash.h2)
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn of_two_items_with_one_id_the_earlier_is_named_first_whichever_was_looked_up_first() {
        for (looked_up, then) in [(1, 3), (3, 1)] {
            let mut ids = Ids::default();
            ids.add(looked_up, r#""b""#).unwrap();
            let error = ids.add(then, r#""b""#).unwrap_err();
            assert!(matches!(error, JournalError::DuplicateId { first: 1, second: 3, .. }), "{error}");
        }
    }
}
