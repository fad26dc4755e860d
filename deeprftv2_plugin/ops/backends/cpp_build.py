"""Compiling the C++ of `cpp/` with the machine's own compiler, at first use and once for all later ones."""

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

from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import SlowdownWarning
from deeprftv2_plugin.utils.temporary import remove_abandoned, temporary_folder

SOURCES = Path(__file__).with_name('cpp')
FLAGS = (
    *('-O3', '-ffp-contract=fast', '-fno-math-errno'),
    *('-fno-exceptions', '-fno-rtti', '-std=c++14', '-fPIC'),
)
TIME_LIMIT = 300
"""Seconds that the compiler may take. It takes about five on one core, and much longer on a busy machine."""


class CompilerError(Exception):
    """There is no compiler, or what it said."""


@cache
def load_library() -> ctypes.CDLL:
    """The compiled functions. They share PyTorch's threads.

    Raises:
        CompilerError: There is no compiler, or it fails.
        OSError: What it made cannot be loaded.
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
    except OSError:  # the cache may be mounted without permission to execute
        with temporary_folder() as folder:
            return ctypes.CDLL(str(shutil.copy(library, folder)))


def _openmp_of_torch():
    """The OpenMP runtime that PyTorch has loaded; a second one beside it would fight it for the cores."""
    maps = Path('/proc/self/maps')
    lines = maps.read_text().splitlines() if maps.exists() else []
    names = ('libgomp', 'libiomp', 'libomp')
    return next((line.split(maxsplit=5)[-1] for line in lines if line.rpartition('/')[2].startswith(names)), None)


def _compiled(folder, threads):
    """The path of the shared library, compiled where the folder has none for this source, compiler and processor."""
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
        # without the compiler's own libraries: OpenMP's functions are to be those of the runtime already loaded
        _output([compiler, '-shared', '-nostdlib', *objects.values(), '-o', str(linked)])
        content = linked.read_bytes()
    library = folder / f'{name}-{_digest(content)}.so'
    write_whole(library, content)
    return library


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


def _is_intact(library):
    """Whether a library was written by this user, and has the content whose digest is in its name."""
    with contextlib.suppress(FileNotFoundError):  # another process may have removed it
        status = library.lstat()
        if stat.S_ISREG(status.st_mode) and _belongs_to_user(status):
            return library.stem.rpartition('-')[2] == _digest(library.read_bytes())
    return False


def _belongs_to_user(status):
    return not hasattr(os, 'geteuid') or status.st_uid == os.geteuid()


def _output(*commands):
    """What the first command prints. All run at once, and none outlives this function.

    Raises:
        CompilerError: A command fails, or they take too long.
    """
    environment = os.environ | {'LC_ALL': 'C'}  # messages in English, of which the error is picked out
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
    """Kill a running compiler with the processes that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, 'killpg') else process.kill()


def _processor():
    """What tells processors apart that a home folder may be shared by."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    kept = (line for line in lines if line.startswith(('model name', 'flags', 'Features')))
    return '\n'.join((platform.machine(), platform.processor(), *dict.fromkeys(kept)))


@cache
def _cache_folder():
    """The private folder for compiled libraries, with the user's other caches; None if there cannot be one."""
    try:
        given = os.environ.get('XDG_CACHE_HOME', '')  # by its specification, relative paths are ignored
        folder = Path(given if os.path.isabs(given) else Path.home() / '.cache', 'deeprftv2_plugin')
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = folder.resolve()
        if hasattr(os, 'geteuid'):
            _check_private(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # the latter where a user has no home
        warnings.warn(f'the CPU operators are compiled at every start: {error}', SlowdownWarning, stacklevel=2)
        return None


def _check_private(folder):
    """Refuse a folder in which others can place a library, which this user would then run."""
    status = folder.stat()
    if not _belongs_to_user(status):
        raise PermissionError(f'the cache {folder} belongs to another user. Set XDG_CACHE_HOME to a folder of yours')
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f'the cache {folder} is open to other users. Close it: chmod 700 {folder}')
