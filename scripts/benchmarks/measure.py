"""Measurement of the time, operations and memory of cases."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from deeprftv2_plugin.comparison.measurement import PeakMemory, size_of, tensors, time_of
from deeprftv2_plugin.comparison.processes import in_new_process

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
        return {'label': self.label, 'case': self.key, **in_new_process(self._figures, setting)}

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
