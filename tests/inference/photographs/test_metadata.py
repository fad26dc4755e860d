"""Files keep the metadata of photographs, which then describes the restored image."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from deeprftv2_plugin.inference.photographs import reading
from deeprftv2_plugin.inference.photographs.photograph import Metadata, Photograph
from deeprftv2_plugin.inference.photographs.reading import read
from deeprftv2_plugin.inference.photographs.writing import check_target, encode, format_of
from deeprftv2_plugin.utils.errors import UserError
from tests.inference.photographs.profiles import SRGB
from tests.inference.photographs.samples import XMP, exif, random_image, smooth, tiff_of, written


def tags_of(data):
    """Return the tags of EXIF data or of a TIFF file that describe a photograph."""
    found = Image.Exif()
    found.load(data)
    return {
        **{tag: found.get(tag) for tag in (271, 306)},
        **{tag: found.get_ifd(34665).get(tag) for tag in (33434, 37500, 36867)},
        'gps': dict(found.get_ifd(34853)),
    }


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


def test_damaged_exif_data_is_ignored(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / 'a.jpg', exif=b'Exif\0\0II*\0\xff\xff\xff\x0f')
    found = read(tmp_path / 'a.jpg')
    assert found.pixels.shape == smooth().shape and found.metadata.exif == b''


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
