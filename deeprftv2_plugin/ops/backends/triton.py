"""The backend in Triton: fused kernels for NVIDIA (and other) GPUs, compiled when they are first used."""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch

OLDEST = (7, 0)
BFLOAT16_SINCE = (8, 0)


@cache
def why_not():
    if find_spec('triton') is None:
        return 'the package triton is not installed'
    if _interpreted():
        return None
    if not torch.cuda.is_available():
        return 'its kernels need a GPU, and PyTorch finds none (TRITON_INTERPRET=1 runs them on the CPU, very slowly)'
    if (found := torch.cuda.get_device_capability()) < OLDEST:
        return 'its kernels need a GPU of compute capability {}.{} or newer, this one has {}.{}'.format(*OLDEST, *found)
    return None


def takes(x):
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    if _interpreted():
        return x.is_cuda or x.device.type == 'cpu'
    return x.is_cuda and (x.dtype != torch.bfloat16 or torch.cuda.get_device_capability(x.device) >= BFLOAT16_SINCE)


def selective_scan(u, delta, A, B, C, D, delta_bias):
    return _kernels('scan').selective_scan(u, delta, A, B, C, D, delta_bias)


def layer_norm(x, weight, bias, eps):
    return _kernels('normalisation').layer_norm(x, None, weight, bias, eps)


def gated_layer_norm(x, gate, weight, bias, eps):
    return _kernels('normalisation').layer_norm(x, gate, weight, bias, eps)


def simple_gate(x):
    return _kernels('gates').simple_gate(x)


def depthwise_gate(x, weight, bias):
    return _kernels('depthwise').depthwise(x, weight, bias, gate=True)


def depthwise_gelu(x, weight, bias):
    return _kernels('depthwise').depthwise(x, weight, bias, gate=False)


def _interpreted():
    return os.environ.get('TRITON_INTERPRET') == '1'


@cache
def _kernels(name):
    """A module of kernels, imported as late as this because it imports the package triton."""
    return import_module(f'{__package__}.triton_kernels.{name}')
