"""Registered operators: schemas, fake implementations, autograd, number of operations, and decompositions."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from deeprftv2_plugin import ops
from deeprftv2_plugin.ops import backends
from tests.ops.test_cpp_build import needs_a_compiler

C = 4


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).requires_grad_()


def positive(*shape):
    return (draw(*shape).detach().abs() + 0.1).requires_grad_()


X, WIDE = draw(2, C, 5, 6), draw(2, 2 * C, 5, 6)
NORM = draw(C), draw(C)
WIDE_NORM = draw(2 * C), draw(2 * C)
KERNELS = draw(2 * C, 1, 3, 3), draw(2 * C)
SEQUENCE, COEFFICIENTS = draw(2, 30, C), draw(2, 30, 3)
EXPAND, PROJECT = (draw(2 * C, C), draw(2 * C)), (draw(C, C), draw(C))
PROJECTION = WIDE, X, NORM, draw(2 * C, C), WIDE_NORM, draw(C, 2 * C), draw(2, C, 5, 6)
SCAN = SEQUENCE, draw(2, 30, C), -positive(C, 3), COEFFICIENTS, draw(2, 30, 3), draw(C), draw(C)

CALLS = {
    'layer_norm': (*((X, *NORM), 1e-6, torch.float32),),
    'gated_layer_norm': (X, draw(2, C, 5, 6), *NORM, 1e-6, torch.float32),
    'simple_gate': (WIDE,),
    'depthwise_gate': (WIDE, *KERNELS),
    'depthwise_gelu': (WIDE, *KERNELS),
    'selective_scan': (*SCAN, True),
    'half_spectrum': (X,),
    'spectral_filter': (X, draw(2, 2 * C, 5, 4)),
    'gated_feed_forward': (X, NORM, EXPAND, PROJECT, 1e-6),
    'gated_convolution': (X, NORM, EXPAND, KERNELS, 1e-6),
    'gelu_convolution': (X, NORM, draw(2 * C, C), KERNELS, 1e-6),
    'normed_gate_projection': (*PROJECTION, 1e-6, 1e-5),
}
BRANCHES = ('gated_feed_forward', 'gated_convolution', 'gelu_convolution', 'normed_gate_projection')


def flat(arguments):
    return tuple(t for part in arguments for t in (part if isinstance(part, tuple) else (part,)))


def operator(name):
    return getattr(torch.ops.deeprftv2, name).default


def parameters(*names):
    return pytest.mark.parametrize(
        'name', [pytest.param(name, marks=needs_a_compiler if name in BRANCHES else ()) for name in names]
    )


@parameters(*CALLS)
def test_operators_pass_pytorchs_own_checks(name):
    """PyTorch checks the schema, the shapes, dtypes and strides of fake tensors, autograd, and AOT tracing."""
    torch.library.opcheck(operator(name), flat(CALLS[name]))


def test_every_operator_is_checked():
    assert {each.name().partition('::')[2].partition('.')[0] for each in ops.decompositions()} == set(CALLS)


@parameters(*CALLS)
def test_decompositions_compute_the_same(name):
    arguments = flat(CALLS[name])
    with torch.no_grad():
        found, expected = ops.decompositions()[operator(name)](*arguments), operator(name)(*arguments)
    if name == 'selective_scan':  # its second result is for the backward pass of a backend
        found, expected = found[0], expected[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('length', [1, 2, 15, 16, 17, 300])
def test_decomposed_scan_equals_the_scan(length):
    u, delta, B, Cs = (draw(2, length, n).detach() for n in (C, C, 3, 3))
    arguments = u, delta, *(t.detach() for t in (SCAN[2], B, Cs, *SCAN[5:]))
    y, _ = ops.decompositions()[operator('selective_scan')](*arguments, False)
    torch.testing.assert_close(y, ops.selective_scan(*arguments), rtol=1e-4, atol=1e-5)


@parameters('simple_gate', 'depthwise_gelu', 'gated_feed_forward')
def test_a_second_derivative_is_refused(name):
    y = operator(name)(*flat(CALLS[name]))
    tensors = [t for t in flat(CALLS[name]) if torch.is_tensor(t)]
    (gradient, *_) = torch.autograd.grad(y.square().sum(), tensors, create_graph=True)
    with pytest.raises(RuntimeError, match='differentiable once, not twice'):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ('name', 'flops'),
    [
        ('depthwise_gate', 2 * 9 * 60 * 2 * C),
        ('selective_scan', 9 * 60 * C * 3),
        ('gated_feed_forward', 2 * 60 * 3 * C * C),
        ('gated_convolution', 2 * 60 * (2 * C * C + 9 * 2 * C)),
        ('gelu_convolution', 2 * 60 * (2 * C * C + 9 * 2 * C)),
        ('normed_gate_projection', 2 * 60 * 2 * 2 * C * C),
    ],
)
def test_operations_are_counted(name, flops):
    if name in BRANCHES and backends.load('native').why_not():
        pytest.skip('the native backend is not usable')
    arguments = flat(CALLS[name])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        operator(name)(*arguments)
    assert counter.get_total_flops() == flops


@needs_a_compiler
@parameters(*BRANCHES)
def test_operations_of_a_branch_are_those_of_its_parts(name):
    with FlopCounterMode(display=False) as parts, torch.no_grad():
        ops.decompositions()[operator(name)](*flat(CALLS[name]))
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        operator(name)(*flat(CALLS[name]))
    assert whole.get_total_flops() == parts.get_total_flops()


@parameters(*BRANCHES)
def test_a_normalization_in_another_type_is_converted(name):
    """The native kernels must not read its memory as float32."""
    arguments = [(part[0], part[1].double()) if part is NORM else part for part in CALLS[name]]
    with torch.no_grad():
        found, expected = getattr(ops, name)(*arguments), getattr(ops, name)(*CALLS[name])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
