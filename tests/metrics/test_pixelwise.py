"""PSNR and MAE against BasicSR, scikit-image and sums written out."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from deeprftv2_plugin.basicsr_bridge import patches as compat
from deeprftv2_plugin.metrics import mae, psnr

from .pictures import NAMES, load, pair_of, sixteen_bit


@pytest.mark.parametrize('name', NAMES)
def test_psnr_is_that_of_scikit_image(name):
    img, img2 = pair_of(name)
    assert psnr(img, img2) == pytest.approx(peak_signal_noise_ratio(img2, img), abs=1e-10)
    expected = peak_signal_noise_ratio(sixteen_bit(img2), sixteen_bit(img))
    assert psnr(sixteen_bit(img), sixteen_bit(img2)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize('options', [{}, {'crop_border': 7}, {'test_y_channel': True}])
@pytest.mark.parametrize('name', NAMES[:2])
def test_psnr_is_that_of_basicsr(name, options):
    compat.apply()
    from basicsr.metrics import calculate_psnr

    img, img2 = pair_of(name)
    expected = calculate_psnr(img, img2, **{'crop_border': 0, **options})
    assert psnr(img, img2, **options) == pytest.approx(expected, abs=1e-6)
    turned = (np.moveaxis(picture, 2, 0) for picture in (img, img2))
    assert psnr(*turned, input_order='CHW', **options) == pytest.approx(expected, abs=1e-6)


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
def test_mae_is_the_mean_of_the_differences(dtype):
    pictures = (picture.astype(dtype) for picture in pair_of('coffee.png'))
    peak = np.iinfo(dtype).max
    img, img2 = pictures
    assert mae(img, img2) == pytest.approx(np.abs(img / peak - img2 / peak).mean(), abs=1e-12)


@pytest.mark.parametrize('options', [{}, {'test_y_channel': True}, {'crop_border': 3}])
def test_psnr_of_equal_pictures_is_infinite(options):
    picture = load('coffee.png')
    assert psnr(picture, picture.copy(), **options) == float('inf')
    assert mae(picture, picture.copy()) == 0


def test_luma_of_a_gray_picture_is_itself():
    img, img2 = (picture[..., 1] for picture in pair_of('coffee.png'))
    assert psnr(img, img2, test_y_channel=True) == psnr(img[..., None], img2[..., None])
