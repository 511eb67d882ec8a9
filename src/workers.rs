//! How many workers a batch starts with: plain numbers in, a plain number out.

use std::num::NonZero;
use std::thread;

use crate::error::ConfigError;

/// The largest number of workers that an executor accepts.
///
/// An executor starts at most 4,096 threads, whatever the number of its workers: far above what helps, and far below what breaks.
/// A Linux process that asks for 16,000 threads can be aborted inside a thread that had already started, where no error can be
/// returned. More workers are for async batches, which start no thread for a worker.
///
/// ```
/// use batch_executor::{BatchExecutor, MAX_WORKERS};
///
/// assert!(BatchExecutor::builder().workers(MAX_WORKERS).build().is_ok());
/// assert!(BatchExecutor::builder().workers(MAX_WORKERS + 1).build().is_err());
/// ```
pub const MAX_WORKERS: usize = 65_536;

/// The most threads that an executor starts.
const MAX_THREADS: usize = 4096;

/// Threads that the pool may have for each worker of a batch, so that batches on several threads, and batches in
/// batches, do not multiply them without end.
const THREADS_PER_WORKER: usize = 8;

/// The most adaptive workers, unless a caller says another number: a server may take more from one client for an attack, and
/// a process may have no more than 256 files open on some systems.
const DEFAULT_MAX: usize = 64;

/// The same where workers are futures of one task.
#[cfg(feature = "tokio")]
const DEFAULT_MAX_IN_A_TASK: usize = 1024;

/// How many items of a batch run at the same time.
///
/// The limit holds for each batch: a batch inside an item has its own. The calling thread is one of the workers, unless it
/// has progress to report; then it leaves the work to other threads.
///
/// | | items at the same time | for |
/// |---|---|---|
/// | `Sequential` | 1, on the calling thread | the default; no threads, no surprises |
/// | `Fixed(n)` | n | a number you know, such as a server's connection limit |
/// | `auto()` | twice the CPUs, at most 32, at most the batch | work that computes and waits by turns |
/// | `adaptive()` | 1 to 64 (1,024 in an async batch), found while the batch runs | work whose best number you do not know |
///
/// ```
/// use batch_executor::{AutoWorkers, BatchExecutor, Workers};
///
/// assert_eq!(Workers::default(), Workers::Sequential);
/// assert_eq!(Workers::from(8), Workers::Fixed(8));
/// assert!(matches!(Workers::adaptive(), Workers::Adaptive(_)));
///
/// let executor = BatchExecutor::builder().workers(AutoWorkers::new().cpus(4)).build()?;
/// assert_eq!(executor.workers_for(3), 3);           // few for a small batch
/// assert_eq!(executor.workers_for(1000), 8);        // more for a larger one
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// One after another, on the calling thread.
    #[default]
    Sequential,
    /// This many items at the same time. `Fixed(1)` is [`Sequential`](Workers::Sequential).
    Fixed(usize),
    /// Computed from the CPUs and the size of the batch.
    Auto(AutoWorkers),
    /// Adjusted by measurements while the batch runs.
    Adaptive(AdaptiveWorkers),
}

impl Workers {
    /// [`AutoWorkers`] with its defaults.
    #[must_use]
    pub fn auto() -> Self {
        Workers::Auto(AutoWorkers::new())
    }

    /// [`AdaptiveWorkers`] with its defaults.
    #[must_use]
    pub fn adaptive() -> Self {
        Workers::Adaptive(AdaptiveWorkers::new())
    }

    /// Refuses what cannot work, and looks the CPUs up once for all batches to come.
    pub(crate) fn validated(self) -> Result<Self, ConfigError> {
        match self {
            Workers::Sequential => Ok(self),
            Workers::Fixed(workers) => accepted(workers).map(|()| self),
            Workers::Auto(auto) => auto.validated().map(Workers::Auto),
            Workers::Adaptive(adaptive) => adaptive.validated().map(Workers::Adaptive),
        }
    }

    /// How many a batch of this size starts with; at least 1.
    pub(crate) fn for_batch(self, batch_size: usize) -> usize {
        let workers = match self {
            Workers::Sequential => 1,
            Workers::Fixed(workers) => workers.min(batch_size),
            Workers::Auto(auto) => auto.for_batch(batch_size),
            Workers::Adaptive(adaptive) => {
                adaptive.cpus().clamp(adaptive.min, adaptive.most()).min(batch_size)
            }
        };
        workers.max(1)
    }

    /// Between which the number moves while a batch runs, if it does.
    pub(crate) fn adaptive_bounds(self) -> Option<AdaptiveWorkers> {
        match self {
            Workers::Adaptive(adaptive) => Some(adaptive),
            _ => None,
        }
    }

    /// Where no worker takes a thread: an adaptive number without a greatest of the user's goes up further.
    #[cfg(feature = "tokio")]
    pub(crate) fn in_a_task(self) -> Self {
        match self {
            Workers::Adaptive(adaptive) if adaptive.max.is_none() => {
                Workers::Adaptive(adaptive.max(DEFAULT_MAX_IN_A_TASK))
            }
            other => other,
        }
    }

    /// The most that any batch can have.
    pub(crate) fn most(self) -> usize {
        match self {
            Workers::Adaptive(adaptive) => adaptive.most(),
            other => other.for_batch(usize::MAX),
        }
    }
}

impl Workers {
    /// The most threads that a pool may have for batches with these workers.
    pub(crate) fn threads(self) -> usize {
        self.most().saturating_mul(THREADS_PER_WORKER).min(MAX_THREADS)
    }
}

impl From<usize> for Workers {
    fn from(workers: usize) -> Self {
        Workers::Fixed(workers)
    }
}

impl From<AutoWorkers> for Workers {
    fn from(auto: AutoWorkers) -> Self {
        Workers::Auto(auto)
    }
}

impl From<AdaptiveWorkers> for Workers {
    fn from(adaptive: AdaptiveWorkers) -> Self {
        Workers::Adaptive(adaptive)
    }
}

fn accepted(workers: usize) -> Result<(), ConfigError> {
    match workers {
        0 => Err(ConfigError::ZeroWorkers),
        1..=MAX_WORKERS => Ok(()),
        requested => Err(ConfigError::TooManyWorkers { requested, most: MAX_WORKERS }),
    }
}

fn not_zero(setting: &'static str, value: usize) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError::ZeroSetting { setting }) } else { Ok(()) }
}

/// A worker count worked out beforehand: the least of the batch size, CPUs × `per_cpu`, and `cap`.
///
/// The formula is that of Python's `ThreadPoolExecutor` in spirit (`min(32, cpus + 4)` there), with the batch size
/// added so that small batches start few threads. It does not know what the items do: items that mostly wait want more.
///
/// ```
/// use batch_executor::AutoWorkers;
///
/// let auto = AutoWorkers::new().cpus(8);                  // per_cpu(2), cap(32)
/// assert_eq!(auto.for_batch(3), 3);
/// assert_eq!(auto.for_batch(1_000), 16);
/// assert_eq!(auto.cpus(64).for_batch(1_000), 32);
/// assert_eq!(auto.per_cpu(1).for_batch(1_000), 8);
/// assert_eq!(auto.cap(5).for_batch(1_000), 5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoWorkers {
    cpus: Option<usize>,
    per_cpu: usize,
    cap: usize,
}

impl AutoWorkers {
    /// The CPUs that this process may use, 2 workers for each, at most 32.
    ///
    /// The CPUs are looked up when the executor is built. Their number is the smaller of what `num_cpus` and
    /// [`available_parallelism`](thread::available_parallelism) say: the first rounds a fraction of a CPU up and can
    /// miss a limit set on a parent group, the second does not.
    #[must_use]
    pub const fn new() -> Self {
        AutoWorkers { cpus: None, per_cpu: 2, cap: 32 }
    }

    /// Assumes this many CPUs instead of asking the system.
    #[must_use]
    pub const fn cpus(mut self, cpus: usize) -> Self {
        self.cpus = Some(cpus);
        self
    }

    /// This many workers for each CPU. Default 2.
    #[must_use]
    pub const fn per_cpu(mut self, workers: usize) -> Self {
        self.per_cpu = workers;
        self
    }

    /// Never more workers than this. Default 32.
    #[must_use]
    pub const fn cap(mut self, workers: usize) -> Self {
        self.cap = workers;
        self
    }

    /// The worker count for a batch of `batch_size` items: 0 for none, and as many as the formula says for more.
    ///
    /// Without [`cpus`](AutoWorkers::cpus) each call looks the CPUs up, which reads a few files on Linux.
    #[must_use]
    pub fn for_batch(self, batch_size: usize) -> usize {
        let cpus = self.cpus.unwrap_or_else(available_cpus);
        batch_size.min(cpus.saturating_mul(self.per_cpu)).min(self.cap)
    }

    fn validated(mut self) -> Result<Self, ConfigError> {
        let cpus = *self.cpus.get_or_insert_with(available_cpus);
        not_zero("AutoWorkers::cpus", cpus)?;
        not_zero("AutoWorkers::per_cpu", self.per_cpu)?;
        not_zero("AutoWorkers::cap", self.cap)?;
        accepted(self.for_batch(usize::MAX)).map(|()| self)
    }
}

impl Default for AutoWorkers {
    fn default() -> Self {
        AutoWorkers::new()
    }
}

/// A worker count that is adjusted while the batch runs, between `min` and `max`.
///
/// A batch starts with a worker a CPU, but at most 32 (64 if it has no more than 64 items). While CPUs are idle and items
/// wait there are soon more, and then as many as are measured to raise the number of items completed per second; work that
/// computes keeps to the CPUs. How that is decided, how close it comes to the best fixed number, and when that is better:
/// [more about it](crate::guide::workers).
///
/// On macOS and Windows switch on feature `cpu-time`: without it no CPU times are known there, and all items are taken to wait. On Windows
/// they come in steps of 10 to 16 ms.
///
/// ```
/// use batch_executor::{AdaptiveWorkers, BatchExecutor};
/// use std::{thread, time::Duration};
///
/// let executor = BatchExecutor::builder().workers(AdaptiveWorkers::new().min(2).max(64)).build()?;
/// let result = executor.run(0..200, |_| {
///     thread::sleep(Duration::from_millis(5));                // waiting: more workers help
///     Ok::<(), String>(())
/// });
/// assert!((1..=64).contains(&result.workers()));
/// # Ok::<(), batch_executor::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveWorkers {
    min: usize,
    max: Option<usize>,
    cpus: Option<usize>,
}

impl AdaptiveWorkers {
    /// Between 1 and 64 workers.
    #[must_use]
    pub const fn new() -> Self {
        AdaptiveWorkers { min: 1, max: None, cpus: None }
    }

    /// Never fewer workers than this, as long as there are items. Default 1. An executor with more than
    /// [`max`](AdaptiveWorkers::max), be that its default, is refused.
    #[must_use]
    pub const fn min(mut self, workers: usize) -> Self {
        self.min = workers;
        self
    }

    /// Never more workers than this. Default 64; in an async batch, which starts no threads, 1,024.
    ///
    /// Lower it where each item takes much memory, or where the other side expects fewer at a time; raise it for work that waits
    /// long, on a server that is made for it. On Linux, each thread keeps up to two files of `/proc` open besides those of its
    /// items. [More about it](crate::guide::workers#the-most).
    #[must_use]
    pub const fn max(mut self, workers: usize) -> Self {
        self.max = Some(workers);
        self
    }

    pub(crate) const fn most(self) -> usize {
        match self.max {
            Some(max) => max,
            None => DEFAULT_MAX,
        }
    }

    pub(crate) const fn least(self) -> usize {
        self.min
    }

    pub(crate) fn cpus(self) -> usize {
        self.cpus.unwrap_or_else(available_cpus)
    }

    fn validated(mut self) -> Result<Self, ConfigError> {
        not_zero("AdaptiveWorkers::min", self.min)?;
        not_zero("AdaptiveWorkers::max", self.most())?;
        accepted(self.min)?;
        accepted(self.most())?;
        if self.min > self.most() {
            return Err(ConfigError::EmptyWorkerRange { min: self.min, max: self.most() });
        }
        self.cpus.get_or_insert_with(available_cpus);
        Ok(self)
    }
}

impl Default for AdaptiveWorkers {
    fn default() -> Self {
        AdaptiveWorkers::new()
    }
}

/// The CPUs that this process may use; at least 1.
fn available_cpus() -> usize {
    let parallelism = thread::available_parallelism().map_or(usize::MAX, NonZero::get);
    num_cpus::get().min(parallelism).max(1)
}

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
mod tests {
    use super::*;

    #[cfg(feature = "tokio")]
    #[test]
    fn in_a_task_a_greatest_number_of_the_users_holds() {
        let most = |adaptive: AdaptiveWorkers| Workers::from(adaptive).in_a_task().most();
        assert_eq!(most(AdaptiveWorkers::new()), DEFAULT_MAX_IN_A_TASK);
        assert_eq!(most(AdaptiveWorkers::new().min(2)), DEFAULT_MAX_IN_A_TASK);
        assert_eq!(most(AdaptiveWorkers::new().max(DEFAULT_MAX)), DEFAULT_MAX);
        assert_eq!((most(AdaptiveWorkers::new().max(16)), most(AdaptiveWorkers::new().max(100))), (16, 100));
        assert_eq!(Workers::Fixed(8).in_a_task().most(), 8);
    }

    #[test]
    fn the_cpus_are_the_fewer_of_what_the_two_ways_to_count_them_say() {
        let parallelism = thread::available_parallelism().expect("this system says it").get();
        assert_eq!(available_cpus(), parallelism.min(num_cpus::get()));
    }
}
