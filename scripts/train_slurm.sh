#!/usr/bin/env bash
#SBATCH --job-name=deeprftv2
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
# Trains under SLURM, for as long as it takes: before its time is over the job saves its state and queues itself again.
#   sbatch scripts/train_slurm.sh -opt options/train_gopro.yml
#   sbatch --nodes=2 --time=4:00:00 scripts/train_slurm.sh -opt options/train_gopro.yml
# Submit it from where experiments/ is to be, on storage that all nodes see. A task is a process with a GPU. The python of
# the submitting environment is taken, or PYTHON.
set -uo pipefail

[ $# -gt 0 ] || { echo "error: no option file. For instance: sbatch $0 -opt options/train_gopro.yml" >&2; exit 1; }
saved=75  # the exit status of `basicsr train` when a signal made it save its state and leave

leave() { [ -z "${step:-}" ] || kill -TERM "$step"; }
trap leave USR1 TERM  # USR1 comes three minutes before the end, TERM from scancel and where the job is preempted

srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m deeprftv2_plugin train "$@" --launcher slurm --auto_resume &
step=$!
wait "$step"; status=$?
while kill -0 "$step" 2>/dev/null; do wait "$step"; status=$?; done  # a trapped signal ends the first wait

if [ "$status" -eq "$saved" ]; then
    echo "the state is saved; job $SLURM_JOB_ID queues again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
