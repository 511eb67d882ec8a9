//! What an operation can ask about its item and its batch.

use std::fmt;

use crate::clock;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// What an operation of [`run_with`](crate::Batch::run_with) can ask: its item's index, the attempt, the worker, and whether
/// the batch has stopped. With [`run_init`](crate::Batch::run_init), it also has the worker's state.
///
/// ```
/// use batch_executor::{BatchExecutor, ItemContext};
///
/// fn send(row: &str, cx: &mut ItemContext<'_, Vec<u8>>) -> Result<usize, String> {
///     assert!(cx.worker() < 2 && cx.attempt() == 1);
///     cx.state.clear();                                       // this worker's own buffer
///     cx.state.extend_from_slice(row.as_bytes());
///     Ok(cx.index() + cx.state.len())
/// }
///
/// let executor = BatchExecutor::builder().workers(2).build()?;
/// let sent = executor.batch(["a", "bc"]).run_init(Vec::new, |row, cx| send(row, cx)).into_values()?;
/// assert_eq!(sent, [1, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
pub struct ItemContext<'c, S = ()> {
    /// What the `init` of [`run_init`](crate::Batch::run_init), [`try_run_init`](crate::Batch::try_run_init) or
    /// [`stream_init`](crate::Batch::stream_init) made for this worker; `()` for other verbs.
    pub state: &'c mut S,
    pub(crate) index: usize,
    pub(crate) attempt: usize,
    pub(crate) worker: usize,
    /// Items from here on are not wanted any more.
    pub(crate) end: &'c AtomicUsize,
    pub(crate) deadline: Option<Instant>,
}

impl<S> ItemContext<'_, S> {
    /// The item's position in the batch. The first is 0. In [`run_growing`](crate::Batch::run_growing), its number in the order in
    /// which items came, which may not be its place in the result.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Which attempt at the item this is. The first is 1.
    #[must_use]
    pub fn attempt(&self) -> usize {
        self.attempt
    }

    /// The number of the worker, below the worker count. No two workers have the same number at the same time.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Whether the batch has stopped, so that it would not start this item now: it was cancelled, its deadline has passed, or
    /// it stops on failures and an earlier item has failed. Also whether this attempt has used up its
    /// [`item_timeout`](crate::Batch::item_timeout).
    ///
    /// A long operation may ask from time to time, and return early. Its return value is the outcome of its item.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, CancelToken};
    ///
    /// let token = CancelToken::new();
    /// let result = BatchExecutor::new()
    ///     .batch(["long", "next"])
    ///     .cancel_on(&token)
    ///     .run_with(|_, cx| {
    ///         for step in 0.. {
    ///             if cx.is_cancelled() {
    ///                 return Err(format!("gave up at step {step}"));
    ///             }
    ///             token.cancel();                          // as another thread would
    ///         }
    ///         Ok(())
    ///     });
    /// assert_eq!(result.failures().next().unwrap().to_string(), "item 0: gave up at step 1");
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.index >= self.end.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| clock::now() >= deadline)
    }

    /// When the batch is to stop, if it has a deadline or a timeout, or when this attempt is to end by
    /// [`item_timeout`](crate::Batch::item_timeout): the earlier of the two. Pass it to the functions that the operation calls.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    /// use std::time::{Duration, Instant};
    ///
    /// let result = BatchExecutor::new().batch(["a", "b"]).timeout(Duration::from_secs(60)).run_with(|_, cx| {
    ///     let left = cx.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
    ///     // call the service, and wait for an answer for as long as is left
    ///     left.ok_or("there is no deadline")
    /// });
    /// assert!(result.is_success() && result.values().all(|left| *left <= Duration::from_secs(60)));
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl<S> fmt::Debug for ItemContext<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemContext")
            .field("index", &self.index)
            .field("attempt", &self.attempt)
            .field("worker", &self.worker)
            .field("is_cancelled", &self.is_cancelled())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
