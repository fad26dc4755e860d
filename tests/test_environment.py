"""The script that creates the environment, as far as it needs no network."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / 'scripts'
READS_A_VERSION = """
def version():
    exec('__version__ = "1.4.2"')
    return locals()['__version__']

class Namespace:
    exec('inside = 1')

names = {'before': 1}
exec('after = before + 1', names)
exec('outside = 1')
print(version(), Namespace.inside, names['after'], outside)
"""


def test_exec_writes_to_the_variables_of_its_caller():
    """BasicSR's setup.py relies on this. Calls with a namespace still write to that namespace."""
    environment = {**os.environ, 'PYTHONPATH': str(SCRIPTS / 'basicsr_build')}
    said = subprocess.run([sys.executable, '-c', READS_A_VERSION], env=environment, capture_output=True, text=True)
    assert said.stdout == '1.4.2 1 2 1\n', said.stderr


@pytest.mark.posix
def test_unsuitable_interpreter_is_refused(tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / 'scripts', ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(SCRIPTS.parent / 'pyproject.toml', tmp_path)
    (tmp_path / 'python3.9').write_text('#!/bin/sh\nexit 1\n')
    (tmp_path / 'python3.9').chmod(0o755)
    command = ['bash', 'scripts/environment.sh']
    environment = {**os.environ, 'PYTHON': str(tmp_path / 'python3.9')}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 1
    assert 'python3.9 is not Python 3.10 to 3.14' in process.stderr
    assert not (tmp_path / '.venv').exists()
