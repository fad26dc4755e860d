"""The kernels in Triton against double precision.

Triton decides when it is imported whether it interprets kernels on the CPU. All checks therefore run in one process of
their own, which this file is the program of; on a GPU they run again here, at realistic sizes.
"""

import importlib
import itertools
import json
import os
import subprocess
import sys
import traceback
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from deeprftv2_plugin.ops.backends import pytorch
from deeprftv2_plugin.ops.backends import triton as backend
from tests.ops.references import NAMES, sequential

ROOT = Path(__file__).parents[2]
CPU, GPU = torch.device('cpu'), torch.device('cuda')
FORMATS = {'contiguous': torch.contiguous_format, 'channels last': torch.channels_last}
HALF_TYPES = {torch.bfloat16: 2e-2, torch.float16: 4e-3}


# Tools of the checks


def draw(*shape, device, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator).to(device)


def assert_close(name, ours, expected, tolerance):
    error, size = (ours.double() - expected).abs().max().item(), expected.abs().max().item()
    assert torch.isfinite(ours).all() and error <= tolerance * size, f'{name}: off by {error:.1e} of {size:.1e}'


def compare(ours, reference, args, names, tolerance=1e-5, weight=None):
    """Values and all gradients of `ours` against `reference` in float64, relative to the largest."""
    args = [arg.detach().requires_grad_() for arg in args]
    args64 = [arg.detach().double().requires_grad_() for arg in args]
    y, y64 = ours(*args), reference(*args64)
    assert_close('value', y, y64, tolerance)
    weight = draw(*y.shape, device=y.device, seed=7) if weight is None else weight
    grads = torch.autograd.grad(y, args, weight.to(y.dtype))
    grads64 = torch.autograd.grad(y64, args64, weight.double())
    for name, arg, grad, grad64 in zip(names, args, grads, grads64, strict=True):
        assert grad.dtype == arg.dtype and grad.shape == arg.shape
        assert_close(f'gradient by {name}', grad, grad64, tolerance)
    return y, grads


@contextmanager
def setting(module, **values):
    """Constants of a module of kernels, changed for a while: the sizes that need them otherwise are too large here."""
    module = importlib.import_module(f'deeprftv2_plugin.ops.backends.triton_kernels.{module}')
    before = {name: getattr(module, name) for name in values}
    try:
        vars(module).update(values)
        yield
    finally:
        vars(module).update(before)


# The scan


def scan_arguments(device, length, batch=2, channels=3, states=3, decay=1.0, dtype=torch.float32):
    def random(*shape, seed):
        return draw(*shape, device=device, seed=seed)

    u, delta = (random(batch, channels, length, seed=seed).to(dtype) for seed in (1, 2))
    B, C = (random(batch, states, length, seed=seed).to(dtype) for seed in (3, 4))
    A = -decay * random(channels, states, seed=5).abs().clamp(0.05, 1)
    return u, delta, A, B, C, random(channels, seed=6), random(channels, seed=7)


def scan(segment):
    def run(*args):
        from deeprftv2_plugin.ops.backends.triton_kernels.scan import selective_scan

        return selective_scan(*args, segment=segment)

    return run


def check_scan(device, length, segment=128, reference=sequential, tolerance=1e-5, **sizes):
    y, _ = compare(scan(segment), reference, scan_arguments(device, length, **sizes), NAMES, tolerance)
    assert y.dtype == torch.float32


def check_scan_in_parts(device, **sizes):
    """Several tiles a program, and the states carried on over several times two segments."""
    with setting('scan', PROGRAMS=1, CARRIED=2):
        check_scan(device, **sizes)


def check_scan_of_half_precision(device, dtype, **sizes):
    check_scan(device, dtype=dtype, tolerance=HALF_TYPES[dtype], **sizes)


def check_scan_of_strided_inputs(device, length, segment, channels=3):
    u, delta, A, B, C, D, bias = scan_arguments(device, length, channels=channels)
    both = torch.cat([B, C], 1).transpose(1, 2).contiguous().transpose(1, 2)
    B, C = both.chunk(2, 1)
    u = torch.cat([u, u], 1).chunk(2, 1)[1]
    delta = delta.transpose(0, 2).contiguous().transpose(0, 2)
    weight = torch.ones(1, device=device).expand(u.shape)
    compare(scan(segment), sequential, (u, delta, A, B, C, D, bias), NAMES, weight=weight)


def check_scan_of_tiny_steps(device, length, segment):
    """Steps of 1e-13: a softplus through 1 + exp(x) makes zeros of them, and of the gradients by them."""
    args = list(scan_arguments(device, length))
    args[5], args[6] = torch.zeros_like(args[5]), torch.full_like(args[6], -30.0)
    compare(scan(segment), sequential, args, NAMES, tolerance=2e-5)


# Maps


def part_of_map(device, images, channels, height, width, layout):
    """A map in a memory format, as it comes or as the second half of the channels of another, or transposed."""
    if layout == 'transposed':
        return draw(images, channels, width, height, device=device).transpose(2, 3)
    format = FORMATS[layout.removesuffix(' half')]
    if not layout.endswith('half'):
        return draw(images, channels, height, width, device=device).contiguous(memory_format=format)
    whole = draw(images, 2 * channels, height, width, device=device).contiguous(memory_format=format)
    return whole.chunk(2, 1)[1]


def map_arguments(device, operation, shape, layout):
    images, channels, height, width = shape
    if operation in ('simple_gate', 'depthwise_gate'):
        channels *= 2
    x = part_of_map(device, images, channels, height, width, layout)
    if operation == 'simple_gate':
        return (x,), ('x',)
    if operation.startswith('depthwise'):
        weights = draw(channels, 1, 3, 3, device=device), draw(channels, device=device, seed=1)
        return (x, *weights), ('x', 'weight', 'bias')
    weights = draw(channels, device=device), draw(channels, device=device, seed=1)
    if operation == 'layer_norm':
        return (3 * x + 1, *weights), ('x', 'weight', 'bias')
    # The network's gates are halves; one of another format is brought into that of x.
    gate = part_of_map(device, images, channels, height, width, 'contiguous half')
    if layout.startswith('channels last'):
        gate = part_of_map(device, images, channels, height, width, 'channels last half')
    return (x, gate, *weights), ('x', 'gate', 'weight', 'bias')


def check_map(device, operation, shape, layout='contiguous', dtype=None, autocast=None, tolerance=1e-5):
    """`dtype` is that of the maps only: weights stay in float32."""
    args, names = map_arguments(device, operation, shape, layout)
    if dtype:
        args = [arg.to(dtype) if arg.ndim == 4 and arg.shape[1] > 1 else arg for arg in args]

    def run(implementation):
        eps = (1e-5,) if operation.endswith('norm') else ()
        return lambda *tensors: getattr(implementation, operation)(*tensors, *eps)

    def ours(*tensors):
        with torch.autocast(device.type, autocast) if autocast else nullcontext():
            return run(backend)(*tensors)

    y, grads = compare(ours, run(pytorch), args, names, HALF_TYPES.get(dtype or autocast, tolerance))
    # The product alone has no autocast of its own, as in PyTorch.
    assert y.dtype == (autocast if autocast and operation != 'simple_gate' else dtype or torch.float32)
    if layout.startswith('channels last'):
        assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (y, grads[0]))
    elif layout.startswith('contiguous'):
        assert y.is_contiguous() and grads[0].is_contiguous()


def check_map_in_parts(device, operation, shape, layout):
    """Several tiles a program, several strips a map."""
    with setting('normalisation', PROGRAMS=2), setting('depthwise', ROWS=2):
        check_map(device, operation, shape, layout)


OPERATIONS = ('layer_norm', 'gated_layer_norm', 'simple_gate', 'depthwise_gate', 'depthwise_gelu')
LAYOUTS = ('contiguous', 'channels last', 'contiguous half', 'channels last half', 'transposed')

# What is checked: for each name the check and its arguments.


def small_cases():
    """Sizes for the interpreter, which takes a millisecond for the work of a few elements."""
    several = {'length': 21, 'segment': 8}
    yield 'scan of one position', check_scan, {'length': 1, 'channels': 5}
    yield 'scan of one segment', check_scan, {'length': 13, 'states': 8, 'batch': 1}
    yield 'scan of several segments', check_scan, {'length': 33, 'segment': 8, 'channels': 5, 'batch': 1}
    yield 'scan with one state', check_scan, {'length': 9, 'segment': 4, 'states': 1, 'batch': 3}
    yield 'strongly decaying states', check_scan, {**several, 'decay': 300.0}
    yield 'nearly constant states', check_scan, {**several, 'decay': 1e-4}
    yield 'several tiles a program', check_scan_in_parts, {**several, 'channels': 6}
    for dtype in HALF_TYPES:
        yield f'scan of {dtype}', check_scan_of_half_precision, {'length': 11, 'segment': 8, 'dtype': dtype}
    yield 'scan of strided inputs', check_scan_of_strided_inputs, {'length': 11, 'segment': 8}
    yield 'scan of tiny steps', check_scan_of_tiny_steps, {'length': 11, 'segment': 8}
    for operation, layout in itertools.product(OPERATIONS, LAYOUTS):
        arguments = {'operation': operation, 'shape': (2, 5, 4, 7), 'layout': layout}
        yield f'{operation}, {layout}', check_map_in_parts, arguments
    for layout in FORMATS:
        arguments = {'operation': 'depthwise_gelu', 'shape': (1, 3, 2, 131), 'layout': layout}
        yield f'wide map, {layout}', check_map, arguments
    for operation in OPERATIONS:
        yield f'{operation}, one pixel', check_map, {'operation': operation, 'shape': (1, 3, 1, 1)}
    yield from map_types((1, 3, 3, 5))


def large_cases():
    """Sizes that the network has."""
    tolerance = {'tolerance': 1e-4}
    chunked = {**tolerance, 'states': 8, 'reference': pytorch.selective_scan}
    yield 'scan', check_scan, {**tolerance, 'length': 1500, 'channels': 96, 'states': 8}
    yield 'long scan', check_scan, {**chunked, 'length': 150_001, 'channels': 8, 'batch': 1}
    yield 'wide scan', check_scan, {**chunked, 'length': 4096, 'channels': 384, 'batch': 4}
    yield 'strongly decaying states', check_scan, {**tolerance, 'length': 1000, 'decay': 300.0}
    yield 'nearly constant states', check_scan, {**tolerance, 'length': 1000, 'decay': 1e-4}
    for dtype in HALF_TYPES:
        yield f'scan of {dtype}', check_scan_of_half_precision, {'length': 1000, 'dtype': dtype}
    yield 'scan of strided inputs', check_scan_of_strided_inputs, {'length': 700, 'segment': 128, 'channels': 96}
    yield 'scan of tiny steps', check_scan_of_tiny_steps, {'length': 100, 'segment': 128}
    for operation, layout, channels in itertools.product(OPERATIONS, LAYOUTS, (96, 768)):
        arguments = {**tolerance, 'operation': operation, 'shape': (2, channels, 64, 90), 'layout': layout}
        yield f'{operation}, {layout}, {channels} channels', check_map, arguments
    yield from map_types((2, 96, 64, 90))


def map_types(shape):
    for operation, layout in itertools.product(OPERATIONS, FORMATS):
        arguments = {'operation': operation, 'shape': shape, 'layout': layout}
        for dtype in HALF_TYPES:
            yield f'{operation}, {layout}, {dtype}', check_map, {**arguments, 'dtype': dtype}
        yield f'{operation}, {layout}, autocast', check_map, {**arguments, 'autocast': torch.bfloat16}


SMALL = {name: case for name, *case in small_cases()}
LARGE = {name: case for name, *case in large_cases()}


def main():
    """Run all checks; write for each name what went wrong or null."""
    results = {}
    for name, (check, arguments) in SMALL.items():
        try:
            check(CPU, **arguments)
            results[name] = None
        except Exception:
            results[name] = traceback.format_exc()
    json.dump(results, sys.stdout)


@pytest.fixture(scope='module')
def results():
    pytest.importorskip('triton')
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize('name', SMALL)
def test_interpreted(name, results):
    assert results[name] is None, results[name]


@pytest.mark.gpu
@pytest.mark.parametrize('name', LARGE)
def test_on_a_gpu(name):
    check, arguments = LARGE[name]
    check(GPU, **arguments)


def test_says_why_it_cannot_be_used(monkeypatch):
    monkeypatch.setattr(backend, 'find_spec', lambda name: None)
    backend.why_not.cache_clear()
    assert 'not installed' in backend.why_not()
    monkeypatch.undo()
    backend.why_not.cache_clear()


def test_the_package_is_imported_without_triton():
    code = 'import sys, deeprftv2_plugin.ops.backends.triton as t; t.why_not(); assert "triton" not in sys.modules'
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    subprocess.run([sys.executable, '-c', code], env=environment, check=True, cwd=ROOT)


if __name__ == '__main__':
    main()
