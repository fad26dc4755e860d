"""Count the operations of a network: products, Fourier transforms and scans."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

import deeprftv2_plugin.ops  # noqa: F401  # registers the operators

COMPLEX = 5
"""Operations of a complex transform of N values, divided by N log2 N. A real transform takes half. Frigo and Johnson,
"The Design and Implementation of FFTW3", Proceedings of the IEEE 2005, section V."""
PRODUCT = 6
"""Operations of a complex multiplication."""


class Operations(NamedTuple):
    """Multiply-adds of one forward pass: operations divided by two."""

    products: float
    """Convolutions and matrix products with weights, which most papers count."""
    attention: float
    """Products of two activations, as in attention, which many counters leave out."""
    fourier: float
    """Fourier transforms."""
    scans: float
    """Selective scans."""
    uncounted: tuple[str, ...] = ()
    """Operators of other packages without a formula."""

    @property
    def total(self) -> float:
        """The sum."""
        return self.products + self.attention + self.fourier + self.scans


def count_operations(net: nn.Module, height: int, width: int) -> Operations:
    """Count the multiply-adds for one RGB image on fake tensors, without computing values.

    Args:
        net: A network on the CPU. It is set to evaluation mode.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Raises:
        Exception: The network depends on the values of its tensors. Use `count_in_pass` instead.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        return count_in_pass(net, torch.empty(1, 3, height, width))


def count_in_pass(net: nn.Module, x: Tensor) -> Operations:
    """Count the multiply-adds of a forward pass on images (N, 3, H, W) while it runs. Sets the evaluation mode."""
    net.eval()
    with torch.no_grad(), _Counter() as counter:
        net(x)
    halves = {kind: flop / 2 for kind, flop in counter.flop.items()}
    return Operations(**halves, uncounted=tuple(sorted(counter.uncounted)))


def _transformed(shape: torch.Size, dims: list[int]) -> float:
    """Return the operations of complex transforms over some dimensions of a tensor of this shape."""
    length = math.prod(shape[dim] for dim in dims)
    return COMPLEX * math.prod(shape) * math.log2(length) if length else 0


def _half_spectrum(x: Tensor, *_: Any) -> float:
    return _transformed(x.shape, [2, 3]) / 2


def _spectral_filter(x: Tensor, transfer: Tensor, *_: Any) -> float:
    return 2 * _half_spectrum(x) + PRODUCT * transfer.numel() / 2


_aten, _own = torch.ops.aten, torch.ops.deeprftv2
FOURIER: dict[Any, Callable[..., float]] = {
    _aten._fft_c2c: lambda x, dim, *_, out: _transformed(x.shape, dim),
    _aten._fft_r2c: lambda x, dim, *_, out: _transformed(x.shape, dim) / 2,
    _aten._fft_c2r: lambda x, dim, *_, out: _transformed(out.shape, dim) / 2,
    _own.half_spectrum: lambda *args, out: _half_spectrum(*args),
    _own.spectral_filter: lambda *args, out: _spectral_filter(*args),
}
SCANS = (_own.selective_scan,)
BATCHED = (_aten.bmm, _aten.baddbmm)
"""Products of two activations, in addition to the fused attention operators."""
COUNTED = ('aten', 'prim', 'prims', 'deeprftv2', 'profiler')
"""Namespaces whose operators have formulas or take few operations."""


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.flop, self.uncounted = dict.fromkeys(Operations._fields[:-1], 0.0), set[str]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in FOURIER:
            self.flop['fourier'] += FOURIER[packet](*args, out=out)
        elif 'scaled_dot_product' in func.name():
            self.flop['attention'] += sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
        elif packet in flop_registry:
            self.flop[_kind(packet)] += flop_registry[packet](*args, **kwargs, out_val=out)
        elif func.namespace not in COUNTED:
            self.uncounted.add(func.name())
        return out


def _kind(packet):
    return 'scans' if packet in SCANS else 'attention' if packet in BATCHED else 'products'
