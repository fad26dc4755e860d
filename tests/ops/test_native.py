"""Comparison of the functions of the native backend and their gradients with plain PyTorch in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from deeprftv2_plugin.ops.backends import native
from tests.ops.references import depthwise, functions_of_maps, gate, norm, threads

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=f'native: {native.why_not()}')

EPS, OUT_EPS = 1e-6, 1e-5
TOLERANCE = 1e-5
"""Of errors, relative to the largest number of a tensor."""

# Images, channels, height and width: less and more than the sizes of a vector, a tile and a block, and no multiples.
SHAPES = [
    (1, 1, 1, 1),
    (1, 3, 1, 1),
    (2, 8, 5, 7),
    (1, 16, 1, 50),
    (3, 20, 11, 1),
    (2, 17, 4, 61),
    (1, 48, 9, 13),
    (1, 16, 3, 300),
]


def linear(x, weight, bias=None):
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def gated_feed_forward(x, norm_weight, norm_bias, expand_weight, expand_bias, project_weight, project_bias):
    expanded = linear(norm(x, norm_weight, norm_bias, EPS), expand_weight, expand_bias)
    return x + linear(gate(expanded), project_weight, project_bias)


def gated_convolution(x, norm_weight, norm_bias, expand_weight, expand_bias, weight, bias):
    return gate(depthwise(linear(norm(x, norm_weight, norm_bias, EPS), expand_weight, expand_bias), weight, bias))


def gelu_convolution(x, norm_weight, norm_bias, expand_weight, weight, bias):
    return F.gelu(depthwise(linear(norm(x, norm_weight, norm_bias, EPS), expand_weight), weight, bias))


def normed_gate_projection(
    y, x, norm_weight, norm_bias, gate_weight, out_norm_weight, out_norm_bias, out_weight, residual
):
    opening = F.gelu(linear(norm(x, norm_weight, norm_bias, EPS), gate_weight))
    return residual + linear(norm(y, out_norm_weight, out_norm_bias, OUT_EPS) * opening, out_weight)


REFERENCES = {
    **functions_of_maps(EPS),
    'gated_feed_forward': gated_feed_forward,
    'gated_convolution': gated_convolution,
    'gelu_convolution': gelu_convolution,
    'normed_gate_projection': normed_gate_projection,
}

NORMS = ('layer_norm', 'gated_layer_norm')


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


def arguments(operation, images, channels, height, width):
    """Return random arguments. `channels` is that of the result. The number of inner channels is a few more."""

    def pixels(channels, seed=0):
        return channels_last(draw(images, channels, height, width, seed=seed))

    def matrix(outputs, inputs):
        return draw(outputs, inputs) / math.sqrt(inputs)

    inner, x = channels + 5, pixels(channels)
    affine = draw(channels, seed=1), draw(channels, seed=2)
    return {
        'layer_norm': lambda: (x, *affine),
        'gated_layer_norm': lambda: (x, pixels(channels, 1), *affine),
        'simple_gate': lambda: (pixels(2 * channels),),
        'depthwise_gate': lambda: (pixels(2 * channels), draw(2 * channels, 1, 3, 3), draw(2 * channels)),
        'depthwise_gelu': lambda: (x, draw(channels, 1, 3, 3), draw(channels)),
        'gated_feed_forward': lambda: (
            *(x, *affine),
            *(matrix(2 * inner, channels), draw(2 * inner), matrix(channels, inner), draw(channels)),
        ),
        'gated_convolution': lambda: (
            *(x, *affine),
            *(matrix(2 * inner, channels), draw(2 * inner), draw(2 * inner, 1, 3, 3), draw(2 * inner)),
        ),
        'gelu_convolution': lambda: (x, *affine, matrix(inner, channels), draw(inner, 1, 3, 3), draw(inner)),
        'normed_gate_projection': lambda: (
            *(pixels(inner), x, *affine, matrix(inner, channels)),
            *(draw(inner, seed=3), draw(inner, seed=4), matrix(channels, inner), pixels(channels, 5)),
        ),
    }[operation]()


def constants(operation):
    """Return the arguments that follow the tensors in calls of the operation and of its backward pass."""
    if operation.endswith('norm'):
        return (EPS, torch.float32), (EPS,)
    if operation == 'normed_gate_projection':
        return (EPS, OUT_EPS), (EPS, OUT_EPS)
    return ((), ()) if operation in ('simple_gate', 'depthwise_gate', 'depthwise_gelu') else ((EPS,), (EPS,))


def value_and_gradients(operation, tensors, dy):
    """Return the value and the gradients of the native backend, in the order of the tensors."""
    forward, backward = constants(operation)
    y = getattr(native, operation)(*tensors, *forward)
    inputs = {'layer_norm': tensors[:-1], 'normed_gate_projection': tensors[:-1]}.get(operation, tensors)
    gradients = getattr(native, f'{operation}_backward')(dy, *inputs, *backward)
    gradients = (gradients,) if isinstance(gradients, torch.Tensor) else tuple(gradients)
    return (y, *gradients, dy) if operation == 'normed_gate_projection' else (y, *gradients)


def reference(operation, tensors, dy):
    doubles = [t.double().requires_grad_() for t in tensors]
    y = REFERENCES[operation](*doubles)
    return y.detach(), *torch.autograd.grad(y, doubles, dy.double())


def assert_close(ours, expected, tolerance=TOLERANCE):
    for place, (a, b) in enumerate(zip(ours, expected, strict=True)):
        assert a.shape == b.shape and a.dtype == torch.float32
        error, size = (a - b).abs().max().item(), b.abs().max().item()
        # the gradient of a single channel before its normalization is zero except for rounding errors
        assert error <= tolerance * max(size, 1e-2), f'number {place}: off by {error:.1e} of {size:.1e}'


def check(operation, shape, **kwargs):
    tensors = arguments(operation, *shape)
    dy = channels_last(draw(*REFERENCES[operation](*tensors).shape, seed=7))
    assert_close(value_and_gradients(operation, tensors, dy), reference(operation, tensors, dy), **kwargs)


@pytest.mark.parametrize('shape', SHAPES, ids=lambda shape: 'x'.join(map(str, shape)))
@pytest.mark.parametrize('operation', REFERENCES)
def test_values_and_gradients(operation, shape):
    check(operation, shape)


@pytest.mark.parametrize('count', [2, 3])
@pytest.mark.parametrize('operation', REFERENCES)
def test_threads(monkeypatch, operation, count):
    """Several threads give the same result every time, which equals that of a single thread."""
    monkeypatch.setattr(native, 'GRAIN', 1)
    with threads(count):
        check(operation, (3, 8, 19, 67))
        check(operation, (1, 3, 1, 2))
        check(operation, (1, 16, 2, 800))
        tensors = arguments(operation, 2, 20, 11, 60)
        dy = channels_last(draw(*REFERENCES[operation](*tensors).shape))
        first, second = (value_and_gradients(operation, tensors, dy) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize('operation', REFERENCES)
def test_layouts(operation):
    """Results are the same for inputs in any layout, and always in channels_last."""
    tensors = arguments(operation, 2, 6, 5, 7)
    dy = channels_last(draw(*REFERENCES[operation](*tensors).shape))
    expected = value_and_gradients(operation, tensors, dy)
    others = [t if t.ndim == 1 else t.transpose(0, -1).contiguous().transpose(0, -1) for t in tensors]
    ours = value_and_gradients(operation, others, dy.contiguous())
    assert all(map(torch.equal, ours, expected))
    y, *gradients = ours
    maps = [y, *(d for d, t in zip(gradients, tensors, strict=True) if t.shape[2:] == (5, 7) and d is not ours[-1])]
    assert all(map(lambda t: t.is_contiguous(memory_format=torch.channels_last), maps))


@pytest.mark.parametrize('operation', NORMS)
def test_norms_return_the_requested_type(operation):
    tensors = arguments(operation, 1, 8, 3, 3)
    function = getattr(native, operation)
    y = function(*tensors, EPS, torch.bfloat16)
    assert y.dtype == torch.bfloat16 and torch.equal(y, function(*tensors, EPS, torch.float32).bfloat16())


def test_gradients_have_the_types_of_their_inputs():
    """Under autocast, the gate and the gradient are bfloat16."""
    x, gate, weight, bias = arguments('gated_layer_norm', 1, 8, 3, 3)
    gate, dy = gate.bfloat16(), draw(*x.shape, seed=1).bfloat16()
    ours = native.gated_layer_norm_backward(dy, x, gate, weight, bias, EPS)
    assert [t.dtype for t in ours] == [torch.float32, torch.bfloat16, torch.float32, torch.float32]
    expected = native.gated_layer_norm_backward(dy.float(), x, gate.float(), weight, bias, EPS)
    assert all(torch.equal(a.float(), b.to(a.dtype).float()) for a, b in zip(ours, expected, strict=True))


SCANS = [(1, 1, 1, 1), (2, 17, 3, 8), (3, 40, 16, 8), (1, 130, 40, 8), (1, 2100, 20, 5)]
"""Batch, length, channels and states: several chunks, blocks, and meetings of the threads."""


def scan_inputs(batch, length, channels, states):
    sequences = [draw(batch, length, size, seed=i) for i, size in enumerate((channels, channels, states, states))]
    u, delta, B, C = sequences
    return u, delta, -draw(channels, states).exp(), B, C, draw(channels), draw(channels, seed=1)


def sequential(u, delta, A, B, C, D, delta_bias):
    """Compute the recurrence position by position."""
    step, h, y = F.softplus(delta + delta_bias), u.new_zeros(len(u), *A.shape), []
    for t in range(u.shape[1]):
        h = torch.exp(step[:, t, :, None] * A) * h + (step * u)[:, t, :, None] * B[:, t, None]
        y.append((h * C[:, t, None]).sum(-1) + D * u[:, t])
    return torch.stack(y, 1)


@pytest.mark.parametrize(
    'counts', [(1, 1), (2, 2), (4, 4), (1, 4), (4, 1)], ids=lambda counts: '{} and {}'.format(*counts)
)
@pytest.mark.parametrize('shape', SCANS, ids=lambda shape: 'x'.join(map(str, shape)))
def test_scan(monkeypatch, shape, counts):
    """Compare both passes, with numbers of threads that divide the channels in different ways."""
    monkeypatch.setattr(native, 'GRAIN', 1)
    inputs = scan_inputs(*shape)
    dy = draw(*inputs[0].shape, seed=9)
    doubles = [t.double().requires_grad_() for t in inputs]
    expected = sequential(*doubles)
    gradients = torch.autograd.grad(expected, doubles, dy.double())
    with threads(counts[0]):
        y, entries = native.selective_scan(*inputs, True)
        assert entries.shape == native.scan_entries_shape(*shape)
        again, none = native.selective_scan(*inputs, False)
        assert torch.equal(y, again) and none.shape == (0,)
    with threads(counts[1]):
        assert_close((y, *native.selective_scan_backward(dy, *inputs, entries)), (expected, *gradients))


def test_scan_of_half_precision():
    u, delta, A, B, C, D, delta_bias = scan_inputs(2, 20, 5, 8)
    inputs = (u.bfloat16(), delta.bfloat16(), A, B.half(), C.half(), D, delta_bias)
    y, entries = native.selective_scan(*inputs, True)
    expected, expected_entries = native.selective_scan(*(t.float() for t in inputs), True)
    assert y.dtype == torch.float32 and torch.equal(y, expected)
    ours = native.selective_scan_backward(y, *inputs, entries)
    theirs = native.selective_scan_backward(y, *(t.float() for t in inputs), expected_entries)
    assert [t.dtype for t in ours] == [t.dtype for t in inputs]
    assert all(torch.equal(a, b.to(a.dtype)) for a, b in zip(ours, theirs, strict=True))


def test_takes():
    with FakeTensorMode():
        assert native.takes(torch.ones(1)) and native.takes(torch.ones(1).bfloat16())
    assert not native.takes(torch.ones(1).double())
    assert not native.takes(torch.ones(1, device='meta'))
