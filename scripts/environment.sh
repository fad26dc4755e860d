#!/usr/bin/env bash
# Makes .venv in this checkout with all that the command, the demo and the tests need. A second call is instant.
# PYTHON names the interpreter to use; otherwise the first of Python 3.11, 3.12 and 3.10 that is found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "error: $*" >&2; exit 1; }

fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.10 python3 python}; do
        if fits "$candidate"; then echo "$candidate"; return; fi
    done
    if [ -n "${PYTHON:-}" ]; then fail "PYTHON=$PYTHON is no Python 3.10, 3.11 or 3.12 with the module venv."; fi
    fail "no Python 3.10, 3.11 or 3.12 with the module venv was found (BasicSR cannot be built for newer ones)." \
        "Install one, or name it: PYTHON=/path/to/python bash scripts/environment.sh"
}

install() {
    echo "installing $1" >&2
    shift
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint scripts/constraints.txt "$@" >&2 ||
        fail "pip could not install this (its message is above). It needs a network connection, or wheels in a folder" \
            "that PIP_FIND_LINKS names. Then run the same command again."
}

stamp=.venv/complete
made_from=$({ pwd; cat setup.py scripts/constraints.txt scripts/environment.sh; } | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$made_from" ]; then exit 0; fi

python=$(find_python)
echo "making .venv with $("$python" --version); this takes a few minutes" >&2
rm -rf .venv
"$python" -m venv .venv || fail "$python could not make .venv."
install 'torch' torch torchvision
# BasicSR's setup needs these at hand while it is built, and says so nowhere
install 'what BasicSR is built with' cython numpy setuptools wheel
install 'BasicSR' --no-build-isolation basicsr
install 'the plugin' --no-build-isolation --editable '.[bench,demo,test,dev]'
echo "$made_from" >"$stamp"
