import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from deeprftv2_plugin.data.storage.images import StoredImage, write_png
from deeprftv2_plugin.utils.errors import UserError


def test_error_names_the_missing_file(tmp_path):
    with pytest.raises(UserError, match=r'gone\.png: No such file'):
        StoredImage(str(tmp_path / 'gone.png')).read()


@pytest.mark.posix
def test_only_regular_files_of_limited_size_are_read(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'device.png').symlink_to('/dev/zero')
    with open(tmp_path / 'huge.png', 'wb') as file:
        file.truncate(2**40)
    for name, reason in (('pipe', 'a named pipe'), ('folder', 'a folder'), ('device', 'a device'), ('huge', 'at most')):
        with pytest.raises(UserError, match=rf'{name}\.png .*{reason}'):
            StoredImage(str(tmp_path / f'{name}.png')).read()


@pytest.mark.posix
def test_names_do_not_have_to_be_utf_8(tmp_path, rng):
    image = rng.integers(0, 256, (8, 9, 3), np.uint8)
    path = os.fsdecode(os.fsencode(tmp_path) + b'/new/caf\xe9.png')
    write_png(path, image)
    assert np.array_equal(StoredImage(path).read(), image[..., ::-1])
    os.remove(path)
    with pytest.raises(UserError) as caught:
        StoredImage(path).read()
    assert str(caught.value) == f'cannot read the image {tmp_path}/new/caf\\udce9.png: No such file or directory'


def test_image_of_too_many_pixels_is_an_error(tmp_path):
    """The header of a PNG file claims 4 gigapixels."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', 2**16, 2**16, 8, 2, 0, 0, 0)
    png = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(bytes(9))) + chunk(b'IEND', b'')
    (tmp_path / 'bomb.png').write_bytes(png)
    with pytest.raises(UserError, match=r'OpenCV cannot decode the image .*bomb\.png'):
        StoredImage(str(tmp_path / 'bomb.png')).read()


def test_written_images_keep_their_depth(tmp_path, rng):
    image = rng.integers(0, 65536, (8, 9, 3), np.uint16)
    write_png(tmp_path / 'a/b.png', image)
    assert np.array_equal(cv2.imread(str(tmp_path / 'a/b.png'), cv2.IMREAD_UNCHANGED), image)
    with pytest.raises(FileExistsError):
        write_png(tmp_path / 'a/b.png/c.png', image)
