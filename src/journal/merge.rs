//! Several journals as one result.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::counts::Counts;
use crate::error::{ItemError, LimiterError, Outcome};
use crate::result::{BatchResult, Summary, Trials};

use super::error::JournalError;
use super::line::{Header, Kept, RawLine};
use super::notebook::{Journal, recorded_panic};
use super::plan::Ids;
use super::recovery::{Contents, Tail};

/// The result of [`Journal::merge`]: the outcomes in the journals of all shards.
#[derive(Debug)]
#[non_exhaustive]
pub struct Merged<I, T> {
    /// All items that are in a journal, in the order of their indices, with their outcomes. Errors are their texts; a panic is
    /// [`ItemError::FailedEarlier`].
    pub result: BatchResult<I, T, String>,
    /// The indices of items that are in no journal, in order: of shards that are missing or have not ended. With a
    /// [named plan](crate::Plan::named) the number of items is unknown, so items behind the last recorded one are not listed.
    pub missing: Vec<usize>,
}

/// An item as a journal has it.
struct Found<I, T> {
    /// As it stands there.
    id: String,
    at: f64,
    attempts: usize,
    item: I,
    outcome: Outcome<T, String>,
}

type FoundByIndex<I, T> = BTreeMap<usize, Found<I, T>>;

impl Journal {
    /// The outcomes of all shards of a run, from their journals, in the order of the items. If an item
    /// has several lines, as when a shard ran twice, the one that was written last counts.
    ///
    /// Only reads the journals. A torn last line is left out. All outcomes are in memory.
    ///
    /// # Errors
    ///
    /// [`JournalError`], if a file cannot be read, has a damaged line, or belongs to another run than the first: other items, or another
    /// number of shards. Also if an id or a value cannot be read as `I` or `T`, or two items have the same id. Also if more than 16
    /// million items would be missing, and more than 64 times the recorded ones: then a number in a file is wrong.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Journal, Plan, Shard};
    ///
    /// # let folder = std::env::temp_dir().join(format!("merge-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// let words = ["one", "two", "three", "four", "five"];
    /// let mut paths = Vec::new();
    /// for shard in [Shard::new(0, 3)?, Shard::new(1, 3)?] {                   // the third has not come yet
    ///     let path = folder.join(format!("{}.jsonl", shard.index()));
    ///     let journal = Journal::open(&path, Plan::of(words)?.shard(shard))?;
    ///     let mine = shard.select(words).map(|(_, word)| word);
    ///     let result = BatchExecutor::new().batch(mine).journal(&journal).run(|word| Ok::<_, String>(word.len()));
    ///     assert!(result.is_success());
    ///     paths.push(path);
    /// }
    ///
    /// let merged = Journal::merge::<String, usize>(&paths)?;
    /// let ids: Vec<&str> = merged.result.items().iter().map(String::as_str).collect();
    /// assert_eq!((ids, merged.missing), (vec!["one", "two", "four", "five"], vec![2]));
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge<I: DeserializeOwned, T: DeserializeOwned>(
        paths: impl IntoIterator<Item: AsRef<Path>>,
    ) -> Result<Merged<I, T>, JournalError> {
        let (mut first, mut found) = (None, FoundByIndex::new());
        for path in paths {
            add(path.as_ref(), &mut first, &mut found)?;
            check_count(path.as_ref(), first.as_ref(), &found)?;
        }
        check_twins(&found)?;
        let count = count(first.as_ref(), &found);
        let missing = (0..count).filter(|index| !found.contains_key(index)).collect();
        Ok(Merged { result: result(found), missing })
    }
}

/// Adds what is in this journal, if it is of the same run as the first.
fn add<I: DeserializeOwned, T: DeserializeOwned>(
    path: &Path,
    first: &mut Option<Header>,
    found: &mut FoundByIndex<I, T>,
) -> Result<(), JournalError> {
    let file = File::open(path).map_err(JournalError::io(path, "open it"))?;
    let mut lines = FoundByIndex::new();
    let contents = Contents::read(path, BufReader::new(file), |header, line| {
        header.check(line.index)?;
        // Of several lines for an item the last counts, whatever the clock said.
        lines.insert(line.index, found_in(line).map_err(|error| error.to_string())?);
        Ok(())
    })?;
    let Some(header) = contents.header else { return check_beginning(path, &contents.tail) };
    let expected = first.get_or_insert_with(|| header.clone());
    if let Some(problem) = header.differs_from(&Header { shard: header.shard, ..expected.clone() }) {
        return Err(JournalError::other(path, problem));
    }
    for (index, line) in lines {
        if found.get(&index).is_none_or(|before| before.at <= line.at) {
            found.insert(index, line);
        }
    }
    Ok(())
}

/// How many items there are, as the files say.
fn count<I, T>(first: Option<&Header>, found: &FoundByIndex<I, T>) -> usize {
    let after_last = || found.keys().next_back().map(|last| last.saturating_add(1));
    first.and_then(|header| header.items).or_else(after_last).unwrap_or(0)
}

/// As many may be missing, however few are recorded; and this many for each that is.
const MOST_MISSING: usize = 1 << 24;
const MOST_MISSING_FOR_EACH: usize = 64;

/// Whether the missing items may be listed: a number in a file, be it wrong, must not take all memory.
fn check_count<I, T>(
    path: &Path,
    first: Option<&Header>,
    found: &FoundByIndex<I, T>,
) -> Result<(), JournalError> {
    let (count, recorded) = (count(first, found), found.len());
    if count - recorded.min(count) <= recorded.saturating_mul(MOST_MISSING_FOR_EACH).max(MOST_MISSING) {
        return Ok(());
    }
    let problem =
        format!("by it there are {count} items, of which only {recorded} are recorded: that cannot be");
    Err(JournalError::other(path, problem))
}

/// Whether a file without a whole line is one that a journal begins with.
fn check_beginning(path: &Path, tail: &Tail) -> Result<(), JournalError> {
    match tail {
        Tail::Torn(torn) if !Header::may_begin_with(torn) => {
            Err(JournalError::other(path, "it is no journal"))
        }
        _ => Ok(()),
    }
}

/// No two items have one id, unless each shard has run all of them.
fn check_twins<I, T>(found: &FoundByIndex<I, T>) -> Result<(), JournalError> {
    let mut ids = Ids::default();
    found.iter().try_for_each(|(index, found)| ids.add(*index, &found.id))
}

fn found_in<I: DeserializeOwned, T: DeserializeOwned>(
    line: &RawLine<'_>,
) -> Result<Found<I, T>, serde_json::Error> {
    let item = serde_json::from_str(line.id.get())?;
    let outcome = match &line.outcome {
        Kept::Value(value) => Ok(serde_json::from_str(value.get())?),
        Kept::Failed(text) => Err(ItemError::Failed(text.clone())),
        Kept::Panicked(text) => Err(recorded_panic(text)),
        Kept::Refused(text) => Err(ItemError::RateLimiter(LimiterError::new(text.clone()))),
    };
    let (text, at, attempts) = (line.id.get().to_owned(), line.at, line.attempts);
    Ok(Found { id: text, at, attempts, item, outcome })
}

fn result<I, T>(found: FoundByIndex<I, T>) -> BatchResult<I, T, String> {
    let (mut items, mut outcomes) = (Vec::with_capacity(found.len()), Vec::with_capacity(found.len()));
    let (mut trials, mut counts) = (Vec::with_capacity(found.len()), Counts::default());
    for (index, Found { attempts, item, outcome, .. }) in found.into_values().enumerate() {
        counts.add(if outcome.is_ok() { Counts::SUCCEEDED } else { Counts::FAILED });
        items.push(item);
        outcomes.push(outcome);
        trials.push(Trials { index, attempts, panic: None });
    }
    BatchResult::new(items, outcomes, Summary { counts, trials, ..Summary::default() })
}
