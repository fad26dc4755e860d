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
# Train under SLURM. Before its time limit, the job saves its state and requeues itself until training is complete.
# After scancel, it saves its state and exits. Submit it again to resume.
#   sbatch scripts/train_slurm.sh -opt options/train_gopro.yml
#   sbatch --nodes=2 --time=4:00:00 scripts/train_slurm.sh -opt options/train_gopro.yml
# Submit it from the folder that will contain experiments/, on storage shared by all nodes. Each task is a process with one
# GPU. PYTHON selects the interpreter; the default is the python of the submitting environment.
set -uo pipefail

[ $# -gt 0 ] || { echo "error: no option file. Example: sbatch $0 -opt options/train_gopro.yml" >&2; exit 1; }
saved=75  # exit status of `basicsr train` after a signal: the state is saved

# srun forwards SIGUSR1 to the tasks, but kills them on SIGTERM
forward_signal() { interrupted=yes; [ -z "${step:-}" ] || kill -USR1 "$step"; }
trap 'limit=reached; forward_signal' USR1  # three minutes before the time limit
trap forward_signal TERM  # scancel or preemption

srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m deeprftv2_plugin train "$@" --launcher slurm --auto_resume &
step=$!
interrupted=yes
while [ -n "$interrupted" ]; do  # a trapped signal interrupts wait; bash keeps the status of a task that has ended
    interrupted=
    wait "$step"; status=$?
done

if [ "$status" -eq "$saved" ] && [ -n "${limit:-}" ]; then
    echo "the state is saved; requeueing job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
