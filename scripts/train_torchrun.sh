#!/usr/bin/env bash
# Train on all GPUs of one or several machines:
#   bash scripts/train_torchrun.sh -opt options/train_gopro.yml
#   NODES=2 MASTER=node0 bash scripts/train_torchrun.sh -opt options/train_gopro.yml   # on both machines
# Run it from the folder that will contain experiments/, on storage shared by all machines. Arguments are passed to
# `basicsr train`. If a process fails, torchrun restarts all processes, and they resume from the newest complete state.
#   PROCESSES  processes on this machine; default: one per GPU, or one without a GPU
#   NODES      number of machines; default: 1
#   MASTER     host name of one of the machines
#   PORT       free port on MASTER; default: 29500
#   RUN        name of this run, which distinguishes it from others with the same MASTER and PORT
#   RESTARTS   maximum number of restarts; default: 3
#   PYTHON     interpreter; default: .venv of this checkout if it exists, otherwise python3
set -euo pipefail
fail() { echo "error: $*" >&2; exit 1; }

[ $# -gt 0 ] || fail "no option file. Example: bash $0 -opt options/train_gopro.yml"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$here/.venv/bin/python"
python=${PYTHON:-$([ -x "$venv" ] && echo "$venv" || echo python3)}
nodes=${NODES:-1} meeting=localhost:0  # port 0: any free port
if [ "$nodes" -gt 1 ]; then
    [ -n "${MASTER:-}" ] || fail "NODES is $nodes, but MASTER is not set. Set it to the host name of one of the machines"
    meeting=$MASTER:${PORT:-29500}
fi
export PYTHONSAFEPATH=1  # no imports from this folder, which may contain data
gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())') || fail "$python cannot import torch; see the README for installation"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# otherwise restarted processes find the addresses of failed ones in torchrun's shared store
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec "$python" -m torch.distributed.run --nnodes="$nodes" --nproc_per_node="${PROCESSES:-$((gpus > 0 ? gpus : 1))}" \
    --rdzv_backend=c10d --rdzv_id="${RUN:-deeprftv2}" --rdzv_endpoint="$meeting" --max-restarts="${RESTARTS:-3}" --rdzv_conf=read_timeout=900 \
    -m deeprftv2_plugin train "$@"
