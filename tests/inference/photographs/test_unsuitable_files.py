"""Files and sizes that are not supported are errors that say what is wrong."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from deeprftv2_plugin.data.storage.images import encode_png
from deeprftv2_plugin.inference.photographs.photograph import Photograph
from deeprftv2_plugin.inference.photographs.reading import read
from deeprftv2_plugin.inference.photographs.writing import MAX_SIDE, check_target, encode, format_of
from deeprftv2_plugin.utils.errors import UserError
from tests.inference.photographs.samples import png_chunk, random_image, smooth, tiff_of, written


def png_of(width, height):
    """Return the start and the end of a PNG file for a large image."""
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = [(b'IHDR', header), (b'IDAT', zlib.compress(bytes(10**6))), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(png_chunk(kind, data) for kind, data in parts)


def jpeg():
    file = io.BytesIO()
    Image.fromarray(smooth((64, 64))).save(file, 'JPEG')
    return file.getvalue()


def frames(format, **options):
    file = io.BytesIO()
    images = [Image.fromarray(smooth()), Image.fromarray(255 - smooth())]
    images[0].save(file, format, save_all=True, append_images=images[1:], **options)
    return file.getvalue()


def tiff_with(tag, value):
    """Return a TIFF file with 16 bits and a changed value of a tag."""
    data = bytearray(encode(Photograph(random_image(np.uint16)), 'TIFF'))
    at = next(at for at in range(10, 300, 12) if struct.unpack_from('<H', data, at) == (tag,))
    struct.pack_into('<I', data, at + 8, value)
    return bytes(data)


def large_tiff():
    """Return a TIFF file with 16 bits whose tags claim a billion pixels."""
    data = bytearray(encode(Photograph(random_image(np.uint16)), 'TIFF'))
    for number, tag in enumerate((256, 257)):  # the first entries
        at = 10 + 12 * number
        assert struct.unpack_from('<H', data, at) == (tag,)
        data[at : at + 12] = struct.pack('<HHII', tag, 4, 1, 40_000)
    return bytes(data)


def gray_tiff(channels):
    return tiff_of(random_image(np.uint16, channels), photometric='minisblack', planarconfig='contig')


def planes(dtype, channels):
    photometric = 'rgb' if channels == 3 else 'minisblack'
    array = np.full((channels, 9, 14), 5, dtype)
    return tiff_of(array, photometric=photometric, planarconfig='separate', compression='deflate')


@pytest.mark.parametrize(
    'name, data, message',
    [
        ('text.png', b'not an image', 'text.png is not an image in a format that Pillow reads'),
        ('empty.jpg', b'', 'the file is empty'),
        ('cut.jpg', jpeg()[:-300], 'ends after .* without an end marker'),
        ('cut.png', encode_png(smooth())[:-20], 'ends after .* bytes'),
        ('cut.webp', frames('WEBP')[:100], 'cut.webp'),
        ('bomb.png', png_of(100_000, 100_000), 'too large .10,000,000,000 pixels, limit 178,956,970.: cut it'),
        ('bomb.tif', large_tiff(), 'too large .1,600,000,000 pixels, limit 178,956,970.: cut it'),
        ('two.gif', frames('GIF'), 'has 2 frames, expected one'),
        ('two.webp', frames('WEBP'), 'has 2 frames, expected one'),
        ('two.png', frames('PNG'), 'has 2 frames, expected one'),
        ('two.tif', frames('TIFF'), 'has 2 pages, expected one'),
        ('gray.tif', gray_tiff(2), 'more than 8 bits and 2 channels'),
        ('more.tif', tiff_of(random_image(np.uint16, 5), photometric='rgb'), 'more than 8 bits and 5 channels'),
        ('three.tif', gray_tiff(3), 'more than 8 bits and 3 channels'),
        ('cmyk.tif', tiff_with(262, 5), 'more than 8 bits and is not RGB'),
        ('planes.tif', planes(np.uint16, 3), 'stores its colors in separate planes'),
        ('gray_planes.tif', planes(np.uint8, 2), 'stores its colors in separate planes'),
        ('int8.tif', tiff_of(random_image(np.int8, 1)), 'has signed integers of 8 bits, expected unsigned integers'),
        ('int16.tif', tiff_of(random_image(np.int16), photometric='rgb'), 'has signed integers of 16 bits'),
        ('int32.tif', tiff_of(random_image(np.uint32), photometric='rgb'), 'has integers of 32 bits'),
        ('half.tif', tiff_of(random_image(np.float16), photometric='rgb'), 'has floating-point numbers of 16 bits'),
        ('lerc.tif', tiff_with(259, 34887), 'LERC compression .* Save it with another compression'),
        ('hdr.tif', cv2.imencode('.tif', np.full((9, 9), 2, np.float32))[1].tobytes(), r'values from 2\.0 to 2\.0'),
        ('nan.tif', cv2.imencode('.tif', np.full((9, 9), np.nan, np.float32))[1].tobytes(), 'values from nan'),
        ('program.eps', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n', 'not an image'),
        ('tags.tif', b'II*\0\xff\xff\xff\0', 'tags.tif is not an image'),
    ],
)
def test_errors_name_unsuitable_files(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('suffix', ['.jpg', '.webp', '.avif'])
@pytest.mark.parametrize('columns', [1, 2])
def test_sizes_that_formats_cannot_store_are_errors(tmp_path, suffix, columns):
    path = tmp_path / f'a{suffix}'
    if format_of(path) is None:
        pytest.skip('this Pillow does not write the format')
    limit = MAX_SIDE[format_of(path)]
    largest = Photograph(np.zeros((8, limit // columns), np.uint8))
    larger = Photograph(np.zeros((8, limit // columns + 1), np.uint8))
    with pytest.raises(UserError, match=rf'cannot store \d+x8 pixels, its limit is {limit} .*: use \.png or \.tif'):
        check_target(larger, path, columns)
    assert check_target(larger, tmp_path / 'a.png', columns) == 'PNG'
    check_target(largest, path, columns)
    found = read(written(tmp_path, Photograph(np.zeros((limit, 8), np.uint8)), suffix))
    assert found.pixels.shape[:2] == (limit, 8)


def test_folders_and_pipes_are_not_opened(tmp_path):
    os.mkdir(tmp_path / 'x.png')
    with pytest.raises(UserError, match='is a folder'):
        read(tmp_path / 'x.png')
    if hasattr(os, 'mkfifo'):
        os.mkfifo(tmp_path / 'y.png')
        with pytest.raises(UserError, match='is a named pipe'):
            read(tmp_path / 'y.png')
