#!/usr/bin/env bash
# One training run under Slurm: a Ray cluster over the job's nodes, then `rllib train` on the first.
#
#   sbatch --nodes=3 cluster/slurm.sh -f experiments/ppg_procgen.yaml \
#       --storage-path /shared/results --set num_env_runners=32
#
# What follows the script's name goes to `rllib train`; its exit code is the job's. The command has
# to be on PATH on every node (activate a virtual environment below), and --storage-path a folder
# that all nodes share. At the time limit Slurm sends SIGTERM: the run writes a checkpoint and ends;
# submit it again with --resume.
#
# Variables: RLLIB_PORT (port of the head node, 6379 unless given), RLLIB_START_SECONDS (how long
# nodes may take to join, 300).

#SBATCH --job-name=rllib-ppg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=48G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --output=%x-%j.log
# A GPU for the learner, on every node of the job:
##SBATCH --gpus-per-node=1

set -euo pipefail

# source /path/to/venv/bin/activate

if [ -z "${SLURM_JOB_NODELIST:-}" ]; then
    echo "Error: not in a Slurm job; start it with sbatch $0 -f EXPERIMENT" >&2
    exit 2
fi
if [ $# -eq 0 ]; then
    echo "Error: nothing to train; sbatch $0 -f EXPERIMENT --storage-path SHARED_FOLDER" >&2
    exit 2
fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=${RLLIB_PORT:-6379}
cpus=${SLURM_CPUS_PER_TASK:-1}
limit=${RLLIB_START_SECONDS:-300}

# All nodes need the same token, which other users of the cluster must not know.
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0

# Ray's sockets need a short path, and each job one of its own.
ray_folder=/tmp/ray_${SLURM_JOB_ID:-0}

gpus=${SLURM_GPUS_ON_NODE:-0}
size=(--num-cpus="$cpus" --num-gpus="$gpus" --block)

started=()
# shellcheck disable=SC2317,SC2329  # the trap calls it
stop() {
    kill "${started[@]}" 2>/dev/null || true
    wait "${started[@]}" 2>/dev/null || true
}
trap stop EXIT

address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')

echo "Ray: head node on $head ($address:$port)"
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    ray start --head --node-ip-address="$address" --port="$port" \
    --include-dashboard=false --temp-dir="$ray_folder" "${size[@]}" &
started+=($!)

# Others would give up on a head node that does not listen yet.
for ((second = 0; ; second++)); do
    if (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null; then break; fi
    if ! kill -0 "${started[0]}" 2>/dev/null || ((second >= limit)); then
        echo "Error: the head node on $head has not come up" >&2
        exit 1
    fi
    sleep 1
done

for node in "${nodes[@]:1}"; do
    echo "Ray: worker node on $node"
    srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap \
        ray start --address="$address:$port" "${size[@]}" &
    started+=($!)
done

# `rllib train` looks at the cluster as it is, so all nodes have to be there.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    python - "$address:$port" "${#nodes[@]}" "$limit" <<'PYTHON'
import sys
import time

import ray

address, count, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
ray.init(address=address, log_to_driver=False)
end = time.monotonic() + limit
while (alive := sum(node["Alive"] for node in ray.nodes())) < count:
    if time.monotonic() > end:
        sys.exit(f"Error: {alive} of {count} nodes have joined within {limit:g} s")
    time.sleep(1)
PYTHON

# SIGTERM reaches this script alone (--signal=B:...) and is handed on.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    rllib train "$@" --ray-address "$address:$port" --no-progress &
run=$!
trap 'kill -TERM "$run" 2>/dev/null || true' TERM
code=0
wait "$run" || code=$?
# A trap ends `wait` before the run has ended.
while kill -0 "$run" 2>/dev/null; do
    code=0
    wait "$run" || code=$?
done
exit "$code"
