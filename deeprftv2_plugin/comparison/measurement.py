"""Measure time and memory."""

import ctypes
import datetime
import functools
import gc
import importlib
import importlib.util
import math
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import Timer

from deeprftv2_plugin.ops import backends
from deeprftv2_plugin.version import __version__


def time_of(run: Callable[[], object], seconds: float) -> dict:
    """Time a function after a warm-up run.

    Args:
        run: The function.
        seconds: Minimum total time in seconds; at least four runs are timed. 0 to time a single run.

    Returns:
        The median and the minimum in seconds under 'seconds' and 'fastest', and the number of runs under 'runs'.
    """
    # timeit disables garbage collection, which runs during training
    timer = Timer('run()', 'gc.enable()', globals={'run': run, 'gc': gc}, num_threads=torch.get_num_threads())
    if seconds:
        found = timer.adaptive_autorange(math.inf, min_run_time=seconds, max_run_time=math.inf)
    else:
        found = timer.blocked_autorange(min_run_time=0)
    return {'seconds': found.median, 'fastest': min(found.times), 'runs': len(found.times)}


class PeakMemory:
    """Measure the peak memory since the creation of the object: of the process, or on CUDA of PyTorch's allocations.

    Args:
        device: 'cpu' or 'cuda'.
    """

    def __init__(self, device: str):
        self.cuda = torch.device(device).type == 'cuda'
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before: int | None = torch.cuda.memory_allocated()
            return
        with suppress(OSError, TypeError, AttributeError):  # glibc only
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):  # Linux only
            Path('/proc/self/clear_refs').write_text('5')
        self.before = _resident('VmRSS')

    def used(self) -> dict:
        """Return the peak and the increase over the memory at the start, in bytes; None where unknown."""
        # not ru_maxrss, which a process inherits from its parent
        peak = torch.cuda.max_memory_allocated() if self.cuda else _resident('VmHWM')
        increase = None if peak is None or self.before is None else peak - self.before
        return {'peak_bytes': peak, 'increase_bytes': increase}


def _resident(name):
    status = Path('/proc/self/status')
    if status.exists() and (found := re.search(rf'{name}:\s*(\d+)', status.read_text())):
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    return largest if name == 'VmHWM' else None


def training_step(network: nn.Module, blurry: Tensor, bf16: bool = False, fused: bool = True) -> Callable[[], None]:
    """Return a function that runs one training step: forward pass, L1 loss of all outputs, backward pass, AdamW.

    Args:
        network: The network. It is set to training mode.
        blurry: Images (N, C, H, W) on the device of the network.
        bf16: Whether to run the network under bfloat16 autocast.
        fused: Whether to use the fused implementation of AdamW.
    """
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=fused)
    sharp = functools.cache(lambda shape: torch.rand(shape, device=blurry.device))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(blurry.device.type, torch.bfloat16, enabled=bf16):
            losses = [F.l1_loss(image.float(), sharp(image.shape)) for image in tensors(network(blurry))]
        torch.stack(losses).sum().backward()
        optimizer.step()

    return step


def tensors(tree: object) -> list[Tensor]:
    """Return the tensors in nested lists, tuples and dictionaries."""
    return [leaf for leaf in tree_leaves(tree) if torch.is_tensor(leaf)]


def size_of(tensors: Iterable[Tensor]) -> int:
    """Return the total size of tensors in bytes."""
    return sum(t.nbytes for t in tensors)


def machine(device: str) -> dict[str, Any]:
    """Describe the hardware and software that the figures are measured with."""
    triton = importlib.import_module('triton').__version__ if importlib.util.find_spec('triton') else None
    info = Path('/proc/cpuinfo')
    model = re.search(r'^model name\s*: (.+)', info.read_text('utf-8') if info.exists() else '', re.MULTILINE)
    return {
        'date': datetime.datetime.now().astimezone().isoformat(timespec='seconds'),
        'device': device,
        'gpu': torch.cuda.get_device_name() if torch.device(device).type == 'cuda' else None,
        'cpu': model[1].strip() if model else platform.processor() or platform.machine(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'triton': triton,
        'deeprftv2_plugin': __version__,
        'backends': backends.describe(),
    }
