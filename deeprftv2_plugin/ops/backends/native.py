"""The C++ backend for CPUs: float32 feature maps in channels_last, and sequences with the positions first."""

import ctypes
import functools
import math
import struct

import torch
from torch import Tensor

from deeprftv2_plugin.ops.backends import pytorch
from deeprftv2_plugin.ops.backends.cpp_build import CompilerError, load_library

GRAIN = 8192
"""Number of input elements per additional thread. Processing them takes about as long as waking up a thread."""


@functools.cache
def why_not() -> str | None:
    try:
        load_library()
    except (OSError, CompilerError) as error:
        return str(error)
    return None


def takes(x: Tensor) -> bool:
    """Return whether x is a float on the CPU. The scan converts half precision; maps are passed on to `pytorch`."""
    return x.device.type == 'cpu' and x.dtype in (torch.float32, torch.bfloat16, torch.float16)


def _for_float32(function):
    """Pass inputs of other types to the function of the same name in the backend `pytorch`."""

    @functools.wraps(function)
    def call(*args):
        if all(a.dtype == torch.float32 for a in args if isinstance(a, Tensor)):
            return function(*args)
        return getattr(pytorch, function.__name__)(*args)

    return call


def layer_norm(x, weight, bias, eps, dtype):
    if x.dtype != torch.float32:
        return pytorch.layer_norm(x, weight, bias, eps, dtype)
    return _norm(x, None, weight, bias, eps).to(dtype)


def layer_norm_backward(dy, x, weight, eps):
    if x.dtype != torch.float32:
        return pytorch.layer_norm_backward(dy, x, weight, eps)
    dx, _, dweight, dbias = _norm_backward(dy, x, None, weight, None, eps)
    return dx, dweight.to(weight.dtype), dbias.to(weight.dtype)


def gated_layer_norm(x, gate, weight, bias, eps, dtype):
    if x.dtype != torch.float32:
        return pytorch.gated_layer_norm(x, gate, weight, bias, eps, dtype)
    return _norm(x, _rows(gate), weight, bias, eps).to(dtype)


def gated_layer_norm_backward(dy, x, gate, weight, bias, eps):
    if x.dtype != torch.float32:
        return pytorch.gated_layer_norm_backward(dy, x, gate, weight, bias, eps)
    dx, dgate, dweight, dbias = _norm_backward(dy, x, _rows(gate), weight, bias, eps)
    return dx, dgate.to(gate.dtype), dweight.to(weight.dtype), dbias.to(weight.dtype)


def _norm(x, gate, weight, bias, eps):
    x = _rows(x)
    y = torch.empty_like(x)
    sizes = _threads(x), _pixels(x), x.shape[1]
    _run('norm_forward', *sizes, x, gate, *_values(weight, bias), eps, y)
    return y


def _norm_backward(dy, x, gate, weight, bias, eps):
    dy, x = _rows(dy), _rows(x)
    weight, bias = _values(weight, bias)
    dx, dgate = torch.empty_like(x), None if gate is None else torch.empty_like(x)
    dweight, dbias = torch.empty_like(weight), torch.empty_like(weight)
    sizes = _threads(x), _pixels(x), x.shape[1]
    _run('norm_backward', *sizes, dy, x, gate, weight, bias, eps, dx, dgate, dweight, dbias)
    return dx, dgate, dweight, dbias


@_for_float32
def simple_gate(x):
    x = _rows(x)
    y = _map_like(x, x.shape[1] // 2)
    _run('gate_forward', _threads(x), _pixels(x), y.shape[1], x, y)
    return y


@_for_float32
def simple_gate_backward(dy, x):
    dy, x = _rows(dy), _rows(x)
    dx = torch.empty_like(x)
    _run('gate_backward', _threads(x), _pixels(x), dy.shape[1], dy, x, dx)
    return dx


@_for_float32
def depthwise_gate(x, weight, bias):
    return _convolution('gated', 2, x, None, None, None, None, weight, bias, 0.0)


@_for_float32
def depthwise_gate_backward(dy, x, weight, bias):
    return _present(_convolution_backward('gated', 2, dy, x, None, None, None, None, weight, bias, 0.0))


@_for_float32
def depthwise_gelu(x, weight, bias):
    return _convolution('gelu', 1, x, None, None, None, None, weight, bias, 0.0)


@_for_float32
def depthwise_gelu_backward(dy, x, weight, bias):
    return _present(_convolution_backward('gelu', 1, dy, x, None, None, None, None, weight, bias, 0.0))


def gated_convolution(x, norm_weight, norm_bias, expand_weight, expand_bias, weight, bias, eps):
    return _convolution('gated', 2, x, norm_weight, norm_bias, expand_weight, expand_bias, weight, bias, eps)


def gated_convolution_backward(dy, x, norm_weight, norm_bias, expand_weight, expand_bias, weight, bias, eps):
    return _convolution_backward(
        'gated', 2, dy, x, norm_weight, norm_bias, expand_weight, expand_bias, weight, bias, eps
    )


def gelu_convolution(x, norm_weight, norm_bias, expand_weight, weight, bias, eps):
    return _convolution('gelu', 1, x, norm_weight, norm_bias, expand_weight, None, weight, bias, eps)


def gelu_convolution_backward(dy, x, norm_weight, norm_bias, expand_weight, weight, bias, eps):
    return _present(
        _convolution_backward('gelu', 1, dy, x, norm_weight, norm_bias, expand_weight, None, weight, bias, eps)
    )


def _convolution(name, parts, x, *parameters_and_eps):
    x, parameters = _rows(x), _values(*parameters_and_eps[:-1])
    y = _map_like(x, len(parameters[-1]) // parts)
    _run(f'{name}_convolution_forward', _convolution_record(x, y, parameters, parameters_and_eps[-1]), y)
    return y


def _convolution_backward(name, parts, dy, x, *parameters_and_eps):
    dy, x, parameters = _rows(dy), _rows(x), _values(*parameters_and_eps[:-1])
    gradients = tuple(None if t is None else torch.empty_like(t) for t in (x, *parameters))
    record = _convolution_record(x, dy, parameters, parameters_and_eps[-1])
    _run(f'{name}_convolution_backward', record, (dy, *gradients))
    return gradients


def _convolution_record(x, y, parameters, eps):
    images, channels, height, width = x.shape
    return _threads(x), images, height, width, channels, y.shape[1], x, *parameters, eps


def gated_feed_forward(x, norm_weight, norm_bias, expand_weight, expand_bias, project_weight, project_bias, eps):
    x = _rows(x)
    parameters = _values(norm_weight, norm_bias, expand_weight, expand_bias, project_weight, project_bias)
    y = torch.empty_like(x)
    _run('feed_forward_forward', (_threads(x), _pixels(x), *project_weight.shape, x, *parameters, eps), y)
    return y


def gated_feed_forward_backward(
    dy, x, norm_weight, norm_bias, expand_weight, expand_bias, project_weight, project_bias, eps
):
    dy, x = _rows(dy), _rows(x)
    parameters = _values(norm_weight, norm_bias, expand_weight, expand_bias, project_weight, project_bias)
    gradients = tuple(map(torch.empty_like, (x, *parameters)))
    record = (_threads(x), _pixels(x), *project_weight.shape, x, *parameters, eps)
    _run('feed_forward_backward', record, (dy, *gradients))
    return gradients


def normed_gate_projection(
    y, x, norm_weight, norm_bias, gate_weight, out_norm_weight, out_norm_bias, out_weight, residual, eps, out_eps
):
    y, x, residual = map(_rows, (y, x, residual))
    parameters = _values(norm_weight, norm_bias, gate_weight, out_norm_weight, out_norm_bias, out_weight)
    z = torch.empty_like(residual)
    record = (_threads(x), _pixels(x), *out_weight.shape, y, x, *parameters, eps, out_eps)
    _run('gate_projection_forward', record, residual, z)
    return z


def normed_gate_projection_backward(
    dz, y, x, norm_weight, norm_bias, gate_weight, out_norm_weight, out_norm_bias, out_weight, eps, out_eps
):
    dz, y, x = map(_rows, (dz, y, x))
    parameters = _values(norm_weight, norm_bias, gate_weight, out_norm_weight, out_norm_bias, out_weight)
    gradients = tuple(map(torch.empty_like, (y, x, *parameters)))
    record = (_threads(x), _pixels(x), *out_weight.shape, y, x, *parameters, eps, out_eps)
    _run('gate_projection_backward', record, (dz, *gradients))
    return gradients


def selective_scan(u, delta, A, B, C, D, delta_bias, keep):
    if not _scans(A.shape[1]):
        return pytorch.selective_scan(u, delta, A, B, C, D, delta_bias, keep)
    u, delta, A, B, C, D, delta_bias = _values(u, delta, A, B, C, D, delta_bias)
    entries = u.new_empty(scan_entries_shape(*u.shape, A.shape[1]) if keep else 0)
    y = torch.empty_like(u)
    _run('scan_forward', _scan_record(u, delta, A, B, C, D, delta_bias, entries if keep else None), y)
    return y, entries


def selective_scan_backward(dy, u, delta, A, B, C, D, delta_bias, entries):
    if not _scans(A.shape[1]):
        return pytorch.selective_scan_backward(dy, u, delta, A, B, C, D, delta_bias, entries)
    inputs = (u, delta, A, B, C, D, delta_bias)
    dy, *converted = _values(dy, *inputs)
    du, ddelta, _, dB, dC, _, _ = map(torch.empty_like, converted)
    dA, dD, dbias = (dy.new_empty(len(u), *t.shape) for t in (A, D, delta_bias))  # summed over the batch below
    _run('scan_backward', _scan_record(*converted, entries), (dy, du, ddelta, dB, dC, dA, dD, dbias))
    gradients = (du, ddelta, dA.sum(0), dB, dC, dD.sum(0), dbias.sum(0))
    return tuple(gradient.to(t.dtype) for gradient, t in zip(gradients, inputs, strict=True))


def scan_entries_shape(batch: int, length: int, channels: int, states: int) -> tuple[int, ...]:
    if not _scans(states):
        return pytorch.scan_entries_shape(batch, length, channels, states)
    library = load_library()
    chunks, blocks = -(-length // library.scan_chunk()), -(-channels // library.scan_padding())
    return batch, chunks, states, blocks * library.scan_padding()


def _scans(states):
    return states <= load_library().scan_most_states()


def _scan_record(u, delta, A, B, C, D, delta_bias, entries):
    rates = A / math.log(2)  # the kernels compute powers of two
    return *u.shape, A.shape[1], u, delta, rates, B, C, D, delta_bias, entries, _threads(u)


def _run(name, *arguments):
    """Call a function of the library. A tuple is passed as a pointer to a struct."""
    getattr(load_library(), name)(*map(_argument, arguments))


def _argument(value):
    if isinstance(value, tuple):
        layout = ''.join('n' if isinstance(v, int) else 'f' if isinstance(v, float) else 'P' for v in value)
        return struct.pack(layout, *(v if isinstance(v, (int, float)) else _address(v) for v in value))
    if isinstance(value, int):
        return ctypes.c_ssize_t(value)
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_void_p(_address(value))


def _address(tensor):
    return 0 if tensor is None else tensor.data_ptr()


def _threads(x):
    """Return the number of threads to use for a map or sequence of x's size."""
    return max(1, min(torch.get_num_threads(), x.numel() // GRAIN))


def _rows(x):
    """Return a map in the layout that the kernels read: one row per pixel."""
    return x.float().contiguous(memory_format=torch.channels_last)


def _values(*tensors):
    """Return other tensors in the layout that the kernels read."""
    return [None if t is None else t.float().contiguous() for t in tensors]


def _present(tensors):
    return tuple(t for t in tensors if t is not None)


def _map_like(x, channels):
    images, _, height, width = x.shape
    return x.new_empty(images, height, width, channels).permute(0, 3, 1, 2)


def _pixels(x):
    return x.numel() // x.shape[1]
