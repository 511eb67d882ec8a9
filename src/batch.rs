//! One batch: its steps, and the verbs that run it.

use std::fmt;

use crate::batch_error::BatchError;
use crate::engine::{Engine, OnProgress, Outcome, collect};
use crate::panic::{self, Panic};
use crate::progress::Progress;
use crate::result::BatchResult;
use crate::sync::{Instant, Mutex};

/// Items about to be run. Made by [`BatchExecutor::batch`](crate::BatchExecutor::batch); nothing happens until
/// [`run`](Batch::run).
///
/// Items, operation and values may borrow from the caller: the batch is over when `run` returns.
#[must_use = "a batch does nothing until it is run"]
pub struct Batch<'a, It> {
    engine: &'a Engine,
    items: It,
    on_progress: Option<OnProgress<'a>>,
}

impl<'a, It: Iterator> Batch<'a, It> {
    pub(crate) fn new(engine: &'a Engine, items: It) -> Self {
        Batch { engine, items, on_progress: None }
    }

    /// Calls `callback` after every item that was run or refused by the rate limiter.
    ///
    /// The calls come on the calling thread, one at a time, with [`completed`](Progress::completed) rising by one. With
    /// several workers, the calling thread only reports while there are others to work, so a slow callback slows no
    /// item; calls for quick items come a few at a time, with one time for all. Where no other thread can be had, or none
    /// comes within a tenth of a second, the calling thread works and reports by turns. The last call of this method wins.
    ///
    /// # Panics
    ///
    /// A panic of the callback stops the batch: it is not called again, nothing new starts, what runs is waited for, and
    /// then the panic goes on out of `run`.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, Workers};
    ///
    /// let mut bar = String::new();
    /// BatchExecutor::builder().workers(Workers::auto()).build()?
    ///     .batch(0..20)
    ///     .on_progress(|p| bar.push(if p.failed == 0 { '.' } else { '!' }))
    ///     .run(|n| Ok::<_, String>(n + 1))?;
    /// assert_eq!(bar, ".".repeat(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_progress(mut self, callback: impl FnMut(&Progress) + 'a) -> Self {
        self.on_progress = Some(Box::new(callback));
        self
    }

    /// Runs `op` on every item and waits for all of them.
    ///
    /// All items are taken out of the iterator first, on this thread. Outcomes come back in input order. The first
    /// items, as many as there are workers, are started one by one and at once; beyond that, items must not wait for one
    /// another, since a worker may hold several.
    ///
    /// A panic in `op` is that item's outcome, [`ItemError::Panicked`](crate::ItemError::Panicked); the panic hook prints
    /// its message first, as for any panic. `op` may start other batches, on this executor too: they never wait for a
    /// thread, and have a worker limit of their own.
    ///
    /// Items, values and errors are `Send`, whatever the worker count; for errors of any kind that is
    /// `Box<dyn Error + Send + Sync>`. `op` gets a reference to the item, so a function of `&str` is passed as
    /// `|text| function(text)`.
    ///
    /// Costs a few nanoseconds an item beside what `op` takes, and the memory of one
    /// [`BatchItem`](crate::BatchItem) each. Values larger than some hundred bytes are better boxed: outcomes are
    /// moved into their place.
    ///
    /// # Errors
    ///
    /// [`BatchError::Stopped`] if the executor stops on failures and there were as many; with `stop_on_error(false)`,
    /// failures are in the result, and this is `Ok`. Where items borrow, `?` needs
    /// [`without_items`](BatchError::without_items).
    ///
    /// # Panics
    ///
    /// If the iterator, the progress callback, or a destructor of what is thrown away panics; never while something of
    /// the batch is still running.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, ItemError};
    ///
    /// let executor = BatchExecutor::builder().workers(2).stop_on_error(false).build()?;
    /// let result = executor.batch(["3", "4", "x"]).run(|word| word.parse::<i32>())?;
    /// assert_eq!(result.values().copied().collect::<Vec<_>>(), [3, 4]);
    /// assert!(matches!(result.items()[2].error(), Some(ItemError::Failed(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<I, T, E>(
        self,
        op: impl Fn(&I) -> Result<T, E> + Sync,
    ) -> Result<BatchResult<I, T, E>, BatchError<I, T, E>>
    where
        It: Iterator<Item = I>,
        I: Send,
        T: Send,
        E: Send,
    {
        self.engine
            .run(Instant::now(), self.items, self.on_progress, move |_, item| op(item))
            .unwrap_or_else(|panic| panic.resume())
    }

    /// Runs one task for each item; the items are the ids under which the outcomes come back.
    ///
    /// Like [`run`](Batch::run) in everything else. Tasks that never start are dropped, on this thread, when the
    /// batch is over.
    ///
    /// # Errors
    ///
    /// [`BatchError::LengthMismatch`] if there are more tasks than items or fewer; nothing has run then. Otherwise as
    /// for [`run`](Batch::run).
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let greet = |name: &'static str| move || Ok::<_, String>(format!("hello {name}"));
    /// let result = BatchExecutor::new()
    ///     .batch(["id-1", "id-2"])
    ///     .run_tasks([greet("Ada"), greet("Bob")])?;
    /// assert_eq!(result.items()[1].id, "id-2");
    /// assert_eq!(result.into_values().unwrap(), ["hello Ada", "hello Bob"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_tasks<I, T, E, F>(
        self,
        tasks: impl IntoIterator<Item = F>,
    ) -> Result<BatchResult<I, T, E>, BatchError<I, T, E>>
    where
        It: Iterator<Item = I>,
        F: FnOnce() -> Result<T, E> + Send,
        I: Send,
        T: Send,
        E: Send,
    {
        let since = Instant::now();
        let (Ok(ids), Ok(tasks)) =
            (collect(self.items), collect(tasks.into_iter().map(Some).map(Mutex::new)))
        else {
            return Err(BatchError::out_of_memory());
        };
        if tasks.len() != ids.len() {
            return refuse(tasks, ids);
        }
        let ended =
            self.engine.run(since, ids.into_iter(), self.on_progress, |index, _| take(&tasks[index])());
        let unstarted = panic::drop_each(tasks);
        match (ended, unstarted) {
            (Ok(outcome), Ok(())) => outcome,
            (Ok(outcome), Err(panic)) => discard(outcome, panic),
            (Err(panic), _) => panic.resume(),
        }
    }
}

/// Drops tasks and ids that do not match. Whatever their destructors do, all of them.
fn refuse<F, I, T, E>(tasks: Vec<F>, ids: Vec<I>) -> Outcome<I, T, E> {
    let error = BatchError::LengthMismatch { tasks: tasks.len(), item_ids: ids.len() };
    match panic::drop_each(tasks).and(panic::drop_each(ids)) {
        Ok(()) => Err(error),
        Err(panic) => panic.resume(),
    }
}

/// Drops what a batch came to, and lets a panic go on.
fn discard<I, T, E>(outcome: Outcome<I, T, E>, panic: Panic) -> ! {
    if let Some(result) = outcome.map_or_else(BatchError::into_partial, Some) {
        let _ = panic::drop_each(result.into_items());
    }
    panic.resume()
}

/// The task of one item. Every item is run once, so it is there.
fn take<F>(slot: &Mutex<Option<F>>) -> F {
    let task = slot.lock().take();
    task.unwrap_or_else(|| unreachable!("an item was run twice"))
}

impl<It> fmt::Debug for Batch<'_, It> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("reports_progress", &self.on_progress.is_some()).finish_non_exhaustive()
    }
}
