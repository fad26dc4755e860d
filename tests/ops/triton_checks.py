"""Comparison of the Triton kernels with double precision, and their compilation without a GPU.

Triton decides at import whether kernels are interpreted on the CPU or compiled. `test_triton.py` therefore runs this
file as a program: once to interpret all kernels, once to compile them. On a GPU it calls the same checks directly, at
realistic sizes.
"""

import json
import re
import subprocess
import sys
import tempfile
import traceback
from contextlib import ExitStack
from importlib import import_module
from itertools import product
from pathlib import Path
from unittest import mock

import torch

from deeprftv2_plugin.ops.backends import triton as backend
from tests.ops.references import functions_of_maps, sequential

EPS = 1e-5
HALF_TYPES = {torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""The tolerance of results in these types, relative to the largest."""

SMALL_BLOCKS = {
    'gates': {'TILE': 32},
    'normalization': {'TILE': 16, 'PROGRAMS': 2},
    'depthwise': {'PATCH': 64, 'CHANNELS': 4, 'WIDTH': 4, 'PATCHES': 2},
    'scan': {'LONGEST': 8, 'SHORTEST': 8, 'CHUNK': 4, 'CARRIED': 2, 'CHANNELS': 4},
}
"""Constants of the kernels with which small inputs take several programs, tiles and segments too."""


MAPS = functions_of_maps(EPS)
REFERENCES = {**MAPS, 'selective_scan': sequential}


def forward(operation, inputs, dtype):
    if operation == 'selective_scan':
        y, entries = backend.selective_scan(*inputs, keep=False)
        assert entries.shape == (0,)
        return y
    more = (EPS, dtype) if operation.endswith('norm') else ()
    return getattr(backend, operation)(*inputs, *more)


def backward(operation, dy, inputs):
    if operation == 'selective_scan':
        _, entries = backend.selective_scan(*inputs, keep=True)
        assert entries.shape == backend.scan_entries_shape(*inputs[0].shape, inputs[2].shape[1])
        return backend.selective_scan_backward(dy, *inputs, entries)
    if operation == 'layer_norm':
        return backend.layer_norm_backward(dy, *inputs[:2], EPS)
    if operation == 'simple_gate':
        return (backend.simple_gate_backward(dy, *inputs),)
    more = (EPS,) if operation.endswith('norm') else ()
    return getattr(backend, f'{operation}_backward')(dy, *inputs, *more)


def check(operation, inputs, dtype=None, tolerance=1e-5):
    """Compare value and gradients. `dtype` is that of the value, by default that of the first input."""
    dtype = dtype or inputs[0].dtype
    doubles = [t.double().requires_grad_() for t in inputs]
    expected = REFERENCES[operation](*doubles)
    dy = draw(*expected.shape, device=expected.device, seed=7).to(dtype)
    expected_gradients = torch.autograd.grad(expected, doubles, dy.double())

    y, gradients = forward(operation, inputs, dtype), backward(operation, dy, inputs)
    assert y.dtype == dtype
    assert_close('value', y, expected, tolerance)
    for index, (gradient, of_double, given) in enumerate(zip(gradients, expected_gradients, inputs, strict=True)):
        assert gradient.dtype == given.dtype
        assert_close(f'gradient {index}', gradient, of_double, tolerance)
    results = [y, *gradients]
    assert all(t.is_contiguous(memory_format=layout(t)) for t in results)
    own = {t.untyped_storage().data_ptr() for t in results}
    assert len(own) == len(results) and own.isdisjoint(t.untyped_storage().data_ptr() for t in (dy, *inputs))


def assert_close(name, ours, expected, tolerance):
    assert ours.shape == expected.shape, name
    error, size = (ours.double() - expected).abs().max().item(), expected.abs().max().item()
    assert torch.isfinite(ours).all() and error <= tolerance * size, f'{name}: off by {error:.1e} of {size:.1e}'


def layout(t):
    """Return a copy in the usual layout: channels_last for maps, contiguous for kernels of a convolution."""
    return torch.channels_last if t.ndim == 4 and t.shape[1] > 1 else torch.contiguous_format


def draw(*shape, device='cpu', seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator).to(device)


def check_scan(
    device, length, batch=2, channels=3, states=3, decay=1.0, shift=0.0, dtype=torch.float32, tolerance=None
):
    """Check the scan. `dtype` is that of the sequences. Rates, the direct path and y are float32."""
    u, delta = (draw(batch, length, channels, device=device, seed=seed).to(dtype) for seed in (1, 2))
    B, C = (draw(batch, length, states, device=device, seed=seed).to(dtype) for seed in (3, 4))
    A = -decay * draw(channels, states, device=device, seed=5).abs().clamp(0.05, 1)
    D, bias = (draw(channels, device=device, seed=seed) for seed in (6, 7))
    tolerance = tolerance or HALF_TYPES.get(dtype, 1e-5)
    check('selective_scan', (u, delta, A, B, C, D, bias + shift), torch.float32, tolerance)


def check_strided_scan(device, length, channels=3, states=3):
    """Check the scan with B and C as parts of one tensor, and u from a map that is not in channels_last."""
    u = draw(2, channels, length, device=device).transpose(1, 2)
    delta, A = draw(2, length, channels, device=device), draw(channels, states, device=device)
    D, bias = (draw(channels, device=device, seed=seed) for seed in (6, 7))
    B, C = draw(2, length, 2 * states, device=device).chunk(2, 2)
    check('selective_scan', (u, delta, -A.abs(), B, C, D, bias))


def map_inputs(device, operation, shape, layout, dtype):
    """Return a map in a layout, or the second half of the channels of a map, and the parameters of the operation."""
    images, channels, height, width = shape
    if operation in ('simple_gate', 'depthwise_gate'):
        channels *= 2
    whole = draw(images, 2 * channels, height, width, device=device).to(dtype)
    if layout.startswith('channels last'):
        whole = whole.contiguous(memory_format=torch.channels_last)
    x = whole[:, channels:] if layout.endswith('half') else whole[:, channels:].clone()
    if operation == 'simple_gate':
        return (x,)
    bias = draw(channels, device=device, seed=1)
    if operation.startswith('depthwise'):
        return x, draw(channels, 1, 3, 3, device=device).to(dtype), bias.to(dtype)
    weight = draw(channels, device=device)
    if operation == 'layer_norm':
        return 3 * x + 1, weight, bias
    return 3 * x + 1, draw(*x.shape, device=device, seed=2).to(dtype), weight, bias


def check_map(device, operation, shape, layout='channels last', dtype=torch.float32, result=None, tolerance=1e-5):
    tolerance = max(tolerance, *(HALF_TYPES.get(t, 0) for t in (dtype, result)))
    check(operation, map_inputs(device, operation, shape, layout, dtype), result, tolerance)


# What is checked: for each name the check and its arguments

LAYOUTS = ('channels last', 'channels last half', 'contiguous')


def small_cases():
    """Return cases for the interpreter, which takes a millisecond for an operation on a few numbers."""
    yield 'scan of one position', check_scan, {'length': 1}
    yield 'scan of one segment', check_scan, {'length': 7, 'states': 8, 'batch': 1}
    yield 'scan of several segments', check_scan, {'length': 29, 'channels': 5, 'batch': 1}
    yield 'scan with one state', check_scan, {'length': 9, 'states': 1, 'channels': 1}
    yield 'scan of many sequences', check_scan, {'length': 3, 'states': 1, 'batch': 5}
    yield 'scan with many states', check_scan, {'length': 10, 'states': 35, 'channels': 2, 'batch': 1}
    yield 'strongly decaying states', check_scan, {'length': 14, 'decay': 300.0}
    yield 'nearly constant states', check_scan, {'length': 14, 'decay': 1e-4}
    # steps of 1e-13, which softplus would round to zero if it computed 1 + exp(x)
    yield 'tiny steps', check_scan, {'length': 10, 'shift': -30.0, 'tolerance': 2e-5}
    for dtype in HALF_TYPES:
        yield f'scan of {dtype}', check_scan, {'length': 11, 'dtype': dtype}
    yield 'scan of strided inputs', check_strided_scan, {'length': 11}
    for operation, layout in product(MAPS, LAYOUTS):
        yield f'{operation}, {layout}', check_map, {'operation': operation, 'shape': (1, 5, 9, 7), 'layout': layout}
    for operation in MAPS:
        yield f'{operation}, one pixel', check_map, {'operation': operation, 'shape': (1, 3, 1, 1)}
    yield from map_types((2, 3, 3, 5))


def large_cases():
    """Return cases with the sizes of the network."""
    tolerance = {'tolerance': 1e-4}
    yield 'scan', check_scan, {**tolerance, 'length': 1500, 'channels': 96, 'states': 8}
    yield 'scan of many segments', check_scan, {**tolerance, 'length': 9001, 'channels': 5, 'states': 8, 'batch': 1}
    yield 'scan with many states', check_scan, {**tolerance, 'length': 70, 'channels': 40, 'states': 35}
    yield 'strongly decaying states', check_scan, {**tolerance, 'length': 1000, 'decay': 300.0}
    yield 'nearly constant states', check_scan, {**tolerance, 'length': 1000, 'decay': 1e-4}
    yield 'tiny steps', check_scan, {**tolerance, 'length': 100, 'shift': -30.0}
    for states in (1, 3, 16, 32):
        arguments = {'length': 300, 'channels': 40, 'states': states}
        yield f'scan with {states} states', check_scan, {**tolerance, **arguments}
    for dtype in HALF_TYPES:
        yield f'scan of {dtype}', check_scan, {'length': 1000, 'channels': 96, 'states': 8, 'dtype': dtype}
    yield 'scan of strided inputs', check_strided_scan, {'length': 700}
    for operation, layout, channels in product(MAPS, LAYOUTS, (96, 768)):
        arguments = {**tolerance, 'operation': operation, 'shape': (2, channels, 64, 90), 'layout': layout}
        yield f'{operation}, {layout}, {channels} channels', check_map, arguments
    yield from map_types((2, 96, 64, 90))


def map_types(shape):
    for operation, dtype in product(MAPS, HALF_TYPES):
        yield f'{operation}, {dtype}', check_map, {'operation': operation, 'shape': shape, 'dtype': dtype}
    for operation, result in product(
        ('layer_norm', 'gated_layer_norm'), ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32))
    ):
        arguments = {'operation': operation, 'shape': shape, 'dtype': result[0], 'result': result[1]}
        yield f'{operation}, {result[0]} to {result[1]}', check_map, arguments


SMALL = {name: case for name, *case in small_cases()}
LARGE = {name: case for name, *case in large_cases()}


def interpret():
    """Run all checks. Return for each name the error, or None."""
    results = {}
    with ExitStack() as stack:
        for module, constants in SMALL_BLOCKS.items():
            kernels = import_module(f'deeprftv2_plugin.ops.backends.triton_kernels.{module}')
            stack.enter_context(mock.patch.multiple(kernels, **constants))
        for name, (function, arguments) in SMALL.items():
            try:
                function('cpu', **arguments)
                results[name] = None
            except Exception:
                results[name] = traceback.format_exc()
    return results


def compile_all():
    """Compile the kernels of all operations. Return for each the number of bytes that a thread spills."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import JITFunction, driver

    class Driver:
        """A fake GPU. Launches are replaced with compilation, so nothing else is needed."""

        def __init__(self, capability):
            self.capability = capability

        def get_current_device(self):
            return self.capability  # the index by which Triton caches compiled kernels

        def get_current_stream(self, device):
            return 0

        def get_current_target(self):
            return GPUTarget('cuda', self.capability, 32)

    spilled = {}
    launch = JITFunction.run

    def compile_instead(self, *args, grid, warmup, **options):
        kernel = launch(self, *args, grid=grid, warmup=True, **options)
        name = f'{self.fn.__module__}.{self.fn.__name__}, sm_{driver.active.capability}'
        spilled[name] = max(spilled.get(name, 0), stack_bytes(kernel.asm['cubin']))

    with mock.patch.object(JITFunction, 'run', compile_instead):
        for capability, dtype in {75: torch.float16, 80: torch.bfloat16, 90: torch.float32}.items():
            driver.set_active(Driver(capability))
            for operation in MAPS:
                inputs = map_inputs('cpu', operation, (1, 96, 8, 8), 'channels last', dtype)
                backward(operation, forward(operation, inputs, dtype), inputs)
            u, B, A, D = (torch.zeros(shape) for shape in ((1, 64, 96), (1, 64, 8), (96, 8), (96,)))
            inputs = (u.to(dtype), u.to(dtype), A, B.to(dtype), B.to(dtype), D, D)
            backward('selective_scan', forward('selective_scan', inputs, dtype), inputs)
    return spilled


def stack_bytes(binary):
    import triton

    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(binary)
        file.flush()
        tool = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
        text = subprocess.run([tool, '-res-usage', file.name], capture_output=True, text=True, check=True).stdout
    return int(re.search(r'STACK:(\d+)', text)[1])


if __name__ == '__main__':
    json.dump({'interpret': interpret, 'compile': compile_all}[sys.argv[1]](), sys.stdout)
