"""Decode image files, and detect damage."""

import io
import os
import threading

import cv2
import numpy as np
import pytest
import tifffile
import torch

from deeprftv2_plugin.data.storage import native_messages
from deeprftv2_plugin.data.storage.decoding import decode, find_damage, is_transparent
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.utils.errors import UserError


def encode(image, suffix, *parameters):
    return cv2.imencode(suffix, image, parameters)[1].tobytes()


@pytest.fixture
def image(rng):
    return cv2.GaussianBlur(rng.integers(0, 256, (32, 40, 3), np.uint8), (5, 5), 0)


def test_decode_returns_rgb(image):
    assert np.array_equal(decode(encode(image, '.png'), 'a'), image[..., ::-1])


def test_16_bit_images_keep_their_depth(rng):
    image = rng.integers(0, 65536, (8, 9, 3), np.uint16)
    decoded = decode(encode(image, '.png'), 'a')
    assert decoded.dtype == np.uint16 and np.array_equal(decoded, image[..., ::-1])
    expected = torch.from_numpy(decoded.transpose(2, 0, 1).astype(np.float32) / 65535)
    assert torch.equal(to_tensor(decoded), expected)


def test_grayscale_is_repeated_and_alpha_dropped(rng):
    gray = rng.integers(0, 256, (8, 9), np.uint8)
    assert np.array_equal(decode(encode(gray, '.png'), 'a'), np.dstack([gray] * 3))
    rgba = rng.integers(0, 256, (8, 9, 4), np.uint8)
    assert np.array_equal(decode(encode(rgba, '.png'), 'a'), rgba[..., 2::-1])


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tiff', '.webp'])
def test_complete_files_pass(image, suffix):
    data = encode(image, suffix)
    assert find_damage(data) is None
    assert decode(data, 'a').shape == image.shape


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
@pytest.mark.parametrize('share', [0.05, 0.5, 0.99])
def test_error_names_the_truncated_file(image, suffix, share):
    data = encode(image, suffix)
    with pytest.raises(UserError, match='frame_7'):
        decode(data[: int(len(data) * share)], 'frame_7')


def test_end_marker_of_a_jpeg_thumbnail_does_not_count(image):
    thumbnail, photo = encode(image[:8, :8], '.jpg'), encode(image, '.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    header = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    with_thumbnail = photo[:2] + header + photo[2:]
    assert find_damage(with_thumbnail) is None
    assert 'end marker' in find_damage(with_thumbnail[:-20])


def test_data_after_the_end_of_a_jpeg_is_ignored(image):
    motion = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes() + b'\xff\xda'
    assert find_damage(encode(image, '.jpg') + motion) is None


def test_changed_byte_in_a_png_is_detected(image):
    data = bytearray(encode(image, '.png'))
    data[len(data) // 2] ^= 1
    assert 'checksum' in find_damage(bytes(data))


@pytest.mark.parametrize('data', [b'', b'not an image at all', b'\x89PNG\r\n\x1a\n'])
def test_error_names_a_file_that_is_not_an_image(data):
    with pytest.raises(UserError, match='frame_7'):
        decode(data, 'frame_7')


def test_floating_point_images_are_rejected(rng):
    with pytest.raises(UserError, match='float32, expected 8 or 16 bit'):
        decode(encode(rng.random((8, 8, 3), np.float32), '.tiff'), 'a')


PLACES = {'rowsperstrip': ('StripOffsets', 'StripByteCounts'), 'tile': ('TileOffsets', 'TileByteCounts')}
DEFLATE = cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE


@pytest.fixture
def lzw(image):
    return encode(image, '.tiff', cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW)


def damaged_tiff(data):
    """Return a TIFF file whose compressed pixels are damaged in a way that the decoder detects."""
    return data[:100] + b'\xff' * 100 + data[200:]


@pytest.mark.parametrize('compression', [cv2.IMWRITE_TIFF_COMPRESSION_LZW, cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_damaged_tiff_that_opencv_reads_is_an_error(image, compression, dtype):
    data = encode(image.astype(dtype), '.tiff', cv2.IMWRITE_TIFF_COMPRESSION, compression)
    with pytest.raises(UserError, match=r'the image frame_7 is damaged: .*(code|data|Decod).* Copy or unpack it again'):
        decode(damaged_tiff(data), 'frame_7')


def test_damage_is_reported_at_any_log_level(lzw):
    logging = getattr(cv2.utils, 'logging', cv2)
    level = logging.getLogLevel()
    logging.setLogLevel(0)
    try:
        with pytest.raises(UserError, match='frame_7 is damaged'):
            decode(damaged_tiff(lzw), 'frame_7')
        assert logging.getLogLevel() == 0
    finally:
        logging.setLogLevel(level)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_deflated_tiff_has_checksums(image, dtype):
    data = encode(image.astype(dtype), '.tiff', *DEFLATE)
    decode(data, 'a')
    for position in range(20, len(data) - 300, 11):  # before the directory
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises(UserError, match='is damaged'):
            decode(bytes(changed), 'a')


@pytest.mark.parametrize('byteorder', '<>')
@pytest.mark.parametrize('layout', [{'rowsperstrip': 10}, {'tile': (16, 16)}], ids=['strips', 'tiles'])
def test_deflated_tiff_of_other_writers(image, byteorder, layout):
    file = io.BytesIO()
    tifffile.imwrite(file, image, byteorder=byteorder, compression='zlib', photometric='rgb', **layout)
    data = file.getvalue()
    assert np.array_equal(decode(data, 'a'), image)
    start, size = (tifffile.TiffFile(io.BytesIO(data)).pages[0].tags[tag].value[1] for tag in PLACES[list(layout)[0]])
    changed = bytearray(data)
    changed[start + size - 1] ^= 1  # in the checksum
    with pytest.raises(UserError, match='incorrect data check'):
        decode(bytes(changed), 'a')


@pytest.mark.parametrize('bigtiff', [False, True])
def test_deep_colors_in_separate_planes_are_an_error(image, bigtiff):
    def encoded(array):
        file = io.BytesIO()
        planes = array.transpose(2, 0, 1)
        tifffile.imwrite(file, planes, bigtiff=bigtiff, photometric='rgb', planarconfig='separate')
        return file.getvalue()

    assert np.array_equal(decode(encoded(image), 'a'), image)  # OpenCV reads 8 bits correctly
    with pytest.raises(UserError, match='the image frame_7 stores its colors in separate planes: save it with'):
        decode(encoded(image.astype(np.uint16)), 'frame_7')


def test_corrupt_jpeg_is_an_error(image):
    data = bytearray(encode(image, '.jpg', cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    start = data.index(b'\xff\xda') + 14
    data[start : start + 40] = bytes(40)
    with pytest.raises(UserError, match='frame_7 is damaged: (Corrupt JPEG data|.* extraneous)'):
        decode(bytes(data), 'frame_7')


def test_padding_in_a_jpeg_is_not_damage(image, capfd):
    data = encode(image, '.jpg')
    padded = data[:-2] + bytes(12) + data[-2:]
    assert np.array_equal(decode(padded, 'a'), decode(data, 'a'))
    assert 'extraneous bytes' in capfd.readouterr().err
    with pytest.raises(UserError, match='extraneous bytes before marker'):
        decode(data[:-2] + b'more pixels' + data[-2:], 'a')


def test_other_output_to_stderr_is_not_lost(image, lzw, capfd):
    with native_messages.captured() as lines:
        os.write(2, b'from another thread\n')
    assert lines == ['from another thread']
    assert capfd.readouterr().err == ''
    native_messages.show(lines)
    assert capfd.readouterr().err == 'from another thread\n'
    with pytest.raises(UserError):
        decode(damaged_tiff(lzw), 'a')
    assert capfd.readouterr().err == ''  # the message is in the error


def test_stderr_can_be_closed(image):
    original = os.dup(2)
    os.close(2)
    try:
        assert decode(encode(image, '.png'), 'a').shape == image.shape
    finally:
        os.dup2(original, 2)
        os.close(original)


@pytest.mark.posix
def test_no_process_is_forked_during_a_capture():
    """A process forked during a capture would write to its file forever."""
    entered, leave = threading.Event(), threading.Event()

    def capture():
        with native_messages.captured():
            entered.set()
            leave.wait(5)

    expected = os.fstat(2)
    thread = threading.Thread(target=capture)
    thread.start()
    entered.wait(5)
    threading.Timer(0.1, leave.set).start()
    child = os.fork()
    if not child:
        os._exit(0 if os.fstat(2) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    thread.join()


def test_transparency(rng):
    rgba = rng.integers(0, 256, (8, 9, 4), np.uint8)
    assert is_transparent(encode(rgba, '.png')) and is_transparent(encode(rgba, '.tiff'))
    rgba[..., 3] = 255
    assert not is_transparent(encode(rgba, '.png'))
    assert not is_transparent(encode(rgba[..., :3], '.png'))
    assert not is_transparent(encode(rgba[..., :3], '.jpg'))
    assert not is_transparent(b'') and not is_transparent(b'damaged')
