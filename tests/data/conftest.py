import cv2
import numpy as np
import pytest

from deeprftv2_plugin.data.storage.lmdb_writer import LmdbWriter


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def write_image(tmp_path, rng):
    """Return a function that writes a random image below tmp_path and returns its RGB pixels."""

    def write(path, shape=(20, 24, 3), dtype=np.uint8):
        image = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / path), image)
        return image[..., ::-1] if image.ndim == 3 else image

    return write


@pytest.fixture
def write_lmdb(tmp_path, rng):
    """Return a function that writes random images to a database below tmp_path and returns their RGB pixels."""

    def write(name, keys, shape=(20, 24, 3)):
        images = {key: rng.integers(0, 256, shape, np.uint8) for key in keys}
        with LmdbWriter(tmp_path / name) as writer:
            for key, image in images.items():
                writer.add(key, np.ascontiguousarray(image[..., ::-1]))
        return images

    return write
