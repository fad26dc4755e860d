#!/usr/bin/env bash
# Set up the environment, then run the linter and the tests. Arguments go to pytest: bash scripts/test.sh tests/cli -k train
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh
export PATH="$PWD/.venv/bin:$PWD/.venv/Scripts:$PATH"  # Scripts is Windows' name of bin
python -m ruff check .
exec python -m pytest -n auto --dist loadfile "$@"
