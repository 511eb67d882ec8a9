//! Which slice of the items this process works on, where several share them.

use std::env;
use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;

/// One of several equal slices of the items: shard 3 of 64 has the items 3, 67, 131, and so on.
///
/// Processes that share a list each take one shard of it and need to know nothing of each other: every item is in exactly one
/// shard, as long as all of them see the same items in the same order. Shards are counted from 0, here, in [`new`](Shard::new)
/// and as a text: `0/64` is the first of 64, and `63/64` is the last.
///
/// Neighbouring items go to different shards, so that a stretch of large ones is spread over all. How long a shard takes is not
/// balanced: with eight or ten times as many shards as machines, one that is slow holds up little. [More about several
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
    /// | Kubernetes, an indexed job | `JOB_COMPLETION_INDEX` | `BATCH_EXECUTOR_SHARDS`, set by you |
    /// | AWS Batch, an array job | `AWS_BATCH_JOB_ARRAY_INDEX` | `AWS_BATCH_JOB_ARRAY_SIZE` |
    /// | Cloud Run, a job | `CLOUD_RUN_TASK_INDEX` | `CLOUD_RUN_TASK_COUNT` |
    /// | GNU parallel | `PARALLEL_SEQ`, less 1 | `BATCH_EXECUTOR_SHARDS`, set by you |
    ///
    /// `BATCH_EXECUTOR_SHARD` decides alone, whatever an engine says. Where there are two engines, as with GNU parallel inside a
    /// Slurm array, one cannot tell which is meant, and it has to. `BATCH_EXECUTOR_SHARDS` may be set with every engine, and must then be
    /// the engine's count: set it, and shards that are run again in a smaller array are refused instead of taken for the whole.
    ///
    /// Call it where the processes share one list. Where an engine hands each task a list of its own, do not, or set
    /// `BATCH_EXECUTOR_SHARD=0/1`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ShardVariable`] if a variable is missing, is not what it should be, or says something else than another. A
    /// guess would leave items out, or have them done twice, and nobody would notice.
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

    /// Which one it is: 0 is the first.
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
    /// Items are pulled as they are wanted; those of other shards are skipped with [`Iterator::nth`], at no cost for a range or a
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

const SHARD: &str = "BATCH_EXECUTOR_SHARD";
const SHARDS: &str = "BATCH_EXECUTOR_SHARDS";

/// Who starts a process with a number of its own.
struct Engine {
    index: &'static str,
    count: &'static str,
    numbers: Numbers,
}

enum Numbers {
    From(usize),
    /// From any number on, in steps of any size.
    SlurmArray,
}

const ENGINES: [Engine; 5] = [
    Engine { index: "SLURM_ARRAY_TASK_ID", count: "SLURM_ARRAY_TASK_COUNT", numbers: Numbers::SlurmArray },
    Engine { index: "JOB_COMPLETION_INDEX", count: SHARDS, numbers: Numbers::From(0) },
    Engine {
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        count: "AWS_BATCH_JOB_ARRAY_SIZE",
        numbers: Numbers::From(0),
    },
    Engine { index: "CLOUD_RUN_TASK_INDEX", count: "CLOUD_RUN_TASK_COUNT", numbers: Numbers::From(0) },
    Engine { index: "PARALLEL_SEQ", count: SHARDS, numbers: Numbers::From(1) },
];

fn problem(variable: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::ShardVariable { variable, problem: problem.into() }
}

/// The variables, by name.
struct Environment<'a>(&'a dyn Fn(&'static str) -> Option<String>);

impl Environment<'_> {
    fn shard(&self) -> Result<Option<Shard>, ConfigError> {
        if let Some(text) = (self.0)(SHARD) {
            return self.our_shard(&text).map(Some);
        }
        let engines: Vec<&Engine> =
            ENGINES.iter().filter(|engine| (self.0)(engine.index).is_some()).collect();
        match engines[..] {
            [] => self.no_shard(),
            [engine] => self.shard_of(engine).map(Some),
            [one, another, ..] => Err(problem(
                one.index,
                format!("is set, and so is {}; set {SHARD} to the shard that is meant", another.index),
            )),
        }
    }

    fn our_shard(&self, text: &str) -> Result<Shard, ConfigError> {
        let shard: Shard =
            text.parse().map_err(|error| problem(SHARD, format!("cannot be used: {error}")))?;
        match self.our_count()? {
            Some(count) if count != shard.count => {
                Err(problem(SHARDS, format!("is {count}, but {SHARD} is {shard}")))
            }
            _ => Ok(shard),
        }
    }

    fn our_count(&self) -> Result<Option<usize>, ConfigError> {
        self.number(SHARDS)?.map(|count| positive(SHARDS, count)).transpose()
    }

    /// With a count and no index, each of them would do everything, as when a Kubernetes job is not an indexed one.
    fn no_shard(&self) -> Result<Option<Shard>, ConfigError> {
        match self.our_count()? {
            None => Ok(None),
            Some(count) => Err(problem(
                SHARDS,
                format!(
                    "is {count}, but no variable says which of them this is; set {SHARD}=0/{count} and so on"
                ),
            )),
        }
    }

    fn shard_of(&self, engine: &Engine) -> Result<Shard, ConfigError> {
        let count = positive(engine.count, self.needed(engine.count, engine)?)?;
        if let Some(ours) = self.our_count()?.filter(|ours| *ours != count) {
            return Err(problem(
                SHARDS,
                format!(
                    "is {ours}, but {} is {count}; to run only some shards, set {SHARD} for each of them",
                    engine.count
                ),
            ));
        }
        let id = self.needed(engine.index, engine)?;
        let index = match engine.numbers {
            Numbers::From(first) => place(engine, id, first, count),
            Numbers::SlurmArray => self.place_in_array(engine, id, count),
        };
        Shard::new(index?, count)
    }

    fn place_in_array(&self, engine: &Engine, id: usize, count: usize) -> Result<usize, ConfigError> {
        let min = self.needed("SLURM_ARRAY_TASK_MIN", engine)?;
        let step = positive("SLURM_ARRAY_TASK_STEP", self.needed("SLURM_ARRAY_TASK_STEP", engine)?)?;
        let max = step.checked_mul(count - 1).and_then(|span| span.checked_add(min));
        let max_agrees = self.number("SLURM_ARRAY_TASK_MAX")?.is_none_or(|told| Some(told) == max);
        let offset = id.checked_sub(min).filter(|offset| offset % step == 0 && offset / step < count);
        offset.filter(|_| max_agrees).map(|offset| offset / step).ok_or_else(|| {
            problem(
                engine.index,
                format!(
                    "is {id}, of an array that is not {count} ids from {min} in steps of {step}; \
                     give sbatch --array=0-{}, or set {SHARD}",
                    count - 1
                ),
            )
        })
    }

    fn needed(&self, variable: &'static str, engine: &Engine) -> Result<usize, ConfigError> {
        self.number(variable)?.ok_or_else(|| {
            problem(variable, format!("is missing, and {} alone does not tell the shard", engine.index))
        })
    }

    fn number(&self, variable: &'static str) -> Result<Option<usize>, ConfigError> {
        let read = |text: String| {
            number(&text).ok_or_else(|| problem(variable, format!("is {text:?}, which is no number")))
        };
        (self.0)(variable).map(read).transpose()
    }
}

fn positive(variable: &'static str, number: usize) -> Result<usize, ConfigError> {
    if number == 0 { Err(problem(variable, "is 0; it is at least 1")) } else { Ok(number) }
}

fn place(engine: &Engine, id: usize, first: usize, count: usize) -> Result<usize, ConfigError> {
    let index = id.checked_sub(first).filter(|index| *index < count);
    index.ok_or_else(|| {
        let last = count - 1 + first;
        problem(engine.index, format!("is {id}; with {} at {count} it is {first} to {last}", engine.count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Result<Option<Shard>, String>;

    /// What is found where just these are set, `NAME=value`, with spaces between them.
    fn found(variables: &str) -> Found {
        let all: Vec<(&str, &str)> = variables.split(' ').filter_map(|pair| pair.split_once('=')).collect();
        let value =
            |name: &str| all.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        Environment(&value).shard().map_err(|error| {
            error.to_string().strip_prefix("the environment variable ").expect("it names one").to_owned()
        })
    }

    #[track_caller]
    fn assert_shard(variables: &str, shard: &str) {
        assert_eq!(found(variables), Ok(Some(shard.parse().unwrap())), "{variables}");
    }

    #[track_caller]
    fn assert_refused(variables: &str, text: &str) {
        assert_eq!(found(variables), Err(text.to_owned()), "{variables}");
    }

    fn slurm(id: usize, min: usize, max: usize, step: usize, count: usize) -> String {
        format!(
            "SLURM_ARRAY_TASK_ID={id} SLURM_ARRAY_TASK_MIN={min} SLURM_ARRAY_TASK_MAX={max} \
             SLURM_ARRAY_TASK_STEP={step} SLURM_ARRAY_TASK_COUNT={count}"
        )
    }

    #[test]
    fn an_environment_without_a_shard_is_none() {
        assert_eq!(found(""), Ok(None));
        assert_eq!(
            found("HOME=here SLURM_JOB_ID=7 SLURM_ARRAY_TASK_COUNT=4 CLOUD_RUN_TASK_COUNT=4"),
            Ok(None)
        );
    }

    #[test]
    fn every_engine_is_known() {
        assert_shard("BATCH_EXECUTOR_SHARD=3/64", "3/64");
        assert_shard(&slurm(3, 0, 63, 1, 64), "3/64");
        assert_shard("JOB_COMPLETION_INDEX=3 BATCH_EXECUTOR_SHARDS=64", "3/64");
        assert_shard("AWS_BATCH_JOB_ARRAY_INDEX=3 AWS_BATCH_JOB_ARRAY_SIZE=64", "3/64");
        assert_shard("CLOUD_RUN_TASK_INDEX=3 CLOUD_RUN_TASK_COUNT=64", "3/64");
        assert_shard("PARALLEL_SEQ=4 BATCH_EXECUTOR_SHARDS=64", "3/64");
    }

    #[test]
    fn first_and_last_of_every_engine_are_those_of_the_list() {
        assert_shard("JOB_COMPLETION_INDEX=0 BATCH_EXECUTOR_SHARDS=2", "0/2");
        assert_shard("JOB_COMPLETION_INDEX=1 BATCH_EXECUTOR_SHARDS=2", "1/2");
        assert_shard("PARALLEL_SEQ=1 BATCH_EXECUTOR_SHARDS=2", "0/2");
        assert_shard("PARALLEL_SEQ=2 BATCH_EXECUTOR_SHARDS=2", "1/2");
        assert_shard("CLOUD_RUN_TASK_INDEX=0 CLOUD_RUN_TASK_COUNT=1", "0/1");
    }

    #[test]
    fn slurm_arrays_begin_anywhere_and_go_in_steps() {
        for (place, id) in [1, 3, 5, 7].into_iter().enumerate() {
            assert_shard(&slurm(id, 1, 7, 2, 4), &format!("{place}/4"));
        }
        assert_shard(&slurm(12, 10, 13, 1, 4), "2/4");
        assert_shard(&slurm(7, 7, 7, 1, 1), "0/1");
        let without_max = slurm(12, 10, 13, 1, 4).replace("SLURM_ARRAY_TASK_MAX=13", "");
        assert_shard(&without_max, "2/4");
    }

    #[test]
    fn a_slurm_array_with_gaps_is_refused_by_all_of_its_tasks() {
        for id in [1, 2, 9] {
            assert_refused(
                &slurm(id, 1, 9, 1, 3),
                &format!(
                    "SLURM_ARRAY_TASK_ID is {id}, of an array that is not 3 ids from 1 in steps of 1; \
                     give sbatch --array=0-2, or set BATCH_EXECUTOR_SHARD"
                ),
            );
        }
        for (id, min) in [(3, 4), (5, 4), (12, 4), (usize::MAX, 0)] {
            let no_max = slurm(id, min, 0, 2, 4).replace("SLURM_ARRAY_TASK_MAX=0", "");
            assert!(found(&no_max).unwrap_err().starts_with("SLURM_ARRAY_TASK_ID is "), "{id} from {min}");
        }
        let huge = slurm(1, usize::MAX, usize::MAX, usize::MAX, usize::MAX);
        assert!(found(&huge).unwrap_err().starts_with("SLURM_ARRAY_TASK_ID is 1, of an array"));
    }

    #[test]
    fn a_count_that_is_missing_is_named() {
        for (index, count) in [
            ("JOB_COMPLETION_INDEX", "BATCH_EXECUTOR_SHARDS"),
            ("PARALLEL_SEQ", "BATCH_EXECUTOR_SHARDS"),
            ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
            ("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT"),
            ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
        ] {
            let text = format!("{count} is missing, and {index} alone does not tell the shard");
            assert_refused(&format!("{index}=1"), &text);
        }
        for missing in ["SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"] {
            let text = format!("{missing} is missing, and SLURM_ARRAY_TASK_ID alone does not tell the shard");
            assert_refused(&slurm(1, 0, 3, 1, 4).replace(missing, "OTHER"), &text);
        }
    }

    #[test]
    fn a_count_without_an_index_is_refused() {
        assert_refused(
            "BATCH_EXECUTOR_SHARDS=64",
            "BATCH_EXECUTOR_SHARDS is 64, but no variable says which of them this is; \
             set BATCH_EXECUTOR_SHARD=0/64 and so on",
        );
    }

    #[test]
    fn an_index_out_of_range_is_refused_in_the_engines_own_numbers() {
        assert_refused(
            "JOB_COMPLETION_INDEX=64 BATCH_EXECUTOR_SHARDS=64",
            "JOB_COMPLETION_INDEX is 64; with BATCH_EXECUTOR_SHARDS at 64 it is 0 to 63",
        );
        for seq in [0, 65] {
            assert_refused(
                &format!("PARALLEL_SEQ={seq} BATCH_EXECUTOR_SHARDS=64"),
                &format!("PARALLEL_SEQ is {seq}; with BATCH_EXECUTOR_SHARDS at 64 it is 1 to 64"),
            );
        }
        assert_refused(
            "BATCH_EXECUTOR_SHARD=64/64",
            "BATCH_EXECUTOR_SHARD cannot be used: there is no shard 64/64; \
             shards are counted from 0, the last is 63/64",
        );
    }

    #[test]
    fn our_own_variable_decides_alone() {
        let engines = slurm(1, 1, 9, 1, 3) + " PARALLEL_SEQ=7 JOB_COMPLETION_INDEX=x";
        assert_shard(&format!("BATCH_EXECUTOR_SHARD=3/64 {engines}"), "3/64");
        assert_shard(&format!("BATCH_EXECUTOR_SHARD=3/64 BATCH_EXECUTOR_SHARDS=64 {engines}"), "3/64");
    }

    #[test]
    fn two_engines_are_one_too_many() {
        assert_refused(
            &(slurm(1, 0, 3, 1, 4) + " PARALLEL_SEQ=2 BATCH_EXECUTOR_SHARDS=4"),
            "SLURM_ARRAY_TASK_ID is set, and so is PARALLEL_SEQ; \
             set BATCH_EXECUTOR_SHARD to the shard that is meant",
        );
    }

    #[test]
    fn counts_that_differ_are_refused() {
        assert_refused(
            "BATCH_EXECUTOR_SHARD=3/64 BATCH_EXECUTOR_SHARDS=32",
            "BATCH_EXECUTOR_SHARDS is 32, but BATCH_EXECUTOR_SHARD is 3/64",
        );
        assert_refused(
            &(slurm(3, 3, 4, 1, 2) + " BATCH_EXECUTOR_SHARDS=64"),
            "BATCH_EXECUTOR_SHARDS is 64, but SLURM_ARRAY_TASK_COUNT is 2; \
             to run only some shards, set BATCH_EXECUTOR_SHARD for each of them",
        );
        assert_shard(&(slurm(3, 0, 63, 1, 64) + " BATCH_EXECUTOR_SHARDS=64"), "3/64");
    }

    #[test]
    fn what_is_no_number_is_shown() {
        for text in ["", "x", "-1", "+1", "1.0", "0x1", "99999999999999999999999"] {
            assert_refused(
                &format!("JOB_COMPLETION_INDEX={text} BATCH_EXECUTOR_SHARDS=64"),
                &format!("JOB_COMPLETION_INDEX is {text:?}, which is no number"),
            );
            assert_refused(
                &format!("BATCH_EXECUTOR_SHARD=3/64 BATCH_EXECUTOR_SHARDS={text}"),
                &format!("BATCH_EXECUTOR_SHARDS is {text:?}, which is no number"),
            );
        }
        assert_refused(
            "BATCH_EXECUTOR_SHARD=3",
            "BATCH_EXECUTOR_SHARD cannot be used: \"3\" is no shard; \
             it is INDEX/COUNT, such as 0/64 for the first and 63/64 for the last of 64",
        );
        assert_refused(
            "JOB_COMPLETION_INDEX=0 BATCH_EXECUTOR_SHARDS=0",
            "BATCH_EXECUTOR_SHARDS is 0; it is at least 1",
        );
        assert_refused(&slurm(1, 0, 3, 0, 4), "SLURM_ARRAY_TASK_STEP is 0; it is at least 1");
        let max = slurm(1, 0, 3, 1, 4).replace("MAX=3", "MAX=three");
        assert_refused(&max, "SLURM_ARRAY_TASK_MAX is \"three\", which is no number");
    }
}
