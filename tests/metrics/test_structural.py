"""Both kinds of SSIM against BasicSR, scikit-image and their definitions."""

import numpy as np
import pytest
from scipy.ndimage import correlate
from skimage.metrics import structural_similarity

from deeprftv2_plugin.basicsr_bridge import patches as compat
from deeprftv2_plugin.metrics import ssim, ssim_3d
from deeprftv2_plugin.metrics.structural import STRIP
from deeprftv2_plugin.utils.errors import UserError

from .pictures import NAMES, load, pair_of, sixteen_bit

CROP = np.s_[100:171, 120:180]


def extremes():
    """Pairs where variances are small differences of large numbers."""
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
    """The formula of SSIM with each of its window's 1331 weights written out, in float64."""
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


def of_scikit_image(img, img2):
    settings = {'gaussian_weights': True, 'use_sample_covariance': False, 'data_range': np.iinfo(img.dtype).max}
    return structural_similarity(img2, img, channel_axis=-1, **settings)


@pytest.mark.parametrize('name', NAMES)
def test_ssim_is_that_of_scikit_image(name):
    img, img2 = pair_of(name)
    assert ssim(img, img2) == pytest.approx(of_scikit_image(img, img2), abs=5e-7)


def test_ssim_of_16_bit_is_that_of_scikit_image():
    img, img2 = (sixteen_bit(picture) for picture in pair_of('coffee.png'))
    img[::2] += 77  # values that 8 bit do not have
    img2[:, ::3] -= img2[:, ::3] // 99
    assert ssim(img, img2) == pytest.approx(of_scikit_image(img, img2), abs=5e-7)


@pytest.mark.parametrize('options', [{}, {'crop_border': 7}, {'test_y_channel': True}])
@pytest.mark.parametrize('name', NAMES[:2])
def test_ssim_is_that_of_basicsr(name, options):
    img, img2 = (picture[:220, :300] for picture in pair_of(name))
    expected = of_basicsr(img, img2, **options)
    assert ssim(img, img2, **options) == pytest.approx(expected, abs=5e-7)
    turned = (np.moveaxis(picture, 2, 0) for picture in (img, img2))
    assert ssim(*turned, input_order='CHW', **options) == pytest.approx(expected, abs=5e-7)


def of_basicsr(img, img2, **options):
    compat.apply()
    from basicsr.metrics import calculate_ssim

    return calculate_ssim(img, img2, **{'crop_border': 0, **options})


@pytest.mark.parametrize('kind', EXTREMES)
def test_float32_is_enough_at_the_extremes(kind):
    img, img2 = EXTREMES[kind]
    assert ssim(img, img2) == pytest.approx(of_basicsr(img, img2), abs=2e-6)
    assert ssim_3d(img, img2) == pytest.approx(definition_3d(img, img2), abs=2e-6)


@pytest.mark.parametrize('name', NAMES)
def test_ssim_3d_is_its_definition(name):
    img, img2 = (picture[CROP] for picture in pair_of(name))
    expected = definition_3d(img, img2)
    assert ssim_3d(img, img2) == pytest.approx(expected, abs=5e-7)
    assert ssim_3d(sixteen_bit(img), sixteen_bit(img2)) == pytest.approx(expected, abs=5e-7)
    assert ssim_3d(img[..., 1], img2[..., 1]) == pytest.approx(definition_3d(img[..., 1:2], img2[..., 1:2]), abs=5e-7)
    inside = np.s_[4:-4, 4:-4]
    assert ssim_3d(img, img2, crop_border=4) == pytest.approx(definition_3d(img[inside], img2[inside]), abs=5e-7)


@pytest.mark.parametrize('height', [1, 10, 11, STRIP, STRIP + 10, STRIP + 11, 2 * STRIP + 10])
def test_strips_do_not_show(height):
    img, img2 = (picture[:height, :40] for picture in pair_of('coffee.png'))
    assert ssim_3d(img, img2) == pytest.approx(definition_3d(img, img2), abs=5e-7)
    if height >= 11:
        assert ssim(img, img2) == pytest.approx(of_basicsr(img, img2), abs=5e-7)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('width', range(11, 16))
@pytest.mark.parametrize('height', range(11, 16))
def test_small_pictures(height, width, channels):
    """Whose means are so few that OpenCV may take them for something else."""
    img, img2 = (picture[:height, :width, :channels] for picture in pair_of('coffee.png'))
    assert ssim(img, img2) == pytest.approx(of_basicsr(img, img2), abs=5e-7)
    img, img2 = (picture[10:, 10:] for picture in (img, img2))
    assert ssim_3d(img, img2) == pytest.approx(definition_3d(img, img2), abs=5e-7)


@pytest.mark.parametrize('metric', [ssim, ssim_3d])
def test_truths_about_both(metric):
    img, img2 = (picture[CROP] for picture in pair_of('astronaut.png'))
    value = metric(img, img2)
    assert 0 < value < 1
    assert metric(img2, img2.copy()) == 1
    assert metric(img2, img) == pytest.approx(value, abs=5e-7)
    for turned in (np.s_[::-1], np.s_[:, ::-1], np.s_[..., ::-1]):
        assert metric(img[turned], img2[turned]) == pytest.approx(value, abs=5e-7)
    assert metric(img2, 255 - img2) < 0.1


@pytest.mark.parametrize('options', [{}, {'crop_border': 5}])
def test_no_window_fits(options):
    border = 2 * options.get('crop_border', 0)
    picture = np.zeros((10 + border, 40, 3), np.uint8)
    with pytest.raises(UserError, match='at least 11x11 pixels, but 10x'):
        ssim(picture, picture, **options)
    assert ssim_3d(picture, picture, **options) == 1
