"""Compiling the C++ of `cpp/` with the machine's own compiler, at first use and once for all later ones."""

import atexit
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).with_name('cpp')
FLAGS = (
    *('-O3', '-ffp-contract=fast', '-fno-math-errno'),
    *('-fno-exceptions', '-fno-rtti', '-std=c++14', '-fPIC'),
)


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
    return ctypes.CDLL(str(_compiled(threads=openmp is not None)))


def _openmp_of_torch():
    """The OpenMP runtime that PyTorch has loaded; a second one beside it would fight it for the cores."""
    maps = Path('/proc/self/maps')
    lines = maps.read_text().splitlines() if maps.exists() else []
    names = ('libgomp', 'libiomp', 'libomp')
    return next((line.split(maxsplit=5)[-1] for line in lines if line.rpartition('/')[2].startswith(names)), None)


def _compiled(threads):
    """The path of the shared library, compiled where none is kept for this source, compiler and processor."""
    compiler = shutil.which(os.environ.get('CXX') or 'c++') or shutil.which('g++') or shutil.which('clang++')
    if compiler is None:
        raise CompilerError('no C++ compiler was found (c++, g++, clang++ or the one that CXX names)')
    this_processor = '-march=native' if platform.machine() in ('x86_64', 'AMD64') else '-mcpu=native'
    flags = (*FLAGS, this_processor, *(('-fopenmp',) if threads else ()))
    version = _output([compiler, '--version'])
    sources = sorted(SOURCES.iterdir())
    key = '\n'.join((*(source.read_text('utf-8') for source in sources), *flags, compiler, version, _processor()))
    library = _cache_folder() / f'native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so'
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            linked = Path(folder, 'native.so')
            objects = {source: f'{folder}/{source.stem}.o' for source in sources if source.suffix == '.cpp'}
            commands = ([compiler, *flags, '-c', str(source), '-o', target] for source, target in objects.items())
            with ThreadPoolExecutor() as pool:
                list(pool.map(_output, commands))
            # without the compiler's own libraries: OpenMP's functions are to be those of the runtime already loaded
            _output([compiler, '-shared', '-nostdlib', *objects.values(), '-o', str(linked)])
            linked.replace(library)
    return library


def _output(command):
    environment = os.environ | {'LC_ALL': 'C'}  # messages in English, of which the error is picked out
    result = subprocess.run(
        command, capture_output=True, encoding='utf-8', errors='replace', stdin=subprocess.DEVNULL, env=environment
    )
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if 'error' in line] or [f'exit status {result.returncode}']
        raise CompilerError(f'{command[0]} failed: {lines[0]}')
    return result.stdout


def _processor():
    """What tells processors apart that a home folder may be shared by."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    kept = (line for line in lines if line.startswith(('model name', 'flags', 'Features')))
    return '\n'.join((platform.machine(), platform.processor(), *dict.fromkeys(kept)))


@cache
def _cache_folder():
    """Where compiled libraries are kept: with the user's other caches, or for this process alone."""
    try:
        folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'deeprftv2_plugin')
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # the latter where a user has no home
        kept = tempfile.TemporaryDirectory(prefix='deeprftv2_plugin-')
        atexit.register(kept.cleanup)
        return Path(kept.name)
