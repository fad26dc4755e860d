#!/usr/bin/env bash
# Create .venv in this checkout with everything that the command, the demo and the tests need, unless it is up to date.
# PYTHON selects the interpreter. The default is the first of Python 3.11, 3.12, 3.10, 3.13 and 3.14 that is found.
# Packages are installed with uv if it is on the PATH, otherwise with pip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $*" >&2; exit 1; }

has_uv() { command -v uv >/dev/null; }

fits() {
    local modules='venv, ensurepip'
    if has_uv; then modules=sys; fi  # uv needs none of them
    "$1" -c "import sys, $modules; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))" >/dev/null 2>&1
}

# The base interpreter of an activated .venv, since .venv is about to be removed
base() { "$1" -c 'import sys; sys.stdout.write(sys._base_executable)'; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.10 to 3.14 with the module venv."
        base "$PYTHON"
        return
    fi
    local candidate
    for candidate in python3.11 python3.12 python3.10 python3.13 python3.14 python3 python; do
        if fits "$candidate"; then base "$candidate"; return; fi
    done
    fail "no Python 3.10 to 3.14 with the module venv was found." \
        "Install one, or name it: PYTHON=/path/to/python bash scripts/environment.sh"
}

create() {
    if has_uv; then uv venv --quiet --seed --python "$1" .venv; else "$1" -m venv .venv; fi ||
        fail "$1 could not create .venv."
}

install() {
    echo "installing $1" >&2
    shift
    set -- --quiet --constraint scripts/constraints.txt "$@"
    if has_uv; then
        uv pip install --python .venv --compile-bytecode "$@" >&2  # pip compiles too
    else
        python -m pip install --disable-pip-version-check "$@" >&2
    fi || fail "the installation failed (see the message above). It needs a network connection, or wheels in a folder" \
        "that PIP_FIND_LINKS names. Run the same command again to retry."
}

stamp=.venv/complete
made_from=$({ pwd; cat pyproject.toml scripts/constraints.txt scripts/environment.sh; } | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$made_from" ]; then exit 0; fi

python=$(find_python)
echo "creating .venv with $("$python" --version); this takes a few minutes" >&2
rm -rf .venv
create "$python"
export PATH="$PWD/.venv/bin:$PWD/.venv/Scripts:$PATH"  # on Windows the folder is Scripts
if [ -n "${PIP_FIND_LINKS:-}" ]; then export UV_FIND_LINKS="${UV_FIND_LINKS:-$PIP_FIND_LINKS}"; fi
install 'torch' torch torchvision
# BasicSR's setup.py imports these without declaring them
install 'build dependencies of BasicSR' cython numpy setuptools wheel
PYTHONPATH="$PWD/scripts/basicsr_build" install 'BasicSR' --no-build-isolation basicsr
install 'the plugin' --no-build-isolation --editable '.[bench,demo,test,dev]'
# A server may lack the desktop libraries that OpenCV needs: replace its files by those of the headless build
python -c 'import cv2' 2>/dev/null || install 'headless OpenCV' opencv-python-headless
echo "$made_from" >"$stamp"
