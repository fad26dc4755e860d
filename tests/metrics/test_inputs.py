"""Calls of all metrics by BasicSR, and their errors for invalid inputs."""

import inspect
import subprocess
import sys

import cv2
import numpy as np
import pytest

import deeprftv2_plugin
from deeprftv2_plugin import metrics
from deeprftv2_plugin.config.signatures import arguments
from deeprftv2_plugin.metrics.direction import better_of
from deeprftv2_plugin.utils.errors import UserError

from .photographs import load, load_pair

COMPARING = [
    *('psnr', 'psnr_gain', 'ssim', 'ssim_3d', 'aligned_psnr', 'aligned_ssim', 'mae'),
    *('shifted_psnr', 'shifted_ssim', 'error_ratio', 'pyiqa_full_reference'),
]
ALONG_A_TRAJECTORY = ['trajectory_psnr', 'trajectory_mssim']
BLURRY = np.zeros((60, 70, 3), np.uint8)
OPTIONS = {
    'pyiqa_full_reference': {'name': 'lpips'},
    'psnr_gain': {'blurry': BLURRY},
    'error_ratio': {'blurry': BLURRY, 'kernel': np.full((3, 3), 1 / 9)},
}


def test_metrics_do_not_import_basicsr_or_pyiqa():
    program = "import sys, deeprftv2_plugin.metrics; sys.exit('basicsr' in sys.modules or 'pyiqa' in sys.modules)"
    subprocess.run([sys.executable, '-c', program], check=True)


def blank(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


def test_every_metric_is_tested():
    assert set(metrics.__all__) == {*COMPARING, *ALONG_A_TRAJECTORY, 'pyiqa_no_reference'}


@pytest.mark.parametrize('name', COMPARING[:-1])
def test_basicsr_finds_metrics_and_passes_all_options(name):
    deeprftv2_plugin.register()
    from basicsr.metrics import calculate_metric

    img, img2 = (image[:60, :70] for image in load_pair('coffee.png'))
    options = OPTIONS.get(name, {})
    value = calculate_metric({'img': img, 'img2': img2}, {'type': name, 'better': 'higher', **options})
    assert type(value) is float
    assert value == getattr(metrics, name)(img, img2, **options)


@pytest.mark.parametrize('name', [*COMPARING[:-1], 'calculate_niqe'])
def test_better_values_are_those_of_the_better_image(name):
    deeprftv2_plugin.register()
    from basicsr.metrics import calculate_metric

    side, size = 200 if name == 'calculate_niqe' else 60, 5
    sharp = load('coffee.png')[:side, :side]
    known = {'psnr_gain': {'blurry': sharp[::-1]}, 'calculate_niqe': {'crop_border': 0}}
    known['error_ratio'] = {'blurry': cv2.blur(sharp, (size, size)), 'kernel': np.full((size, size), 1 / size**2)}
    settings = {'type': name, **known.get(name, {})}
    good, bad = (
        calculate_metric({'img': cv2.blur(sharp, (width, width)), 'img2': sharp}, settings) for width in (2, size)
    )
    assert good != bad and (good > bad) == (better_of(settings) == 'higher')


@pytest.mark.parametrize('name', metrics.__all__)
def test_misspelled_option_is_an_error(name):
    metric = getattr(metrics, name)
    img = blank(16, 16, 3)
    with pytest.raises(TypeError, match='crop_boarder'):
        metric(img=img, img2=img, better='higher', crop_boarder=4, **OPTIONS.get(name, {}))
    assert {'img2', 'crop_boarder', 'better'} & arguments(metric, given=('img', 'img2')).known == set()
    assert ('img2' in inspect.signature(metric).parameters) == (name in COMPARING)


@pytest.mark.parametrize(
    ('img', 'img2', 'message'),
    [
        (blank(16, 17, 3), blank(16, 18, 3), '16x17x3 uint8 and a ground truth of 16x18x3 uint8, expected equal size'),
        (blank(16, 17, 3), blank(16, 17), '16x17x3 uint8 and a ground truth of 16x17 uint8'),
        (blank(16, 17, 3), blank(16, 17, 3, dtype=np.uint16), 'ground truth of 16x17x3 uint16, expected equal'),
        (
            blank(16, 17, 3, dtype=np.float32),
            blank(16, 17, 3),
            '16x17x3 float32, expected an image of uint8 or uint16',
        ),
        (blank(16, 17, 3), None, 'a metric got NoneType'),
        (blank(16, 17, 4), blank(16, 17, 4), r'16x17x4 uint8, expected \(H, W, 3\)'),
        (blank(16), blank(16), '16 uint8, expected'),
        (blank(0, 17, 3), blank(0, 17, 3), '0x17x3 uint8, expected'),
    ],
)
@pytest.mark.parametrize('name', COMPARING)
def test_invalid_images_are_rejected(name, img, img2, message):
    with pytest.raises(UserError, match=message):
        getattr(metrics, name)(img, img2, **OPTIONS.get(name, {}))


@pytest.mark.parametrize('crop_border', [-1, 8, '2', 1.0, None])
@pytest.mark.parametrize('name', ['psnr', 'ssim', 'ssim_3d'])
def test_invalid_crop_border_is_rejected(name, crop_border):
    img = blank(16, 17, 3)
    with pytest.raises(UserError, match=f'crop_border of a metric is {crop_border!r}, expected .* of 16x17x3'):
        getattr(metrics, name)(img, img, crop_border=crop_border)


@pytest.mark.parametrize('name', ['psnr', 'ssim'])
def test_unknown_input_order_is_rejected(name):
    with pytest.raises(UserError, match="input_order of a metric is 'hwc', expected HWC or CHW"):
        getattr(metrics, name)(blank(16, 17, 3), blank(16, 17, 3), input_order='hwc')


@pytest.mark.parametrize('name', ['psnr', 'ssim', 'ssim_3d', 'mae'])
def test_channel_axis_of_grayscale_images_is_optional(name):
    img, img2 = (image[:60, :70, 1] for image in load_pair('coffee.png'))
    metric = getattr(metrics, name)
    assert metric(img, img2) == metric(img[..., None], img2[..., None]) == metric(img[..., None], img2)
