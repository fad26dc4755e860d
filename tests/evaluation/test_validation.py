import numpy as np
import pytest
import torch
from basicsr.utils import tensor2img

from deeprftv2_plugin.basicsr_bridge import registration
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.evaluation.validation import (
    Scored,
    beside,
    joined,
    means,
    naming,
    picture_name,
    score,
    side_by_side,
    to_8_bit,
    to_pictures,
)
from deeprftv2_plugin.utils.errors import UserError

registration.register()

ALL_VALUES = {8: np.arange(256, dtype=np.uint8), 16: np.arange(65536, dtype=np.uint16)}


def noise(seed, kind=np.uint8, size=(24, 28)):
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max, (*size, 3), dtype=kind, endpoint=True)


@pytest.mark.parametrize('depth', [8, 16])
def test_every_stored_value_comes_back(depth):
    rgb = ALL_VALUES[depth].reshape(16, -1, 1).repeat(3, 2)
    (picture,) = to_pictures(to_tensor(rgb)[None], depth=depth)
    assert picture.dtype == rgb.dtype
    np.testing.assert_array_equal(picture, rgb[..., ::-1])


def test_eight_bits_are_basicsrs():
    values = torch.linspace(-0.5, 1.5, 3 * 40 * 50).reshape(1, 3, 40, 50)
    np.testing.assert_array_equal(to_pictures(values)[0], tensor2img([values]))


def test_depth_is_judged_by_metrics_that_know_it():
    """One level of 16 bit is seen by ours; BasicSR's see pictures of 8 bit, as it promises them."""
    sharp = noise(0, np.uint16) // 2
    found = score(sharp + 1, sharp, {'ours': {'type': 'psnr'}, 'theirs': {'type': 'calculate_psnr', 'crop_border': 0}})
    assert found['ours'] == pytest.approx(20 * np.log10(65535))
    rounded = [to_8_bit(picture) for picture in (sharp + 1, sharp)]
    assert found['theirs'] == score(*rounded, {'psnr': {'type': 'psnr'}})['psnr']


def test_without_ground_truth_only_what_judges_a_single_picture_is_left():
    metrics = {'psnr': {'type': 'psnr'}, 'niqe': {'type': 'calculate_niqe', 'crop_border': 0}}
    assert list(score(noise(0, size=(200, 200)), None, metrics)) == ['niqe']


def test_an_error_says_which_picture_it_is_about():
    with pytest.raises(UserError, match='^7 of GoPro: SSIM needs at least 11x11'), naming('7 of GoPro'):
        score(noise(0, size=(8, 8)), noise(1, size=(8, 8)), {'ssim': {'type': 'ssim'}})


def test_means_do_not_depend_on_who_computed_what():
    values = np.random.default_rng(0).normal(size=100) * 10.0 ** np.arange(-50, 50)
    share = {index: Scored(str(index), 8, {'psnr': value}) for index, value in enumerate(values)}
    found = joined(dict(reversed(share.items())), processes=1)
    assert found == list(share.values())
    assert means(found) == means(found[::-1])
    assert means([]) == {}


def test_pictures_lie_side_by_side_at_one_height():
    small, large = noise(0, size=(20, 30)), noise(1, size=(40, 60))
    assert beside([large, large], 40).shape == (40, 120, 3)
    np.testing.assert_array_equal(beside([small, large], 40)[:, 60:], large)
    np.testing.assert_array_equal(side_by_side([large])[..., ::-1], large)
    np.testing.assert_array_equal(side_by_side([large.astype(np.uint16) * 257]), side_by_side([large]))


@pytest.mark.parametrize(
    ('root', 'path', 'name'),
    [
        ('/data/blur', '/data/blur/GOPR0384/0001.png', 'GOPR0384/0001'),
        ('/data/blur', '/elsewhere/0001.png', '0001'),
        ('/data/blur.lmdb', 'GOPR0384_0001', 'GOPR0384_0001'),
        (None, 'scene050_1', 'scene050_1'),
    ],
)
def test_a_picture_keeps_the_folders_below_the_root(root, path, name):
    class Set:
        opt = {'dataroot_lq': root}

    assert picture_name(Set, path) == name
