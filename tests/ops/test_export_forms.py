"""The forms of operators in exported programs."""

import pytest
import torch

from deeprftv2_plugin import ops
from deeprftv2_plugin.ops import export_forms, fourier


@pytest.mark.parametrize('decay', [1e-4, 1.0, 1000.0], ids=['nearly constant', 'usual', 'strongly decaying'])
@pytest.mark.parametrize('length', [1, 63, 64, 65, 129, 1000])
def test_the_scan(length, decay):
    generator = torch.Generator().manual_seed(length)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A = -decay * torch.rand(6, 8, generator=generator, dtype=torch.float64)
    arguments = draw(2, length, 6) + 1, draw(2, length, 6), A, draw(2, length, 8), draw(2, length, 8), draw(6), draw(6)
    expected = ops.selective_scan(*arguments)
    found, _ = export_forms.selective_scan(*(each.float() for each in arguments))
    torch.testing.assert_close(
        found.double() / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize('size', [(8, 12), (7, 9), (6, 5)])
def test_the_transforms(size):
    x, transfer = torch.randn(2, 3, *size), torch.randn(2, 6, size[0], size[1] // 2 + 1)
    torch.testing.assert_close(export_forms.half_spectrum(x), fourier.half_spectrum(x))
    torch.testing.assert_close(
        export_forms.spectral_filter(x, transfer), fourier.spectral_filter(x, transfer), rtol=1e-4, atol=1e-5
    )


def test_operators_are_replaced_also_inside_others():
    called = []

    class Listening(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.append(function.namespace)
            return function(*args, **(kwargs or {}))

    x, gate = torch.randn(2, 1, 4, 6, 6).unbind()
    x, gate = x.expand(1, 4, 6, 6), gate.expand(1, 4, 6, 6)
    arguments = x, gate, torch.ones(4), torch.zeros(4), 1e-6
    with torch.no_grad():
        expected = ops.normalization.gated_layer_norm(*arguments)
        with Listening(), export_forms.Exportable():
            found = ops.normalization.gated_layer_norm(*arguments)
    torch.testing.assert_close(found, expected)
    assert set(called) == {'aten'}
