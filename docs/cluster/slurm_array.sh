#!/bin/bash
# Forty machines without an engine: each task of the array makes a share, and one job combines them.
#
#   sbatch docs/cluster/slurm_array.sh meld
#
# RAW and OUT must be on a file system that all nodes share. To resubmit a share that failed or was cut off:
#
#   sbatch --array=17 docs/cluster/slurm_array.sh meld
#
#SBATCH --job-name=merc
#SBATCH --array=1-40
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=02:00:00
#SBATCH --signal=TERM@60
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

shares=40  # as --array above; not SLURM_ARRAY_TASK_MAX, which is 17 if only share 17 is resubmitted

dataset=${1:?the name of a dataset}
raw=${RAW:-raw}
out=${OUT:-features}

# The first task submits one more job, which starts when all tasks have succeeded.
if [ "$SLURM_ARRAY_TASK_ID" = "$SLURM_ARRAY_TASK_MIN" ]; then
  sbatch --dependency="afterok:$SLURM_ARRAY_JOB_ID" --job-name=merc-finish --cpus-per-task=4 --mem=16G --time=01:00:00 \
    --wrap "merc-extract --dataset '$dataset' --raw '$raw' --out '$out' --finish"
fi

# exec: Slurm's SIGTERM reaches the command, which then keeps finished work and ends with exit code 130.
exec srun --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  merc-extract --dataset "$dataset" --raw "$raw" --out "$out" \
  --workers "$SLURM_CPUS_PER_TASK" --offline --part "$SLURM_ARRAY_TASK_ID/$shares"
