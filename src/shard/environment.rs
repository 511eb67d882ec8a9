//! Which shard the environment names: the variables of the engines that start processes with a number of their own.

use crate::error::ConfigError;

use super::{Shard, number};

const SHARD: &str = "BATCH_EXECUTOR_SHARD";
const SHARDS: &str = "BATCH_EXECUTOR_SHARDS";

/// What starts a process with a number of its own.
struct Engine {
    index: &'static str,
    count: Count,
    kind: Kind,
    /// What the index is where it does not count anything.
    unset: Option<&'static str>,
}

/// How the number of tasks is told, and which numbers they have.
enum Count {
    /// As many as this variable says, numbered from here on.
    From(&'static str, usize),
    /// As many as this variable says, numbered in steps: its minimum, step and maximum.
    Steps(&'static str, [&'static str; 3]),
    /// As many as there are from the first to the last, in steps.
    Range { first: &'static str, last: &'static str, step: &'static str },
    /// As many as `BATCH_EXECUTOR_SHARDS` says, from 1 on: where these are set, the last has that number, and the step is 1.
    Last { last: &'static str, step: &'static str },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Numbers tasks where there are several.
    Array,
    /// Numbers the processes that it starts on one or more machines, and a single one too.
    Launcher,
    /// Numbers the jobs of a pipeline's step, and a single one too.
    Pipeline,
}

impl Engine {
    const fn new(kind: Kind, index: &'static str, count: Count) -> Self {
        Engine { index, count, kind, unset: None }
    }

    /// With the value that says that there is no number.
    const fn unset(mut self, value: &'static str) -> Self {
        self.unset = Some(value);
        self
    }
}

/// As their documents have it; those are named beside each.
const ENGINES: [Engine; 21] = [
    // sbatch(1), "OUTPUT ENVIRONMENT VARIABLES"; slurm.schedmd.com/job_array.html
    Engine::new(
        Kind::Array,
        "SLURM_ARRAY_TASK_ID",
        Count::Steps(
            "SLURM_ARRAY_TASK_COUNT",
            ["SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_MAX"],
        ),
    ),
    // srun(1), "OUTPUT ENVIRONMENT VARIABLES". A batch script without srun has SLURM_PROCID=0, too, but no step.
    Engine::new(Kind::Launcher, "SLURM_PROCID", Count::From("SLURM_STEP_NUM_TASKS", 0)),
    // qsub(1) of Grid Engine, "ENVIRONMENTAL VARIABLES": "undefined" in a job that is no array.
    Engine::new(
        Kind::Array,
        "SGE_TASK_ID",
        Count::Range { first: "SGE_TASK_FIRST", last: "SGE_TASK_LAST", step: "SGE_TASK_STEPSIZE" },
    )
    .unset("undefined"),
    // PBS Professional User's Guide, "Job Arrays". There is no variable for the count or the first index.
    Engine::new(Kind::Array, "PBS_ARRAY_INDEX", Count::From(SHARDS, 0)),
    // docs.adaptivecomputing.com, TORQUE, "Submitting multiple jobs at one time (job arrays)". The same.
    Engine::new(Kind::Array, "PBS_ARRAYID", Count::From(SHARDS, 0)),
    // ibm.com/docs/en/spectrum-lsf, "Passing arguments on the command line" and "Job arrays": 0 in a job that is no array;
    // indices are positive, and begin at 1 unless told otherwise, which no variable says.
    Engine::new(
        Kind::Array,
        "LSB_JOBINDEX",
        Count::Last { last: "LSB_JOBINDEX_END", step: "LSB_JOBINDEX_STEP" },
    )
    .unset("0"),
    // kubernetes.io/docs/concepts/workloads/controllers/job, "Completion mode"
    Engine::new(Kind::Array, "JOB_COMPLETION_INDEX", Count::From(SHARDS, 0)),
    // docs.aws.amazon.com/batch, "AWS Batch job environment variables"
    Engine::new(Kind::Array, "AWS_BATCH_JOB_ARRAY_INDEX", Count::From("AWS_BATCH_JOB_ARRAY_SIZE", 0)),
    // docs.aws.amazon.com/batch, "Environment variables" of multi-node parallel jobs
    Engine::new(Kind::Array, "AWS_BATCH_JOB_NODE_INDEX", Count::From("AWS_BATCH_JOB_NUM_NODES", 0)),
    // cloud.google.com/run/docs/create-jobs
    Engine::new(Kind::Array, "CLOUD_RUN_TASK_INDEX", Count::From("CLOUD_RUN_TASK_COUNT", 0)),
    // cloud.google.com/batch/docs, "Create and run a basic job": predefined environment variables
    Engine::new(Kind::Array, "BATCH_TASK_INDEX", Count::From("BATCH_TASK_COUNT", 0)),
    // parallel(1), "ENVIRONMENT VARIABLES"
    Engine::new(Kind::Array, "PARALLEL_SEQ", Count::From(SHARDS, 1)),
    // docs.open-mpi.org, "Environment variables set for MPI applications"
    Engine::new(Kind::Launcher, "OMPI_COMM_WORLD_RANK", Count::From("OMPI_COMM_WORLD_SIZE", 0)),
    // MPICH's PMI-1, which Hydra, Intel MPI, MS-MPI ("PMI environment variables") and srun --mpi=pmi2 speak
    Engine::new(Kind::Launcher, "PMI_RANK", Count::From("PMI_SIZE", 0)),
    // flux-environment(7)
    Engine::new(Kind::Launcher, "FLUX_TASK_RANK", Count::From("FLUX_JOB_SIZE", 0)),
    // docs.gitlab.com/ci/variables/predefined_variables: from 1, and not set unless `parallel` is
    Engine::new(Kind::Pipeline, "CI_NODE_INDEX", Count::From("CI_NODE_TOTAL", 1)),
    // buildkite.com/docs/pipelines/configure/environment-variables: from 0
    Engine::new(Kind::Pipeline, "BUILDKITE_PARALLEL_JOB", Count::From("BUILDKITE_PARALLEL_JOB_COUNT", 0)),
    // circleci.com/docs/variables, "Built-in environment variables": from 0
    Engine::new(Kind::Pipeline, "CIRCLE_NODE_INDEX", Count::From("CIRCLE_NODE_TOTAL", 0)),
    // docs.semaphoreci.com, "Environment variables": from 1 to SEMAPHORE_JOB_COUNT
    Engine::new(Kind::Pipeline, "SEMAPHORE_JOB_INDEX", Count::From("SEMAPHORE_JOB_COUNT", 1)),
    // support.atlassian.com/bitbucket-cloud, "Variables and secrets": "zero-based index"
    Engine::new(Kind::Pipeline, "BITBUCKET_PARALLEL_STEP", Count::From("BITBUCKET_PARALLEL_STEP_COUNT", 0)),
    // learn.microsoft.com/azure/devops, "Predefined variables" and "Run tests in parallel using any test runner": from 1
    Engine::new(Kind::Pipeline, "SYSTEM_JOBPOSITIONINPHASE", Count::From("SYSTEM_TOTALJOBSINPHASE", 1)),
];

/// Numbers of tasks that come without their count, or begin where no document says it. With one of these and no array from
/// above, each task would take all items, or those of its own launcher's processes.
const NOT_UNDERSTOOD: [&str; 7] = [
    "MOAB_JOBARRAYINDEX",
    "OAR_ARRAY_INDEX",
    "HQ_TASK_ID",
    "PJM_BULKNUM",
    "NOMAD_ALLOC_INDEX",
    "BATCH_TASK_INSTANCE_INDEX", // Tencent BatchCompute
    "PMIX_RANK",
];

fn problem(variable: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::ShardVariable { variable, problem: problem.into() }
}

/// The variables, by name.
pub(super) struct Environment<'a>(pub(super) &'a dyn Fn(&'static str) -> Option<String>);

impl Environment<'_> {
    pub(super) fn shard(&self) -> Result<Option<Shard>, ConfigError> {
        if let Some(text) = (self.0)(SHARD) {
            return self.our_shard(&text).map(Some);
        }
        let engines: Vec<&Engine> = ENGINES.iter().filter(|engine| self.has(engine)).collect();
        if engines.iter().all(|engine| engine.kind != Kind::Array) {
            self.check_others(!engines.is_empty())?;
        }
        match engines[..] {
            [] => self.no_shard(),
            [engine] => self.shard_of(engine).map(Some),
            _ => self.one_of(&engines).map(Some),
        }
    }

    fn has(&self, engine: &Engine) -> bool {
        let is_step = |index: &str| index != "0" || (self.0)("SLURM_STEP_NUM_TASKS").is_some();
        (self.0)(engine.index).is_some_and(|index| {
            engine.unset != Some(&*index) && (engine.index != "SLURM_PROCID" || is_step(&index))
        })
    }

    /// The shard of several engines: a single task of a launcher or of a pipeline has a number, too, and launchers that start
    /// one another say the same.
    fn one_of(&self, engines: &[&Engine]) -> Result<Shard, ConfigError> {
        let meant: Vec<&Engine> = engines.iter().copied().filter(|engine| !self.is_single(engine)).collect();
        match meant[..] {
            [] => engines.first().map_or_else(|| Ok(Shard::default()), |single| self.shard_of(single)),
            [engine] => self.shard_of(engine),
            [one, another, ..] => {
                let shard = self.shard_of(one);
                let is_same = |other: &&Engine| other.kind == Kind::Launcher && self.shard_of(other) == shard;
                if shard.is_ok() && meant.iter().all(is_same) {
                    return shard;
                }
                Err(problem(
                    one.index,
                    format!("is set, and so is {}; set {SHARD} to the shard that is meant", another.index),
                ))
            }
        }
    }

    /// Whether the number is that of a task that is the only one.
    fn is_single(&self, engine: &Engine) -> bool {
        let Count::From(count, _) = engine.count else { return false };
        engine.kind != Kind::Array && self.number(count) == Ok(Some(1))
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

    /// Whether another number, which is not understood, may be that of the task. A launcher sets `PMIX_RANK` beside its own.
    fn check_others(&self, are_launched: bool) -> Result<(), ConfigError> {
        let mut others = NOT_UNDERSTOOD.iter().filter(|variable| !are_launched || **variable != "PMIX_RANK");
        match others.find(|variable| (self.0)(variable).is_some()) {
            None => Ok(()),
            Some(variable) => Err(problem(
                variable,
                format!(
                    "is set, and the shard cannot be told from it; set {SHARD}=0/64 and so on, or 0/1 for all items"
                ),
            )),
        }
    }

    /// With a count and no index, each of them would do everything, as when a Kubernetes job is not an indexed one.
    fn no_shard(&self) -> Result<Option<Shard>, ConfigError> {
        if let Some(tasks) = (self.0)("SLURM_PROCID").and_then(|_| (self.0)("SLURM_NTASKS")) {
            if tasks != "1" {
                return Err(problem(
                    "SLURM_NTASKS",
                    format!(
                        "is {tasks}, and this is no step of srun; start the program by srun, or set {SHARD}=0/1 for all items"
                    ),
                ));
            }
        }
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
        match engine.count {
            Count::From(variable, first) => {
                let count = self.count(variable, engine)?;
                self.shard_from(engine, variable, first, count)
            }
            Count::Steps(variable, steps) => {
                let count = self.count(variable, engine)?;
                self.shard_in_steps(engine, count, steps)
            }
            Count::Range { first, last, step } => self.shard_in_range(engine, first, last, step),
            Count::Last { last, step } => {
                let count = self.count(SHARDS, engine)?;
                for (variable, expected) in [(step, 1), (last, count)] {
                    if let Some(told) = self.number(variable)?.filter(|told| *told != expected) {
                        let text = format!(
                            "is {told}; an array of {SHARDS} at {count} has the indices 1 to {count}"
                        );
                        return Err(problem(variable, text));
                    }
                }
                self.shard_from(engine, SHARDS, 1, count)
            }
        }
    }

    fn count(&self, variable: &'static str, engine: &Engine) -> Result<usize, ConfigError> {
        let count = positive(variable, self.needed(variable, engine)?)?;
        self.check_count(variable, count)
    }

    /// Whether the engine's count is the one that was set.
    fn check_count(&self, variable: &str, count: usize) -> Result<usize, ConfigError> {
        match self.our_count()?.filter(|ours| *ours != count) {
            None => Ok(count),
            Some(ours) => Err(problem(
                SHARDS,
                format!(
                    "is {ours}, but {variable} is {count}; to run only some shards, set {SHARD} for each of them"
                ),
            )),
        }
    }

    fn shard_from(
        &self,
        engine: &Engine,
        variable: &str,
        first: usize,
        count: usize,
    ) -> Result<Shard, ConfigError> {
        let id = self.needed(engine.index, engine)?;
        let index = id.checked_sub(first).filter(|index| *index < count);
        let index = index.ok_or_else(|| {
            let last = count - 1 + first;
            problem(engine.index, format!("is {id}; with {variable} at {count} it is {first} to {last}"))
        })?;
        Shard::new(index, count)
    }

    fn shard_in_steps(
        &self,
        engine: &Engine,
        count: usize,
        [min, step, max]: [&'static str; 3],
    ) -> Result<Shard, ConfigError> {
        let id = self.needed(engine.index, engine)?;
        let min = self.needed(min, engine)?;
        let step = positive(step, self.needed(step, engine)?)?;
        let last = step.checked_mul(count - 1).and_then(|span| span.checked_add(min));
        let max_agrees = self.number(max)?.is_none_or(|told| Some(told) == last);
        let offset = id.checked_sub(min).filter(|offset| offset % step == 0 && offset / step < count);
        let index = offset.filter(|_| max_agrees).map(|offset| offset / step).ok_or_else(|| {
            problem(
                engine.index,
                format!(
                    "is {id}, of an array that is not {count} ids from {min} in steps of {step}; \
                     give sbatch --array=0-{}, or set {SHARD}",
                    count - 1
                ),
            )
        })?;
        Shard::new(index, count)
    }

    fn shard_in_range(
        &self,
        engine: &Engine,
        first: &'static str,
        last: &'static str,
        step: &'static str,
    ) -> Result<Shard, ConfigError> {
        let id = self.needed(engine.index, engine)?;
        let (from, to) = (self.needed(first, engine)?, self.needed(last, engine)?);
        let by = positive(step, self.needed(step, engine)?)?;
        let place = |id: usize| id.checked_sub(from).map(|offset| offset / by);
        let count = place(to).and_then(|place| place.checked_add(1));
        let index = place(id).filter(|_| id <= to && (id - from) % by == 0);
        let (Some(count), Some(index)) = (count, index) else {
            let text = format!(
                "is {id}, which is not among those from {from} to {to} in steps of {by}; set {SHARD}"
            );
            return Err(problem(engine.index, text));
        };
        self.check_count(&format!("the number of tasks from {first} to {last}"), count)?;
        Shard::new(index, count)
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

#[cfg(test)]
#[cfg(not(any(loom, shuttle)))]
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
    fn launchers_of_a_single_task_do_not_hide_that_there_are_shards() {
        let launchers = ["OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1", "PMI_RANK=0 PMI_SIZE=1"];
        for launchers in [launchers[0].to_owned(), launchers.join(" ")] {
            assert_shard(&launchers, "0/1");
            assert_shard(&format!("{launchers} BATCH_EXECUTOR_SHARDS=1"), "0/1");
            assert_refused(
                &format!("{launchers} BATCH_EXECUTOR_SHARDS=4"),
                "BATCH_EXECUTOR_SHARDS is 4, but OMPI_COMM_WORLD_SIZE is 1; to run only some shards, set \
                 BATCH_EXECUTOR_SHARD for each of them",
            );
        }
    }

    #[test]
    fn an_environment_without_a_shard_is_none() {
        assert_eq!(found(""), Ok(None));
        assert_eq!(
            found("HOME=here SLURM_JOB_ID=7 SLURM_ARRAY_TASK_COUNT=4 CLOUD_RUN_TASK_COUNT=4"),
            Ok(None)
        );
    }

    /// As of a script whose own variable is unset.
    #[test]
    fn an_empty_shard_is_not_taken_for_none() {
        for more in ["", &slurm(3, 0, 63, 1, 64)] {
            let refused = found(&format!("BATCH_EXECUTOR_SHARD= {more}")).unwrap_err();
            assert!(
                refused.starts_with(r#"BATCH_EXECUTOR_SHARD cannot be used: "" is no shard"#),
                "{refused}"
            );
        }
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

    /// Each task of the array starts its processes by a launcher, or is a single one of a pipeline.
    #[test]
    fn an_array_that_is_not_understood_is_seen_beside_a_launcher() {
        let launched = |tasks| format!("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE={tasks} PMIX_RANK=0");
        for engine in [launched(1), launched(4), "CI_NODE_INDEX=1 CI_NODE_TOTAL=1".to_owned()] {
            let refused = found(&format!("OAR_ARRAY_INDEX=3 {engine}")).unwrap_err();
            assert!(refused.starts_with("OAR_ARRAY_INDEX is set, and the shard cannot be told"), "{refused}");
        }
        assert_shard(&launched(4), "0/4");
        assert_shard("NOMAD_ALLOC_INDEX=0 PARALLEL_SEQ=2 BATCH_EXECUTOR_SHARDS=4", "1/4");
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

    fn sge(id: usize, first: usize, last: usize, step: usize) -> String {
        format!("SGE_TASK_ID={id} SGE_TASK_FIRST={first} SGE_TASK_LAST={last} SGE_TASK_STEPSIZE={step}")
    }

    /// All shards that the tasks of an engine take, in the order of their numbers.
    #[track_caller]
    fn assert_all(count: usize, variables: impl Fn(usize) -> String) {
        for index in 0..count {
            assert_shard(&variables(index), &format!("{index}/{count}"));
        }
    }

    #[test]
    fn every_task_of_every_engine_takes_its_shard() {
        let ours = "BATCH_EXECUTOR_SHARDS=5";
        assert_all(5, |index| sge(index + 1, 1, 5, 1));
        assert_all(5, |index| sge(10 + 3 * index, 10, 22, 3));
        assert_all(5, |index| sge(10 + 3 * index, 10, 24, 3)); // the last as it was asked for
        assert_all(5, |index| format!("PBS_ARRAY_INDEX={index} PBS_JOBID=7[{index}] {ours}"));
        assert_all(5, |index| format!("PBS_ARRAYID={index} {ours}"));
        assert_all(5, |index| format!("LSB_JOBINDEX={} {ours}", index + 1));
        assert_all(5, |index| {
            format!("LSB_JOBINDEX={} LSB_JOBINDEX_END=5 LSB_JOBINDEX_STEP=1 {ours}", index + 1)
        });
        assert_all(5, |index| format!("SLURM_PROCID={index} SLURM_STEP_NUM_TASKS=5 SLURM_NTASKS=5"));
        assert_all(5, |index| {
            format!("OMPI_COMM_WORLD_RANK={index} OMPI_COMM_WORLD_SIZE=5 PMIX_RANK={index}")
        });
        assert_all(5, |index| format!("PMI_RANK={index} PMI_SIZE=5"));
        assert_all(5, |index| format!("FLUX_TASK_RANK={index} FLUX_JOB_SIZE=5"));
        assert_all(5, |index| format!("AWS_BATCH_JOB_NODE_INDEX={index} AWS_BATCH_JOB_NUM_NODES=5"));
        assert_all(5, |index| format!("BATCH_TASK_INDEX={index} BATCH_TASK_COUNT=5"));
        assert_all(5, |index| format!("GITLAB_CI=true CI_NODE_INDEX={} CI_NODE_TOTAL=5", index + 1));
        assert_all(5, |index| format!("BUILDKITE_PARALLEL_JOB={index} BUILDKITE_PARALLEL_JOB_COUNT=5"));
        assert_all(5, |index| format!("CIRCLE_NODE_INDEX={index} CIRCLE_NODE_TOTAL=5"));
        assert_all(5, |index| format!("SEMAPHORE_JOB_INDEX={} SEMAPHORE_JOB_COUNT=5", index + 1));
        assert_all(5, |index| format!("BITBUCKET_PARALLEL_STEP={index} BITBUCKET_PARALLEL_STEP_COUNT=5"));
        assert_all(5, |index| format!("SYSTEM_JOBPOSITIONINPHASE={} SYSTEM_TOTALJOBSINPHASE=5", index + 1));
    }

    /// Never all items in every task: where a count is missing, the variable that was seen is named.
    #[test]
    fn a_number_without_its_count_is_refused_whatever_numbers_the_tasks() {
        let known = ENGINES.iter().map(|engine| engine.index);
        for index in known.chain(NOT_UNDERSTOOD) {
            for number in [1, 7] {
                let words = found(&format!("{index}={number}")).unwrap_err();
                assert!(words.contains(index), "{words}");
            }
        }
        assert_refused(
            "OAR_ARRAY_INDEX=3 BATCH_EXECUTOR_SHARDS=64",
            "OAR_ARRAY_INDEX is set, and the shard cannot be told from it; \
             set BATCH_EXECUTOR_SHARD=0/64 and so on, or 0/1 for all items",
        );
    }

    #[test]
    fn a_job_that_is_no_array_has_no_shard() {
        let sge = "SGE_TASK_ID=undefined SGE_TASK_FIRST=undefined SGE_TASK_LAST=undefined SGE_TASK_STEPSIZE=undefined";
        assert_eq!(found(sge), Ok(None));
        assert_eq!(found("LSB_JOBINDEX=0 LSB_JOBID=7"), Ok(None));
        assert_eq!(found("CI_NODE_TOTAL=1 GITLAB_CI=true"), Ok(None));
        assert_eq!(found("SLURM_PROCID=0 SLURM_NTASKS=1"), Ok(None), "a batch script");
        assert_eq!(found("SLURM_PROCID=0"), Ok(None), "a batch script");
        assert_shard("CIRCLE_NODE_INDEX=0 CIRCLE_NODE_TOTAL=1", "0/1");
    }

    #[test]
    fn arrays_that_are_not_whole_are_refused() {
        for (id, first, last, step) in [(4, 1, 9, 2), (0, 1, 9, 1), (10, 1, 9, 1), (3, 9, 1, 1)] {
            let words = found(&sge(id, first, last, step)).unwrap_err();
            assert!(words.starts_with(&format!("SGE_TASK_ID is {id}, which is not among those")), "{words}");
        }
        assert!(found(&sge(1, 0, usize::MAX, 1)).unwrap_err().starts_with("SGE_TASK_ID is 1, "));
        assert_refused(&sge(1, 1, 5, 0), "SGE_TASK_STEPSIZE is 0; it is at least 1");
        assert_refused(
            &(sge(17, 17, 17, 1) + " BATCH_EXECUTOR_SHARDS=64"),
            "BATCH_EXECUTOR_SHARDS is 64, but the number of tasks from SGE_TASK_FIRST to SGE_TASK_LAST is 1; \
             to run only some shards, set BATCH_EXECUTOR_SHARD for each of them",
        );
        let lsf = |rest: &str| format!("LSB_JOBINDEX=3 BATCH_EXECUTOR_SHARDS=5 {rest}");
        assert_refused(
            &lsf("LSB_JOBINDEX_END=64"),
            "LSB_JOBINDEX_END is 64; an array of BATCH_EXECUTOR_SHARDS at 5 has the indices 1 to 5",
        );
        assert_refused(
            &lsf("LSB_JOBINDEX_STEP=2"),
            "LSB_JOBINDEX_STEP is 2; an array of BATCH_EXECUTOR_SHARDS at 5 has the indices 1 to 5",
        );
        assert_refused(
            "PBS_ARRAY_INDEX=5 BATCH_EXECUTOR_SHARDS=5",
            "PBS_ARRAY_INDEX is 5; with BATCH_EXECUTOR_SHARDS at 5 it is 0 to 4",
        );
        assert_refused(
            "CI_NODE_INDEX=0 CI_NODE_TOTAL=5",
            "CI_NODE_INDEX is 0; with CI_NODE_TOTAL at 5 it is 1 to 5",
        );
    }

    #[test]
    fn several_tasks_of_slurm_without_a_step_are_refused() {
        assert_refused(
            "SLURM_PROCID=0 SLURM_NTASKS=8",
            "SLURM_NTASKS is 8, and this is no step of srun; \
             start the program by srun, or set BATCH_EXECUTOR_SHARD=0/1 for all items",
        );
        assert_refused(
            "SLURM_PROCID=3 SLURM_NTASKS=8",
            "SLURM_STEP_NUM_TASKS is missing, and SLURM_PROCID alone does not tell the shard",
        );
        // In an array the task is the shard, as long as its step has one process.
        let array = slurm(3, 0, 63, 1, 64);
        assert_shard(&format!("{array} SLURM_PROCID=0 SLURM_NTASKS=8"), "3/64");
        assert_shard(&format!("{array} SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1"), "3/64");
        assert_refused(
            &format!("{array} SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2"),
            "SLURM_ARRAY_TASK_ID is set, and so is SLURM_PROCID; \
             set BATCH_EXECUTOR_SHARD to the shard that is meant",
        );
    }

    #[test]
    fn launchers_that_say_the_same_are_one_and_single_tasks_are_none() {
        let srun = |tasks| format!("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS={tasks}");
        assert_shard(&format!("{} PMI_RANK=1 PMI_SIZE=4 PMIX_RANK=1", srun(4)), "1/4");
        assert_refused(
            &format!("{} OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8", srun(2)),
            "SLURM_PROCID is set, and so is OMPI_COMM_WORLD_RANK; \
             set BATCH_EXECUTOR_SHARD to the shard that is meant",
        );
        let single = "CIRCLE_NODE_INDEX=0 CIRCLE_NODE_TOTAL=1";
        assert_shard(&format!("{single} PARALLEL_SEQ=2 BATCH_EXECUTOR_SHARDS=4"), "1/4");
        assert_shard(&format!("{single} OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1"), "0/1");
        let two =
            "CIRCLE_NODE_INDEX=1 CIRCLE_NODE_TOTAL=4 BUILDKITE_PARALLEL_JOB=1 BUILDKITE_PARALLEL_JOB_COUNT=4";
        assert!(found(two).unwrap_err().contains("and so is"));
    }
}
