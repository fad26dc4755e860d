"""Multiply-adds of a network: those of its products, and of its scans 4.5 for every position, channel and state."""

import os
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.measure import Work, size_of
from deeprftv2_plugin.ops.backends import VARIABLE

TRAINING = 3
"""Training costs this many times the evaluation: every product again for either of its factors' gradients. What a
reversible column computes once more is not counted: that is a choice, not a need."""


def work_of(
    build: Callable[[], nn.Module], *shapes: tuple[int, ...], training: bool = False, itemsize: int = 4
) -> Work:
    """What one call of a network on pictures of these shapes has to compute; nothing is computed for it.

    Args:
        build: Makes the network.
        shapes: Shapes of its inputs.
        training: Count the backward pass as well.
        itemsize: Bytes of a number.
    """
    network, counter = build().eval(), _Products()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), counter:
        network(*map(torch.empty, shapes))
    times = TRAINING if training else 1
    return [(times * flop, times * size * itemsize / 4) for flop, size in counter.work]


def scan_work(batch: int, channels: int, states: int, length: int) -> tuple[float, float]:
    """Operations of a selective scan, and the bytes of its sequences in float32."""
    return 9 * batch * channels * states * length, 4 * batch * length * (3 * channels + 2 * states)


@contextmanager
def forced(backend: str):
    """Compute with this backend."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


class _Products(TorchDispatchMode):
    """Collects the operators with a formula as they are dispatched: products, convolutions, scans, whole branches."""

    def __init__(self):
        super().__init__()
        self.work = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            flop = flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
            self.work.append((flop, size_of(t for t in tree_leaves((args, kwargs, out)) if torch.is_tensor(t))))
        return out
