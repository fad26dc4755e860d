"""The backend in C++ for CPUs. Maps lie in memory as channels_last has them; others are copied first."""

import ctypes
import math
from functools import cache

import torch
from torch.autograd.function import once_differentiable

from deeprftv2_plugin.ops.backends import pytorch
from deeprftv2_plugin.ops.backends.compiled import CompilerError, load_library


@cache
def why_not():
    try:
        load_library()
    except (OSError, CompilerError) as error:
        return str(error)
    return None


def takes(x):
    """Tensors with memory that C++ can read, which those of tracing and of torch.compile's shape analysis have not."""
    plain = type(x) in (torch.Tensor, torch.nn.Parameter) and not torch.jit.is_tracing()
    return plain and x.device.type == 'cpu' and x.dtype in (torch.float32, torch.bfloat16, torch.float16)


def gated_layer_norm(x, gate, weight, bias, eps):
    if not _is_float32(x):
        return pytorch.gated_layer_norm(x, gate, weight, bias, eps)
    return _GatedLayerNorm.apply(x, *(t.float() for t in (gate, weight, bias)), eps)


def simple_gate(x):
    return _SimpleGate.apply(x) if _is_float32(x) else pytorch.simple_gate(x)


def depthwise_gate(x, weight, bias):
    return _depthwise(_SimpleGate, pytorch.depthwise_gate, x, weight, bias)


def depthwise_gelu(x, weight, bias):
    return _depthwise(_Gelu, pytorch.depthwise_gelu, x, weight, bias)


def _depthwise(function, plain, x, weight, bias):
    if torch.is_autocast_enabled('cpu') or not all(map(_is_float32, (x, weight, bias))):
        return plain(x, weight, bias)  # of which autocast makes bfloat16
    return _Depthwise.apply(function, x, weight, bias)


def selective_scan(u, delta, A, B, C, D, delta_bias):
    """Registers hold 8 or 16 channels side by side; see cpp/scan.cpp."""
    if A.shape[1] > load_library().scan_most_states():
        return pytorch.selective_scan(u, delta, A, B, C, D, delta_bias)
    inputs = [t.float() for t in (u, delta, A, B, C, D, delta_bias)]
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    return _SelectiveScan.apply(keep, *inputs)


class _Gelu:
    @staticmethod
    def compute(x):
        y = torch.empty_like(x)
        _run('gelu_forward', x.numel(), x, y)
        return y

    @staticmethod
    def gradient(x, dy):
        dx = torch.empty_like(x)
        _run('gelu_backward', x.numel(), x, _channels_last(dy), dx)
        return dx


class _SimpleGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = _channels_last(x)
        ctx.save_for_backward(x)
        return _SimpleGate.compute(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        return _SimpleGate.gradient(*ctx.saved_tensors, dy)

    @staticmethod
    def compute(x):
        y = torch.empty_like(x[:, ::2], memory_format=torch.channels_last)
        _run('gate_forward', _pixels(x), y.shape[1], x, y)
        return y

    @staticmethod
    def gradient(x, dy):
        dx = torch.empty_like(x)
        _run('gate_backward', _pixels(x), dy.shape[1], x, _channels_last(dy), dx)
        return dx


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution and what follows it. The convolution is cheap, so the backward pass does it once more
    instead of keeping its result."""

    @staticmethod
    def forward(ctx, following, x, weight, bias):
        x = _channels_last(x)
        ctx.save_for_backward(x, weight, bias)
        ctx.following = following
        return following.compute(pytorch.depthwise(x, weight, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight, bias = ctx.saved_tensors
        gradient = ctx.following.gradient(pytorch.depthwise(x, weight, bias), dy)
        stride = padding = dilation = (1, 1)
        convolution = (stride, padding, dilation, False, (0, 0), x.shape[1])  # not transposed, a group for each channel
        wanted = (True, True, True)
        return None, *torch.ops.aten.convolution_backward(gradient, x, weight, bias.shape, *convolution, wanted)


class _GatedLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gate, weight, bias, eps):
        x, gate, weight, bias = _channels_last(x), _channels_last(gate), weight.contiguous(), bias.contiguous()
        ctx.save_for_backward(x, gate, weight, bias)
        ctx.eps = eps
        y = torch.empty_like(x)
        _run('gated_norm_forward', _pixels(x), x.shape[1], x, gate, weight, bias, eps, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, gate, weight, bias = ctx.saved_tensors
        dx, dgate = torch.empty_like(x), torch.empty_like(x)
        dweight, dbias = x.new_zeros(2, torch.get_num_threads(), x.shape[1])
        inputs = (x, gate, weight, bias, ctx.eps, _channels_last(dy))
        _run('gated_norm_backward', _pixels(x), x.shape[1], *inputs, dx, dgate, dweight, dbias)
        return dx, dgate, dweight.sum(0), dbias.sum(0), None


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keep, u, delta, A, B, C, D, delta_bias):
        if not u.transpose(1, 2).is_contiguous():
            u = u.contiguous()
        delta = _lying_like(u, delta)
        B, C = (t.transpose(1, 2).contiguous() for t in (B, C))
        rates, D, delta_bias = (t.contiguous() for t in (A / math.log(2), D, delta_bias))
        scan = _Scan.of(u, delta, rates, B, C, D, delta_bias)
        entries = None
        if keep:
            entries = u.new_empty(_size('scan_entries', scan))
            scan.entries = entries.data_ptr()
        y = torch.empty_like(u)
        load_library().scan_forward(ctypes.byref(scan), ctypes.c_void_p(y.data_ptr()))
        ctx.save_for_backward(u, delta, rates, B, C, D, delta_bias, entries)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        *inputs, entries = ctx.saved_tensors
        u, _, rates, B, C = inputs[:5]
        scan = _Scan.of(*inputs)
        scan.entries = entries.data_ptr()
        dy = _lying_like(u, dy)
        du, ddelta, dB, dC = map(torch.empty_like, (u, u, B, C))
        dA, dD, dbias = (u.new_empty(len(u), *shape) for shape in (rates.shape, rates.shape[:1], rates.shape[:1]))
        scratch = u.new_empty(_size('scan_scratch', scan))
        gradients = _Gradients(*(t.data_ptr() for t in (dy, du, ddelta, dB, dC, dA, dD, dbias, scratch)))
        load_library().scan_backward(ctypes.byref(scan), ctypes.byref(gradients))
        return None, du, ddelta, dA.sum(0), dB.transpose(1, 2), dC.transpose(1, 2), dD.sum(0), dbias.sum(0)


def _lying_like(u, x):
    """x in u's order of memory, which is one of two."""
    return x.contiguous() if u.is_contiguous() else x.transpose(1, 2).contiguous().transpose(1, 2)


class _Scan(ctypes.Structure):
    """`struct Scan` of cpp/scan.cpp."""

    _fields_ = [
        *((name, ctypes.c_ssize_t) for name in ('batch', 'length', 'channels', 'states', 'position', 'channel')),
        *((name, ctypes.c_void_p) for name in ('u', 'delta', 'rates', 'B', 'C', 'D', 'bias', 'entries')),
        ('threads', ctypes.c_ssize_t),
    ]

    @classmethod
    def of(cls, u, delta, rates, B, C, D, bias):
        pointers = (t.data_ptr() for t in (u, delta, rates, B, C, D, bias))
        batch, channels, length = u.shape
        position, channel = (1, length) if u.is_contiguous() else (channels, 1)
        return cls(batch, length, channels, rates.shape[1], position, channel, *pointers, None, torch.get_num_threads())


class _Gradients(ctypes.Structure):
    """`struct Gradients` of cpp/scan.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in ('dy', 'du', 'ddelta', 'dB', 'dC', 'dA', 'dD', 'dbias', 'scratch')]


def _size(name, scan):
    function = getattr(load_library(), name)
    function.restype = ctypes.c_ssize_t
    return function(ctypes.byref(scan))


def _run(name, *arguments):
    """Call a function of cpp/gates.cpp with the number of threads first."""
    kinds = {int: ctypes.c_ssize_t, float: ctypes.c_float}
    converted = (
        ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else kinds[type(a)](a)
        for a in (torch.get_num_threads(), *arguments)
    )
    getattr(load_library(), name)(*converted)


def _is_float32(x):
    return x.dtype == torch.float32


def _channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


def _pixels(x):
    return x.numel() // x.shape[1]
