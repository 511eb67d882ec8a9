//! The consumer of a stream in a task.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::engine::parking::Dispatcher;
use crate::error::Outcome;
use crate::result::BatchItem;
use crate::slots::{Reader, Slots};
use crate::stream::Drawn;

/// The outcomes of an async stream, one after the other. [`Batch::stream_async`](crate::Batch::stream_async) lends them to the
/// closure that consumes them.
///
/// Items come in input order, unless the stream is [`unordered`](crate::Batch::unordered). While the consumer awaits something
/// else, what is in flight goes on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use batch_executor::BatchExecutor;
///
/// let executor = BatchExecutor::builder().workers(8).build().unwrap();
/// let streamed = executor
///     .batch(1..=3)
///     .stream_async(
///         async |n| Ok::<_, String>(n * n),
///         async |results| {
///             let mut squares = Vec::new();
///             while let Some(item) = results.next().await {
///                 squares.push(item.outcome.unwrap());
///             }
///             squares
///         },
///     )
///     .await;
/// assert_eq!(streamed.output, [1, 4, 9]);
/// # }
/// ```
pub struct AsyncResults<'r, I, T, E> {
    slots: &'r Slots<I, T, E>,
    dispatcher: &'r Dispatcher,
    reader: Reader,
    drawn: Drawn,
}

impl<'r, I, T, E> AsyncResults<'r, I, T, E> {
    pub(super) fn new(slots: &'r Slots<I, T, E>, dispatcher: &'r Dispatcher, reader: Reader) -> Self {
        AsyncResults { slots, dispatcher, reader, drawn: Drawn::default() }
    }

    pub(super) fn drawn(&self) -> Drawn {
        self.drawn
    }

    /// The next item with its outcome, as soon as there is one. None when the input has ended and all its items were handed on, or
    /// when the stream has stopped; then none follows.
    ///
    /// A call that is dropped before it is ready takes nothing out of the stream.
    pub async fn next(&mut self) -> Option<BatchItem<I, Outcome<T, E>>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<BatchItem<I, Outcome<T, E>>>> {
        if self.drawn.is_over {
            return Poll::Ready(None);
        }
        self.dispatcher.hand_on(self.reader.taken());
        let is_wanted = !self.slots.is_in_order() || self.reader.taken() < self.dispatcher.line_of_failures();
        if let Some((index, item, outcome)) = is_wanted.then(|| self.slots.take(&mut self.reader)).flatten() {
            self.drawn.add(index, &outcome);
            return Poll::Ready(Some(BatchItem { index, item, outcome }));
        }
        if !is_wanted || self.dispatcher.schedule().is_idle() {
            self.drawn.is_over = true;
            return Poll::Ready(None);
        }
        self.dispatcher.call.iter().for_each(|call| call.consumer.register(cx.waker()));
        Poll::Pending
    }
}

impl<I, T, E> fmt::Debug for AsyncResults<'_, I, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResults")
            .field("succeeded", &self.drawn.counts.succeeded)
            .field("failed", &self.drawn.counts.failed)
            .field("is_over", &self.drawn.is_over)
            .finish_non_exhaustive()
    }
}
