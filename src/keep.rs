//! Whether a batch keeps a record of its outcomes, so that another run need not come to them again: the place where a journal
//! goes, and what stands there without one.

use crate::error::ItemError;

/// A batch without a journal. In the type of a [`Batch`](crate::Batch), where one is stored half-made.
///
/// ```
/// use batch_executor::{Batch, BatchExecutor, NoJournal, NoRetry};
/// use std::ops::Range;
///
/// let executor = BatchExecutor::new();
/// let batch: Batch<'_, Range<u32>, NoRetry, (), NoJournal> = executor.batch(0..4);
/// assert_eq!(batch.run(|n| Ok::<_, String>(n * n))?.successful(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct NoJournal;

/// What a batch does with its outcomes beside handing them back: nothing, or it records them in a journal, which takes items and
/// values that can be written and values that can be read. For bounds; it is not to be implemented elsewhere.
///
/// ```
/// use batch_executor::{Batch, BatchExecutor, JournalPolicy, NoRetry};
/// use std::ops::Range;
///
/// /// Runs what others have prepared, with a journal or without.
/// fn sum_of_squares<K: JournalPolicy<u32, u32, String>>(batch: Batch<'_, Range<u32>, NoRetry, (), K>) -> u32 {
///     batch.run(|n| Ok(n * n)).unwrap().values().sum()
/// }
///
/// assert_eq!(sum_of_squares(BatchExecutor::new().batch(0..4)), 14);
/// ```
#[diagnostic::on_unimplemented(
    message = "this journal cannot keep outcomes of items `{I}`, values `{T}` and errors `{E}`",
    note = "in a journal, items and values are `serde::Serialize`, values `serde::de::DeserializeOwned` too, and errors `Display`",
    note = "for items that are not, there is `journal_as`"
)]
pub trait JournalPolicy<I, T, E>: policy::Keep<I, T, E> {}

impl<I, T, E, K: policy::Keep<I, T, E>> JournalPolicy<I, T, E> for K {}

/// The journal cannot go on, and with it the batch; in words.
#[derive(Debug, Clone)]
pub struct Halt(pub(crate) String);

/// What an earlier run has left of an item.
#[derive(Debug)]
pub struct Recalled<T, E> {
    pub(crate) outcome: Result<T, ItemError<E>>,
    pub(crate) attempts: usize,
}

pub(crate) mod policy {
    use crate::error::ItemError;
    use crate::keep::{Halt, Recalled};

    /// Positions are those in the batch.
    pub trait Keep<I, T, E>: Sync {
        /// Whether anything is kept at all.
        const KEEPS: bool;

        /// Whether this batch may run. All items are there, and none has started.
        fn admit(&self, items: &[I]) -> Result<(), Halt>;

        /// What the item has come to in an earlier run, if that is its outcome.
        fn recall(&self, position: usize, item: &I) -> Result<Option<Recalled<T, E>>, Halt>;

        /// Keeps what the item has come to.
        fn record(
            &self,
            position: usize,
            item: &I,
            attempts: usize,
            outcome: Result<&T, &ItemError<E>>,
        ) -> Result<(), Halt>;

        /// Sees to it that what was recorded stays.
        fn finish(&self) -> Result<(), Halt>;
    }
}

impl<I, T, E> policy::Keep<I, T, E> for NoJournal {
    const KEEPS: bool = false;

    fn admit(&self, _: &[I]) -> Result<(), Halt> {
        Ok(())
    }

    fn recall(&self, _: usize, _: &I) -> Result<Option<Recalled<T, E>>, Halt> {
        Ok(None)
    }

    fn record(&self, _: usize, _: &I, _: usize, _: Result<&T, &ItemError<E>>) -> Result<(), Halt> {
        Ok(())
    }

    fn finish(&self) -> Result<(), Halt> {
        Ok(())
    }
}
