#!/usr/bin/env bash
# Sets up the environment, then runs the linter and the tests. Arguments go to pytest: bash scripts/test.sh tests/cli -k train
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/environment.sh
.venv/bin/python -m ruff check .
exec .venv/bin/python -m pytest -n auto --dist loadfile "$@"
