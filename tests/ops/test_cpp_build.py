"""Compilation of the native backend, its cache, and machines on which it cannot be compiled."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from deeprftv2_plugin.ops import backends
from deeprftv2_plugin.ops.backends import cpp_build, native
from deeprftv2_plugin.utils.errors import SlowdownWarning

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

REAL_COMPILER = next(filter(None, map(shutil.which, (os.environ.get('CXX') or 'c++', 'g++', 'clang++'))), None)
needs_a_compiler = pytest.mark.skipif(REAL_COMPILER is None, reason='no C++ compiler')


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
    """A script that runs the machine's compiler without optimization and logs its calls."""
    return write_script(tmp_path / 'compiler', f'echo "$@" >> {tmp_path}/calls\nexec {REAL_COMPILER} "$@" -O0')


def compilations(compiler):
    return compiler.with_name('calls').read_text().count('-shared')


@pytest.fixture(scope='module')
def library(tmp_path_factory):
    """A library that was compiled without optimization."""
    folder = tmp_path_factory.mktemp('library')
    write_script(folder / 'compiler', f'exec {REAL_COMPILER} "$@" -O0')
    return Path(run(LOAD, CXX=folder / 'compiler', XDG_CACHE_HOME=folder / 'cache'))


@pytest.fixture
def copier(tmp_path, library):
    """A fake compiler that copies a finished library and logs its calls."""
    copy = f'[ "$1" = -shared ] && exec cp {library} "$target"; touch "$target"'
    script = f'echo "$@" >> {tmp_path}/calls; for target; do :; done; [ "$1" = --version ] || {{ {copy}; }}'
    return write_script(tmp_path / 'copier', script)


@pytest.fixture
def private(tmp_path):
    """A folder for temporary files and the cache."""
    (tmp_path / 'temporary').mkdir()
    return {'XDG_CACHE_HOME': tmp_path / 'cache', 'TMPDIR': tmp_path / 'temporary'}


def write_script(path, text):
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


@needs_a_compiler
def test_the_library_is_compiled_once_for_all_processes(compiler, tmp_path):
    environment = {'CXX': compiler, 'XDG_CACHE_HOME': tmp_path / 'cache'}
    first = Path(run(LOAD, **environment))
    assert first.parent == tmp_path / 'cache' / 'deeprftv2_plugin'
    assert run(LOAD, **environment) == str(first)
    assert compilations(compiler) == 1
    assert list(first.parent.iterdir()) == [first]

    shutil.copy(compiler, tmp_path / 'another')
    other = Path(run(LOAD, **environment | {'CXX': tmp_path / 'another'}))
    assert other != first and set(first.parent.iterdir()) == {first, other}


def warned_without_cache(copier, private):
    """Load the library in a process that cannot use the cache, and return its warnings."""
    process = start(LOAD, CXX=copier, **private)
    name, warned = process.communicate()
    assert process.returncode == 0, warned
    assert Path(name).is_relative_to(private['TMPDIR'])
    assert not list(private['TMPDIR'].iterdir())
    assert compilations(copier) == 1
    assert warned.count('the CPU operators are compiled at every start: ') == 1
    return warned


@needs_a_compiler
def test_without_a_usable_cache_folder(copier, private):
    private['XDG_CACHE_HOME'].write_text('not a folder')
    assert str(private['XDG_CACHE_HOME']) in warned_without_cache(copier, private)


@needs_a_compiler
@pytest.mark.posix
@pytest.mark.parametrize('mode', [0o777, 0o770, 0o755])
def test_a_cache_that_others_can_access_is_not_used(copier, private, mode):
    """A library placed there by someone else would run with the permissions of this user."""
    cache = private['XDG_CACHE_HOME'] / 'deeprftv2_plugin'
    cache.mkdir(parents=True)
    cache.chmod(mode)
    warned = warned_without_cache(copier, private)
    assert f'the cache {cache} is accessible to other users. Close it: chmod 700 {cache}' in warned
    assert not list(cache.iterdir())


@needs_a_compiler
@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='only root can give files away')
def test_a_cache_of_another_user_is_not_used(copier, private):
    cache = private['XDG_CACHE_HOME'] / 'deeprftv2_plugin'
    cache.mkdir(parents=True, mode=0o700)
    os.chown(cache, 65534, 65534)
    assert f'the cache {cache} belongs to another user' in warned_without_cache(copier, private)
    assert not list(cache.iterdir())


@needs_a_compiler
@pytest.mark.posix
def test_the_cache_is_private_and_its_place_can_be_set(copier, private, tmp_path):
    (tmp_path / 'disk').mkdir(mode=0o700)
    private['XDG_CACHE_HOME'].mkdir()
    (private['XDG_CACHE_HOME'] / 'deeprftv2_plugin').symlink_to(tmp_path / 'disk')
    assert Path(run(LOAD, CXX=copier, **private)).parent == tmp_path / 'disk'
    (private['XDG_CACHE_HOME'] / 'deeprftv2_plugin').unlink()
    kept = Path(run(LOAD, CXX=copier, **private))
    assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_a_relative_cache_is_ignored(monkeypatch, tmp_path):
    """It would be in the working directory, whose files must not be executed."""
    monkeypatch.setenv('XDG_CACHE_HOME', 'cache')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('USERPROFILE', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    assert cpp_build._cache_folder.__wrapped__() == tmp_path / 'home' / '.cache' / 'deeprftv2_plugin'
    assert [path.name for path in tmp_path.iterdir()] == ['home']


@needs_a_compiler
@pytest.mark.skipif(not shutil.which('unshare'), reason='no unshare')
def test_a_cache_that_is_mounted_without_execution(copier, private):
    """The library is stored in the cache and loaded from a temporary folder."""
    private['XDG_CACHE_HOME'].mkdir()
    mount = f'mount -t tmpfs -o noexec tmpfs {private["XDG_CACHE_HOME"]}'
    command = ['unshare', '--mount', 'sh', '-c', mount]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip('no permission to mount')
    twice = f'{mount} && for i in 1 2; do "$0" -c "$1"; done; ls {private["XDG_CACHE_HOME"]}/*'
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'CXX': str(copier)} | {k: str(v) for k, v in private.items()}
    process = subprocess.run(
        [*command[:-1], twice, sys.executable, LOAD], env=environment, capture_output=True, text=True
    )
    first, second, kept = process.stdout.splitlines()
    assert all(Path(name).parent.parent == private['TMPDIR'] for name in (first, second)), process.stderr
    assert Path(first).name == kept and compilations(copier) == 1
    assert not list(private['TMPDIR'].iterdir())


@needs_a_compiler
@pytest.mark.posix
@pytest.mark.parametrize('damage', ['truncated', 'empty', 'changed', 'link', 'pipe', 'of another user'])
def test_a_replaced_library_is_compiled_again_once(monkeypatch, copier, tmp_path, library, damage):
    monkeypatch.setenv('CXX', str(copier))
    kept = cpp_build._compiled(tmp_path, threads=False)
    content = kept.read_bytes()
    assert content == library.read_bytes() and cpp_build._compiled(tmp_path, threads=False) == kept
    assert compilations(copier) == 1
    if damage == 'of another user':
        if os.geteuid() != 0:
            pytest.skip('only root can give files away')
        os.chown(kept, 65534, 65534)
    else:
        kept.unlink()
        {
            'truncated': lambda: kept.write_bytes(content[:-100]),
            'empty': lambda: kept.write_bytes(b''),
            'changed': lambda: kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1])),
            'link': lambda: kept.symlink_to(library),
            'pipe': lambda: os.mkfifo(kept),
        }[damage]()
    for _ in range(2):
        assert cpp_build._compiled(tmp_path, threads=False) == kept
        assert kept.read_bytes() == content and not kept.is_symlink() and kept.stat().st_uid == os.geteuid()
        assert compilations(copier) == 2
    assert [path.name for path in tmp_path.glob('native-*')] == [kept.name]


@needs_a_compiler
@pytest.mark.posix
def test_a_compiler_that_hangs_is_killed_with_its_processes(monkeypatch, tmp_path):
    """Compilers start other processes, and wrappers such as ccache start compilers."""
    (tmp_path / 'started').mkdir()
    path = write_script(tmp_path / 'slow', f'sleep 600 & touch {tmp_path}/started/$!; wait')
    monkeypatch.setenv('CXX', str(path))

    def times():
        yield 0
        wait_for_files(tmp_path / 'started', 1)
        yield cpp_build.TIME_LIMIT

    monkeypatch.setattr(cpp_build, 'time', SimpleNamespace(monotonic=times().__next__))
    begin = time.monotonic()
    with pytest.raises(cpp_build.CompilerError, match=f'{path} did not finish in {cpp_build.TIME_LIMIT} seconds'):
        cpp_build._compiled(tmp_path, threads=False)
    assert time.monotonic() - begin < 300
    assert all(is_gone(int(pid.name)) for pid in (tmp_path / 'started').iterdir())


def wait_for_files(folder, count, process=None):
    """Wait until a folder has a number of files, and while a process is running if one is given."""
    deadline = time.monotonic() + 120
    while len(list(folder.iterdir())) < count:
        assert time.monotonic() < deadline and (process is None or process.poll() is None)
        time.sleep(0.01)


def is_gone(pid):
    """Return whether a process ends within a minute."""
    for _ in range(1200):
        try:
            if Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z':
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False


@needs_a_compiler
@pytest.mark.posix
def test_files_of_a_killed_compilation_are_removed_at_the_next_start(copier, private, tmp_path):
    started, sources = tmp_path / 'started', list(cpp_build.SOURCES.glob('*.cpp'))
    started.mkdir()
    waiting = write_script(tmp_path / 'waiting', f'[ "$1" = --version ] && exit; touch {started}/$$; sleep 600')
    process = start(LOAD, CXX=waiting, **private)
    wait_for_files(started, len(sources), process)
    process.kill()
    process.communicate()
    for pid in started.iterdir():
        os.killpg(int(pid.name), signal.SIGKILL)
    cache = private['XDG_CACHE_HOME'] / 'deeprftv2_plugin'
    assert len(list(cache.iterdir())) == 1
    kept = Path(run(LOAD, CXX=copier, **private))
    assert list(cache.iterdir()) == [kept]


@needs_a_compiler
@pytest.mark.posix
def test_a_library_that_another_process_writes_meanwhile_is_no_error(monkeypatch, copier, tmp_path, library):
    monkeypatch.setenv('CXX', str(copier))
    replace, others = os.replace, []

    def replace_after_another(source, target):
        monkeypatch.setattr(os, 'replace', replace)
        others.append(cpp_build._compiled(tmp_path, threads=False))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', replace_after_another)
    assert [cpp_build._compiled(tmp_path, threads=False)] == others
    assert others[0].read_bytes() == library.read_bytes() and compilations(copier) == 2
    assert list(tmp_path.glob('native-*')) == others


@needs_a_compiler
def test_processes_that_compile_at_once(compiler, tmp_path):
    both = [start(LOAD, CXX=compiler, XDG_CACHE_HOME=tmp_path / 'cache') for _ in range(2)]
    first, second = map(output, both)
    assert first == second
    assert list(Path(first).parent.iterdir()) == [Path(first)]
    ctypes.CDLL(first)


@needs_a_compiler
def test_the_library_uses_the_threads_of_pytorch(compiler, tmp_path):
    """There is a single OpenMP runtime in the process, in which the native backend is used."""
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
    process = start(NETWORK, PATH='', XDG_CACHE_HOME=tmp_path)
    described, warned = process.communicate()
    assert process.returncode == 0, warned
    assert described.startswith('pytorch; ')
    reason = 'not native: no C++ compiler was found (c++, g++, clang++ or the one that CXX names)'
    assert reason in described
    assert warned.count('all operators run slowly in plain PyTorch: ') == warned.count(reason) == 1
    assert not list(tmp_path.rglob('*.so'))


def test_no_warning_for_a_fast_or_forced_backend(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter('error', SlowdownWarning)
        backends.usable.__wrapped__('pytorch')
        monkeypatch.setattr(native, 'why_not', lambda: None)
        backends.usable.__wrapped__()


@pytest.mark.parametrize(
    ('script', 'reason'),
    [
        ("echo 'x.cpp:1: note: here' >&2; echo 'x.cpp:1: error: sorry' >&2; exit 1", 'x.cpp:1: error: sorry'),
        ('exit 3', 'exit status 3'),
    ],
    ids=['with an error', 'silently'],
)
@pytest.mark.parametrize('fails_at', ['once', 'the sources'])
def test_the_warning_contains_the_error_of_the_compiler(monkeypatch, tmp_path, script, reason, fails_at):
    version = '[ "$1" = --version ] && exit\n' if fails_at == 'the sources' else ''
    path = write_script(tmp_path / 'broken', version + script)
    monkeypatch.setenv('CXX', str(path))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(cpp_build, '_cache_folder', cpp_build._cache_folder.__wrapped__)
    monkeypatch.setattr(native, 'load_library', cpp_build.load_library.__wrapped__)
    assert native.why_not.__wrapped__() == f'{path} failed: {reason}'
    assert not list(tmp_path.glob('cache/*/*'))
