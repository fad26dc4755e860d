"""PSNR and MAE compared with BasicSR, scikit-image and direct computation."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from deeprftv2_plugin.basicsr_bridge import patches
from deeprftv2_plugin.metrics import mae, psnr, psnr_gain

from .photographs import NAMES, load, load_pair, sixteen_bit


@pytest.mark.parametrize('name', NAMES)
def test_psnr_matches_scikit_image(name):
    img, img2 = load_pair(name)
    assert psnr(img, img2) == pytest.approx(peak_signal_noise_ratio(img2, img), abs=1e-10)
    expected = peak_signal_noise_ratio(sixteen_bit(img2), sixteen_bit(img))
    assert psnr(sixteen_bit(img), sixteen_bit(img2)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize('options', [{}, {'crop_border': 7}, {'test_y_channel': True}])
@pytest.mark.parametrize('name', NAMES[:2])
def test_psnr_matches_basicsr(name, options):
    patches.apply()
    from basicsr.metrics import calculate_psnr

    img, img2 = load_pair(name)
    expected = calculate_psnr(img, img2, **{'crop_border': 0, **options})
    assert psnr(img, img2, **options) == pytest.approx(expected, abs=1e-6)
    transposed = (np.moveaxis(image, 2, 0) for image in (img, img2))
    assert psnr(*transposed, input_order='CHW', **options) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('dtype, peak', [(np.uint8, 255), (np.uint16, 65535)])
def test_known_values(dtype, peak):
    black, white = np.zeros((5, 7, 3), dtype), np.full((5, 7, 3), peak, dtype)
    almost = black.copy()
    almost[0, 0, 0] = peak
    assert psnr(black, white) == pytest.approx(0, abs=1e-12)
    assert mae(black, white) == 1
    assert psnr(almost, black) == pytest.approx(10 * np.log10(black.size))
    assert mae(almost, black) == pytest.approx(1 / black.size)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_mae_is_the_mean_absolute_difference(dtype):
    images = (image.astype(dtype) for image in load_pair('coffee.png'))
    peak = np.iinfo(dtype).max
    img, img2 = images
    assert mae(img, img2) == pytest.approx(np.abs(img / peak - img2 / peak).mean(), abs=1e-12)


@pytest.mark.parametrize('options', [{}, {'test_y_channel': True}, {'crop_border': 3}])
def test_psnr_of_equal_images_is_infinite(options):
    image = load('coffee.png')
    assert psnr(image, image.copy(), **options) == float('inf')
    assert mae(image, image.copy()) == 0


def test_gain_is_the_difference_of_two_psnr():
    result, sharp = load_pair('coffee.png')
    blurry = np.full_like(sharp, 90)
    expected = peak_signal_noise_ratio(sharp, result) - peak_signal_noise_ratio(sharp, blurry)
    assert psnr_gain(result, sharp, blurry) == pytest.approx(expected)
    assert psnr_gain(blurry, sharp, blurry) == 0
    assert psnr_gain(result, sharp, sharp) == float('-inf')


def test_luma_of_a_grayscale_image_is_itself():
    img, img2 = (image[..., 1] for image in load_pair('coffee.png'))
    assert psnr(img, img2, test_y_channel=True) == psnr(img[..., None], img2[..., None])
