import math

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from deeprftv2_plugin.data.blur import trajectory
from deeprftv2_plugin.data.blur.convolution import convolve_varying

ANXIETIES = [0, 0.001, 0.005, 0.05]


@pytest.mark.parametrize('anxiety', ANXIETIES)
def test_path_has_the_requested_length_and_stays_within_half_of_it(anxiety, rng):
    path = trajectory.camera_shake(12, anxiety, rng)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert path.shape == (2000, 2)
    np.testing.assert_allclose(path.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(steps, 12 / 1999)
    assert np.linalg.norm(path, axis=1).max() <= 6 + 1e-9


def test_path_without_anxiety_is_straight(rng):
    path = trajectory.camera_shake(10, 0, rng)
    np.testing.assert_allclose(np.linalg.norm(path[-1] - path[0]), 10)


def test_anxiety_shortens_the_reach_of_a_path():
    def extent(anxiety):
        paths = [trajectory.camera_shake(10, anxiety, np.random.default_rng(seed), samples=500) for seed in range(20)]
        return np.mean([np.linalg.norm(path, axis=1).max() for path in paths])

    assert extent(0.03) < extent(0.003) < extent(0)


def test_kernels_are_reproducible():
    kernels = [trajectory.random_kernel(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


@pytest.mark.parametrize('anxiety', ANXIETIES)
@pytest.mark.parametrize('length', [1, 7, 8, 13.5])
def test_kernel_preserves_brightness_and_centroid(length, anxiety, rng):
    kernel = trajectory.random_kernel(rng, (length, length), (anxiety, anxiety))
    side = trajectory.kernel_size(length)
    offsets = np.arange(side) - side // 2
    assert kernel.shape == (side, side) and kernel.dtype == np.float32
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert kernel.sum(axis=1) @ offsets == pytest.approx(0, abs=1e-5)
    assert kernel.sum(axis=0) @ offsets == pytest.approx(0, abs=1e-5)


def test_points_are_spread_bilinearly():
    kernel = trajectory.rasterize(np.array([[0, 0], [-0.25, 0.5]]), 3)
    expected = [[0, 0.0625, 0.0625], [0, 0.5 + 0.1875, 0.1875], [0, 0, 0]]
    np.testing.assert_allclose(kernel, expected, atol=1e-7)


def test_path_must_stay_within_the_kernel():
    kernel = trajectory.rasterize(np.array([[-1.0, -1.0], [1.0, 1.0]]), 3)
    np.testing.assert_allclose(kernel, np.diag([0.5, 0, 0.5]))
    with pytest.raises(ValueError, match='leaves its kernel of 3 pixels'):
        trajectory.rasterize(np.array([[0, 1.5], [0, -1.5]]), 3)
    with pytest.raises(ValueError, match='must be odd'):
        trajectory.rasterize(np.zeros((1, 2)), 4)


@pytest.mark.parametrize('anxiety', ANXIETIES)
def test_roll_has_the_requested_extent(anxiety, rng):
    angles = trajectory.camera_roll(0.02, anxiety, rng)
    assert angles.shape == (2000,)
    assert np.ptp(angles) == pytest.approx(0.02)
    assert angles.mean() == pytest.approx(0, abs=1e-12)


def shaken(rng, extent, shape):
    path, angles = trajectory.camera_shake(6, 0.003, rng), trajectory.camera_roll(extent, 0.003, rng)
    return path, angles, trajectory.kernel_grid(path, angles, shape)


def test_kernels_of_a_roll_preserve_brightness_and_centroid(rng):
    path, angles, kernels = shaken(rng, 0.1, (61, 80))
    offsets = np.arange(kernels.shape[-1]) - kernels.shape[-1] // 2
    assert all(length % 2 for length in kernels.shape) and kernels.dtype == np.float32
    assert kernels.min() >= 0
    np.testing.assert_allclose(kernels.sum(axis=(2, 3)), 1, rtol=1e-5)
    np.testing.assert_allclose(kernels.sum(axis=2) @ offsets, 0, atol=1e-4)
    np.testing.assert_allclose(kernels.sum(axis=3) @ offsets, 0, atol=1e-4)


def test_center_kernel_is_the_kernel_of_the_path(rng):
    path, angles, kernels = shaken(rng, 0.1, (61, 80))
    center = kernels[kernels.shape[0] // 2, kernels.shape[1] // 2]
    np.testing.assert_allclose(center, trajectory.rasterize(path, kernels.shape[-1]), atol=1e-6)


def test_grid_without_roll_has_one_kernel(rng):
    path, angles, kernels = shaken(rng, 0, (61, 80))
    assert kernels.shape[:2] == (1, 1)
    np.testing.assert_array_equal(kernels[0, 0], trajectory.rasterize(path, kernels.shape[-1]))


def test_positive_angle_is_clockwise():
    turned = trajectory.kernel_grid(np.zeros((2, 2)), np.array([-0.1, 0.1]), (21, 21))
    center, reach = turned.shape[0] // 2, turned.shape[-1] // 2
    rows, columns = np.nonzero(turned[center, -1])
    assert set(rows - reach) == {-1, 1} and set(columns - reach) == {0}  # the right edge moves up and down

    ends = trajectory.kernel_grid(np.zeros((3, 2)), np.array([-0.1, -0.1, 0.2]), (21, 21))
    assert ends[ends.shape[0] // 2, -1].argmax() // ends.shape[-1] < ends.shape[-1] // 2  # mostly up
    assert (
        ends[-1, ends.shape[1] // 2].argmax() % ends.shape[-1] > ends.shape[-1] // 2
    )  # and at the bottom to the right


@pytest.mark.parametrize('extent', [0.02, 0.2])
def test_grid_matches_the_mean_of_moved_images(extent, rng):
    shape = 51, 71
    path, angles, kernels = shaken(rng, extent, shape)
    margin = kernels.shape[-1] // 2
    image = cv2.GaussianBlur(rng.random((shape[0] + 2 * margin, shape[1] + 2 * margin)), (0, 0), 1)
    image = ((image - image.min()) / np.ptp(image)).astype(np.float32)

    rows, columns = np.mgrid[: shape[0], : shape[1]]
    down, right = rows - shape[0] // 2, columns - shape[1] // 2
    total = np.zeros(shape)
    for (row, column), angle in zip(path, angles, strict=True):
        source = rows + margin - row - angle * right, columns + margin - column + angle * down
        total += map_coordinates(image, source, order=1)
    expected = total / len(path)
    blurry = convolve_varying(image[..., None], kernels)[..., 0]
    center = shape[0] // 2, shape[1] // 2
    assert blurry[center] == pytest.approx(expected[center], abs=1e-5)
    assert np.abs(blurry - expected).max() < 0.02
    assert np.abs(blurry - expected).mean() < 0.002
    assert blurry.mean() == pytest.approx(expected.mean(), abs=1e-4)


@pytest.mark.parametrize('bend', [0, 0.3, 2, 2 * math.pi])
def test_arc_has_the_requested_length_and_turns_by_the_bend(bend):
    path = trajectory.arc(12, bend, direction=1)
    steps = np.diff(path, axis=0) @ (1j, 1)
    np.testing.assert_allclose(path.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.abs(steps), 12 / 1999, rtol=1e-5)
    assert np.angle(steps[1:] / steps[:-1]).sum() == pytest.approx(bend, rel=2e-3)
    assert np.angle(steps[len(steps) // 2]) == pytest.approx(1)
    assert np.linalg.norm(path, axis=1).max() <= 6 + 1e-9


def test_straight_arc_has_the_radius_of_a_line_and_a_full_turn_that_of_a_circle():
    for bend, radius in ((0, 12 / math.sqrt(12)), (2 * math.pi, 12 / (2 * math.pi))):
        path = trajectory.arc(12, bend, direction=0.5)
        assert math.sqrt((path**2).sum(axis=1).mean()) == pytest.approx(radius, rel=2e-3)
