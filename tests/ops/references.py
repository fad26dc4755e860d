"""References for the operations, and the backends that are compared with them."""

from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from deeprftv2_plugin import ops
from deeprftv2_plugin.ops import backends

NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'delta_bias')
"""The arguments of the scan."""


def sequential(u, delta, A, B, C, D, delta_bias):
    """Compute the recurrence of the scan position by position."""
    step = F.softplus(delta + delta_bias)
    h, y = u.new_zeros(len(u), *A.shape), []
    for t in range(u.shape[1]):
        h = torch.exp(step[:, t, :, None] * A) * h + step[:, t, :, None] * B[:, t, None] * u[:, t, :, None]
        y.append((h * C[:, t, None]).sum(-1) + D * u[:, t])
    return torch.stack(y, 1)


def norm(x, weight, bias, eps):
    return F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, eps).permute(0, 3, 1, 2)


def gate(x):
    first, second = x.chunk(2, 1)
    return first * second


def depthwise(x, weight, bias):
    return F.conv2d(x, weight, bias, padding=1, groups=x.shape[1])


def functions_of_maps(eps):
    """Return the operators of maps in plain PyTorch by name; the normalizations add eps to the variance."""
    return {
        'layer_norm': lambda x, weight, bias: norm(x, weight, bias, eps),
        'gated_layer_norm': lambda x, opening, weight, bias: norm(x, weight, bias, eps) * F.gelu(opening),
        'simple_gate': gate,
        'depthwise_gate': lambda x, weight, bias: gate(depthwise(x, weight, bias)),
        'depthwise_gelu': lambda x, weight, bias: F.gelu(depthwise(x, weight, bias)),
    }


class Backend(NamedTuple):
    """A backend with the device and dtype to test."""

    name: str
    device: str
    dtype: torch.dtype
    tolerance: float
    """Of errors, relative to the largest number of a tensor."""

    @property
    def module(self):
        return import_module(f'deeprftv2_plugin.ops.backends.{self.name}')

    def __call__(self, operation, *args):
        """Call the operator of that name, which runs on this backend because of the fixture in conftest.py."""
        if reason := self.module.why_not():
            pytest.skip(f'{self.name}: {reason}')
        assert backends.choose(operation, args[0]) is getattr(self.module, operation)
        return getattr(ops, operation)(*args)

    def inputs(self, tensors):
        """Return copies for this backend that keep the memory layout and require gradients."""
        return [_copy(t, t.dtype if t.dtype.itemsize < 4 else self.dtype, self.device) for t in tensors]


def _copy(t, dtype, device):
    whole = t if t._base is None else t._base
    copy = whole.detach().to(device, dtype, copy=True)
    return copy.as_strided(t.shape, t.stride(), t.storage_offset()).requires_grad_()


BACKENDS = (
    Backend('pytorch', 'cpu', torch.float64, 1e-12),
    Backend('pytorch', 'cpu', torch.float32, 1e-5),
    Backend('native', 'cpu', torch.float32, 1e-5),
    Backend('triton', 'cuda', torch.float32, 1e-4),
)


def backends_with(operation, **attributes):
    """Return the backends that have an operation and these attributes as parameters for pytest."""
    return [
        pytest.param(
            backend,
            id=f'{backend.name} {str(backend.dtype).removeprefix("torch.")}',
            marks=[pytest.mark.gpu] if backend.device == 'cuda' else [],
        )
        for backend in BACKENDS
        if hasattr(backend.module, operation)
        and all(getattr(backend, name) == value for name, value in attributes.items())
    ]


def value_and_gradients(function, args, weight):
    y = function(*args)
    return y.detach(), *torch.autograd.grad(y, args, weight.to(y))


def assert_close(names, ours, expected, tolerance):
    """Assert that tensors equal the expected ones, up to an error relative to their largest number."""
    for name, a, b in zip(names, ours, expected, strict=True):
        assert a.shape == b.shape and torch.isfinite(a).all(), name
        error, size = (a.cpu().double() - b).abs().max().item(), b.abs().max().item()
        assert error <= tolerance * size + 1e-30, f'{name}: off by {error:.1e} of {size:.1e}'


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
