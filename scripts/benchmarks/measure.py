"""Times, the rates they are compared with, and memory; all of the process that measures."""

import ctypes
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F

YARD_FLOP = 8 * 2 * 9 * 64 * 64 * 256 * 256
SECONDS = 10  # of measured runs for a case whose LEAST runs take less
LEAST, MOST = 3, 30

Work = list[tuple[float, float]]
"""The floating-point operations and the bytes read and written, of every product by itself."""


def figures(setting, run: Callable[[], object], work: Work = (), dtype: torch.dtype = torch.float32) -> dict:
    """Time of a call beside the yard of this process, its floor, and its memory.

    Args:
        setting: The `Setting`.
        run: What is measured; everything that it needs exists before.
        work: What it has to compute at least.
        dtype: Type in which the products of `work` run.
    """
    reference = _rates(dtype) if setting.device == 'cuda' else _yard_rates(setting)
    memory = Memory(setting.device)
    found = median_time(run, setting.device, *((0, 1) if setting.quick else (SECONDS, LEAST)))
    found |= memory.used() | reference
    if 'yard_seconds' in found:
        found['yards'] = found['seconds'] / found['yard_seconds']
    if work:
        found['multiply_adds'] = sum(flop for flop, _ in work) / 2
        found['floor_seconds'] = floor(work, found['flop_per_second'], found.get('bytes_per_second', math.inf))
        found['floor_ratio'] = found['seconds'] / found['floor_seconds']
    return found


def floor(work: Work, flop_per_second: float, bytes_per_second: float = math.inf) -> float:
    """Seconds that products take one after the other if each runs at the rate of what bounds it."""
    return sum(max(flop / flop_per_second, size / bytes_per_second) for flop, size in work)


def median_time(run: Callable[[], object], device: str, seconds: float = SECONDS, least: int = LEAST) -> dict:
    """Median over at least `least` runs, more while `seconds` are not over, after one run to warm up."""
    seconds_of(run, device)
    times = []
    while len(times) < least or (sum(times) < seconds and len(times) < MOST):
        times.append(seconds_of(run, device))
    return {'seconds': statistics.median(times), 'fastest': min(times), 'runs': len(times)}


def yard(least: int = 3) -> float:
    """Median time of eight convolutions of 3x3 from 64 to 64 channels on 1x64x256x256 in float32: 38.7 GFLOP."""
    x, weight = torch.randn(1, 64, 256, 256), torch.randn(64, 64, 3, 3) / 24

    def run():
        y = x
        for _ in range(8):
            y = F.conv2d(y, weight, padding=1)

    with torch.no_grad():
        return median_time(run, 'cpu', 0, least)['seconds']


class Memory:
    """Peak memory from here on: of the process, or on CUDA of what PyTorch has allocated on the GPU."""

    def __init__(self, device: str):
        self.cuda = device == 'cuda'
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            _forget_peak()
            self.before = _status('VmRSS')

    def used(self) -> dict:
        """The peak, and by how much it exceeds what was in use at the beginning."""
        # ru_maxrss of a process begins with the peak of the one that started it, Linux' VmHWM does not
        peak = torch.cuda.max_memory_allocated() if self.cuda else _status('VmHWM') or _largest_resident_size()
        return {'peak_bytes': peak, 'increase_bytes': None if self.before is None else peak - self.before}


def _forget_peak():
    """Give freed memory back, and let the kernel count the peak anew, where these are possible."""
    if hasattr(libc := ctypes.CDLL(None), 'malloc_trim'):
        libc.malloc_trim(0)
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return


def _status(name):
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{name}:')), None)


def _largest_resident_size():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def seconds_of(run: Callable[[], object], device: str) -> float:
    """Wall-clock time of one call; on CUDA until the GPU is done."""
    if device == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _yard_rates(setting):
    seconds = yard(1 if setting.quick else 3)
    return {'yard_seconds': seconds, 'flop_per_second': YARD_FLOP / seconds}


def _rates(dtype):
    """Operations a second of a large matrix product and bytes a second of a large copy, read and written."""
    n = 8192
    a, b = (torch.randn(n, n, device='cuda', dtype=dtype) for _ in range(2))
    product = median_time(lambda: a @ b, 'cuda', 1)['seconds']
    source = torch.empty(2**28, device='cuda', dtype=torch.float32)
    target = torch.empty_like(source)
    copy = median_time(lambda: target.copy_(source), 'cuda', 1)['seconds']
    return {'flop_per_second': 2 * n**3 / product, 'bytes_per_second': 2 * size_of([source]) / copy}


def size_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)
