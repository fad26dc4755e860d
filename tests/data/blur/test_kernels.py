import math

import numpy as np
import pytest

from deeprftv2_plugin.data.blur.kernels import (
    BlurMixture,
    CameraShake,
    Defocus,
    Gaussian,
    KernelFiles,
    Motion,
    center_pad_or_crop,
    disc,
    gaussian,
)
from deeprftv2_plugin.data.blur.trajectory import random_kernel
from deeprftv2_plugin.utils.errors import UserError

SHAPE = 40, 50


@pytest.fixture(params=['CameraShake', 'roll', 'Motion', 'Defocus', 'Gaussian', 'KernelFiles'])
def source(request, tmp_path, rng):
    if request.param == 'KernelFiles':
        np.save(tmp_path / 'a.npy', gaussian(1.5))
        return KernelFiles(str(tmp_path))
    if request.param == 'roll':
        return CameraShake(roll=[1, 5])
    return {kind.__name__: kind for kind in (CameraShake, Motion, Defocus, Gaussian)}[request.param]()


@pytest.mark.parametrize('seed', range(3))
def test_kernels_preserve_brightness_and_position(source, seed):
    kernels = source(np.random.default_rng(seed))(SHAPE)
    side = kernels.shape[-1]
    offsets = np.arange(side) - side // 2
    assert kernels.dtype == np.float32 and kernels.shape[-2] == side and side % 2
    assert kernels.min() >= 0
    np.testing.assert_allclose(kernels.sum(axis=(-2, -1)), 1, rtol=1e-5)
    for axis in (-2, -1):
        np.testing.assert_allclose(kernels.sum(axis=axis) @ offsets, 0, atol=1e-4)
    assert side <= source.side or kernels.ndim == 4


def test_blurs_are_reproducible(source):
    first, again, other = (source(np.random.default_rng(seed))(SHAPE) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert isinstance(source, KernelFiles) or not np.array_equal(first, other)


def test_roll_does_not_change_the_center_kernel():
    for seed in range(3):
        still, rolling = (CameraShake(roll=roll)(np.random.default_rng(seed))(SHAPE) for roll in ([0, 0], [2, 5]))
        center = rolling[rolling.shape[0] // 2, rolling.shape[1] // 2]
        np.testing.assert_allclose(center_pad_or_crop(center, 11), still, atol=1e-6)
        assert np.array_equal(still, random_kernel(np.random.default_rng(seed)))


def mean_square_radius(kernel):
    square = (np.arange(kernel.shape[0]) - kernel.shape[0] // 2) ** 2
    return (kernel * (square[:, None] + square)).sum()


@pytest.mark.parametrize('length', [0, 0.5, 3, 20])
def test_straight_motion_has_the_radius_of_a_line(length, rng):
    kernel = Motion([length, length], bend=[0, 0])(rng)(SHAPE)
    # between pixels, bilinear weights add f (1 - f) along each axis
    assert length**2 / 12 - 1e-3 <= mean_square_radius(kernel) <= length**2 / 12 + 0.5
    assert length or kernel.tolist() == [[1]]


def test_radii_of_motion_are_even(rng):
    source = Motion([0, 20], bend=[0, 30])
    radii = [math.sqrt(mean_square_radius(source(rng)(SHAPE))) for _ in range(400)]
    counts, _ = np.histogram(radii, bins=[0.8, 1.8, 2.8, 3.8, 4.8, 5.8])
    np.testing.assert_allclose(counts, 400 * math.sqrt(12) / 20, atol=24)


@pytest.mark.parametrize('radius', [0.7, 1, 3.3, 5])
def test_disc_weights_are_pixel_coverage(radius):
    kernel = disc(radius)
    reach = kernel.shape[0] // 2
    fine = np.abs(np.mgrid[-reach - 0.5 : reach + 0.5 : 1 / 64, -reach - 0.5 : reach + 0.5 : 1 / 64] + 1 / 128)
    inside = (fine**2).sum(axis=0) <= radius**2
    shares = inside.reshape(kernel.shape[0], 64, kernel.shape[0], 64).mean(axis=(1, 3))
    np.testing.assert_allclose(kernel, shares / shares.sum(), atol=1e-3 / radius**2)
    assert kernel[reach, 0] > 0


def test_smallest_disc_is_a_delta():
    assert disc(0.5).tolist() == [[1]]


@pytest.mark.parametrize('sigma', [0.5, 1, 3])
def test_gaussian_has_the_requested_deviation(sigma):
    kernel = gaussian(sigma)
    offsets = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    assert np.sqrt(kernel.sum(axis=0) @ offsets**2) == pytest.approx(sigma, rel=0.08)
    np.testing.assert_allclose(kernel, kernel.T)


def test_center_pad_or_crop():
    kernel = np.zeros((5, 5), np.float32)
    kernel[1, 3] = 1
    assert center_pad_or_crop(kernel, 9)[3, 5] == 1
    assert center_pad_or_crop(kernel, 3)[0, 2] == 1
    assert np.array_equal(center_pad_or_crop(center_pad_or_crop(kernel, 9), 5), kernel)


def test_mixture_follows_the_weights(rng):
    mixture = BlurMixture([{'type': 'Defocus', 'radius': [4, 4], 'weight': 3}, {'type': 'Gaussian', 'sigma': [1, 1]}])
    assert mixture.side == 9
    sides = [mixture(rng)(SHAPE).shape[0] for _ in range(400)]
    assert set(sides) == {9, 7}
    assert sides.count(9) == pytest.approx(300, abs=35)


def test_mixture_of_one_source_draws_the_same_blurs():
    mixture, alone = BlurMixture([{'type': 'CameraShake', 'length': [5, 9]}]), CameraShake([5, 9])
    assert np.array_equal(*(source(np.random.default_rng(3))(SHAPE) for source in (mixture, alone)))


@pytest.mark.parametrize(
    ('blurs', 'message'),
    [
        ({'type': 'CameraShake'}, 'blurs is .* expected a list'),
        ([], 'expected a list'),
        (['CameraShake'], 'expected a list'),
        ([{'type': 'camerashake'}], r'blurs\[0\].type is .* Did you mean CameraShake'),
        ([{'type': 'Gaussian'}, {}], r'blurs\[1\].type is None'),
        ([{'type': 'Gaussian', 'weight': 0}], r'blurs\[0\].weight is 0'),
        ([{'type': 'Gaussian', 'sigmas': [1, 2]}], r'blurs\[0\]: Gaussian does not accept .*sigmas'),
        ([{'type': 'Gaussian', 'sigma': [0, 2]}], 'sigma is .* at least 0.1'),
        ([{'type': 'Defocus', 'radius': [3, 2]}], 'radius is'),
        ([{'type': 'CameraShake', 'length': 9}], 'length is 9, expected'),
        ([{'type': 'CameraShake', 'length': [0, 4]}], 'at least 1'),
        ([{'type': 'CameraShake', 'anxiety': [0, 'much']}], 'anxiety is'),
        ([{'type': 'CameraShake', 'roll': [0, float('inf')]}], 'roll is'),
        ([{'type': 'Motion', 'length': [-1, 2]}], 'length is'),
        ([{'type': 'Motion', 'bend': 90}], 'bend is 90'),
        ([{'type': 'KernelFiles', 'path': 'gone'}], r'blurs\[0\]: KernelFiles .* gone do not exist'),
    ],
)
def test_errors_name_invalid_settings(blurs, message):
    with pytest.raises(UserError, match=message):
        BlurMixture(blurs)
