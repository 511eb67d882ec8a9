//! The verbs of async code.

use crate::context::ItemContext;
use crate::engine::AsyncResults;
use crate::result::BatchResult;
use crate::stream::Streamed;

use super::Batch;

/// Verbs of async code: feature `tokio`.
///
/// A batch runs in the task that awaits it. Nothing is spawned, so items, operation and values may borrow from the caller and
/// need not be `Send`. Where all of them are `Send`, the future is `Send`, and can be spawned. Dropping the future ends the
/// batch, and drops the items in flight.
///
/// All steps work as on threads, and the [promises](crate::guide::promises) hold. What differs:
///
/// - **[`workers`](Batch::workers) is how many items are in flight.** None of them has a thread, so there may be thousands.
///   [Adaptive](crate::Workers::adaptive) workers go up to 1,024, unless `max` is set.
/// - **A cancel and a deadline cut off items in flight**, as [`Interrupted`](crate::ItemError::Interrupted).
///   [`item_timeout`](Batch::item_timeout) cuts off one attempt, as [`TimedOut`](crate::ItemError::TimedOut). The batch drops the
///   future where it awaits. A failure that stops the batch cuts off nothing: items that have started come to their end. A
///   panic that stops it, such as one of a callback, drops them.
/// - **The future of an operation runs on the task's thread.** One that computes for long, or blocks, holds up all others: give
///   such work to `spawn_blocking`. After a tenth of a millisecond the batch lets other tasks have the thread.
/// - **Callbacks** of [`on_progress`](Batch::on_progress) and [`on_tick`](Batch::on_tick) need not be `Send`, so only the thread
///   that made them calls them. Where a runtime moves the task to another thread, such a call panics and says why. Under
///   `block_on`, in `#[tokio::main]` without `spawn`, and in a `LocalSet`, a task stays on its thread.
/// - **A [journal](Batch::journal)** writes on the task's thread, and syncs on a thread of the runtime that may block. With
///   `sync_every(1)` it syncs on the task's thread, too, some milliseconds for each item.
/// - **The iterator, and a [rate limiter](crate::RateLimiter) of your own,** are asked on the task's thread and should not block.
///
/// Waits need a runtime of `tokio` with its timer enabled. A batch that waits for nothing runs on any runtime.
impl<I, It, T, E> Batch<'_, It, T, E>
where
    It: Iterator<Item = I>,
{
    /// Runs `op` on every item, as many at a time as there are [`workers`](Batch::workers), and returns all outcomes in input
    /// order, as [`run`](Batch::run) does.
    ///
    /// A future that is spawned on a runtime with several threads wants an `async move` closure. With `async`, which borrows what
    /// it captures, the compiler says "implementation of `Send` is not general enough".
    ///
    /// # Panics
    ///
    /// As [`run`](Batch::run) does, in the task that awaits it; and if it has to wait where there is no runtime of `tokio`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use batch_executor::BatchExecutor;
    /// use std::time::{Duration, Instant};
    ///
    /// let executor = BatchExecutor::builder().workers(1_000).build()?;
    /// let (name, since) = (String::from("row"), Instant::now());
    /// let rows = executor
    ///     .batch(0..1_000)
    ///     .run_async(async |n| {
    ///         tokio::time::sleep(Duration::from_millis(50)).await;
    ///         Ok::<_, std::io::Error>(format!("{name} {n}"))
    ///     })
    ///     .await
    ///     .into_values()?;
    /// assert_eq!(rows[999], "row 999");
    /// println!("{:?}", since.elapsed());                      // 53ms: all of them were in flight at once
    /// # Ok(()) }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub async fn run_async(self, op: impl AsyncFn(&I) -> Result<T, E>) -> BatchResult<I, T, E> {
        let Batch { engine, items, settings } = self;
        let op = async move |item: &I, _: &mut ItemContext<'_>| op(item).await;
        // On the heap, since futures hold what they await, and this is some kilobytes.
        Box::pin(engine.run_in_task(items, settings, op)).await.unwrap_or_else(|panic| panic.resume())
    }

    /// Like [`run_async`](Batch::run_async), whose operation gets more than the item, as in
    /// [`run_with`](Batch::run_with). [`worker`](ItemContext::worker) is below the number of [`workers`](Batch::workers), and no
    /// two items in flight have the same.
    ///
    /// # Panics
    ///
    /// As [`run_async`](Batch::run_async) does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use batch_executor::{BatchExecutor, Retry};
    /// use std::time::Duration;
    ///
    /// let result = BatchExecutor::new()
    ///     .batch(["a", "b"])
    ///     .retry(Retry::exponential(Duration::from_millis(1), Duration::from_secs(1), 3))
    ///     .run_async_with(async |id, cx| match cx.attempt() {
    ///         1 => Err("busy"),
    ///         _ => Ok(format!("{}{id}", cx.index())),
    ///     })
    ///     .await;
    /// assert_eq!(result.into_values()?, ["0a", "1b"]);
    /// # Ok(()) }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub async fn run_async_with(
        self,
        op: impl AsyncFn(&I, &mut ItemContext<'_>) -> Result<T, E>,
    ) -> BatchResult<I, T, E> {
        let Batch { engine, items, mut settings } = self;
        settings.numbered = true;
        // On the heap, since futures hold what they await, and this is some kilobytes.
        Box::pin(engine.run_in_task(items, settings, op)).await.unwrap_or_else(|panic| panic.resume())
    }

    /// Runs `op` on items while `consume` takes what they come to, as [`stream`](Batch::stream) does, in one task.
    ///
    /// `consume` may await anything, for any time: items in flight continue meanwhile, up to the
    /// [`window`](Batch::window). When it returns, the batch drops the items that are still in flight.
    ///
    /// # Panics
    ///
    /// As [`stream`](Batch::stream) does, in the task that awaits it; and if it has to wait where there is no runtime of `tokio`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use batch_executor::BatchExecutor;
    ///
    /// let executor = BatchExecutor::builder().workers(16).build()?;
    /// let streamed = executor
    ///     .batch(1_u64..)                                         // without end
    ///     .stream_async(
    ///         async |n| Ok::<_, String>(n * n),
    ///         async |results| {
    ///             let mut sum = 0;
    ///             while let Some(item) = results.next().await {
    ///                 sum += item.outcome.unwrap();
    ///                 if sum > 100 {
    ///                     break;
    ///                 }
    ///             }
    ///             sum
    ///         },
    ///     )
    ///     .await;
    /// assert_eq!((streamed.output, streamed.succeeded), (140, 7));
    /// # Ok(()) }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub async fn stream_async<O>(
        self,
        op: impl AsyncFn(&I) -> Result<T, E>,
        consume: impl AsyncFnOnce(&mut AsyncResults<'_, I, T, E>) -> O,
    ) -> Streamed<O> {
        let Batch { engine, items, settings } = self;
        let op = async move |item: &I, _: &mut ItemContext<'_>| op(item).await;
        let streamed = Box::pin(engine.stream_in_task(items, settings, op, consume)).await;
        streamed.unwrap_or_else(|panic| panic.resume())
    }
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{self, ThreadId};

    use crate::error::ItemError;
    use crate::executor::BatchExecutor;
    use crate::journal_hook::{JournalFailure, JournalHook, Recalled, Spawn, Work};
    use crate::sync::Mutex;

    /// A journal that syncs after item 3 and at the end. The first sync lasts until item 9 gives it leave.
    struct Slow {
        syncs: Sender<ThreadId>,
        leave: Mutex<Option<Receiver<()>>>,
        spawn: Option<Spawn>,
    }

    impl JournalHook<usize, (), String> for Slow {
        fn admit(&self, _: &[usize]) -> Result<(), JournalFailure> {
            Ok(())
        }

        fn recorded(&self, _: usize) -> usize {
            0
        }

        fn recall(&self, _: usize, _: &usize) -> Result<Option<Recalled<(), String>>, JournalFailure> {
            Ok(None)
        }

        fn record(
            &self,
            position: usize,
            _: &usize,
            _: usize,
            _: Result<&(), &ItemError<String>>,
        ) -> Result<(), JournalFailure> {
            if position == 3 {
                self.spawn.expect("a place for syncs")(self.in_background());
            }
            Ok(())
        }

        fn sync_by(&mut self, spawn: Spawn) {
            self.spawn = Some(spawn);
        }

        fn in_background(&self) -> Work {
            let (syncs, leave) = (self.syncs.clone(), self.leave.lock().take());
            Box::new(move || {
                assert!(leave.is_none_or(|leave| leave.recv().is_ok()));
                assert!(syncs.send(thread::current().id()).is_ok());
            })
        }

        fn finish(&self) -> Result<(), JournalFailure> {
            assert!(self.leave.lock().is_none());
            Ok(())
        }
    }

    /// The runtime has one thread: a sync on it would wait for ever.
    #[test]
    fn a_journal_syncs_on_other_threads_than_that_of_the_task() {
        let ((syncs, synced), (leave, may_leave)) = (channel(), channel());
        let journal = Slow { syncs, leave: Mutex::new(Some(may_leave)), spawn: None };
        let executor = BatchExecutor::new();
        let mut batch = executor.batch(0..10).workers(2);
        batch.settings.journal = Some(Box::new(journal));
        let op = async |n: &usize| {
            tokio::task::yield_now().await;
            if *n == 9 {
                leave.send(()).map_err(|_| "no sync has begun".to_owned())?;
            }
            Ok(())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let result = runtime.block_on(batch.run_async(op));
        assert!(result.is_success(), "{result}");
        let synced: Vec<ThreadId> = synced.into_iter().collect();
        assert_eq!(synced.len(), 2, "the last one was waited for");
        assert!(synced.iter().all(|thread| *thread != thread::current().id()));
    }
}
