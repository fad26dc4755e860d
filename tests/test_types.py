"""The type hints of the package, which ships `py.typed`."""

import subprocess
import sys
from pathlib import Path


def test_type_hints_are_consistent(tmp_path):
    command = [sys.executable, '-m', 'mypy', '--cache-dir', str(tmp_path)]
    process = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
