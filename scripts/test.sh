#!/usr/bin/env bash
# Set up the environment, then run the linter and the tests. Arguments are passed to pytest, e.g.
#   bash scripts/test.sh tests/cli -k train
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh
export PATH="$PWD/.venv/bin:$PWD/.venv/Scripts:$PATH"  # on Windows the folder is Scripts
python -m ruff check .
exec python -m pytest -n auto --dist loadfile "$@"
