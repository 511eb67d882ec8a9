//! The slice of the items that this process works on, where several processes share them.

mod environment;

use std::env;
use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;

use environment::Environment;

/// One of several equal slices of the items: shard 3 of 64 has the items 3, 67, 131, and so on.
///
/// Processes that share a list each take one shard of it and need to know nothing of each other: every item is in exactly one
/// shard, as long as all of them see the same items in the same order. Shards are counted from 0, here, in [`new`](Shard::new)
/// and as a text: `0/64` is the first of 64, and `63/64` is the last.
///
/// Neighbouring items go to different shards, so that large neighbours are spread over all. Shards are not balanced by the time
/// that they take: use eight to ten times as many shards as machines, so that a slow one delays little. [More about several
/// machines](crate::guide::machines).
///
/// ```
/// use batch_executor::{BatchExecutor, Shard};
///
/// let shard: Shard = "1/3".parse()?;
/// let mine: Vec<(usize, &str)> = shard.select(["a", "b", "c", "d", "e"]).collect();
/// assert_eq!(mine, [(1, "b"), (4, "e")]);
/// assert_eq!((shard.index(), shard.count()), (1, 3));
///
/// // In a program: all items where nothing says which shard this is, as on the machine on which it is written.
/// let shard = Shard::from_env()?.unwrap_or_default();
/// let files = ["a.txt", "b.txt", "c.txt"];
/// let result = BatchExecutor::new().run(shard.select(files), |(index, file)| {
///     Ok::<_, String>(format!("{index}: {file}"))
/// });
/// # assert_eq!(result.succeeded(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    /// Less than `count`.
    index: usize,
    count: usize,
}

impl Shard {
    /// Shard `index` of `count`. The first is 0.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ZeroShards`], or [`ConfigError::NoSuchShard`] if `index` is not less than `count`.
    ///
    /// ```
    /// use batch_executor::{ConfigError, Shard};
    ///
    /// assert_eq!(Shard::new(3, 64)?.to_string(), "3/64");
    ///
    /// let error = Shard::new(64, 64).unwrap_err();
    /// assert_eq!(error.to_string(), "there is no shard 64/64; shards are counted from 0, the last is 63/64");
    /// # Ok::<(), ConfigError>(())
    /// ```
    pub const fn new(index: usize, count: usize) -> Result<Self, ConfigError> {
        if count == 0 {
            return Err(ConfigError::ZeroShards);
        }
        if index >= count {
            return Err(ConfigError::NoSuchShard { index, count });
        }
        Ok(Shard { index, count })
    }

    /// The shard that the environment names; `None` if it says nothing about shards.
    ///
    /// | who started this process | index | count |
    /// |---|---|---|
    /// | you, or any other engine | `BATCH_EXECUTOR_SHARD=3/64` says both | |
    /// | Slurm, `--array` | `SLURM_ARRAY_TASK_ID`, with `_MIN` and `_STEP` | `SLURM_ARRAY_TASK_COUNT` |
    /// | Slurm, `srun` | `SLURM_PROCID` | `SLURM_STEP_NUM_TASKS` |
    /// | Grid Engine (SGE), `qsub -t` | `SGE_TASK_ID` | from `SGE_TASK_FIRST`, `_LAST` and `_STEPSIZE` |
    /// | PBS, `qsub -J 0-63`; TORQUE, `qsub -t 0-63` | `PBS_ARRAY_INDEX`; `PBS_ARRAYID` | `BATCH_EXECUTOR_SHARDS`, set by you |
    /// | LSF, `bsub -J "name[1-64]"` | `LSB_JOBINDEX`, less 1 | `BATCH_EXECUTOR_SHARDS`, set by you |
    /// | Open MPI | `OMPI_COMM_WORLD_RANK` | `OMPI_COMM_WORLD_SIZE` |
    /// | MPICH, Intel MPI, MS-MPI | `PMI_RANK` | `PMI_SIZE` |
    /// | Flux | `FLUX_TASK_RANK` | `FLUX_JOB_SIZE` |
    /// | Kubernetes, an indexed job | `JOB_COMPLETION_INDEX` | `BATCH_EXECUTOR_SHARDS`, set by you |
    /// | AWS Batch, an array job | `AWS_BATCH_JOB_ARRAY_INDEX` | `AWS_BATCH_JOB_ARRAY_SIZE` |
    /// | AWS Batch, many nodes | `AWS_BATCH_JOB_NODE_INDEX` | `AWS_BATCH_JOB_NUM_NODES` |
    /// | Google Batch | `BATCH_TASK_INDEX` | `BATCH_TASK_COUNT` |
    /// | Cloud Run, a job | `CLOUD_RUN_TASK_INDEX` | `CLOUD_RUN_TASK_COUNT` |
    /// | GNU parallel | `PARALLEL_SEQ`, less 1 | `BATCH_EXECUTOR_SHARDS`, set by you |
    /// | GitLab CI | `CI_NODE_INDEX`, less 1 | `CI_NODE_TOTAL` |
    /// | Buildkite | `BUILDKITE_PARALLEL_JOB` | `BUILDKITE_PARALLEL_JOB_COUNT` |
    /// | `CircleCI` | `CIRCLE_NODE_INDEX` | `CIRCLE_NODE_TOTAL` |
    /// | Semaphore | `SEMAPHORE_JOB_INDEX`, less 1 | `SEMAPHORE_JOB_COUNT` |
    /// | Bitbucket Pipelines | `BITBUCKET_PARALLEL_STEP` | `BITBUCKET_PARALLEL_STEP_COUNT` |
    /// | Azure Pipelines | `SYSTEM_JOBPOSITIONINPHASE`, less 1 | `SYSTEM_TOTALJOBSINPHASE` |
    ///
    /// If `BATCH_EXECUTOR_SHARD` is set, it alone decides; `BATCH_EXECUTOR_SHARDS` must not give another count. With two engines, such as GNU parallel inside a Slurm array, set
    /// it: otherwise the call returns an error. A job of a single task, as `srun` and CI systems number it, does not count
    /// as a second engine. `BATCH_EXECUTOR_SHARDS` may be set with every engine, and must then equal the engine's count. So
    /// set it: then some shards that run again in a smaller array get an error, and are not taken for the whole.
    ///
    /// PBS, TORQUE and LSF do not say where an array begins: let it begin at 0 with PBS and TORQUE, and at 1 with LSF. A task
    /// whose number is not below the count is refused.
    ///
    /// Call it where the processes share one list. Where an engine hands each task a list of its own, do not, or set
    /// `BATCH_EXECUTOR_SHARD=0/1`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ShardVariable`] if a variable is missing, cannot be understood, or contradicts another.
    /// Also if a variable numbers the tasks of an engine that is not in the table, such as `OAR_ARRAY_INDEX`. A guess would
    /// leave items out, or have them done twice, and nothing would show it.
    ///
    /// ```
    /// use batch_executor::Shard;
    ///
    /// match Shard::from_env()? {
    ///     Some(shard) => println!("shard {shard}"),
    ///     None => println!("all items"),
    /// }
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn from_env() -> Result<Option<Self>, ConfigError> {
        Environment(&|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned())).shard()
    }

    /// The index of the shard: 0 is the first.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }

    /// How many there are; at least 1.
    #[must_use]
    pub const fn count(self) -> usize {
        self.count
    }

    /// The items of this shard, each with its index among all items.
    ///
    /// Items are pulled as needed; those of other shards are skipped with [`Iterator::nth`], at no cost for a range or a
    /// slice.
    ///
    /// ```
    /// use batch_executor::Shard;
    ///
    /// let endless = Shard::new(2, 10)?.select(100..);
    /// assert_eq!(endless.take(3).collect::<Vec<_>>(), [(2, 102), (12, 112), (22, 122)]);
    /// # Ok::<(), batch_executor::ConfigError>(())
    /// ```
    pub fn select<I>(self, items: impl IntoIterator<Item = I>) -> impl Iterator<Item = (usize, I)> {
        items.into_iter().enumerate().skip(self.index).step_by(self.count)
    }
}

/// The only shard, `0/1`: all items.
impl Default for Shard {
    fn default() -> Self {
        Shard { index: 0, count: 1 }
    }
}

/// `3/64`, as [`FromStr`] reads it.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// From `3/64`: index and count, the first index is 0.
impl FromStr for Shard {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let parts = text.split_once('/').and_then(|(index, count)| Some((number(index)?, number(count)?)));
        let (index, count) = parts.ok_or_else(|| ConfigError::ShardText { text: text.to_owned() })?;
        Shard::new(index, count)
    }
}

/// Digits alone: `usize` would read `+3` as well.
fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
