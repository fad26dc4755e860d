import numpy as np
import pytest
import torch
from basicsr.utils import tensor2img

from deeprftv2_plugin.basicsr_bridge import registration
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.evaluation.validation import (
    ImageScore,
    compute_metrics,
    error_context,
    gather_scores,
    image_name,
    mean_metrics,
    side_by_side,
    thumbnail,
    to_8_bit,
    to_images,
)
from deeprftv2_plugin.utils.errors import UserError

registration.register()

ALL_VALUES = {8: np.arange(256, dtype=np.uint8), 16: np.arange(65536, dtype=np.uint16)}


def noise(seed, kind=np.uint8, size=(24, 28)):
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, (*size, 3), dtype=kind, endpoint=True)


@pytest.mark.parametrize('depth', [8, 16])
def test_every_pixel_value_survives_the_round_trip(depth):
    rgb = ALL_VALUES[depth].reshape(16, -1, 1).repeat(3, 2)
    (image,) = to_images(to_tensor(rgb)[None], depth=depth)
    assert image.dtype == rgb.dtype
    np.testing.assert_array_equal(image, rgb[..., ::-1])


def test_eight_bit_conversion_matches_basicsr():
    values = torch.linspace(-0.5, 1.5, 3 * 40 * 50).reshape(1, 3, 40, 50)
    np.testing.assert_array_equal(to_images(values)[0], tensor2img([values]))


def test_only_metrics_of_this_package_get_16_bit():
    """Metrics of this package measure a difference of one 16-bit level. BasicSR's get images rounded to 8 bit."""
    sharp = noise(0, np.uint16) // 2
    found = compute_metrics(
        sharp + 1, sharp, {'ours': {'type': 'psnr'}, 'theirs': {'type': 'calculate_psnr', 'crop_border': 0}}
    )
    assert found['ours'] == pytest.approx(20 * np.log10(65535))
    rounded = [to_8_bit(image) for image in (sharp + 1, sharp)]
    assert found['theirs'] == compute_metrics(*rounded, {'psnr': {'type': 'psnr'}})['psnr']


def test_gain_compares_with_the_blurry_image():
    sharp, result, blurry = (noise(seed, np.uint16) for seed in range(3))
    metrics = {'gain': {'type': 'psnr_gain'}, 'psnr': {'type': 'psnr'}}
    found = compute_metrics(result, sharp, metrics, blurry=blurry)
    assert found['gain'] == found['psnr'] - compute_metrics(blurry, sharp, {'psnr': {'type': 'psnr'}})['psnr']


def test_without_ground_truth_only_no_reference_metrics_remain():
    metrics = {'psnr': {'type': 'psnr'}, 'niqe': {'type': 'calculate_niqe', 'crop_border': 0}}
    assert list(compute_metrics(noise(0, size=(200, 200)), None, metrics)) == ['niqe']


def test_errors_name_the_image():
    with pytest.raises(UserError, match='^7 of GoPro: SSIM needs at least 11x11'), error_context('7 of GoPro'):
        compute_metrics(noise(0, size=(8, 8)), noise(1, size=(8, 8)), {'ssim': {'type': 'ssim'}})


def test_means_do_not_depend_on_the_order():
    values = np.random.default_rng(0).normal(size=100) * 10.0 ** np.arange(-50, 50)
    share = {index: ImageScore(str(index), 8, {'psnr': value}) for index, value in enumerate(values)}
    found = gather_scores(dict(reversed(share.items())), processes=1)
    assert found == list(share.values())
    assert mean_metrics(found) == mean_metrics(found[::-1])
    assert mean_metrics([]) == {}


def test_images_are_scaled_to_the_same_height_side_by_side():
    small, large = noise(0, size=(20, 30)), noise(1, size=(40, 60))
    assert side_by_side([large, large], 40).shape == (40, 120, 3)
    np.testing.assert_array_equal(side_by_side([small, large], 40)[:, 60:], large)
    np.testing.assert_array_equal(thumbnail([large])[..., ::-1], large)
    np.testing.assert_array_equal(thumbnail([large.astype(np.uint16) * 257]), thumbnail([large]))


@pytest.mark.parametrize(
    ('root', 'path', 'name'),
    [
        ('/data/blur', '/data/blur/GOPR0384/0001.png', 'GOPR0384/0001'),
        ('/data/blur', '/elsewhere/0001.png', '0001'),
        ('/data/blur.lmdb', 'GOPR0384_0001', 'GOPR0384_0001'),
        (None, 'scene050_1', 'scene050_1'),
        (None, '../../scene050/1.png', 'scene050/1'),
        ('/data/blur.lmdb', '../../.ssh/0001', '.ssh/0001'),
    ],
)
def test_image_name_is_the_path_below_the_root(root, path, name):
    class Set:
        opt = {'dataroot_lq': root}

    assert image_name(Set, path) == name
