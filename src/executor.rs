//! The executor and its builder: settings, defaults, and what is refused.

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::batch_error::BatchError;
use crate::clock::TestClock;
use crate::engine::{Engine, OnFailure};
use crate::error::{ConfigError, Outcome};
use crate::pool::{Pool, PoolConfig};
use crate::rate_limit::RateLimiter;
use crate::result::BatchResult;
use crate::workers::Workers;

/// Runs batches, with limits for how many items run at the same time and how many start in a second.
///
/// A clone is another handle to the same executor: clones share one thread pool. Threads are started when a batch
/// first needs them, are kept for the next one, and end after [`keep_alive`](BatchExecutorBuilder::keep_alive) without
/// work; when the last clone drops, it waits for them. Batches may run from any number of threads at the same time, each
/// with the full worker count. Together they use at most 8 threads for each worker of the largest limit that a batch has
/// had, and at most 4,096; a batch with a [`Control`](crate::Control) may need all of these. A batch that finds none free is
/// worked on by its caller alone.
///
/// The default executor is sequential, stops on the first error, and has no rate limit.
///
/// ```
/// use batch_executor::{BatchExecutor, RateLimit, Workers};
///
/// let executor = BatchExecutor::builder()
///     .workers(Workers::auto())
///     .stop_on_error(false)
///     .rate_limiter(RateLimit::per_second(1_000))
///     .build()?;
///
/// let result = executor.run(["10", "20", "thirty"], |text| text.parse::<u32>());
/// for failure in result.failures() {
///     println!("{}: {}", failure.item, failure.error);       // thirty: invalid digit found in string
/// }
/// assert_eq!(result.values().sum::<u32>(), 30);
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct BatchExecutor {
    engine: Arc<Engine>,
}

impl BatchExecutor {
    /// Sequential, stops on the first error, no rate limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An executor with other settings.
    pub fn builder() -> BatchExecutorBuilder {
        BatchExecutorBuilder::default()
    }

    /// How many workers a batch of `batch_size` items would start with; at least 1.
    #[must_use]
    pub fn workers_for(&self, batch_size: usize) -> usize {
        self.engine.workers_for(batch_size)
    }

    /// A batch of these items, to which steps such as [`on_progress`](Batch::on_progress) can be added before it runs.
    ///
    /// The compiler infers `T` and `E`, the operation's value and error, from the operation.
    pub fn batch<T, E, It: IntoIterator>(&self, items: It) -> Batch<'_, It::IntoIter, T, E> {
        Batch::new(&self.engine, items.into_iter())
    }

    /// Runs `op` on every item: `batch(items).run(op)`, see [`Batch::run`].
    ///
    /// # Panics
    ///
    /// As [`Batch::run`] does.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let lengths = BatchExecutor::new().run(["a", "bcd"], |word| Ok::<_, String>(word.len())).into_values()?;
    /// assert_eq!(lengths, [1, 3]);
    /// # Ok::<(), batch_executor::BatchError>(())
    /// ```
    pub fn run<I, T, E>(
        &self,
        items: impl IntoIterator<Item = I>,
        op: impl Fn(&I) -> Result<T, E> + Sync,
    ) -> BatchResult<I, T, E>
    where
        I: Send,
        T: Send,
        E: Send,
    {
        self.batch(items).run(op)
    }

    /// Runs one task for each id: `batch(item_ids).run_tasks(tasks).into_result()`, see [`Batch::run_tasks`].
    ///
    /// # Errors
    ///
    /// [`BatchError`], if the batch stopped early, or there were more tasks than ids, or fewer.
    ///
    /// # Panics
    ///
    /// As [`Batch::run`] does.
    ///
    /// ```
    /// use batch_executor::BatchExecutor;
    ///
    /// let task = |n: u32| move || n.checked_sub(1).ok_or("nothing left");
    /// let error = BatchExecutor::new().execute_batch([task(1), task(0)], ["one", "zero"]).unwrap_err();
    /// assert_eq!(error.index(), Some(1));
    /// assert!(error.to_string().starts_with("item 1 failed: nothing left (1 of 2 succeeded, 1 failed in "));
    /// ```
    pub fn execute_batch<I, T, E, F>(
        &self,
        tasks: impl IntoIterator<Item = F>,
        item_ids: impl IntoIterator<Item = I>,
    ) -> Result<BatchResult<I, T, E>, BatchError>
    where
        F: FnOnce() -> Result<T, E> + Send,
        I: Send,
        T: Send,
        E: Send + Into<Box<dyn Error + Send + Sync>>,
    {
        self.batch(item_ids).run_tasks(tasks).into_result()
    }

    /// Runs one task on this thread, when the rate limiter permits it.
    ///
    /// # Errors
    ///
    /// The outcome of a task without a value: its error, its panic, or the limiter's refusal.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, ItemError};
    ///
    /// let executor = BatchExecutor::new();
    /// assert_eq!(executor.execute(|| "42".parse::<u32>()).unwrap(), 42);
    /// assert!(matches!(executor.execute(|| "x".parse::<u32>()), Err(ItemError::Failed(_))));
    /// ```
    pub fn execute<T, E>(&self, task: impl FnOnce() -> Result<T, E>) -> Outcome<T, E> {
        self.engine.execute(task)
    }
}

impl Default for BatchExecutor {
    fn default() -> Self {
        BatchExecutorBuilder::default().build_with(Workers::Sequential)
    }
}

impl fmt::Debug for BatchExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchExecutor")
            .field("workers", &self.engine.workers)
            .field("on_failure", &self.engine.on_failure)
            .field("rate_limited", &self.engine.limiter.is_some())
            .finish_non_exhaustive()
    }
}

/// A panic that unwinds through a batch leaves the executor as it was.
impl UnwindSafe for BatchExecutor {}
impl RefUnwindSafe for BatchExecutor {}

/// Settings of a [`BatchExecutor`]. Made by [`BatchExecutor::builder`].
///
/// ```
/// use batch_executor::{BatchExecutor, Workers};
/// use std::time::Duration;
///
/// let executor = BatchExecutor::builder()
///     .workers(Workers::Fixed(16))
///     .stop_after_failures(100)
///     .thread_name("import")                          // import-1, import-2, ...
///     .stack_size(512 * 1024)
///     .keep_alive(Duration::from_secs(60))
///     .build()?;
/// assert_eq!(executor.workers_for(1_000), 16);
///
/// let error = BatchExecutor::builder().workers(100_000).build().unwrap_err();
/// assert_eq!(error.to_string(), "100000 workers are too many; the most is 65536");
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct BatchExecutorBuilder {
    workers: Workers,
    on_failure: OnFailure,
    limiter: Option<Box<dyn RateLimiter>>,
    thread_name: String,
    stack_size: Option<usize>,
    keep_alive: Duration,
    clock: Option<TestClock>,
}

impl BatchExecutorBuilder {
    /// How many items run at the same time: a number, or one of [`Workers`]. Default [`Workers::Sequential`]. A batch may ask for
    /// [others](Batch::workers).
    pub fn workers(mut self, workers: impl Into<Workers>) -> Self {
        self.workers = workers.into();
        self
    }

    /// Whether the first failure stops the batch. Default `true`. Sets the same thing as
    /// [`stop_after_failures`](Self::stop_after_failures); the last call wins.
    ///
    /// After a failure, items above it are not started any more, and items below it are all run: the error that comes
    /// back is that of the lowest failing index, for any number of workers. Items above it that had been started by then
    /// keep their outcomes. With `false`, every item is run.
    pub fn stop_on_error(mut self, stop: bool) -> Self {
        self.on_failure = if stop { OnFailure::Stop } else { OnFailure::GoOn };
        self
    }

    /// Stops the batch when this many items have failed. Sets the same thing as
    /// [`stop_on_error`](Self::stop_on_error); the last call wins.
    ///
    /// Counted in input order, for any number of workers: everything up to the failure that reached the limit is run.
    ///
    /// ```
    /// use batch_executor::{BatchExecutor, StopReason};
    ///
    /// let executor = BatchExecutor::builder().stop_after_failures(2).build()?;
    /// let result = executor.run(0..10, |n| if n % 3 == 0 { Err("a third") } else { Ok(()) });
    /// assert_eq!(result.stopped(), Some(StopReason::TooManyFailures { limit: 2 }));
    /// assert_eq!(result.skipped(), 6);                           // 0 and 3 failed; 4 to 9 never started
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn stop_after_failures(mut self, failures: usize) -> Self {
        self.on_failure = OnFailure::StopAfter(failures);
        self
    }

    /// Asks this limiter before every attempt. Default none.
    ///
    /// Give it an `Arc` to share one limit between executors, or to keep a hand on it. A batch inside an item asks for its
    /// own items too.
    pub fn rate_limiter(mut self, limiter: impl RateLimiter + 'static) -> Self {
        self.limiter = Some(Box::new(limiter));
        self
    }

    /// What the pool's threads are called, followed by a number. Default `batch-executor`. Linux shows 15 bytes.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// The stack of the pool's threads, in bytes. Default as the standard library has it: 2 MiB, or `RUST_MIN_STACK`.
    /// The calling thread, which works too, keeps the stack that it has.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How long a thread of the pool is kept without work. Default 10 s.
    pub fn keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = time;
        self
    }

    /// Has all waits go by this clock, in a test: they take no time. See [`TestClock`].
    pub fn clock(mut self, clock: TestClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The executor. Starts no thread.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the setting: a worker count of 0 or above [`MAX_WORKERS`](crate::MAX_WORKERS), any 0 of
    /// [`AutoWorkers`](crate::AutoWorkers) or [`AdaptiveWorkers`](crate::AdaptiveWorkers), a minimum of adaptive workers above
    /// their maximum, a failure limit of 0, a stack of 0 bytes, a NUL byte in the thread name.
    pub fn build(self) -> Result<BatchExecutor, ConfigError> {
        let workers = self.workers.validated()?;
        if self.on_failure == OnFailure::StopAfter(0) {
            return Err(ConfigError::ZeroFailures);
        }
        if self.stack_size == Some(0) {
            return Err(ConfigError::ZeroStackSize);
        }
        if self.thread_name.contains('\0') {
            return Err(ConfigError::ThreadName { name: self.thread_name });
        }
        Ok(self.build_with(workers))
    }

    /// Settings that are known to be good.
    fn build_with(self, workers: Workers) -> BatchExecutor {
        let pool = Pool::new(PoolConfig {
            thread_name: self.thread_name,
            stack_size: self.stack_size,
            keep_alive: self.keep_alive,
            max_threads: workers.threads(),
        });
        let engine =
            Engine { workers, on_failure: self.on_failure, limiter: self.limiter, pool, clock: self.clock };
        BatchExecutor { engine: Arc::new(engine) }
    }
}

impl Default for BatchExecutorBuilder {
    fn default() -> Self {
        BatchExecutorBuilder {
            workers: Workers::Sequential,
            on_failure: OnFailure::Stop,
            limiter: None,
            thread_name: "batch-executor".to_owned(),
            stack_size: None,
            keep_alive: Duration::from_secs(10),
            clock: None,
        }
    }
}

impl fmt::Debug for BatchExecutorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchExecutorBuilder")
            .field("workers", &self.workers)
            .field("on_failure", &self.on_failure)
            .field("rate_limited", &self.limiter.is_some())
            .field("thread_name", &self.thread_name)
            .field("stack_size", &self.stack_size)
            .field("keep_alive", &self.keep_alive)
            .field("clock", &self.clock)
            .finish()
    }
}
