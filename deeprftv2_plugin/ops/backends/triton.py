"""The Triton backend: fused kernels for NVIDIA and other GPUs, compiled at first use.

It has the functions described in `deeprftv2_plugin.ops.backends`, for float32, bfloat16 and float16.
"""

import os
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from deeprftv2_plugin.utils.errors import describe_error

OLDEST_VERSION = (3, 2)
OLDEST_CAPABILITY = (7, 0)
BFLOAT16_SINCE = (8, 0)


@cache
def why_not() -> str | None:
    """Return why kernels cannot run on this machine, as the end of a sentence, or None if they can.

    This runs a small kernel, since the package can be imported even without a working compiler.
    """
    if find_spec('triton') is None:
        return 'the package triton is not installed'
    if _interpreted():
        return None
    if not torch.cuda.is_available():
        return 'its kernels need a GPU, but PyTorch finds none (TRITON_INTERPRET=1 runs them on the CPU, very slowly)'
    if (found := torch.cuda.get_device_capability()) < OLDEST_CAPABILITY:
        oldest, present = ('.'.join(map(str, capability)) for capability in (OLDEST_CAPABILITY, found))
        return f'its kernels need a GPU of compute capability {oldest} or newer, but this one has {present}'
    try:
        return _try_a_kernel()
    except Exception as error:  # another backend is used after any failure
        return f'its kernels do not run on this machine ({describe_error(error)})'


def _try_a_kernel():
    import triton

    if tuple(map(int, triton.__version__.split('.')[:2])) < OLDEST_VERSION:
        oldest = '.'.join(map(str, OLDEST_VERSION))
        return f'its kernels need triton {oldest} or newer, but {triton.__version__} is installed'
    x = torch.arange(1.0, 9.0, device='cuda').view(1, 2, 2, 2)
    first, second = x.chunk(2, dim=1)
    if not torch.equal(simple_gate(x), first * second):
        return 'its kernels give wrong results on this machine'
    return None


def takes(x: Tensor) -> bool:
    """Return whether the kernels support x's device and dtype."""
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    if _interpreted():
        return x.device.type in ('cpu', 'cuda')
    if x.device.type != 'cuda':
        return False
    return x.dtype != torch.bfloat16 or torch.cuda.get_device_capability(x.device) >= BFLOAT16_SINCE


def _interpreted():
    return os.environ.get('TRITON_INTERPRET') == '1'


def _run(module, function, x, *arguments, **settings):
    """Call a function of a module of kernels on x's device. Triton launches kernels on the current device."""
    with torch.cuda.device_of(x):
        return getattr(_kernels(module), function)(x, *arguments, **settings)


@cache
def _kernels(name) -> ModuleType:
    """Return a module of kernels. It is imported here because it imports triton."""
    return import_module(f'{__package__}.triton_kernels.{name}')


def _with_backward(module, function):
    """Return a function of a module of kernels, and that of its backward pass."""
    return partial(_run, module, function), partial(_run, module, f'{function}_backward')


layer_norm, layer_norm_backward = _with_backward('normalization', 'layer_norm')
gated_layer_norm, gated_layer_norm_backward = _with_backward('normalization', 'gated_layer_norm')
simple_gate, simple_gate_backward = _with_backward('gates', 'simple_gate')
depthwise_gate, depthwise_gate_backward = _with_backward('depthwise', 'depthwise_gate')
depthwise_gelu, depthwise_gelu_backward = _with_backward('depthwise', 'depthwise_gelu')
selective_scan, selective_scan_backward = _with_backward('scan', 'selective_scan')


def scan_entries_shape(batch: int, length: int, channels: int, states: int) -> tuple[int, ...]:
    return _kernels('scan').scan_entries_shape(batch, length, channels, states)
