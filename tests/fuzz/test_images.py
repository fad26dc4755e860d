"""Damaged image files.

PNG has checksums: the pixels are correct, or there is an error. The other formats have no checksums, or none for the
whole file, so changed pixels cannot be detected. For them, truncation must be detected, and nothing may crash.
"""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

import deeprftv2_plugin
from deeprftv2_plugin.data.layouts.pairs import Pair
from deeprftv2_plugin.data.preparation.crops import CropGrid, encode_pair
from deeprftv2_plugin.data.preparation.verification import Check, find_problems
from deeprftv2_plugin.data.storage.decoding import decode
from deeprftv2_plugin.data.storage.images import StoredImage

from . import check, damaged

deeprftv2_plugin.register()  # BasicSR can be imported from here on
from deeprftv2_plugin.preflight.data import check_pairs  # noqa: E402

RGB = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8), (5, 5), 0)
RGBA = np.dstack([RGB, RGB[..., :1]])
DEEP = RGB.astype(np.uint16) * 257
LZW, DEFLATE, PACKED, RAW = (
    (cv2.IMWRITE_TIFF_COMPRESSION, kind)
    for kind in (
        cv2.IMWRITE_TIFF_COMPRESSION_LZW,
        cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE,
        cv2.IMWRITE_TIFF_COMPRESSION_PACKBITS,
        cv2.IMWRITE_TIFF_COMPRESSION_NONE,
    )
)


def encode(image, suffix, *settings):
    return cv2.imencode(suffix, image, settings)[1].tobytes()


def encode_by_pillow(mode, **settings):
    file = io.BytesIO()
    image = Image.fromarray(RGB)
    (image.quantize(64) if mode == 'P' else image.convert(mode)).save(file, **settings)
    return file.getvalue()


PNG = {
    '8 bit': encode(RGB, '.png'),
    '16 bit': encode(DEEP, '.png'),
    'gray': encode(RGB[..., 0], '.png'),
    'transparent': encode(RGBA, '.png'),
    'palette': encode_by_pillow('P', format='PNG', transparency=3),
}
OTHERS = {
    'JPEG': {
        'baseline': encode(RGB, '.jpg'),
        'progressive': encode(RGB, '.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        'restart markers': encode(RGB, '.jpg', cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        'gray': encode(RGB[..., 0], '.jpg'),
        'CMYK': encode_by_pillow('CMYK', format='JPEG', dpi=(72, 72)),
    },
    'TIFF': {
        **{f'LZW {image.dtype}': encode(image, '.tif', *LZW) for image in (RGB, DEEP, RGBA)},
        **{f'Deflate {image.dtype}': encode(image, '.tif', *DEFLATE) for image in (RGB, DEEP)},
        **{f'PackBits {image.dtype}': encode(image, '.tif', *PACKED) for image in (RGB, DEEP)},
        **{f'no compression {image.dtype}': encode(image, '.tif', *RAW) for image in (RGB, DEEP)},
        # in this file the directory is before the pixels
        'Pillow LZW': encode_by_pillow('RGB', format='TIFF', compression='tiff_lzw'),
        'Pillow': encode_by_pillow('L', format='TIFF'),
        'JPEG': encode_by_pillow('RGB', format='TIFF', compression='jpeg'),
    },
    'BMP': {
        '24 bit': encode(RGB, '.bmp'),
        '8 bit': encode(RGB[..., 0], '.bmp'),
        '32 bit': encode(RGBA, '.bmp'),
        'palette': encode_by_pillow('P', format='BMP'),
    },
    'WebP': {
        'lossy': encode(RGB, '.webp', cv2.IMWRITE_WEBP_QUALITY, 80),
        'lossless': encode(RGB, '.webp', cv2.IMWRITE_WEBP_QUALITY, 101),
        'transparent': encode_by_pillow('RGBA', format='WEBP', exif=b'Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0'),
    },
}


def use(path):
    """Read an image in the same ways as a run, the preparation and the checks, and return its pixels."""
    pair = Pair('a', StoredImage(str(path)), StoredImage(str(path)))
    problems = find_problems(Check(pair))
    findings = list(check_pairs('a', [pair], [16]))
    image = pair.lq.read()
    encode_pair(pair, CropGrid(32, 32))
    assert not problems and findings[-1].mark
    return image


def trial(encoded, path, has_checksums):
    def run(random):
        name = random.choice(sorted(encoded))
        data = damaged(encoded[name], random)
        path.write_bytes(data)
        image, expected = use(path), decode(encoded[name], name)
        truncated = encoded[name].startswith(data)
        return np.array_equal(image, expected) or not (truncated or has_checksums)

    return run


@pytest.mark.parametrize('kind', ['PNG', *OTHERS])
def test_damaged_images(kind, tmp_path, capfd):
    encoded = OTHERS.get(kind, PNG)
    for data in encoded.values():
        (tmp_path / 'whole').write_bytes(data)
        assert use(tmp_path / 'whole').shape == RGB.shape
    counts = check(kind, trial(encoded, tmp_path / 'damaged', kind == 'PNG'), short=80)
    assert counts['clear'] > 10
