"""Measurement of the time, operations and memory of cases."""

import ctypes
import functools
import gc
import itertools
import math
import re
import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import flop_registry

from deeprftv2_plugin.utils.errors import UserError

YARD_FLOP = 8 * 2 * 9 * 64 * 64 * 256 * 256
SECONDS = 8
"""Time in seconds for which a case is repeated."""
QUICK = {'variant': ['T'], 'size': [32], 'arch': ['DeepRFTv2:variant=T']}
TRAINING = 3
"""Ratio of the operations of a training step to those of an evaluation: each product recurs for the gradients of both
factors. The recomputation of reversible columns is not counted."""

Work = list[tuple[float, float]]
"""Floating-point operations, and bytes read and written, of each product."""


@dataclass(frozen=True)
class Setting:
    """The command line options that change cases. `chosen` are values of their arguments."""

    device: str = 'cpu'
    quick: bool = False
    chosen: Mapping[str, Sequence] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One row of the table. `run(setting, **key)` returns its figures. Without names, `default` cases are measured."""

    run: Callable[..., dict]
    key: dict
    default: bool = False

    @property
    def label(self) -> str:
        words = []
        for name, value in self.key.items():
            word = name.replace('_', ' ')
            words.append(f'{"" if value else "not "}{word}' if isinstance(value, bool) else f'{word} {value}')
        return ', '.join(words)

    def measure(self, setting: Setting) -> dict:
        """Return the figures from a new process, or the reason why there are none under 'skipped' or 'error'."""
        with ProcessPoolExecutor(1, get_context('spawn')) as pool:
            try:
                found = pool.submit(self._figures, setting).result()
            except BrokenProcessPool:
                found = {'error': 'the process was killed, most likely because memory ran out'}
        return {'label': self.label, 'case': self.key, **found}

    def _figures(self, setting):
        torch.manual_seed(0)
        if setting.device == 'cpu':
            _yard(setting.quick)  # first, since memory that the allocator holds makes it a quarter faster
        try:
            return self.run(setting, **self.key)
        except Skip as reason:
            return {'skipped': str(reason)}
        except ModuleNotFoundError as error:
            kind = 'error' if error.name.startswith('deeprftv2_plugin') else 'skipped'
            return {kind: f'{error.name} is not installed: pip install -e .[bench]'}
        except UserError as error:
            return {'error': str(error)}
        except Exception as error:  # continue with the other cases
            return {'error': f'{type(error).__name__}: {str(error).partition(chr(10))[0]}'}


class Skip(Exception):
    """A case cannot be measured on this machine. The message says why and what to do."""


def grid(
    setting: Setting, run: Callable[..., dict], default: Callable[..., bool] | bool = False, **axes: Sequence
) -> list[Case]:
    """Return a case for every combination of arguments. The command line may choose other values."""
    chosen = (QUICK if setting.quick else {}) | setting.chosen
    axes = {name: chosen.get(name, values) for name, values in axes.items()}
    keys = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return [Case(run, key, default(**key) if callable(default) else default) for key in keys]


def figures(
    setting: Setting,
    run: Callable[[], object],
    work: Work = (),
    dtype: torch.dtype = torch.float32,
    seconds: float = SECONDS,
) -> dict:
    """Return the time and memory of a call, the yard of this process, and the floor of `work` computed in `dtype`."""
    reference = _rates(dtype) if setting.device == 'cuda' else _yard(setting.quick)
    memory = PeakMemory(setting.device)
    found = time_of(run, 0 if setting.quick else seconds) | memory.used() | reference
    if 'yard_seconds' in found:
        found['yards'] = found['seconds'] / found['yard_seconds']
    if work:
        found['multiply_adds'] = sum(flop for flop, _ in work) / 2
        found['floor_seconds'] = floor(work, found['flop_per_second'], found.get('bytes_per_second', math.inf))
        found['floor_ratio'] = found['seconds'] / found['floor_seconds']
    return found


def time_of(run: Callable[[], object], seconds: float) -> dict:
    """Return the median time of at least four runs and `seconds`, or of one if `seconds` is 0, after a warm-up run."""
    # timeit disables garbage collection, training does not
    timer = Timer('run()', 'gc.enable()', globals={'run': run, 'gc': gc}, num_threads=torch.get_num_threads())
    if seconds:
        found = timer.adaptive_autorange(math.inf, min_run_time=seconds, max_run_time=math.inf)
    else:
        found = timer.blocked_autorange(min_run_time=0)
    return {'seconds': found.median, 'fastest': min(found.times), 'runs': len(found.times)}


def floor(work: Work, flop_per_second: float, bytes_per_second: float = math.inf) -> float:
    """Return the time in seconds of consecutive products, each of which is limited by operations or by memory."""
    return sum(max(flop / flop_per_second, size / bytes_per_second) for flop, size in work)


def work_of(
    build: Callable[[], nn.Module], *shapes: tuple[int, ...], training: bool = False, itemsize: int = 4
) -> Work:
    """Count the work of one call of a network on inputs of these shapes, without computing anything."""
    network, counter = build().eval(), _Products()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), counter:
        network(*map(torch.empty, shapes))
    times = TRAINING if training else 1
    return [(times * flop, times * size * itemsize / 4) for flop, size in counter.work]


class _Products(TorchDispatchMode):
    """A FlopCounterMode that records each operator, such as products, convolutions, scans and whole branches."""

    def __init__(self):
        super().__init__()
        self.work = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if count := flop_registry.get(func._overloadpacket):
            self.work.append((count(*args, **kwargs, out_val=out), size_of(tensors((args, kwargs, out)))))
        return out


class PeakMemory:
    """Peak memory since the creation of this object: of the process, or of PyTorch's allocations on CUDA."""

    def __init__(self, device: str):
        self.cuda = device == 'cuda'
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        if hasattr(libc := ctypes.CDLL(None), 'malloc_trim'):
            libc.malloc_trim(0)
        with suppress(OSError):
            Path('/proc/self/clear_refs').write_text('5')
        self.before = _resident('VmRSS')

    def used(self) -> dict:
        """Return the peak, and the increase over the memory in use at the beginning."""
        # unlike VmHWM, ru_maxrss of a process starts with the peak of its parent
        peak = torch.cuda.max_memory_allocated() if self.cuda else _resident('VmHWM')
        return {'peak_bytes': peak, 'increase_bytes': None if self.before is None else peak - self.before}


def _resident(name):
    status = Path('/proc/self/status')
    if status.exists() and (found := re.search(rf'{name}:\s*(\d+)', status.read_text())):
        return int(found[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    return largest if name == 'VmHWM' else None


def forward(setting: Setting, build: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> dict:
    """Return the figures of a module on inputs of these shapes, without gradients."""
    module = build().to(setting.device).eval()
    inputs = [torch.rand(shape, device=setting.device) for shape in shapes]
    with torch.no_grad():
        return figures(setting, lambda: module(*inputs), work_of(build, *shapes))


@functools.cache
def _yard(quick):
    x, weight = torch.randn(1, 64, 256, 256), torch.randn(64, 64, 3, 3) / 24

    def run():
        y = x
        for _ in range(8):
            y = F.conv2d(y, weight, padding=1)

    with torch.no_grad():
        seconds = time_of(run, 0 if quick else 1)['seconds']
    return {'yard_seconds': seconds, 'flop_per_second': YARD_FLOP / seconds}


def _rates(dtype):
    """Return the operations per second of a large matrix product, and the bytes per second of a large copy."""
    n = 8192
    a, b = (torch.randn(n, n, device='cuda', dtype=dtype) for _ in range(2))
    source, target = (torch.empty(2**28, device='cuda') for _ in range(2))
    product, copy = time_of(lambda: a @ b, 1)['seconds'], time_of(lambda: target.copy_(source), 1)['seconds']
    return {'flop_per_second': 2 * n**3 / product, 'bytes_per_second': 2 * size_of([source]) / copy}


def tensors(tree: object) -> list[torch.Tensor]:
    """Return the tensors in nested lists, tuples and dictionaries."""
    return [leaf for leaf in tree_leaves(tree) if torch.is_tensor(leaf)]


def size_of(tensors: Iterable[torch.Tensor]) -> int:
    """Return the size of tensors in bytes."""
    return sum(t.nbytes for t in tensors)
