"""Comparison of gates and normalizations of every backend with plain PyTorch in float64, and of that with formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from deeprftv2_plugin import ops
from tests.ops.references import assert_close, backends_with, threads, value_and_gradients

EPS = 1e-5
INPUTS = {
    'layer_norm': ('x', 'weight', 'bias'),
    'gated_layer_norm': ('x', 'gate', 'weight', 'bias'),
    'simple_gate': ('x',),
    'depthwise_gate': ('x', 'weight', 'bias'),
    'depthwise_gelu': ('x', 'weight', 'bias'),
}
LAYOUTS = {
    'contiguous': lambda t: t.contiguous(),
    'channels last': lambda t: t.contiguous(memory_format=torch.channels_last),
    'half of contiguous': lambda t: torch.cat([t, t], 1).chunk(2, 1)[1],
    'half of channels last': lambda t: LAYOUTS['channels last'](torch.cat([t, t], 1)).chunk(2, 1)[1],
    'part of a larger map': lambda t: F.pad(t, (1, 2, 3, 1))[..., 3:-1, 1:-2],
    'transposed': lambda t: t.mT.contiguous().mT,
}


def parameters(operations=INPUTS, **attributes):
    """Return operations with all backends that have them."""
    pairs = [(operation, each) for operation in operations for each in backends_with(operation, **attributes)]
    return pytest.mark.parametrize(
        ('operation', 'backend'),
        [pytest.param(name, *each.values, id=f'{name} {each.id}', marks=each.marks) for name, each in pairs],
    )


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def arguments(operation, images, channels, height, width, layout='contiguous'):
    """Return random arguments. `channels` is the number of channels of the result."""
    if operation in ('simple_gate', 'depthwise_gate'):
        channels *= 2
    maps = {name: LAYOUTS[layout](draw(images, channels, height, width, seed=ord(name[0]))) for name in ('x', 'gate')}
    weight = draw(channels, 1, 3, 3) if operation.startswith('depthwise') else draw(channels)
    values = maps | {'weight': weight, 'bias': draw(channels, seed=1)}
    return [values[name] for name in INPUTS[operation]]


def run(operation, implementation):
    """Return the implementation as a function that only takes tensors."""
    return lambda *args: implementation(*args, EPS) if operation.endswith('norm') else implementation(*args)


def reference(operation, args, weight):
    """Return the result of plain PyTorch in float64, for which it is the only backend."""
    doubles = [t.detach().double().requires_grad_() for t in args]
    return value_and_gradients(run(operation, getattr(ops, operation)), doubles, weight)


def results(operation, backend, args, weight):
    return value_and_gradients(run(operation, lambda *args: backend(operation, *args)), backend.inputs(args), weight)


def check(operation, backend, args, weight, tolerance=None):
    expected = reference(operation, args, weight)
    ours = results(operation, backend, args, weight)
    assert_close(('y', *INPUTS[operation]), ours, expected, tolerance or backend.tolerance)


def weight_for(operation, args):
    return draw(*run(operation, getattr(ops, operation))(*args).shape, seed=3)


@parameters()
@pytest.mark.parametrize(
    'shape', [(2, 16, 8, 8), (1, 3, 1, 1), (3, 4, 5, 7), (2, 17, 3, 1), (1, 5, 1, 9), (1, 40, 4, 5), (1, 33, 2, 3)]
)
def test_values_and_gradients(operation, backend, shape):
    """There are at least three channels: two would be normalized to -1 and 1, with almost no gradient of x."""
    args = arguments(operation, *shape)
    check(operation, backend, args, weight_for(operation, args))


@parameters(['simple_gate', 'depthwise_gate', 'depthwise_gelu'])
@pytest.mark.parametrize('size', [(1, 1), (5, 7)])
def test_one_channel(operation, backend, size):
    args = arguments(operation, 3, 1, *size)
    check(operation, backend, args, weight_for(operation, args))


@parameters()
@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts_in_memory(operation, backend, layout):
    """All maps have this layout. The incoming gradient has the usual layouts."""
    args = arguments(operation, 2, 6, 5, 7, layout)
    for of_gradient in ('contiguous', 'channels last'):
        check(operation, backend, args, LAYOUTS[of_gradient](weight_for(operation, args)))


@parameters()
def test_expanded_gradient(operation, backend):
    args = arguments(operation, 2, 6, 5, 7)
    check(operation, backend, args, torch.ones(1).expand(weight_for(operation, args).shape))


@pytest.mark.parametrize('backend', backends_with('gated_layer_norm'))
def test_gate_in_another_layout_than_x(backend):
    x, gate, weight, bias = arguments('gated_layer_norm', 2, 6, 5, 7)
    for args in ((LAYOUTS['channels last'](x), gate), (x, LAYOUTS['half of channels last'](gate))):
        check(
            'gated_layer_norm', backend, [*args, weight, bias], weight_for('gated_layer_norm', [x, gate, weight, bias])
        )


@pytest.mark.parametrize('backend', backends_with('depthwise_gelu'))
@pytest.mark.parametrize('largest', [1e-6, 8.0, 30.0])
def test_gelu_of_small_and_large_values(backend, largest):
    """It is applied after a depthwise convolution that is the identity, and as a gate of ones."""
    x = torch.linspace(-largest, largest, 4002).unflatten(0, (1, 6, 23, 29))
    weight, bias = torch.zeros(6, 1, 3, 3), torch.zeros(6)
    weight[:, :, 1, 1] = 1
    check('depthwise_gelu', backend, [x, weight, bias], torch.ones_like(x))
    check('gated_layer_norm', backend, [draw(*x.shape), x, bias, bias + 1], torch.ones_like(x))


@parameters(dtype=torch.float32)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_autocast(operation, backend, dtype):
    """The result is close to the one without autocast, and the gradients have the dtypes of the inputs."""
    args = arguments(operation, 2, 6, 5, 7)
    inputs = backend.inputs(
        [t.to(dtype) if name == 'gate' else t for name, t in zip(INPUTS[operation], args, strict=True)]
    )
    weight = weight_for(operation, args).to(torch.bfloat16).float()  # its values are exact in both dtypes
    with torch.autocast(backend.device, torch.bfloat16):
        y = run(operation, lambda *args: backend(operation, *args))(*inputs)
    gradients = torch.autograd.grad(y, inputs, weight.to(y))
    assert [t.dtype for t in gradients] == [t.dtype for t in inputs]
    assert_close(('y', *INPUTS[operation]), (y, *gradients), reference(operation, args, weight), 2e-2)


@pytest.mark.parametrize('operation', INPUTS)
def test_half_precision(operation):
    """The dtype is tested with every backend that supports it."""
    args = [t.to(torch.bfloat16).requires_grad_() for t in arguments(operation, 2, 6, 5, 7)]
    weight = weight_for(operation, args)
    ours = value_and_gradients(run(operation, getattr(ops, operation)), args, weight)
    assert {t.dtype for t in ours} == {torch.bfloat16}
    assert_close(('y', *INPUTS[operation]), ours, reference(operation, args, weight.double()), 3e-2)


@parameters(device='cpu', dtype=torch.float32)
def test_threads_do_not_change_the_result(operation, backend):
    args = arguments(operation, 1, 17, 150, 160)  # long enough for several threads
    weight = weight_for(operation, args)
    with threads(1):
        one = results(operation, backend, args, weight)
    for count in (2, 3):
        with threads(count):
            ours = results(operation, backend, args, weight)
            assert_close(('y', *INPUTS[operation]), ours, [t.double() for t in one], 1e-4)


@parameters()
def test_nan_is_not_hidden(operation, backend):
    """A NaN in the middle of any input leads to NaN exactly where plain PyTorch has it."""
    for index in range(len(INPUTS[operation])):
        args = arguments(operation, 1, 6, 4, 4)
        args[index][tuple(size // 2 for size in args[index].shape)] = math.nan
        y = run(operation, lambda *args: backend(operation, *args))(*backend.inputs(args))
        expected = run(operation, getattr(ops, operation))(*(t.double() for t in args))
        assert y.isnan().any()
        assert torch.equal(y.isnan().cpu(), expected.isnan())


@parameters()
def test_results_are_in_channels_last(operation, backend):
    args = backend.inputs(arguments(operation, 2, 6, 5, 7, 'channels last'))
    y = run(operation, lambda *args: backend(operation, *args))(*args)
    assert y.is_contiguous(memory_format=torch.channels_last)


# Comparison of the backend in plain PyTorch with formulas


def test_normalized_pixels_have_mean_zero_and_variance_one():
    x = 5 * draw(2, 8, 3, 4).double() + 3
    y = ops.layer_norm(x, torch.ones(8).double(), torch.zeros(8).double(), 0.0)
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3, 4).double())
    torch.testing.assert_close(y.var(1, correction=0), torch.ones(2, 3, 4).double())


def test_weights_and_biases_apply_to_channels():
    x, weight, bias = (t.double() for t in arguments('layer_norm', 2, 8, 3, 4))
    plain = ops.layer_norm(x, torch.ones(8).double(), torch.zeros(8).double(), EPS)
    expected = plain * weight[:, None, None] + bias[:, None, None]
    torch.testing.assert_close(ops.layer_norm(x, weight, bias, EPS), expected)


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def test_gelu_uses_the_normal_distribution():
    x, gate, weight, bias = (t.double() for t in arguments('gated_layer_norm', 2, 8, 3, 4))
    expected = ops.layer_norm(x, weight, bias, EPS) * gelu(gate)
    torch.testing.assert_close(ops.gated_layer_norm(x, gate, weight, bias, EPS), expected)


def convolved(x, weight, bias):
    patches = F.unfold(x, 3, padding=1).unflatten(1, (x.shape[1], 9))
    return torch.einsum('nckp,ck->ncp', patches, weight.flatten(1)).view_as(x) + bias[:, None, None]


def test_gates_multiply_halves():
    x, weight, bias = (t.double() for t in arguments('depthwise_gate', 2, 4, 5, 7))
    torch.testing.assert_close(ops.simple_gate(x), x[:, :4] * x[:, 4:])
    expected = convolved(x, weight, bias)
    torch.testing.assert_close(ops.depthwise_gate(x, weight, bias), expected[:, :4] * expected[:, 4:])
    torch.testing.assert_close(ops.depthwise_gelu(x, weight, bias), gelu(expected))
