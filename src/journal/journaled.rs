//! A batch with a journal: what items are called in it, and what passes between the two.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ItemError;
use crate::keep::policy::Keep;
use crate::keep::{Halt, Recalled};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

use super::error::JournalError;
use super::notebook::Journal;
use super::plan::{Ids, id_of};

/// A batch keeps a [`Journal`]. In the type of a [`Batch`](crate::Batch), where one is stored half-made.
///
/// ```
/// use batch_executor::{Batch, BatchExecutor, Journal, Journaled, NoRetry, Plan, Serialized};
/// use std::ops::Range;
///
/// # let path = std::env::temp_dir().join(format!("journaled-doc-{}.jsonl", std::process::id()));
/// type HalfMade<'a> = Batch<'a, Range<u32>, NoRetry, (), Journaled<'a, Serialized>>;
///
/// let (executor, journal) = (BatchExecutor::new(), Journal::open(&path, Plan::of(0..4)?)?);
/// let batch: HalfMade<'_> = executor.batch(0..4).journal(&journal);
/// batch.run(|n| Ok::<_, String>(n * n))?;
/// assert_eq!(journal.done(), 4);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Journaled<'j, N = Serialized> {
    journal: &'j Journal,
    names: N,
    /// Whether all items were looked at before the first started.
    is_admitted: AtomicBool,
    /// Otherwise, what came so far.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    ids: Ids,
    /// Whether the journal is this batch's.
    has_claimed: bool,
}

impl Seen {
    fn claim(&mut self, journal: &Journal) -> Result<(), Halt> {
        if !self.has_claimed {
            journal.claim()?;
            self.has_claimed = true;
        }
        Ok(())
    }
}

impl<'j, N> Journaled<'j, N> {
    pub(crate) fn new(journal: &'j Journal, names: N) -> Self {
        Journaled { journal, names, is_admitted: AtomicBool::new(false), seen: Mutex::default() }
    }
}

impl<N> Drop for Journaled<'_, N> {
    fn drop(&mut self) {
        if self.seen.get_mut().has_claimed {
            self.journal.release();
        }
    }
}

/// Items are called in a journal what they are as JSON: [`Journaled`] without names of its own.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Serialized;

/// What an item is called in the journal, as JSON.
#[diagnostic::on_unimplemented(
    message = "items `{I}` cannot be written into a journal as they are",
    note = "items are `serde::Serialize`; for those that are not, there is `journal_as`, which makes texts of them"
)]
pub trait Names<I>: Sync {
    fn id(&self, index: usize, item: &I) -> Result<String, JournalError>;
}

impl<I: Serialize> Names<I> for Serialized {
    fn id(&self, index: usize, item: &I) -> Result<String, JournalError> {
        id_of(index, item)
    }
}

impl<I, F: Fn(&I) -> String + Sync> Names<I> for F {
    fn id(&self, index: usize, item: &I) -> Result<String, JournalError> {
        id_of(index, &self(item))
    }
}

impl<N> Journaled<'_, N> {
    fn id<I>(&self, position: usize, item: &I) -> Result<String, Halt>
    where
        N: Names<I>,
    {
        self.names.id(position, item).map_err(|error| Halt(error.to_string()))
    }
}

impl<I, T, E, N> Keep<I, T, E> for Journaled<'_, N>
where
    N: Names<I>,
    T: Serialize + DeserializeOwned,
    E: fmt::Display,
{
    const KEEPS: bool = true;

    fn admit(&self, items: &[I]) -> Result<(), Halt> {
        self.is_admitted.store(true, Ordering::Relaxed);
        self.seen.lock().claim(self.journal)?;
        self.journal.admit(items.iter().enumerate().map(|(position, item)| self.names.id(position, item)))
    }

    fn recall(&self, position: usize, item: &I) -> Result<Option<Recalled<T, E>>, Halt> {
        let id = self.id(position, item)?;
        if !self.is_admitted.load(Ordering::Relaxed) {
            let mut seen = self.seen.lock();
            seen.claim(self.journal)?;
            self.journal.check_twin(&mut seen.ids, position, &id)?;
        }
        self.journal.recall(position, &id)
    }

    fn record(
        &self,
        position: usize,
        item: &I,
        attempts: usize,
        outcome: Result<&T, &ItemError<E>>,
    ) -> Result<(), Halt> {
        self.journal.record(position, self.id(position, item)?, attempts, outcome)
    }

    fn finish(&self) -> Result<(), Halt> {
        self.journal.finish()
    }
}
