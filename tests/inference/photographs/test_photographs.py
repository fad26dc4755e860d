"""Photographs in files keep their pixels and metadata in every format and bit depth."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from deeprftv2_plugin.data.storage import decoding
from deeprftv2_plugin.data.storage.images import encode_png
from deeprftv2_plugin.inference.photographs import reading
from deeprftv2_plugin.inference.photographs.photograph import Metadata, Photograph
from deeprftv2_plugin.inference.photographs.reading import read
from deeprftv2_plugin.inference.photographs.writing import MAX_SIDE, SETTINGS, check_target, encode, format_of
from deeprftv2_plugin.utils.errors import UserError
from tests.inference.photographs.profiles import SRGB, cmyk_profile

LOSSLESS = {'.png': (np.uint8, np.uint16), '.tif': (np.uint8, np.uint16, np.float32), '.bmp': (np.uint8,)}
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6">caf\xc3\xa9</d></x:xmpmeta>'


def random_image(dtype=np.uint8, channels=3, size=(9, 14)):
    random = np.random.default_rng(0).random((*size, channels))
    values = random if np.dtype(dtype).kind == 'f' else random * np.iinfo(dtype).max
    return values.squeeze().astype(dtype)


def smooth(size=(16, 24)):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.dstack([rows * 8, columns * 8, rows * 4 + columns * 4]).astype(np.uint8)


def exif(orientation=1):
    found = Image.Exif()
    found[271], found[306], found[0x0112] = 'Maker', '2026:11:26 04:00:00', orientation
    found[34665] = {33434: (1, 60), 37500: b'notes of the camera', 36867: '2026:11:25 03:00:00'}
    found[34853] = {1: 'N', 2: (48.0, 8.0, 14.0)}
    return found.tobytes().removeprefix(b'Exif\0\0')


def tags_of(data):
    """Return the tags of EXIF data or of a TIFF file that describe a photograph."""
    found = Image.Exif()
    found.load(data)
    return {
        **{tag: found.get(tag) for tag in (271, 306)},
        **{tag: found.get_ifd(34665).get(tag) for tag in (33434, 37500, 36867)},
        'gps': dict(found.get_ifd(34853)),
    }


def written(tmp_path, photo, suffix):
    path = tmp_path / f'photo{suffix}'
    path.write_bytes(encode(photo, check_target(photo, path)))
    return path


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


@pytest.mark.parametrize(
    'suffix, dtype',
    [('.jpg', np.uint8), ('.png', np.uint8), ('.png', np.uint16), ('.tif', np.uint8), ('.tif', np.uint16)]
    + [('.tif', np.float32), ('.webp', np.uint8), ('.avif', np.uint8)],
)
@pytest.mark.parametrize('source', ['.jpg', '.tif', '.png', '.webp'])
def test_metadata_is_kept_in_and_between_formats(tmp_path, source, suffix, dtype):
    if format_of(f'a{suffix}') is None:
        pytest.skip('this Pillow does not write the format')
    first = Photograph(smooth(), None, Metadata(exif(), SRGB, XMP, (300, 150)))
    metadata = read(written(tmp_path, first, source)).metadata
    found = read(written(tmp_path, Photograph(random_image(dtype), None, metadata), suffix)).metadata
    assert tags_of(found.exif) == tags_of(exif())
    assert found.icc == SRGB
    assert found.xmp.rstrip(b'\0') == XMP.replace(b'"6"', b'"1"')
    if '.webp' not in (source, suffix) and suffix != '.avif':
        assert found.dpi == pytest.approx((300, 150), abs=0.02)


def test_exif_data_of_a_camera_is_unchanged_except_for_the_orientation(tmp_path):
    data = exif(6)
    smooth_image = Image.fromarray(smooth())
    smooth_image.save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + data)
    found = read(tmp_path / 'a.jpg')
    assert found.metadata.exif == exif(1) and len(data) == len(exif(1))
    again = read(written(tmp_path, found, '.jpg'))
    assert again.metadata.exif == exif(1) and again.pixels.shape == found.pixels.shape


def exif_of_a_camera(order, orientation, size, next_directory):
    """Return EXIF data with the size of the image, notes and a directory with a thumbnail."""

    def directory(entries, following):
        fields = {3: 'HHIHxx', 4: 'HHII'}
        packed = [struct.pack(order + fields[kind], tag, kind, 1, value) for tag, kind, value in entries]
        return struct.pack(order + 'H', len(entries)) + b''.join(packed) + struct.pack(order + 'I', following)

    start = {'<': b'II*\0\x08\0\0\0', '>': b'MM\0*\0\0\0\x08'}[order]
    first = directory([(0x0112, 3, orientation), (34665, 4, 38)], next_directory)
    second = directory([(40962, 4, size[0]), (40963, 3, size[1])], 0)
    return start + first + second + directory([(0x0112, 3, orientation), (513, 4, 110), (514, 4, 9)], 0) + b'thumbnail'


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_data_describes_the_upright_image_without_a_thumbnail(tmp_path, order, orientation):
    data = b'Exif\0\0' + exif_of_a_camera(order, orientation, (24, 16), 68)
    Image.fromarray(smooth()).save(tmp_path / 'a.jpg', exif=data)
    found = read(tmp_path / 'a.jpg')
    height, width = found.pixels.shape[:2]
    loaded = Image.Exif()
    loaded.load(found.metadata.exif)
    assert loaded[0x0112] == 1 and not loaded.get_ifd(ExifTags.IFD.IFD1)
    assert dict(loaded.get_ifd(ExifTags.IFD.Exif)) == {40962: width, 40963: height}
    if orientation < 5:
        changed = exif_of_a_camera(order, 1, (24, 16), 0)
        assert found.metadata.exif[:68] == changed[:68]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_texts_and_colors_of_a_png_are_kept_in_a_png(tmp_path, dtype):
    photo = Photograph(random_image(dtype), random_image(dtype, 1))
    info = PngImagePlugin.PngInfo()
    info.add(b'gAMA', struct.pack('>I', 100_000))
    info.add(b'cHRM', struct.pack('>8I', *range(1, 9)))
    info.add(b'sRGB', b'\1')
    info.add(b'cICP', b'\x09\x10\0\1')
    info.add_text('Title', 'Beach')
    info.add_text('Description', 'long ' * 99, zip=True)
    info.add_itxt('Author', 'Zoë', 'en', 'Author')
    info.add_itxt('XML:com.adobe.xmp', XMP.decode())
    info.add_text('Raw profile type exif', exif_as_text(exif(6)), zip=True)
    Image.fromarray(smooth()).save(tmp_path / 'a.png', pnginfo=info)
    metadata = read(tmp_path / 'a.png').metadata
    path = written(tmp_path, photo._replace(metadata=metadata), '.png')
    with Image.open(tmp_path / 'a.png') as before, Image.open(path) as after:
        before.load()
        after.load()
        for key in ('gamma', 'chromaticity', 'srgb'):
            assert after.info[key] == before.info[key]
        del before.text['Raw profile type exif'], before.text['XML:com.adobe.xmp'], after.text['XML:com.adobe.xmp']
        assert after.text == before.text and len(after.text) == 3
    data = path.read_bytes()
    assert b'cICP\x09\x10\0\1' in data and data.count(b'XML:com.adobe.xmp') == 1
    again = read(path)
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert again.metadata == metadata and tags_of(metadata.exif) == tags_of(exif())


def exif_as_text(data):
    """Return EXIF data as the text that ImageMagick writes to PNG files."""
    data = b'Exif\0\0' + data
    return f'\nexif\n{len(data):8}\n{data.hex()}\n'


@pytest.mark.parametrize('caption', [b'caption', b'captions'])
def test_comment_and_iptc_of_a_jpeg_are_kept_in_a_jpeg(tmp_path, caption):
    iptc = b'\x1c\x02\x78' + struct.pack('>H', len(caption)) + caption
    thumbnail = b'8BIM' + struct.pack('>HHI', 0x040C, 0, 4) + b'blur'
    segment = b'Photoshop 3.0\0' + thumbnail + b'8BIM' + struct.pack('>HHI', 0x0404, 0, len(iptc)) + iptc
    extra = b'\xff\xed' + struct.pack('>H', 2 + len(segment)) + segment
    Image.fromarray(smooth()).save(tmp_path / 'a.jpg', comment='Zoë', extra=extra)
    metadata = Metadata(exif(), SRGB, XMP, jpeg=read(tmp_path / 'a.jpg').metadata.jpeg)
    path = written(tmp_path, Photograph(smooth(), None, metadata), '.jpg')
    with Image.open(path) as image:
        assert image.info['comment'] == 'Zoë'.encode() and image.info['photoshop'] == {0x0404: iptc}
    found = read(path).metadata
    assert found.jpeg == metadata.jpeg and found.icc == SRGB and tags_of(found.exif) == tags_of(exif())


@pytest.mark.parametrize('name', ['GCamera:MotionPhoto', 'GCamera:MicroVideo', 'Camera:MotionPhoto'])
def test_results_are_not_marked_as_motion_photos(tmp_path, name):
    xmp = f'<x:xmpmeta><d {name}="1" {name}Version="1"/><{name}>1</{name}></x:xmpmeta>'
    Image.fromarray(smooth()).save(tmp_path / 'a.jpg', xmp=xmp.encode())
    with open(tmp_path / 'a.jpg', 'ab') as file:
        file.write(b'\0\0\0\x18ftypmp42')
    found = read(tmp_path / 'a.jpg').metadata.xmp.decode()
    assert found == f'<x:xmpmeta><d {name}="0" {name}Version="1"/><{name}>0</{name}></x:xmpmeta>'


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


@pytest.mark.parametrize('name', ['dpi', 'exif', 'icc_profile', 'transparency', 'xmp'])
def test_a_text_of_a_png_is_not_taken_for_other_information(tmp_path, name):
    """Pillow stores both under the same name."""
    info = PngImagePlugin.PngInfo()
    info.add_text(name, '5')
    Image.fromarray(smooth()).save(tmp_path / 'a.png', pnginfo=info)
    photo = read(tmp_path / 'a.png')
    np.testing.assert_array_equal(photo.pixels, smooth())
    assert photo.alpha is None and photo.metadata == Metadata(png=photo.metadata.png)
    assert Image.open(written(tmp_path, photo, '.png')).text == {name: '5'}


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


def png_chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


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


def tiff_of(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


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


def test_metadata_that_fills_the_segments_of_a_jpeg_is_kept(tmp_path):
    comment, iptc = b'c' * 65_533, b'i' * 65_000
    segment = b'Photoshop 3.0\0' + b'8BIM' + struct.pack('>HHI', 0x0404, 0, len(iptc)) + iptc
    extra = b'\xff\xed' + struct.pack('>H', 2 + len(segment)) + segment + b'\xff\xfe\xff\xff' + comment
    data = exif() + bytes(65_527 - len(exif()))
    Image.fromarray(smooth()).save(tmp_path / 'a.jpg', exif=b'Exif\0\0' + data, xmp=b'x' * 65_504, extra=extra)
    photo = read(tmp_path / 'a.jpg')
    assert len(photo.metadata.exif) == 65_527 and len(photo.metadata.xmp) == 65_504 and comment in photo.metadata.jpeg
    assert read(written(tmp_path, photo, '.jpg')).metadata == photo.metadata


def test_metadata_that_is_too_long_for_jpeg_is_omitted(tmp_path):
    photo = Photograph(smooth(), None, Metadata(exif(), SRGB + bytes(100_000), XMP + b' ' * 100_000, (300, 300)))
    found = read(written(tmp_path, photo, '.jpg')).metadata
    assert found.xmp == b'' and tags_of(found.exif) == tags_of(exif()) and len(found.icc) == len(SRGB) + 100_000


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp', '.avif'])
@pytest.mark.parametrize('source', ['.jpg', '.png', '.tif'])
def test_exif_values_of_wrong_types_do_not_prevent_writing(tmp_path, source, suffix, recwarn):
    if format_of(f'a{suffix}') is None:
        pytest.skip('this Pillow does not write the format')
    entries = [(271, 2, 6, 8 + 2 + 4 * 12 + 4), (272, 5, 1, 9), (305, 4, 1, 7), (306, 11, 1, 0)]  # a text, then numbers
    packed = b''.join(struct.pack('<HHII', *entry) for entry in entries)
    data = b'II*\0' + struct.pack('<IH', 8, len(entries)) + packed + bytes(4) + b'Maker\0'
    path = tmp_path / f'a{source}'
    if source == '.tif':
        tags = [(271, 2, 6, b'Maker\0', True), (272, 5, 1, bytes(8), True), (306, 11, 1, bytes(4), True)]
        path.write_bytes(tiff_of(smooth(), photometric='rgb', metadata=None, software=False, extratags=tags))
    else:
        path.write_bytes(encode(Photograph(smooth(), None, Metadata(data)), check_target(Photograph(smooth()), path)))
    photo = read(path)
    assert photo.metadata.exif
    found = Image.Exif()
    found.load(read(written(tmp_path, photo, suffix)).metadata.exif)
    assert found[271] == 'Maker' and not recwarn.list


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('unit, dpi', [('INCH', (300, 150)), ('CENTIMETER', (762, 381)), ('NONE', None)])
@pytest.mark.parametrize('big', [False, True])
def test_the_resolution_of_a_tiff_is_read_in_pixels_per_inch(tmp_path, dtype, unit, dpi, big):
    options = {'resolution': (300, 150), 'resolutionunit': unit, 'extratags': [(315, 2, 6, b'Artist', True)]}
    array = random_image(dtype)
    (tmp_path / 'a.tif').write_bytes(tiff_of(array, photometric='rgb', bigtiff=big, **options))
    photo = read(tmp_path / 'a.tif')
    np.testing.assert_array_equal(photo.pixels, array)
    exif = Image.Exif()
    exif.load(photo.metadata.exif)
    assert exif[315] == 'Artist' and photo.metadata.dpi == pytest.approx(dpi)


@pytest.mark.parametrize('mode', ['RGB', 'I;16'])
def test_no_resolution_is_invented(tmp_path, mode):
    Image.new(mode, (9, 14)).save(tmp_path / 'a.tif')
    assert read(tmp_path / 'a.tif').metadata.dpi is None


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('source', ['.jpg', '.tif', '.png'])
def test_the_resolution_is_rotated_with_the_image(tmp_path, source, dtype):
    data = Image.Exif()
    data[0x0112], data[282], data[283], data[296] = 6, 300.0, 150.0, 2
    first = Photograph(random_image(dtype), None, Metadata(data.tobytes().removeprefix(b'Exif\0\0'), dpi=(300, 150)))
    metadata = read(written(tmp_path, first, source)).metadata
    found = Image.Exif()
    found.load(metadata.exif)
    assert metadata.dpi == pytest.approx((150, 300), abs=0.02) and (found[282], found[283]) == (150, 300)


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


def test_damaged_exif_data_is_ignored(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / 'a.jpg', exif=b'Exif\0\0II*\0\xff\xff\xff\x0f')
    found = read(tmp_path / 'a.jpg')
    assert found.pixels.shape == smooth().shape and found.metadata.exif == b''


def test_checksums_are_computed_once(tmp_path, monkeypatch):
    path = written(tmp_path, Photograph(random_image(np.uint16)), '.png')
    found, checked = decoding.find_damage, []
    for module in (decoding, reading):
        monkeypatch.setattr(module, 'find_damage', lambda data: checked.append(data) or found(data))
    read(path)
    assert len(checked) == 1


def test_folders_and_pipes_are_not_opened(tmp_path):
    os.mkdir(tmp_path / 'x.png')
    with pytest.raises(UserError, match='is a folder'):
        read(tmp_path / 'x.png')
    if hasattr(os, 'mkfifo'):
        os.mkfifo(tmp_path / 'y.png')
        with pytest.raises(UserError, match='is a named pipe'):
            read(tmp_path / 'y.png')


def test_heic_is_read_and_written_with_its_metadata(tmp_path):
    if 'HEIF' not in reading.formats():
        (tmp_path / 'a.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(12))
        with pytest.raises(UserError, match=r"pip install 'deeprftv2-plugin\[heic\]'"):
            read(tmp_path / 'a.heic')
        with pytest.raises(UserError, match=r"a\.heic: cannot write this format\. HEIC .* 'deeprftv2-plugin\[heic\]'"):
            check_target(Photograph(smooth()), tmp_path / 'a.heic')
        return
    photo = Photograph(smooth((64, 64)), None, Metadata(exif(6), SRGB, XMP))
    found = read(written(tmp_path, photo, '.heic'))
    assert found.metadata.icc == SRGB and tags_of(found.metadata.exif) == tags_of(exif())
    assert np.abs(found.pixels.astype(int) - np.rot90(photo.pixels, -1)).mean() < 4
    again = read(written(tmp_path, found, '.heic'))
    assert np.abs(again.pixels.astype(int) - found.pixels).mean() < 4


def test_every_writable_format_can_be_read():
    reading.formats()
    assert {name for name in SETTINGS if name in Image.SAVE} <= set(Image.OPEN)
