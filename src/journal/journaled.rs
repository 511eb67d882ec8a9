//! A batch with a journal: what items are called in it, and what passes between the two.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ItemError;
use crate::journal_hook::{JournalFailure, JournalHook, Recalled, Spawn, Work};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

use super::error::JournalError;
use super::notebook::Journal;
use super::plan::{Ids, id_of};

/// A batch keeps a [`Journal`], in which its items have these names.
#[derive(Debug)]
pub(crate) struct Journaled<'j, N> {
    journal: &'j Journal,
    names: N,
    /// Where syncs run.
    spawn: Spawn,
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
    fn claim(&mut self, journal: &Journal) -> Result<(), JournalFailure> {
        if !self.has_claimed {
            journal.claim()?;
            self.has_claimed = true;
        }
        Ok(())
    }
}

impl<'j, N> Journaled<'j, N> {
    pub(crate) fn new(journal: &'j Journal, names: N) -> Self {
        let (is_admitted, seen) = (AtomicBool::new(false), Mutex::default());
        Journaled { journal, names, spawn: |work| work(), is_admitted, seen }
    }
}

impl<N> Drop for Journaled<'_, N> {
    fn drop(&mut self) {
        if self.seen.get_mut().has_claimed {
            self.journal.release();
        }
    }
}

/// Items are called in a journal what they are as JSON.
#[derive(Debug)]
pub(crate) struct Serialized;

/// What an item is called in the journal, as JSON.
pub(crate) trait Names<I>: Sync {
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
    fn id<I>(&self, position: usize, item: &I) -> Result<String, JournalFailure>
    where
        N: Names<I>,
    {
        self.names.id(self.journal.index(position), item).map_err(|error| self.journal.halt(error))
    }
}

impl<I, T, E, N> JournalHook<I, T, E> for Journaled<'_, N>
where
    N: Names<I>,
    T: Serialize + DeserializeOwned,
    E: fmt::Display,
{
    fn admit(&self, items: &[I]) -> Result<(), JournalFailure> {
        self.is_admitted.store(true, Ordering::Relaxed);
        self.seen.lock().claim(self.journal)?;
        let id = |(position, item)| self.names.id(self.journal.index(position), item);
        self.journal.admit(items.iter().enumerate().map(id))
    }

    fn recorded(&self, items: usize) -> usize {
        self.journal.recorded(items)
    }

    fn recall(&self, position: usize, item: &I) -> Result<Option<Recalled<T, E>>, JournalFailure> {
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
    ) -> Result<(), JournalFailure> {
        self.journal.record(position, self.id(position, item)?, attempts, outcome, self.spawn)
    }

    fn sync_by(&mut self, spawn: Spawn) {
        self.spawn = spawn;
    }

    fn in_background(&self) -> Work {
        self.journal.in_background()
    }

    fn finish(&self) -> Result<(), JournalFailure> {
        self.journal.finish()
    }
}
