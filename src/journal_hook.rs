//! What a batch asks of a journal. The journal itself comes with feature `journal`.

use crate::error::ItemError;

/// A journal, for one batch. Positions are those in the batch.
#[cfg_attr(
    not(all(feature = "journal", feature = "tokio")),
    allow(dead_code, reason = "nothing implements it, or no batch runs in a task")
)]
pub(crate) trait JournalHook<I, T, E>: Sync {
    /// Whether this batch may run. All items are there, and none has started.
    fn admit(&self, items: &[I]) -> Result<(), JournalFailure>;

    /// How many items of a batch of this size were decided by an earlier run, as far as that is
    /// known before they are looked at.
    fn recorded(&self, items: usize) -> usize;

    /// What the item came to in an earlier run, if that is its outcome.
    fn recall(&self, position: usize, item: &I) -> Result<Option<Recalled<T, E>>, JournalFailure>;

    /// Keeps what the item has come to, after this many attempts. Never called for an item that is undecided.
    fn record(
        &self,
        position: usize,
        item: &I,
        attempts: usize,
        outcome: Result<&T, &ItemError<E>>,
    ) -> Result<(), JournalFailure>;

    /// From now on, the journal hands each sync for which no worker waits to `spawn`.
    fn sync_by(&mut self, spawn: Spawn);

    /// Syncs what is recorded by then. [`finish`](JournalHook::finish) tells what went wrong.
    fn in_background(&self) -> Work;

    /// Syncs what was recorded.
    fn finish(&self) -> Result<(), JournalFailure>;
}

/// What blocks a thread for a while.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// Has work done on another thread, sooner or later, or not at all.
pub(crate) type Spawn = fn(Work);

/// The journal cannot go on, and neither can the batch. Says why.
#[derive(Debug, Clone)]
pub(crate) struct JournalFailure(pub(crate) String);

/// What an earlier run has left of an item.
#[derive(Debug)]
pub(crate) struct Recalled<T, E> {
    pub(crate) outcome: Result<T, ItemError<E>>,
    pub(crate) attempts: usize,
}
