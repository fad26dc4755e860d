import cv2
import numpy as np
import pytest
import torch

from deeprftv2_plugin.data.storage.images import StoredImage, decode, find_damage, list_images, to_tensor
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


def test_error_names_the_missing_file(tmp_path):
    with pytest.raises(UserError, match=r'gone\.png: No such file'):
        StoredImage(str(tmp_path / 'gone.png')).read()


def test_list_images_is_recursive_and_sorted(tmp_path):
    for name in ('b/2.PNG', 'b/1.jpg', 'a.tif', 'readme.txt', '.hidden.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'c').symlink_to(tmp_path / 'b')
    found = [str(path) for path in list_images(tmp_path)]
    assert found == ['a.tif', 'b/1.jpg', 'b/2.PNG', 'c/1.jpg', 'c/2.PNG']
