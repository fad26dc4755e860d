#!/usr/bin/env bash
# From a fresh clone to a deblurred picture, without a download of data: environment, photographs under synthetic camera
# shake, training of a tiny DeepRFTv2, test, and results/quickstart.png. About five minutes on two cores after installation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh
export PATH="$PWD/.venv/bin:$PWD/.venv/Scripts:$PATH"  # Scripts is Windows' name of bin
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0}"  # see docs/performance.md
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # more threads wait for each other longer than so small a network takes
[ -d datasets/quickstart ] || basicsr prepare skimage datasets/quickstart
basicsr train -opt options/train_quickstart.yml
basicsr test -opt options/test_quickstart.yml
python scripts/quickstart_report.py
