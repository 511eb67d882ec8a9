#!/bin/sh
# A folder of files, in 64 shards on a Slurm cluster, eight at a time:
#
#     sbatch slurm.sh FOLDER DIR
#
# FOLDER and DIR are on storage that all nodes see. Each shard keeps a journal in DIR, and a task that is started again goes on where its
# journal ends. Which shard a task is, the program finds in its environment. `resume` is an example of batch-executor, on the path or named
# by RESUME.
#
#SBATCH --job-name=resume
#SBATCH --array=0-63%8
#SBATCH --output=resume-%A-%a.log
# Back into the queue when the node has failed or was needed for something else, with the log of before kept.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --time=04:00:00

if [ $# -ne 2 ]; then
    echo "usage: sbatch slurm.sh FOLDER DIR" >&2
    exit 2
fi
folder=$1
dir=$2

# If some shards are to run again, in an array with gaps or of another size, say so with BATCH_EXECUTOR_SHARD=17/64, one task each:
# with this variable, an array that is not of 64 is refused.
export BATCH_EXECUTOR_SHARDS="${BATCH_EXECUTOR_SHARDS:-64}"

status=0
"${RESUME:-resume}" --journal "$dir/shard-$SLURM_ARRAY_TASK_ID.jsonl" "$folder" || status=$?

# Slurm takes a program that was killed, as for want of memory, for one that has failed. Once more, up to three times.
if [ "$status" -gt 128 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; then
    echo "killed by signal $((status - 128)); back into the queue"
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
