#!/usr/bin/env bash
# Create the environment, prepare photographs with synthetic camera shake (no download), train and test a tiny DeepRFTv2, and
# write results/quickstart.png. This takes about five minutes on two cores after the installation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh
export PATH="$PWD/.venv/bin:$PWD/.venv/Scripts:$PATH"  # on Windows the folder is Scripts
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0}"  # see docs/performance.md
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # more threads slow down this small network
[ -d datasets/quickstart ] || basicsr prepare skimage datasets/quickstart
basicsr train -opt options/train_quickstart.yml
basicsr test -opt options/test_quickstart.yml
python scripts/quickstart_report.py
