//! A flag that stops batches, set from anywhere.

use std::fmt;
#[cfg(feature = "tokio")]
use std::future::poll_fn;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::task::Poll;

#[cfg(feature = "tokio")]
use futures_util::task::AtomicWaker;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Stops batches, from any thread: from another one, from an operation, from `on_progress`, from a handler of Ctrl-C.
///
/// A clone is another handle to the same flag. A token may be given to any number of batches, at the same time or one
/// after another ([`Batch::cancel_on`](crate::Batch::cancel_on)); it is cancelled once and for good.
///
/// ```
/// use batch_executor::{BatchExecutor, CancelToken, StopReason};
///
/// let token = CancelToken::new();
/// let result = BatchExecutor::new()
///     .batch(0..1_000)
///     .cancel_on(&token)
///     .run(|&n| {
///         if n == 2 {
///             token.cancel();                 // or from any other thread
///         }
///         Ok::<_, String>(n)
///     });
/// assert!(token.is_cancelled());
/// assert_eq!(result.stopped(), Some(StopReason::Cancelled));
/// assert_eq!((result.succeeded(), result.skipped()), (3, 997));
/// ```
#[derive(Clone, Default)]
pub struct CancelToken {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    /// The batches that are running.
    batches: Mutex<Vec<Arc<dyn OnCancel>>>,
}

/// What a token tells of being cancelled.
pub(crate) trait OnCancel: Send + Sync {
    fn cancelled(&self);
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops every batch that has this token. No more of their items start, and all waits end immediately. The batches
    /// wait for operations that run on threads. Further calls have no effect.
    ///
    /// Not async-signal-safe: it takes a lock and wakes threads. Handlers of the crate `ctrlc` run on a thread of their own,
    /// and may call it.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Release);
        let batches = self.shared.batches.lock().clone();
        for batch in batches {
            batch.cancelled();
        }
    }

    /// Whether [`cancel`](CancelToken::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Acquire)
    }

    /// Waits until the token is cancelled, for use in a `select!`. Returns immediately if it is cancelled already.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use batch_executor::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// let other = token.clone();
    /// std::thread::spawn(move || other.cancel());
    /// token.cancelled().await;
    /// assert!(token.is_cancelled());
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub async fn cancelled(&self) {
        let task = Arc::new(Waits(AtomicWaker::new()));
        let _watching = self.watch(task.clone());
        poll_fn(|cx| {
            task.0.register(cx.waker());
            if self.is_cancelled() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// A guard that cancels the token when it is dropped, at the end of a scope, also by `?` or a panic.
    ///
    /// ```
    /// use batch_executor::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// {
    ///     let _guard = token.drop_guard();
    ///     assert!(!token.is_cancelled());
    /// }
    /// assert!(token.is_cancelled());
    ///
    /// let token = CancelToken::new();
    /// token.drop_guard().disarm();                         // it went well
    /// assert!(!token.is_cancelled());
    /// ```
    #[must_use = "the token is cancelled when the guard is dropped"]
    pub fn drop_guard(&self) -> DropGuard {
        DropGuard { token: Some(self.clone()) }
    }

    /// Tells the batch of a cancel, until the returned value is dropped; immediately if the token is cancelled already.
    pub(crate) fn watch(&self, batch: Arc<dyn OnCancel>) -> Watching {
        self.shared.batches.lock().push(Arc::clone(&batch));
        // A cancel sets the flag first and then looks into the list: one of the two is seen.
        if self.is_cancelled() {
            batch.cancelled();
        }
        Watching { token: self.clone(), batch }
    }
}

/// A task that waits for the cancel.
#[cfg(feature = "tokio")]
struct Waits(AtomicWaker);

#[cfg(feature = "tokio")]
impl OnCancel for Waits {
    fn cancelled(&self) {
        self.0.wake();
    }
}

/// A batch in the list of a token. Takes it out of there when it is dropped.
pub(crate) struct Watching {
    token: CancelToken,
    batch: Arc<dyn OnCancel>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.token.shared.batches.lock().retain(|batch| !Arc::ptr_eq(batch, &self.batch));
    }
}

/// Cancels a token when it is dropped. Made by [`CancelToken::drop_guard`].
#[derive(Debug)]
pub struct DropGuard {
    token: Option<CancelToken>,
}

impl DropGuard {
    /// Drops the guard, and does not cancel.
    pub fn disarm(mut self) {
        self.token = None;
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.token.iter().for_each(CancelToken::cancel);
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

/// There is nothing in a token that a panic could leave halfway.
impl UnwindSafe for CancelToken {}
impl RefUnwindSafe for CancelToken {}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Told(AtomicUsize);

    impl OnCancel for Told {
        fn cancelled(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Told {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn those_that_watch_are_told_and_those_that_have_gone_are_not() {
        for is_first in [true, false] {
            let token = CancelToken::new();
            let (here, gone) = (Arc::new(Told::default()), Arc::new(Told::default()));
            let before = is_first.then(|| token.watch(gone.clone()));
            let _watching = token.watch(here.clone());
            drop(before.unwrap_or_else(|| token.watch(gone.clone())));
            token.clone().cancel();
            assert!(token.is_cancelled());
            assert_eq!((here.times(), gone.times()), (1, 0));
            assert_eq!(Arc::strong_count(&gone), 1);
        }
    }

    #[test]
    fn a_guard_that_a_panic_drops_cancels() {
        let token = CancelToken::new();
        let guard = token.drop_guard();
        let unwound = std::panic::catch_unwind(move || {
            let _guard = guard;
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(unwound.is_err() && token.is_cancelled());
    }

    #[test]
    fn who_comes_after_the_cancel_is_told_at_once() {
        let token = CancelToken::new();
        token.cancel();
        let late = Arc::new(Told::default());
        let _watching = token.watch(late.clone());
        assert_eq!(late.times(), 1);
    }
}
