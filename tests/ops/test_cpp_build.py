"""Compiling the native backend: where it is kept, and what happens where it cannot be compiled."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deeprftv2_plugin.ops.backends import cpp_build, native

ROOT = Path(__file__).parents[2]

LOAD = f"""
import runpy
library = runpy.run_path({cpp_build.__file__!r})['load_library']()
assert library.scan_most_states() > 0
print(library._name)
"""
"""Compiles and loads the library without PyTorch, which takes seconds to import, and hence without its threads."""

NETWORK = """
import torch
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.ops import backends
torch.manual_seed(0)
images = DeepRFTv2('T', width=4, kernel_width=4)(torch.rand(1, 3, 16, 16)).full
sum(image.sum() for image in images).backward()
assert all(image.isfinite().all() for image in images)
print(backends.describe())
"""

needs_a_compiler = pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get('CXX') or 'c++', 'g++', 'clang++'))), reason='no C++ compiler'
)


def start(code, **environment):
    variables = {name: value for name, value in os.environ.items() if name not in ('DEEPRFTV2_BACKEND', 'CXX')}
    variables |= {'PYTHONPATH': str(ROOT)} | {name: str(value) for name, value in environment.items()}
    streams = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    return subprocess.Popen([sys.executable, '-c', code], env=variables, text=True, cwd=ROOT, **streams)


def output(process):
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out.strip()


def run(code, **environment):
    return output(start(code, **environment))


@pytest.fixture
def compiler(tmp_path):
    """The machine's own in a hurry, under a name of its own; it notes what it is called for."""
    real = next(filter(None, map(shutil.which, (os.environ.get('CXX') or 'c++', 'g++', 'clang++'))))
    path = tmp_path / 'compiler'
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {real} "$@" -O0\n')
    path.chmod(0o755)
    return path


def compilations(compiler):
    return compiler.with_name('calls').read_text().count('-shared')


@needs_a_compiler
def test_it_is_compiled_once_for_all_processes(compiler, tmp_path):
    environment = {'CXX': compiler, 'XDG_CACHE_HOME': tmp_path / 'cache'}
    first = Path(run(LOAD, **environment))
    assert first.parent == tmp_path / 'cache' / 'deeprftv2_plugin'
    assert run(LOAD, **environment) == str(first)
    assert compilations(compiler) == 1
    assert list(first.parent.iterdir()) == [first]

    shutil.copy(compiler, tmp_path / 'another')
    other = Path(run(LOAD, **environment | {'CXX': tmp_path / 'another'}))
    assert other != first and set(first.parent.iterdir()) == {first, other}


@needs_a_compiler
def test_without_a_folder_to_keep_it_in(compiler, tmp_path):
    (tmp_path / 'cache').write_text('not a folder')
    library = run(LOAD, CXX=compiler, XDG_CACHE_HOME=tmp_path / 'cache', TMPDIR=tmp_path)
    assert Path(library).is_relative_to(tmp_path)
    assert not Path(library).parent.exists()  # gone with the process
    assert compilations(compiler) == 1


@needs_a_compiler
def test_processes_that_compile_at_once(compiler, tmp_path):
    both = [start(LOAD, CXX=compiler, XDG_CACHE_HOME=tmp_path / 'cache') for _ in range(2)]
    first, second = map(output, both)
    assert first == second
    assert list(Path(first).parent.iterdir()) == [Path(first)]
    ctypes.CDLL(first)


@needs_a_compiler
def test_with_the_threads_of_pytorch(compiler, tmp_path):
    """One OpenMP in the process, and the native backend at work in it."""
    code = f"""{NETWORK}
from deeprftv2_plugin.ops.backends import native
assert backends.choose('simple_gate', torch.ones(1)) is native.simple_gate
from pathlib import Path
mapped = {{line.split()[-1] for line in Path('/proc/self/maps').read_text().splitlines()}}
print(*(path for path in mapped if path.rpartition('/')[2].startswith(('libgomp', 'libiomp', 'libomp'))))
"""
    described, openmp = run(code, CXX=compiler, XDG_CACHE_HOME=tmp_path / 'cache').splitlines()
    assert 'native, pytorch' in described
    assert len(openmp.split()) <= 1


def test_without_a_compiler_the_network_runs_in_plain_pytorch(tmp_path):
    described = run(NETWORK, PATH='', XDG_CACHE_HOME=tmp_path)
    assert described.startswith('pytorch; ')
    assert 'not native: no C++ compiler was found (c++, g++, clang++ or the one that CXX names)' in described
    assert not list(tmp_path.rglob('*.so'))


@pytest.mark.parametrize(
    ('script', 'reason'),
    [
        ("echo 'x.cpp:1: note: here' >&2; echo 'x.cpp:1: error: sorry' >&2; exit 1", 'x.cpp:1: error: sorry'),
        ('exit 3', 'exit status 3'),
    ],
    ids=['with an error', 'silently'],
)
@pytest.mark.parametrize('fails_at', ['once', 'the sources'])
def test_a_compiler_that_fails_is_the_reason(monkeypatch, tmp_path, script, reason, fails_at):
    path = tmp_path / 'broken'
    version = '[ "$1" = --version ] && exit\n' if fails_at == 'the sources' else ''
    path.write_text(f'#!/bin/sh\n{version}{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv('CXX', str(path))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(cpp_build, '_cache_folder', cpp_build._cache_folder.__wrapped__)
    monkeypatch.setattr(native, 'load_library', cpp_build.load_library.__wrapped__)
    assert native.why_not.__wrapped__() == f'{path} failed: {reason}'
    assert not list(tmp_path.glob('cache/*/*'))
