"""Compile the C++ code in `cpp/` at first use, and cache the result."""

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path

from deeprftv2_plugin.utils.errors import SlowdownWarning
from deeprftv2_plugin.utils.temporary import remove_abandoned, temporary_folder

SOURCES = Path(__file__).with_name('cpp')
FLAGS = (
    *('-O3', '-ffp-contract=fast', '-fno-math-errno'),
    *('-fno-exceptions', '-fno-rtti', '-std=c++14', '-fPIC'),
)
TIME_LIMIT = 300
"""Maximum time of a compilation in seconds. It takes about five on one core, and much longer on a busy machine."""


class CompilerError(Exception):
    """There is no compiler, or it failed."""


@cache
def load_library() -> ctypes.CDLL:
    """Return the compiled functions, which share PyTorch's threads.

    Raises:
        CompilerError: There is no compiler, or it fails.
        OSError: The compiled library cannot be loaded.
    """
    openmp = _openmp_of_torch()
    if openmp:
        ctypes.CDLL(openmp, mode=ctypes.RTLD_GLOBAL)
    cache_folder = _cache_folder()
    if cache_folder is None:
        with temporary_folder() as folder:
            return ctypes.CDLL(str(_compiled(folder, threads=openmp is not None)))
    library = _compiled(cache_folder, threads=openmp is not None)
    try:
        return ctypes.CDLL(str(library))
    except OSError:  # the cache may be on a file system mounted with noexec
        with temporary_folder() as folder:
            return ctypes.CDLL(str(shutil.copy(library, folder)))


def _openmp_of_torch():
    """Return the OpenMP runtime that PyTorch has loaded. A second one would compete with it for the cores."""
    maps = Path('/proc/self/maps')
    lines = maps.read_text().splitlines() if maps.exists() else []
    names = ('libgomp', 'libiomp', 'libomp')
    return next((line.split(maxsplit=5)[-1] for line in lines if line.rpartition('/')[2].startswith(names)), None)


def _compiled(folder, threads):
    """Return the path of the shared library. It is compiled if not cached for the source, compiler and processor."""
    compiler = shutil.which(os.environ.get('CXX') or 'c++') or shutil.which('g++') or shutil.which('clang++')
    if compiler is None:
        raise CompilerError('no C++ compiler was found (c++, g++, clang++ or the one that CXX names)')
    this_processor = '-march=native' if platform.machine() in ('x86_64', 'AMD64') else '-mcpu=native'
    flags = (*FLAGS, this_processor, *(('-fopenmp',) if threads else ()))
    version = _output([compiler, '--version'])
    sources = sorted(SOURCES.iterdir())
    key = '\n'.join((*(source.read_text('utf-8') for source in sources), *flags, compiler, version, _processor()))
    name = f'native-{_digest(key.encode())}'
    remove_abandoned(folder)
    for library in sorted(folder.glob(f'{name}-*.so')):
        if _is_intact(library):
            return library
        library.unlink(missing_ok=True)
    with temporary_folder(folder) as build:
        linked = build / 'native.so'
        objects = {source: f'{build}/{source.stem}.o' for source in sources if source.suffix == '.cpp'}
        _output(*([compiler, *flags, '-c', str(source), '-o', target] for source, target in objects.items()))
        # not linked to the compiler's OpenMP, since the runtime that is already loaded must be used
        _output([compiler, '-shared', '-nostdlib', *objects.values(), '-o', str(linked)])
        library = folder / f'{name}-{_digest(linked.read_bytes())}.so'
        os.replace(linked, library)  # a file of this process alone, since others may be compiling the same library
    return library


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _is_intact(library):
    """Return whether a library was written by this user, and its content matches the digest in its name."""
    with contextlib.suppress(FileNotFoundError):  # another process may have removed it
        status = library.lstat()
        if stat.S_ISREG(status.st_mode) and _belongs_to_user(status):
            return library.stem.rpartition('-')[2] == _digest(library.read_bytes())
    return False


def _belongs_to_user(status):
    return not hasattr(os, 'geteuid') or status.st_uid == os.geteuid()


def _output(*commands):
    """Run commands in parallel, wait for all of them, and return the output of the first one.

    Raises:
        CompilerError: A command fails, or the time limit is exceeded.
    """
    environment = os.environ | {'LC_ALL': 'C'}  # English messages, to find the error
    end = time.monotonic() + TIME_LIMIT
    with contextlib.ExitStack() as stack:
        processes = []
        for command in commands:
            streams = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
            text = {'encoding': 'utf-8', 'errors': 'replace'}
            process = subprocess.Popen(command, **streams, **text, env=environment, start_new_session=True)
            processes.append(stack.enter_context(process))
            stack.callback(_kill, process)
        try:
            outputs = [process.communicate(timeout=max(0, end - time.monotonic())) for process in processes]
        except subprocess.TimeoutExpired:
            raise CompilerError(f'{commands[0][0]} did not finish in {TIME_LIMIT} seconds') from None
    for process, (_, messages) in zip(processes, outputs, strict=True):
        if process.returncode:
            errors = [line for line in messages.splitlines() if 'error' in line]
            raise CompilerError(f'{process.args[0]} failed: {(errors or [f"exit status {process.returncode}"])[0]}')
    return outputs[0][0]


def _kill(process):
    """Kill a running compiler and the processes that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, 'killpg') else process.kill()


def _processor():
    """Describe the processor, since machines with different processors may share a home folder."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    kept = (line for line in lines if line.startswith(('model name', 'flags', 'Features')))
    return '\n'.join((platform.machine(), platform.processor(), *dict.fromkeys(kept)))


@cache
def _cache_folder():
    """Return the private folder for compiled libraries in the user's cache folder, or None if it cannot be used."""
    try:
        given = os.environ.get('XDG_CACHE_HOME', '')  # the XDG specification says to ignore relative paths
        folder = Path(given if os.path.isabs(given) else Path.home() / '.cache', 'deeprftv2_plugin')
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        if hasattr(os, 'geteuid'):
            _check_private(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError if the user has no home folder
        warnings.warn(f'the CPU operators are compiled at every start: {error}', SlowdownWarning, stacklevel=2)
        return None


def _check_private(folder):
    """Refuse a folder in which other users could place a library that this process would execute."""
    status = folder.stat()
    if not _belongs_to_user(status):
        raise PermissionError(f'the cache {folder} belongs to another user. Set XDG_CACHE_HOME to a folder of your own')
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f'the cache {folder} is accessible to other users. Close it: chmod 700 {folder}')
