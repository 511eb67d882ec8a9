//! A journal: a plan, and the outcomes that its file has.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::{Chain, ItemError, TIMED_OUT};
use crate::journal_hook::{JournalFailure, Recalled, Spawn, Work};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

use super::disk::{Disk, FileDisk};
use super::error::JournalError;
use super::line::{Header, Kept, Kind, Line, RawLine, parse, to_bytes, without_zeros};
use super::plan::{Ids, Items, Plan};
use super::recovery::{Contents, Entry, Tail};
use super::writer::{Shared, Writer};

/// The outcomes of a run in a file: a line of JSON for each decided item. A later run with the same file runs only items that are
/// not in it as done. For [`Batch::journal`](crate::Batch::journal).
///
/// Failed items run again, unless [`retry_failed`](Journal::retry_failed) says otherwise. Items that got no permit always run again.
///
/// # What a crash can lose
///
/// A line is written when its item is decided, and synced to the disk together with others: by default after 100 lines, or with the
/// first line a second after the last sync, and when the batch ends. So a killed process loses no decided item. A machine that loses
/// its power loses the items since the last sync, and a later run does them again; it never repeats a synced item. Opening a journal
/// syncs the lines that a killed run has left. If a write or a sync fails, the batch stops with
/// [`StopReason::Journal`](crate::StopReason::Journal), and writes nothing more: after a failed sync, the contents of the disk are
/// unknown.
///
/// # The file
///
/// The first line has the version of the format, the plan and the shard; a file with others is refused. A torn last line is cut
/// off before the first write. A damaged line before it is an error with the number of the line. The file is locked while the
/// journal is open; other programs may read it, and [`merge`](Journal::merge) it.
///
/// ```
/// use batch_executor::{BatchExecutor, Journal, Plan};
///
/// # let path = std::env::temp_dir().join(format!("journal-doc-{}.jsonl", std::process::id()));
/// let words = ["one", "two", "three"];
/// for run in 1..=2 {
///     let journal = Journal::open(&path, Plan::of(words)?)?;
///     println!("run {run}: {} are done already", journal.done());     // 0, and then 3
///     let result = BatchExecutor::new().batch(words).journal(&journal).run(|word| {
///         assert_eq!(run, 1, "nothing is done twice");
///         Ok::<_, String>(word.len())
///     });
///     assert_eq!(result.into_values()?, [3, 3, 5]);
/// }
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Journal {
    plan: Plan,
    retries_failed: bool,
    /// By the index of the item.
    entries: Mutex<HashMap<usize, Entry>>,
    writer: Shared,
    /// Whether a batch keeps it now.
    is_kept: AtomicBool,
}

impl Journal {
    /// Opens the journal in this file, or begins one, for a run of this plan.
    ///
    /// Reads and checks all of the file, about a microsecond a line, and keeps some 50 bytes in memory for each item in it.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: the file cannot be opened or locked, is not a journal, belongs to another plan, shard or version, or is
    /// damaged. The file is then unchanged. If the disk fails while a torn line is cut off, all whole lines are unchanged.
    pub fn open(path: impl AsRef<Path>, plan: Plan) -> Result<Self, JournalError> {
        let path = path.as_ref();
        plan.check_name().map_err(|problem| JournalError::other(path, problem))?;
        let disk = FileDisk::open(path)?;
        let reader = disk.reader().map_err(JournalError::io(path, "read it"))?;
        let contents = contents(path, &plan, BufReader::new(reader))?;
        if contents.header.is_none() {
            disk.sync_folder().map_err(JournalError::io(path, "sync its folder"))?;
        }
        let end = mend(path, &disk, &plan, &contents)?;
        let (entries, writer) = (Mutex::new(contents.entries), Writer::new(path, Box::new(disk), end));
        let writer = Shared::new(writer);
        Ok(Journal { plan, retries_failed: true, entries, writer, is_kept: AtomicBool::new(false) })
    }

    /// Whether items that failed or panicked in an earlier run run again; `true` by default. If not, their outcome is
    /// [`ItemError::FailedEarlier`], and they count as failures: a batch that stops on the first failure stops there again.
    /// An item runs again in any case if it got no permit, or if it panicked before its operation was called.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Journal, Plan};
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// # let path = std::env::temp_dir().join(format!("retry-failed-doc-{}.jsonl", std::process::id()));
    /// let executor = BatchExecutor::builder().stop_on_error(false).build()?;
    /// let (words, calls) = (["7", "x"], AtomicUsize::new(0));
    /// for _ in 1..=2 {
    ///     let journal = Journal::open(&path, Plan::of(words)?)?.retry_failed(false);
    ///     let result = executor.batch(words).journal(&journal).run(|word| {
    ///         calls.fetch_add(1, Ordering::Relaxed);
    ///         word.parse::<u32>()
    ///     });
    ///     assert_eq!((result.succeeded(), result.failed()), (1, 1));
    /// }
    /// assert_eq!(calls.into_inner(), 2);                              // both in the first run
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn retry_failed(mut self, retry_failed: bool) -> Self {
        self.retries_failed = retry_failed;
        self
    }

    /// Syncs the file after every `lines` lines; 100 by default. While a sync lasts, other workers write on, so that more lines may
    /// wait for the next. With 1, each item is synced before its worker takes the next, and workers that wait for a sync share it.
    ///
    /// # Panics
    ///
    /// If `lines` is 0.
    ///
    /// ```
    /// use batch_executor::{Journal, Plan};
    /// use std::time::Duration;
    ///
    /// # let path = std::env::temp_dir().join(format!("sync-doc-{}.jsonl", std::process::id()));
    /// # let other = path.with_extension("other");
    /// let careful = Journal::open(&path, Plan::named("payments"))?.sync_every(1);
    /// let quick = Journal::open(&other, Plan::named("thumbnails"))?
    ///     .sync_every(10_000)
    ///     .sync_interval(Duration::from_secs(30));
    /// assert_eq!((careful.path(), quick.done()), (path.as_path(), 0));
    /// # std::fs::remove_file(path)?;
    /// # std::fs::remove_file(other)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sync_every(self, lines: usize) -> Self {
        assert!(lines > 0, "sync_every(0): the number of lines must be at least 1");
        self.writer.set_lines(lines);
        self
    }

    /// Syncs the file with the first line that comes this long after the last sync; a second by default.
    #[must_use]
    pub fn sync_interval(self, interval: Duration) -> Self {
        self.writer.set_interval(interval);
        self
    }

    /// How many items in the file have a value. With a [named plan](Plan::named), the batch may lack some of them.
    #[must_use]
    pub fn done(&self) -> usize {
        self.entries.lock().values().filter(|entry| entry.kind == Kind::Value).count()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.writer.path()
    }

    /// A batch begins to keep it. One at a time: two would do the same items.
    pub(super) fn claim(&self) -> Result<(), JournalFailure> {
        self.writer.check()?;
        if self.is_kept.swap(true, Ordering::Relaxed) {
            return Err(self.halt("another batch keeps it at this time"));
        }
        Ok(())
    }

    pub(super) fn release(&self) {
        self.is_kept.store(false, Ordering::Relaxed);
    }

    /// Whether a batch of items with these ids may run.
    pub(super) fn admit(
        &self,
        ids: impl ExactSizeIterator<Item = Result<String, JournalError>>,
    ) -> Result<(), JournalFailure> {
        if let Some(own) = self.plan.own().filter(|own| *own != ids.len()) {
            return Err(
                self.halt(format!("the plan has {own} items for this batch, which has {}", ids.len()))
            );
        }
        let mut seen = Ids::default();
        for (position, id) in ids.enumerate() {
            let id = id.map_err(|error| self.halt(error))?;
            self.check_id(position, &id)?;
            self.check_twin(&mut seen, position, &id)?;
        }
        Ok(())
    }

    /// Whether this is the only item with this id, where the plan does not say so.
    pub(super) fn check_twin(&self, seen: &mut Ids, position: usize, id: &str) -> Result<(), JournalFailure> {
        match self.plan.items {
            Items::Known { .. } => Ok(()),
            Items::Named(_) => seen.add(self.plan.index(position), id).map_err(|error| self.halt(error)),
        }
    }

    /// The index of the item, if it may have this id.
    fn check_id(&self, position: usize, id: &str) -> Result<usize, JournalFailure> {
        let index = self.plan.index(position);
        self.plan.check(index, id).map_err(|problem| self.halt(problem))?;
        Ok(index)
    }

    /// How many items of a batch of this size have an outcome that need not be made again.
    pub(super) fn recorded(&self, items: usize) -> usize {
        let entries = self.entries.lock();
        let is_kept = |entry: &Entry| match entry.kind {
            Kind::Value => true,
            Kind::Failure => !self.retries_failed,
            Kind::Refusal => false,
        };
        (0..items).filter(|position| entries.get(&self.plan.index(*position)).is_some_and(is_kept)).count()
    }

    /// What the item has come to in an earlier run, if that is its outcome.
    pub(super) fn recall<T: DeserializeOwned, E>(
        &self,
        position: usize,
        id: &str,
    ) -> Result<Option<Recalled<T, E>>, JournalFailure> {
        let index = self.check_id(position, id)?;
        let Some(entry) = self.entries.lock().get(&index).copied() else { return Ok(None) };
        let bytes = self.writer.read(entry.offset, entry.length)?;
        let damaged = |problem: String| self.halt(format!("what it has of item {index}: {problem}"));
        let line = parse(&bytes).map_err(damaged)?;
        if !self.plan.is_same(line.id.get(), id) {
            return Err(self.halt(format!("item {index} is {id}, and was {} when it was recorded", line.id)));
        }
        let outcome = match line.outcome {
            Kept::Value(value) => {
                Ok(serde_json::from_str(value.get()).map_err(|error| damaged(error.to_string()))?)
            }
            Kept::Failed(text) if !self.retries_failed => Err(ItemError::FailedEarlier(text)),
            Kept::Panicked(text) if !self.retries_failed => Err(recorded_panic(&text)),
            _ => return Ok(None),
        };
        Ok(Some(Recalled { outcome, attempts: line.attempts }))
    }

    /// Keeps what the item has come to.
    pub(super) fn record<T: Serialize + DeserializeOwned, E: fmt::Display>(
        &self,
        position: usize,
        id: String,
        attempts: usize,
        outcome: Result<&T, &ItemError<E>>,
        spawn: Spawn,
    ) -> Result<(), JournalFailure> {
        let index = self.plan.index(position);
        let unwritable =
            |error: serde_json::Error| self.halt(format!("item {index} cannot be written: {error}"));
        let unreadable =
            |error: serde_json::Error| self.halt(format!("item {index} could not be read again: {error}"));
        let Some(outcome) = kept(outcome) else { return Ok(()) };
        let kind = outcome.kind();
        let id = RawValue::from_string(id).map_err(unwritable)?;
        let bytes = to_bytes(&Line { index, id: &id, attempts, at: now(), outcome }).map_err(unwritable)?;
        check_value::<T>(&bytes).map_err(unreadable)?;
        let offset = self.writer.append(&bytes, spawn)?;
        self.entries.lock().insert(index, Entry { offset, length: bytes.len(), kind });
        Ok(())
    }

    /// A call that syncs all lines that workers have written by then.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "no batch runs in a task"))]
    pub(super) fn in_background(&self) -> Work {
        self.writer.in_background()
    }

    pub(super) fn finish(&self) -> Result<(), JournalFailure> {
        self.writer.finish()
    }

    /// The place among the items of all shards.
    pub(super) fn index(&self, position: usize) -> usize {
        self.plan.index(position)
    }

    pub(super) fn halt(&self, problem: impl fmt::Display) -> JournalFailure {
        JournalFailure(JournalError::other(self.path(), problem.to_string()).to_string())
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path())
            .field("shard", &self.plan.shard)
            .field("recorded", &self.entries.lock().len())
            .finish_non_exhaustive()
    }
}

/// What is in the file, if it is a journal of this plan.
fn contents(path: &Path, plan: &Plan, file: impl io::BufRead) -> Result<Contents, JournalError> {
    let expected = plan.header();
    let check = |header: &Header, line: &RawLine<'_>| {
        match plan.differs_from(header) {
            None => header.check(line.index).and_then(|()| plan.check(line.index, line.id.get())),
            Some(_) => Ok(()), // it is refused for that
        }
    };
    let contents = Contents::read(path, file, check)?;
    let problem = match (&contents.header, &contents.tail) {
        (Some(header), _) => plan.differs_from(header),
        // All that a crash can leave of a journal without a whole line is the beginning of its first.
        (None, Tail::Torn(torn)) if !to_bytes(&expected).is_ok_and(|line| begins(&line, torn)) => {
            Some("it is no journal".to_owned())
        }
        (None, _) => None,
    };
    problem.map_or(Ok(contents), |problem| Err(JournalError::other(path, problem)))
}

/// Whether a crash can leave this of a file whose first line was being written: a part of it, perhaps with zeros in place of the rest.
fn begins(line: &[u8], torn: &[u8]) -> bool {
    let written = without_zeros(torn);
    line.starts_with(written) && (!written.is_empty() || torn.len() <= line.len())
}

/// What there is to keep of an outcome: nothing of one that is in the journal already, or of an item that never had its turn.
fn kept<V, E: fmt::Display>(outcome: Result<V, &ItemError<E>>) -> Option<Kept<V>> {
    match outcome {
        Ok(value) => Some(Kept::Value(value)),
        // With its causes, where the type of the error tells them that way.
        Err(ItemError::Failed(error)) => Some(Kept::Failed(format!("{error:#}"))),
        Err(ItemError::Panicked(panic)) => Some(Kept::Panicked(panic.message().to_owned())),
        Err(ItemError::TimedOut) => Some(Kept::Failed(TIMED_OUT.to_owned())),
        Err(ItemError::RateLimiter(error)) => Some(Kept::Refused(Chain(error).to_string())),
        Err(ItemError::FailedEarlier(_) | ItemError::Skipped | ItemError::Interrupted(_)) => None,
    }
}

/// What a panic is, of which only the message is left.
pub(super) fn recorded_panic<E>(message: &str) -> ItemError<E> {
    ItemError::FailedEarlier(format!("panicked: {message}"))
}

/// Whether the value in this line can be read. A value that only can be written, such as a number that is none, would be found when
/// the item is gone.
fn check_value<T: DeserializeOwned>(line: &[u8]) -> Result<(), serde_json::Error> {
    let line: RawLine<'_> = serde_json::from_slice(line)?;
    if let Kept::Value(value) = line.outcome {
        serde_json::from_str::<T>(value.get())?;
    }
    Ok(())
}

/// Sees to it that the file has a first line, ends with a whole one, and is synced: what a run that was killed has left counts from
/// now on. How many bytes there are then. If it fails, whole lines are as they were.
fn mend(path: &Path, disk: &dyn Disk, plan: &Plan, contents: &Contents) -> Result<u64, JournalError> {
    let first = || to_bytes(&plan.header()).map_err(|error| JournalError::io(path, "write it")(error.into()));
    let (there, missing) = match (&contents.header, &contents.tail) {
        (None, Tail::Torn(begun)) => {
            let written = without_zeros(begun).len();
            if written < begun.len() {
                disk.cut(written as u64).map_err(JournalError::io(path, "cut it"))?;
            }
            (written as u64, first()?.split_off(written))
        }
        (None, _) => (0, first()?),
        (Some(_), Tail::Unended) => (contents.length, b"\n".to_vec()),
        (Some(_), Tail::Torn(_)) => {
            disk.cut(contents.length).map_err(JournalError::io(path, "cut it"))?;
            (contents.length, Vec::new())
        }
        (Some(_), Tail::Nothing) => (contents.length, Vec::new()),
    };
    let end = there + missing.len() as u64;
    if !missing.is_empty() {
        disk.append(there, &missing).map_err(JournalError::io(path, "write it"))?;
    }
    disk.sync().and_then(|()| disk.check(end)).map_err(JournalError::io(path, "sync it"))?;
    Ok(end)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64()
}
