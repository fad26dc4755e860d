"""Photographs in files keep their pixels in every format and bit depth."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from deeprftv2_plugin.data.storage import decoding
from deeprftv2_plugin.inference.photographs import reading
from deeprftv2_plugin.inference.photographs.photograph import Metadata, Photograph
from deeprftv2_plugin.inference.photographs.reading import read
from deeprftv2_plugin.inference.photographs.writing import SETTINGS, check_target, format_of
from deeprftv2_plugin.utils.errors import UserError
from tests.inference.photographs.profiles import SRGB, cmyk_profile
from tests.inference.photographs.samples import exif, png_chunk, random_image, smooth, tiff_of, written

LOSSLESS = {'.png': (np.uint8, np.uint16), '.tif': (np.uint8, np.uint16, np.float32), '.bmp': (np.uint8,)}


@pytest.mark.parametrize('suffix, dtype', [(suffix, dtype) for suffix, types in LOSSLESS.items() for dtype in types])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('transparent', [False, True])
def test_lossless_formats_return_every_pixel(tmp_path, suffix, dtype, channels, transparent):
    alpha = random_image(dtype, 1)[::-1] if transparent else None
    photo = Photograph(random_image(dtype, channels), alpha)
    if suffix == '.bmp' and transparent:
        with pytest.raises(UserError, match='BMP cannot store the transparency'):
            check_target(photo, tmp_path / 'a.bmp')
        return
    found = read(written(tmp_path, photo, suffix))
    assert found.pixels.dtype == dtype
    deep_gray_tiff = suffix == '.tif' and dtype != np.uint8 and channels == 1 and transparent
    expected = np.dstack([photo.pixels] * 3) if deep_gray_tiff else photo.pixels
    np.testing.assert_array_equal(found.pixels, expected)
    assert (found.alpha is None) == (not transparent)
    if transparent:
        assert found.alpha.dtype == dtype
        np.testing.assert_array_equal(found.alpha, alpha)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_pixels_can_have_any_order_in_memory(tmp_path, suffix):
    """The network returns channels first, which are only transposed."""
    array = np.ascontiguousarray(random_image(np.uint16).transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_array_equal(read(written(tmp_path, Photograph(array), suffix)).pixels, array)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_tiff_is_read_by_opencv(tmp_path, dtype):
    photo = Photograph(random_image(dtype, size=(700, 300)))  # several strips
    path = written(tmp_path, photo, '.tif')
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found[..., ::-1], photo.pixels)


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_tiff_with_double_precision_is_read(tmp_path, channels):
    array = random_image(np.float64, channels)
    (tmp_path / 'a.tif').write_bytes(tiff_of(array, photometric='minisblack' if channels == 1 else 'rgb'))
    found = read(tmp_path / 'a.tif')
    assert found.pixels.dtype == np.float64
    np.testing.assert_array_equal(found.pixels, array[..., :3] if channels > 1 else array)


@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
@pytest.mark.parametrize('channels', [1, 3])
def test_tiff_of_opencv_is_read(tmp_path, dtype, channels):
    array = random_image(dtype, channels)
    array_bgr = array[..., ::-1] if channels == 3 else array
    data = cv2.imencode('.tiff', array_bgr, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1]  # OpenCV 4 would lose precision
    (tmp_path / 'a.tif').write_bytes(data)
    np.testing.assert_array_equal(read(tmp_path / 'a.tif').pixels, array)


@pytest.mark.parametrize('suffix', ['.jpg', '.webp', '.jp2', '.avif'])
@pytest.mark.parametrize('transparent', [False, True])
def test_lossy_formats_return_similar_pixels(tmp_path, suffix, transparent):
    if format_of(f'a{suffix}') is None:
        pytest.skip('this Pillow does not write the format')
    photo = Photograph(smooth(), smooth()[..., 0] if transparent else None)
    if suffix == '.jpg' and transparent:
        with pytest.raises(UserError, match='JPEG cannot store the transparency'):
            check_target(photo, tmp_path / 'a.jpg')
        return
    found = read(written(tmp_path, photo, suffix))
    assert np.abs(found.pixels.astype(int) - photo.pixels)[1:-1, 1:-1].mean() < 3
    assert (found.alpha is None) == (not transparent)


@pytest.mark.parametrize('suffix', ['.jpg', '.bmp', '.ppm'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_opaque_images_are_written_to_formats_without_transparency(tmp_path, suffix, dtype):
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    photo = Photograph(random_image(dtype), np.full((9, 14), full, dtype))
    found = read(written(tmp_path, photo, suffix))
    assert found.alpha is None and found.pixels.shape == photo.pixels.shape


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['png', 'png16', 'tif', 'tif16'])
def test_photographs_are_rotated_according_to_their_orientation(tmp_path, orientation, kind):
    array, gray = smooth(), smooth()[..., 1]
    image = Image.fromarray(array)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    suffix = f'.{kind[:3]}'
    deep = 257 if '16' in kind else 1
    photo = Photograph(array * np.uint16(257) if deep > 1 else array, gray * np.uint16(257) if deep > 1 else gray)
    photo = photo._replace(metadata=Metadata(exif(orientation)))
    found = read(written(tmp_path, photo, suffix))
    np.testing.assert_array_equal(found.pixels, expected.astype(found.pixels.dtype) * deep)
    assert found.alpha.shape == expected.shape[:2]
    again = read(written(tmp_path, found, suffix))
    np.testing.assert_array_equal(again.pixels, found.pixels)


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_the_transparent_gray_value_of_a_png_with_few_bits_is_read(tmp_path, bits):
    values = np.arange(2**bits, dtype=np.uint8)
    rows = np.packbits(np.unpackbits(values[:, None], axis=1)[:, 8 - bits :], axis=1)  # one value in each row
    key = 2**bits - 1
    parts = [(b'tRNS', struct.pack('>H', key)), (b'IDAT', zlib.compress(np.insert(rows, 0, 0, axis=1).tobytes()))]
    header = struct.pack('>IIBBBBB', 1, 2**bits, bits, 0, 0, 0, 0)
    data = b''.join(png_chunk(kind, part) for kind, part in [(b'IHDR', header), *parts, (b'IEND', b'')])
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + data)
    found = read(tmp_path / 'a.png')
    np.testing.assert_array_equal(found.pixels[:, 0], values * (255 // key))
    np.testing.assert_array_equal(found.alpha[:, 0], np.where(values == key, 0, 255))


def test_the_transparent_gray_value_of_a_png_is_read(tmp_path):
    gray = smooth()[..., 1].astype(np.uint16) * 257
    Image.fromarray(gray).save(tmp_path / 'plain.png')
    data = (tmp_path / 'plain.png').read_bytes()
    end = data.index(b'IDAT') - 4
    chunk = b'tRNS' + int(gray[3, 4]).to_bytes(2, 'big')
    data = data[:end] + (2).to_bytes(4, 'big') + chunk + zlib.crc32(chunk).to_bytes(4, 'big') + data[end:]
    (tmp_path / 'key.png').write_bytes(data)
    found = read(tmp_path / 'key.png')
    np.testing.assert_array_equal(found.pixels, gray)
    np.testing.assert_array_equal(found.alpha, np.where(gray == gray[3, 4], 0, 65535))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('kind', ['unspecified', 'assocalpha', 'unassalpha'])
def test_the_fourth_channel_of_a_tiff_is_read_according_to_its_kind(tmp_path, dtype, kind):
    """It is a mask of an editor, or opacity, by which the colors may be multiplied."""
    full = 1 if dtype == np.float32 else np.iinfo(dtype).max
    array = random_image(dtype, 4)
    array[..., 3] = np.maximum(array[..., 3], full // 2 or 0.5)
    array[0, 0, 3] = 0
    stored = array.copy()
    if kind == 'assocalpha':
        stored[..., :3] = (array[..., :3] * (array[..., 3:] / full)).round(0 if full > 1 else 9)
    tifffile.imwrite(tmp_path / 'a.tif', stored, photometric='rgb', extrasamples=[kind])
    found = read(tmp_path / 'a.tif')
    assert found.pixels.dtype == dtype
    if kind == 'unspecified':
        assert found.alpha is None
        np.testing.assert_array_equal(found.pixels, array[..., :3])
    else:
        np.testing.assert_array_equal(found.alpha, array[..., 3])
        visible = array[..., 3] > 0
        rounding = 1e-6 if full == 1 else 2
        np.testing.assert_allclose(found.pixels[visible], array[visible][:, :3], atol=rounding, rtol=0)


def test_cmyk_is_converted_through_its_profile(tmp_path):
    image = Image.frombytes('CMYK', (24, 16), np.dstack([smooth(), smooth()[..., 0]]).tobytes())
    image.save(tmp_path / 'plain.tif')
    image.save(tmp_path / 'profile.tif', icc_profile=cmyk_profile())
    plain, through = read(tmp_path / 'plain.tif'), read(tmp_path / 'profile.tif')
    np.testing.assert_array_equal(plain.pixels, np.asarray(image.convert('RGB')))
    assert plain.metadata.icc == b''
    for profile in (SRGB, b'no profile' * 20):
        image.save(tmp_path / 'wrong.tif', icc_profile=profile)
        wrong = read(tmp_path / 'wrong.tif')
        np.testing.assert_array_equal(wrong.pixels, plain.pixels)
        assert wrong.metadata.icc == b''
    yellow = through.pixels[0, -1]  # most magenta and yellow: blue with this profile, red without
    assert yellow[2] > yellow[0] and plain.pixels[0, -1, 0] > plain.pixels[0, -1, 2]
    profile = ImageCms.ImageCmsProfile(io.BytesIO(through.metadata.icc))
    assert profile.profile.xcolor_space.strip() == 'RGB'


@pytest.mark.parametrize('transparency', [None, 3])
def test_palettes_become_rgb(tmp_path, transparency):
    image = Image.fromarray(smooth()).quantize(16)
    image.save(tmp_path / 'a.png', **({} if transparency is None else {'transparency': transparency}))
    found = read(tmp_path / 'a.png')
    np.testing.assert_array_equal(found.pixels, np.asarray(image.convert('RGB')))
    if transparency is None:
        assert found.alpha is None
    else:
        np.testing.assert_array_equal(found.alpha == 0, np.asarray(image) == transparency)


@pytest.mark.parametrize('values', ['<u2', '>u2', '<f4'])
def test_images_of_pillow_with_any_byte_order(values):
    array = random_image(np.uint16, 1) if 'u' in values else random_image(np.float32, 1)
    found = reading.from_pillow(Image.fromarray(array.astype(values)), 'a', Metadata())
    assert found.pixels.dtype == array.dtype
    np.testing.assert_array_equal(found.pixels, array)


@pytest.mark.parametrize('mode', ['1', 'L', 'YCbCr', 'HSV', 'RGBX'])
def test_other_modes_become_grayscale_or_rgb(mode):
    image = Image.fromarray(smooth()).convert(mode)
    expected = image.convert('L' if mode in ('1', 'L') else 'RGB')
    np.testing.assert_array_equal(reading.from_pillow(image, 'a', Metadata()).pixels, np.asarray(expected))


def test_depth_is_reduced_for_formats_with_8_bits(tmp_path):
    values = np.array([[0, 128, 129, 65535]], np.uint16).repeat(4, 0)
    found = read(written(tmp_path, Photograph(values), '.bmp'))
    np.testing.assert_array_equal(found.pixels[0], [0, 0, 1, 255])
    found = read(written(tmp_path, Photograph((values / 65535).astype(np.float32)), '.png'))
    np.testing.assert_array_equal(found.pixels, values)


def test_first_image_of_a_stereo_jpeg_is_the_photograph(tmp_path):
    first, second = Image.fromarray(smooth()), Image.fromarray(255 - smooth())
    first.save(tmp_path / 'a.jpg', format='MPO', save_all=True, append_images=[second], quality=95)
    found = read(tmp_path / 'a.jpg')
    assert np.abs(found.pixels.astype(int) - smooth()).mean() < 4
    assert read(written(tmp_path, found, '.jpg')).pixels.shape == smooth().shape


def test_thumbnails_of_tiff_files_are_not_pages(tmp_path):
    image, small = Image.fromarray(smooth()), Image.fromarray(smooth()[::2, ::2])
    image.save(tmp_path / 'thumb.tif', save_all=True, append_images=[with_tag(small, 254, 1)])
    np.testing.assert_array_equal(read(tmp_path / 'thumb.tif').pixels, smooth())
    with_tag(image, 254, 1).save(tmp_path / 'raw.dng', format='TIFF', tiffinfo={254: 1})
    with pytest.raises(UserError, match='begins with a thumbnail, like camera raw files'):
        read(tmp_path / 'raw.dng')


def with_tag(image, tag, value):
    image = image.copy()
    image.encoderinfo = {'tiffinfo': {tag: value}}
    return image


def test_an_unknown_orientation_is_ignored(tmp_path):
    """Some programs write 0."""
    array = random_image(np.uint16)
    (tmp_path / 'a.tif').write_bytes(tiff_of(array, photometric='rgb', extratags=[(274, 3, 1, 0, True)]))
    np.testing.assert_array_equal(read(tmp_path / 'a.tif').pixels, array)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_gray_values_of_a_tiff_can_be_inverted(tmp_path, dtype):
    array = random_image(dtype, 1)
    (tmp_path / 'a.tif').write_bytes(tiff_of(array, photometric='miniswhite'))
    np.testing.assert_array_equal(read(tmp_path / 'a.tif').pixels, ~array)


@pytest.mark.parametrize('tag', [18246, 50706])
def test_unknown_tags_of_a_tiff_cause_no_messages(tmp_path, tag, capfd):
    (tmp_path / 'a.tif').write_bytes(tiff_of(random_image(np.uint16), extratags=[(tag, 3, 1, 5, True)]))
    read(tmp_path / 'a.tif')
    assert capfd.readouterr() == ('', '')


def test_checksums_are_computed_once(tmp_path, monkeypatch):
    path = written(tmp_path, Photograph(random_image(np.uint16)), '.png')
    found, checked = decoding.find_damage, []
    for module in (decoding, reading):
        monkeypatch.setattr(module, 'find_damage', lambda data: checked.append(data) or found(data))
    read(path)
    assert len(checked) == 1


def test_every_writable_format_can_be_read():
    reading.formats()
    assert {name for name in SETTINGS if name in Image.SAVE} <= set(Image.OPEN)
