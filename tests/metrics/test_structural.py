"""Both types of SSIM compared with BasicSR, scikit-image and their definitions."""

import numpy as np
import pytest
from scipy.ndimage import correlate
from skimage.metrics import structural_similarity

from deeprftv2_plugin.basicsr_bridge import patches
from deeprftv2_plugin.metrics import ssim, ssim_3d
from deeprftv2_plugin.metrics.structural import STRIP
from deeprftv2_plugin.utils.errors import UserError

from .photographs import NAMES, load, load_pair, sixteen_bit

CROP = np.s_[100:171, 120:180]


def extremes():
    """Return pairs whose variances are small differences of large numbers."""
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (80, 70, 3), dtype=np.uint8)
    faint = [np.rint(np.abs(rng.normal(0, 6, noise.shape))).astype(np.uint8) for _ in range(2)]
    white = np.full_like(noise, 255)
    photo = load('coffee.png')[100:180, 120:190]
    halves = photo.copy()
    halves[:, :35] = 255
    return {
        'white': (white - faint[0], white - faint[1]),
        'black': (faint[0], np.zeros_like(white)),
        'opposite': (np.zeros_like(white), white),
        'noise': (noise, noise[::-1]),
        'negative': (photo, 255 - photo),
        'dim': (photo // 2, photo),
        'halves': (halves, np.maximum(halves, 20) - faint[0].clip(0, 20)),
    }


EXTREMES = extremes()


def definition_3d(img, img2, peak=255):
    """Compute 3-D SSIM by its definition in float64, with all 1331 weights of the window."""
    x, y = img.astype(np.float64), img2.astype(np.float64)
    steps = np.arange(-5, 6)
    squares = sum(axis**2 for axis in np.meshgrid(steps, steps, steps, indexing='ij'))
    window = np.exp(-squares / (2 * 1.5**2))
    window /= window.sum()

    def average(values):
        return correlate(values, window, mode='nearest')

    mean_x, mean_y = average(x), average(y)
    variance_x, variance_y = average(x * x) - mean_x**2, average(y * y) - mean_y**2
    covariance = average(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (above / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean()


def scikit_image_ssim(img, img2):
    settings = {'gaussian_weights': True, 'use_sample_covariance': False, 'data_range': np.iinfo(img.dtype).max}
    return structural_similarity(img2, img, channel_axis=-1, **settings)


@pytest.mark.parametrize('name', NAMES)
def test_ssim_matches_scikit_image(name):
    img, img2 = load_pair(name)
    assert ssim(img, img2) == pytest.approx(scikit_image_ssim(img, img2), abs=5e-7)


def test_ssim_of_16_bit_matches_scikit_image():
    img, img2 = (sixteen_bit(image) for image in load_pair('coffee.png'))
    img[::2] += 77  # values that do not occur in 8-bit images
    img2[:, ::3] -= img2[:, ::3] // 99
    assert ssim(img, img2) == pytest.approx(scikit_image_ssim(img, img2), abs=5e-7)


@pytest.mark.parametrize('options', [{}, {'crop_border': 7}, {'test_y_channel': True}])
@pytest.mark.parametrize('name', NAMES[:2])
def test_ssim_matches_basicsr(name, options):
    img, img2 = (image[:220, :300] for image in load_pair(name))
    expected = basicsr_ssim(img, img2, **options)
    assert ssim(img, img2, **options) == pytest.approx(expected, abs=5e-7)
    flipped = (np.moveaxis(image, 2, 0) for image in (img, img2))
    assert ssim(*flipped, input_order='CHW', **options) == pytest.approx(expected, abs=5e-7)


def basicsr_ssim(img, img2, **options):
    patches.apply()
    from basicsr.metrics import calculate_ssim

    return calculate_ssim(img, img2, **{'crop_border': 0, **options})


@pytest.mark.parametrize('kind', EXTREMES)
def test_float32_is_accurate_for_extreme_images(kind):
    img, img2 = EXTREMES[kind]
    assert ssim(img, img2) == pytest.approx(basicsr_ssim(img, img2), abs=2e-6)
    assert ssim_3d(img, img2) == pytest.approx(definition_3d(img, img2), abs=2e-6)


@pytest.mark.parametrize('name', NAMES)
def test_ssim_3d_matches_its_definition(name):
    img, img2 = (image[CROP] for image in load_pair(name))
    expected = definition_3d(img, img2)
    assert ssim_3d(img, img2) == pytest.approx(expected, abs=5e-7)
    assert ssim_3d(sixteen_bit(img), sixteen_bit(img2)) == pytest.approx(expected, abs=5e-7)
    assert ssim_3d(img[..., 1], img2[..., 1]) == pytest.approx(definition_3d(img[..., 1:2], img2[..., 1:2]), abs=5e-7)
    inside = np.s_[4:-4, 4:-4]
    assert ssim_3d(img, img2, crop_border=4) == pytest.approx(definition_3d(img[inside], img2[inside]), abs=5e-7)


@pytest.mark.parametrize('height', [1, 10, 11, STRIP, STRIP + 10, STRIP + 11, 2 * STRIP + 10])
def test_processing_in_strips_does_not_change_the_result(height):
    img, img2 = (image[:height, :40] for image in load_pair('coffee.png'))
    assert ssim_3d(img, img2) == pytest.approx(definition_3d(img, img2), abs=5e-7)
    if height >= 11:
        assert ssim(img, img2) == pytest.approx(basicsr_ssim(img, img2), abs=5e-7)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('width', range(11, 16))
@pytest.mark.parametrize('height', range(11, 16))
def test_small_images(height, width, channels):
    """OpenCV could mistake the few means of small images for a scalar."""
    img, img2 = (image[:height, :width, :channels] for image in load_pair('coffee.png'))
    assert ssim(img, img2) == pytest.approx(basicsr_ssim(img, img2), abs=5e-7)
    img, img2 = (image[10:, 10:] for image in (img, img2))
    assert ssim_3d(img, img2) == pytest.approx(definition_3d(img, img2), abs=5e-7)


@pytest.mark.parametrize('metric', [ssim, ssim_3d])
def test_symmetries_and_bounds(metric):
    img, img2 = (image[CROP] for image in load_pair('astronaut.png'))
    value = metric(img, img2)
    assert 0 < value < 1
    assert metric(img2, img2.copy()) == 1
    assert metric(img2, img) == pytest.approx(value, abs=5e-7)
    for flipped in (np.s_[::-1], np.s_[:, ::-1], np.s_[..., ::-1]):
        assert metric(img[flipped], img2[flipped]) == pytest.approx(value, abs=5e-7)
    assert metric(img2, 255 - img2) < 0.1


@pytest.mark.parametrize('options', [{}, {'crop_border': 5}])
def test_image_smaller_than_the_window(options):
    border = 2 * options.get('crop_border', 0)
    image = np.zeros((10 + border, 40, 3), np.uint8)
    with pytest.raises(UserError, match='at least 11x11 pixels, got 10x'):
        ssim(image, image, **options)
    assert ssim_3d(image, image, **options) == 1
