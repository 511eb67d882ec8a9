#!/bin/sh
# A folder of files, in 64 shards on a Slurm cluster, eight at a time:
#
#     sbatch slurm.sh FOLDER DIR
#
# FOLDER and DIR are on storage that all nodes see. Each shard keeps a journal in DIR, and a task that starts again
# continues where its journal ends. The program finds its shard in the environment. `resume` is an example of
# batch-executor; it is on the path, or RESUME names it.
#
#SBATCH --job-name=resume
#SBATCH --array=0-63%8
#SBATCH --output=resume-%A-%a.log
# Slurm queues the task again when its node failed or was needed for something else. The log goes on in the same file.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --time=04:00:00

if [ $# -ne 2 ]; then
    echo "usage: sbatch slurm.sh FOLDER DIR" >&2
    exit 2
fi
folder=$1
dir=$2

# With this variable the program refuses an array that has not 64 tasks. To run single shards again, start one task for
# each, with BATCH_EXECUTOR_SHARD=17/64.
export BATCH_EXECUTOR_SHARDS="${BATCH_EXECUTOR_SHARDS:-64}"

status=0
"${RESUME:-resume}" --journal "$dir/shard-$SLURM_ARRAY_TASK_ID.jsonl" "$folder" || status=$?

# For Slurm, a program that was killed, as for want of memory, has failed. Run it again, up to three times.
if [ "$status" -gt 128 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; then
    echo "killed by signal $((status - 128)); back into the queue"
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
