"""The Fourier Kernel Estimator without a network."""

import pytest
import torch
from torch import nn

from deeprftv2_plugin.layers import FourierKernelEstimator, fourier_kernel_estimator
from deeprftv2_plugin.ops import otf_from_psf


class Constant(nn.Module):
    """A module that always returns the same transfer function, as real parts followed by imaginary parts."""

    def __init__(self, otf):
        super().__init__()
        self.parts = torch.cat([otf.real, otf.imag])[None]

    def forward(self, x):
        return self.parts.expand(len(x), -1, -1, -1)


def feature_and_image(size=(16, 24), batch=2):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, 6, *size, generator=generator), torch.rand(batch, 3, *size, generator=generator))


def test_estimators_work_alone_and_in_a_chain():
    x, image = feature_and_image()
    first = FourierKernelEstimator(6, width=4)
    second = FourierKernelEstimator(6, width=4, has_previous=True)
    estimate = first(x, image)
    assert estimate.feature.shape == x.shape
    assert estimate.image.shape == image.shape
    assert first.transfer(estimate.states[-1]).shape == (2, 12, 16, 13)
    second(estimate.feature, image, estimate.states).image.sum().backward()
    assert all(p.grad is not None for p in second.parameters())


def test_the_transfer_function_convolves_the_feature():
    """With a given transfer function and identities as projections, the kernel shifts the feature."""
    x, image = feature_and_image()
    net = FourierKernelEstimator(6)
    psf = torch.zeros(6, 16, 24)
    psf[:, 8 + 2, 12 - 3] = 1
    net.to_otf = Constant(otf_from_psf(psf))
    with torch.no_grad():
        net.feature_proj.weight.copy_(torch.eye(6))
        net.fuse.weight.copy_(torch.cat([torch.eye(6), torch.zeros(6, 6)], 1))
    torch.testing.assert_close(net(x, image).feature, x.roll((2, -3), (2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('overlap', [(0, 0), (4, 4)])
def test_windows_do_not_mix_the_images_of_a_batch(training, overlap):
    x, image = feature_and_image((24, 40))
    net = FourierKernelEstimator(6, window=(16, 16), overlap=overlap).train(training)
    whole = net(x, image)
    for i in range(2):
        torch.testing.assert_close(
            net(x[i : i + 1], image[i : i + 1]).image, whole.image[i : i + 1], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ('size', 'training', 'overlap', 'count'),
    [
        ((20, 20), True, (4, 4), 3 * 3),
        ((20, 20), False, (4, 4), 4 * 4),
        ((20, 20), False, (0, 0), 3 * 3),
        ((8, 20), True, (4, 4), 3),
        ((20, 4), False, (4, 4), 4),
    ],
)
def test_windows_only_overlap_in_evaluation(size, training, overlap, count):
    net = FourierKernelEstimator(6, window=(8, 8), overlap=overlap).train(training)
    feature, _ = feature_and_image(size, batch=1)
    with torch.no_grad():
        assert {len(state) for state in net(feature).states} == {count}


@pytest.mark.parametrize('overlap', [(0, 0), (4, 4)])
def test_windows_one_after_another_are_equal_to_all_at_once(overlap, monkeypatch):
    """Without gradients, an estimator on a CPU processes few windows at a time."""
    monkeypatch.setattr(fourier_kernel_estimator, 'PIXELS_AT_ONCE', 2 * 8 * 8)
    x, image = feature_and_image((20, 36), batch=1)
    windows = {'window': (8, 8), 'overlap': overlap, 'smoothing': True}
    first = FourierKernelEstimator(6, **windows).eval()
    second = FourierKernelEstimator(6, has_previous=True, **windows).eval()

    def chain():
        estimate = first(x, image)
        return estimate, second(estimate.feature, image, estimate.states)

    expected = chain()
    with torch.no_grad():
        torch.testing.assert_close(chain(), expected)


def test_smoothing_averages_the_kernels_of_neighboring_windows_in_evaluation():
    x, image = feature_and_image((8, 24))
    net = FourierKernelEstimator(6, window=(8, 8), norm=False).eval()
    separate = net.transfer(net(x, image).states[-1]).unflatten(0, (2, 3))
    net.smoothing = True
    first, second, third = net.transfer(net(x, image).states[-1]).unflatten(0, (2, 3)).unbind(1)
    torch.testing.assert_close(first, (2 * separate[:, 0] + separate[:, 1]) / 3)
    torch.testing.assert_close(second, (separate[:, 0] + 2 * separate[:, 1] + separate[:, 2]) / 4)
    torch.testing.assert_close(third, (separate[:, 1] + 2 * separate[:, 2]) / 3)
    torch.testing.assert_close(net.train().transfer(net(x, image).states[-1]).unflatten(0, (2, 3)), separate)


def test_a_window_as_large_as_the_map_has_no_effect():
    x, image = feature_and_image()
    net = FourierKernelEstimator(6, window=(16, 24), overlap=(4, 4), smoothing=True).eval()
    expected = net(x, image).image
    net.window = None
    assert torch.equal(net(x, image).image, expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('reversible', [False, True])
def test_the_spectrum_is_float32_under_autocast(dtype, reversible):
    """The states and the filtered feature equal those of float32. A bright map would overflow float16."""
    x, image = feature_and_image((64, 64))
    x = 100 * x
    net = FourierKernelEstimator(6, reversible=reversible)
    seen = []
    net.fuse.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    expected = net(x, image)
    with torch.autocast('cpu', dtype):
        estimate = net(x, image)
    for ours, reference in zip(estimate.states, expected.states, strict=True):
        assert torch.equal(ours, reference)
    assert seen[1].dtype == torch.float32 and torch.equal(*seen)
    assert estimate.feature.dtype == dtype and estimate.image.isfinite().all()


def test_a_feature_of_half_precision_is_filtered_in_float32():
    """Such a feature is the result of another layer under autocast."""
    x, image = feature_and_image()
    net = FourierKernelEstimator(6)
    with torch.autocast('cpu', torch.bfloat16):
        found, expected = net(x.bfloat16(), image), net(x.bfloat16().float(), image)
    assert all(map(torch.equal, found.states, expected.states))
    torch.testing.assert_close(found.feature, expected.feature)
