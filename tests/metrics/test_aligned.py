"""The alignment of RealBlur, compared with known motion and with the published procedure."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage.metrics import structural_similarity

from deeprftv2_plugin.metrics import aligned, aligned_psnr, aligned_ssim, psnr, ssim
from deeprftv2_plugin.utils.errors import UserError

from .photographs import load, restored, sixteen_bit

MOVES = [
    dict(angle=0.4, shift=(3.3, -2.4), dim=0.85),
    dict(angle=-0.7, shift=(-1.2, 4.6), dim=0.6),
    dict(angle=0, shift=(5.2, -3.7), dim=1),
]


def sharp_image(name='astronaut.png'):
    """Return an enlarged photograph, for which interpolation errors are small."""
    return cv2.resize(load(name)[40:120, 60:165], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)


def moved(sharp, angle, shift, dim):
    """Rotate an image by `angle` degrees about its center, shift it by (dx, dy) pixels and scale its brightness.

    The interpolation, splines of order five, is independent of the one that the alignment uses.
    """
    height, width = sharp.shape[:2]
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1]).reshape(2, 1, 1) / 2
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    source = (
        sine * x + cosine * y + (height - 1) / 2 + shift[1],
        cosine * x - sine * y + (width - 1) / 2 + shift[0],
    )
    channels = np.moveaxis(sharp.astype(np.float64), 2, 0)
    drawn = np.stack([map_coordinates(channel, source, order=5, mode='mirror') for channel in channels], axis=2)
    return np.rint(dim * drawn).clip(0, 255).astype(np.uint8)


def published(img, img2):
    """Return PSNR and SSIM as computed by the published script for RealBlur, on RGB in [0, 1]."""
    z, x = (cv2.cvtColor(p, cv2.COLOR_BGR2RGB).astype(np.float32) / np.iinfo(p.dtype).max for p in (img, img2))
    zs = (np.sum(x * z) / np.sum(z * z)) * z
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
    grays = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (x, zs)]
    _, warp = cv2.findTransformECC(*grays, np.eye(3, 3, dtype=np.float32), cv2.MOTION_HOMOGRAPHY, criteria, None, 5)
    size = (x.shape[1], x.shape[0])
    flags = cv2.INTER_CUBIC + cv2.WARP_INVERSE_MAP
    zr = cv2.warpPerspective(zs, warp, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
    flags = cv2.INTER_NEAREST + cv2.WARP_INVERSE_MAP
    ones = np.ones_like(zs)
    cr = cv2.warpPerspective(ones, warp, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    zr, xr = zr * cr, x * cr
    error = np.sum((xr - zr) ** 2, dtype=np.float64) / np.sum(cr)
    settings = {'channel_axis': -1, 'gaussian_weights': True, 'use_sample_covariance': False, 'data_range': 1.0}
    # in float64, which scikit-image used when the script was written
    _, values = structural_similarity(xr.astype(np.float64), zr.astype(np.float64), full=True, **settings)
    inner = np.s_[5:-5, 5:-5]
    similarity = (values * cr)[inner].sum(axis=(0, 1)) / cr[inner].sum(axis=(0, 1))
    return 10 * np.log10(1 / error), similarity.mean()


@pytest.mark.parametrize('name', ['astronaut.png', 'coffee.png', 'motorcycle_left.png'])
@pytest.mark.parametrize('move', MOVES)
def test_known_motion_is_undone(name, move):
    sharp = sharp_image(name)
    result = moved(sharp, **move)
    assert aligned_psnr(result, sharp) > 45
    assert aligned_ssim(result, sharp) > 0.99
    assert psnr(result, sharp) < 30


@pytest.mark.parametrize('convert', [np.asarray, sixteen_bit])
@pytest.mark.parametrize('move', MOVES)
def test_metrics_match_the_published_procedure(move, convert):
    sharp = sharp_image('coffee.png')
    for result in (moved(sharp, **move), restored(moved(sharp, **move))):
        expected = published(convert(result), convert(sharp))
        assert aligned_psnr(convert(result), convert(sharp)) == pytest.approx(expected[0], abs=1e-3)
        assert aligned_ssim(convert(result), convert(sharp)) == pytest.approx(expected[1], abs=1e-6)


def test_brightness_does_not_change_the_score():
    sharp = sharp_image()
    blurry = restored(sharp, dim=0.9)
    assert aligned_psnr(blurry // 2, sharp) == pytest.approx(aligned_psnr(blurry, sharp), abs=0.3)


def test_grayscale_images_are_aligned():
    sharp = sharp_image()
    result = moved(sharp, **MOVES[0])
    gray = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (result, sharp)]
    assert aligned_psnr(*gray) > 45
    repeated = [np.repeat(image[..., None], 3, axis=2) for image in gray]
    for metric in (aligned_psnr, aligned_ssim):
        assert metric(*gray) == pytest.approx(metric(*repeated), abs=1e-2)


def test_equal_images_have_a_perfect_score():
    sharp = sharp_image()
    assert aligned_psnr(sharp, sharp.copy()) == float('inf')
    assert aligned_ssim(sharp, sharp.copy()) == 1


@pytest.mark.parametrize('fill', [0, 90])
def test_failed_alignment_falls_back_to_the_original_images(fill):
    sharp = sharp_image()
    plain = np.full_like(sharp, fill)
    with pytest.warns(UserWarning, match='could not be aligned'):
        assert aligned_psnr(plain, sharp) == pytest.approx(psnr(plain, sharp), abs=1e-5)
    assert aligned_ssim(plain, sharp) == pytest.approx(ssim(plain, sharp), abs=1e-6)


def test_result_moved_out_of_the_frame_is_not_aligned(monkeypatch):
    away = np.array([[1, 0, 9999], [0, 1, 0], [0, 0, 1]], np.float32)
    monkeypatch.setattr(cv2, 'findTransformECC', lambda *arguments: (1.0, away))
    sharp = sharp_image()
    result = restored(sharp, seed=5)
    with pytest.warns(UserWarning, match='moved out of the frame'):
        assert aligned_psnr(result, sharp) == pytest.approx(psnr(result, sharp), abs=1e-5)
    aligned._align.cache_clear()


def test_alignment_is_cached_for_both_metrics(monkeypatch):
    found = []

    def count(result, reference):
        found.append(result)
        return aligned.Alignment(result, reference, np.ones(result.shape[:2], np.float32))

    monkeypatch.setattr(aligned, 'warp', count)
    sharp = sharp_image()
    result = restored(sharp)
    aligned._align.cache_clear()
    score = aligned_psnr(result, sharp), aligned_ssim(result.copy(), sharp.copy())
    assert len(found) == 1
    result[:8] //= 2  # the same array with different content
    assert aligned_psnr(result, sharp) != score[0]
    aligned_psnr(result.astype(np.uint16), sharp.astype(np.uint16))
    aligned_psnr(sharp, result.copy())
    assert len(found) == 4
    aligned._align.cache_clear()


def test_image_smaller_than_the_ssim_window():
    with pytest.raises(UserError, match='at least 11x11'):
        aligned_ssim(np.zeros((8, 40, 3), np.uint8), np.zeros((8, 40, 3), np.uint8))
    with pytest.warns(UserWarning, match='could not be aligned'):
        assert np.isfinite(aligned_psnr(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 3), np.uint8)))
