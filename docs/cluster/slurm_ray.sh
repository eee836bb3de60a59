#!/bin/bash
# A Ray cluster inside a Slurm job, for as long as the job lasts: Ray's head on the first node, workers on the others.
#
#   sbatch docs/cluster/slurm_ray.sh meld
#
# RAW and OUT must be on a file system that all nodes share; all nodes use the same installation of merc-pipeline[ray].
#SBATCH --job-name=merc-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --mem=64G
#SBATCH --time=02:00:00
#SBATCH --output=%x-%j.log
set -euo pipefail

dataset=${1:?the name of a dataset}
raw=${RAW:-raw}
out=${OUT:-features}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 20000))
# A token that this job's processes alone have. Without one, a token in ~/.ray decides whether the head asks for it, and nodes and driver do not send it.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
here=(--num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block)
on() { srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --nodelist="$1" "${@:2}"; }

on "$head" ray start --head --node-ip-address="$head" --port="$port" --include-dashboard=false "${here[@]}" &
for node in "${nodes[@]:1}"; do
  # A worker starts once the head answers.
  on "$node" bash -c "until ray status --address '$head:$port' >/dev/null 2>&1; do sleep 2; done; exec ray start --address '$head:$port' ${here[*]}" &
done
until on "$head" ray status --address "$head:$port" >/dev/null 2>&1; do sleep 2; done

# Nodes that join later are used as well. The driver runs on the head's node; it can be killed and resumed as usual.
on "$head" merc-extract --dataset "$dataset" --raw "$raw" --out "$out" --offline --executor ray --address "$head:$port"
