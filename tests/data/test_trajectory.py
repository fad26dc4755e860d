import numpy as np
import pytest

from deeprftv2_plugin.data.trajectory import camera_shake, kernel_size, random_kernel, rasterise

ANXIETIES = [0, 0.001, 0.005, 0.05]


@pytest.mark.parametrize('anxiety', ANXIETIES)
def test_path_has_the_length_asked_for_and_stays_within_half_of_it(anxiety, rng):
    path = camera_shake(12, anxiety, rng)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert path.shape == (2000, 2)
    np.testing.assert_allclose(path.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(steps, 12 / 1999)
    assert np.linalg.norm(path, axis=1).max() <= 6 + 1e-9


def test_path_without_anxiety_is_straight(rng):
    path = camera_shake(10, 0, rng)
    np.testing.assert_allclose(np.linalg.norm(path[-1] - path[0]), 10)


def test_anxious_hand_goes_less_far_than_a_calm_one():
    def extent(anxiety):
        paths = [camera_shake(10, anxiety, np.random.default_rng(seed), samples=500) for seed in range(20)]
        return np.mean([np.linalg.norm(path, axis=1).max() for path in paths])

    assert extent(0.03) < extent(0.003) < extent(0)


def test_equal_generators_draw_equal_kernels_and_others_do_not():
    kernels = [random_kernel(np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


@pytest.mark.parametrize('anxiety', ANXIETIES)
@pytest.mark.parametrize('length', [1, 7, 8, 13.5])
def test_kernel_keeps_light_and_centroid(length, anxiety, rng):
    kernel = random_kernel(rng, (length, length), (anxiety, anxiety))
    side = kernel_size(length)
    offsets = np.arange(side) - side // 2
    assert kernel.shape == (side, side) and kernel.dtype == np.float32
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert kernel.sum(axis=1) @ offsets == pytest.approx(0, abs=1e-5)
    assert kernel.sum(axis=0) @ offsets == pytest.approx(0, abs=1e-5)


def test_points_spread_bilinearly():
    kernel = rasterise(np.array([[0, 0], [-0.25, 0.5]]), 3)
    expected = [[0, 0.0625, 0.0625], [0, 0.5 + 0.1875, 0.1875], [0, 0, 0]]
    np.testing.assert_allclose(kernel, expected, atol=1e-7)


def test_path_may_touch_the_border_and_not_pass_it():
    kernel = rasterise(np.array([[-1.0, -1.0], [1.0, 1.0]]), 3)
    np.testing.assert_allclose(kernel, np.diag([0.5, 0, 0.5]))
    with pytest.raises(ValueError, match='leaves its kernel of 3 pixels'):
        rasterise(np.array([[0, 1.5], [0, -1.5]]), 3)
    with pytest.raises(ValueError, match='odd side'):
        rasterise(np.zeros((1, 2)), 4)
