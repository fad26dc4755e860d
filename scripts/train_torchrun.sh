#!/usr/bin/env bash
# Trains on all GPUs of this machine, or of several:
#   bash scripts/train_torchrun.sh -opt options/train_gopro.yml
#   NODES=2 MASTER=node0 bash scripts/train_torchrun.sh -opt options/train_gopro.yml   # the same on both machines
# Run it from where experiments/ is to be, on storage that all machines see. What follows its name goes to `basicsr train`.
# A process that dies lets torchrun start all of them again, RESTARTS times (3); they go on from the newest whole state.
#   PROCESSES  processes on this machine: one for each GPU, or one where there is none
#   MASTER     the name of one of the machines, PORT a free port there (29500)
#   RUN        a name that tells this training from others with the same MASTER and PORT
#   PYTHON     the interpreter; this checkout's .venv where it is there
set -euo pipefail
fail() { echo "error: $*" >&2; exit 1; }

[ $# -gt 0 ] || fail "no option file. For instance: bash $0 -opt options/train_gopro.yml"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="$here/.venv/bin/python"
python=${PYTHON:-$([ -x "$venv" ] && echo "$venv" || echo python3)}
nodes=${NODES:-1} meeting=localhost:0  # port 0: any that is free
if [ "$nodes" -gt 1 ]; then
    [ -n "${MASTER:-}" ] || fail "NODES is $nodes, but MASTER, the name of one of these machines, is not set"
    meeting=$MASTER:${PORT:-29500}
fi
gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())') || fail "$python has no torch: see the README"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# torchrun would keep one store for all attempts, in which a process finds the addresses of those that died
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec "$python" -m torch.distributed.run --nnodes="$nodes" --nproc_per_node="${PROCESSES:-$((gpus > 0 ? gpus : 1))}" \
    --rdzv_backend=c10d --rdzv_id="${RUN:-deeprftv2}" --rdzv_endpoint="$meeting" --max-restarts="${RESTARTS:-3}" \
    -m deeprftv2_plugin train "$@"
