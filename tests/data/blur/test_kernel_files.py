import builtins

import cv2
import numpy as np
import pytest

from deeprftv2_plugin.data.blur.kernel_files import read_kernels
from deeprftv2_plugin.data.blur.trajectory import random_kernel
from deeprftv2_plugin.utils.errors import UserError

KERNEL = np.array([[0, 1, 0], [0, 4, 2], [0, 1, 0]])
EXPECTED = np.array([[0, 1, 0], [0, 4, 2], [0, 1, 0]], np.float32) / 8


@pytest.fixture
def savemat():
    return pytest.importorskip('scipy.io').savemat


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int64, np.float32, np.float64])
def test_kernels_are_normalized(dtype, tmp_path):
    np.save(tmp_path / 'a.npy', KERNEL.astype(dtype))
    (kernel,) = read_kernels(str(tmp_path / 'a.npy'))
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, EXPECTED)


def test_several_kernels_keep_their_order(tmp_path):
    np.save(tmp_path / 'a.npy', np.stack([np.eye(3), KERNEL]))
    np.savez(tmp_path / 'b.npz', one=KERNEL, two=np.ones((1, 1)))
    (tmp_path / 'readme.txt').write_text('kernels')
    kernels = read_kernels(str(tmp_path))
    for kernel, expected in zip(kernels, [np.eye(3) / 3, EXPECTED, EXPECTED, [[1]]], strict=True):
        np.testing.assert_allclose(kernel, expected)
    assert len(read_kernels(str(tmp_path / 'b.npz'), variable='two')) == 1


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 3])
def test_images_are_read_as_linear_weights(dtype, channels, tmp_path):
    image = np.repeat(KERNEL[..., None], channels, axis=2).astype(dtype) * (np.iinfo(dtype).max // 4)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    np.testing.assert_allclose(read_kernels(str(tmp_path))[0], EXPECTED)


def test_matlab_files_with_a_variable_cells_or_a_stack(tmp_path, savemat):
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = KERNEL, np.eye(5)
    savemat(tmp_path / 'one.mat', {'kernel': KERNEL})
    savemat(tmp_path / 'cells.mat', {'kernels': cells})
    savemat(tmp_path / 'stack.mat', {'f': np.stack([np.eye(3), KERNEL], axis=2)})
    savemat(tmp_path / 'levin.mat', {'x': np.ones((9, 9)), 'f': KERNEL})

    def read(name, variable=None):
        return read_kernels(str(tmp_path / name), variable)

    np.testing.assert_array_equal(read('one.mat')[0], EXPECTED)
    np.testing.assert_array_equal(read('levin.mat', 'f')[0], EXPECTED)
    assert [kernel.shape for kernel in read('cells.mat')] == [(3, 3), (5, 5)]
    np.testing.assert_array_equal(read('stack.mat')[1], EXPECTED)
    with pytest.raises(UserError, match='levin.mat has the variables x, f, expected one'):
        read('levin.mat')
    with pytest.raises(UserError, match='has no variable k. It has x, f'):
        read('levin.mat', 'k')


@pytest.mark.parametrize('shape', [(2, 2), (4, 6), (7, 3), (1, 5), (8, 8)])
def test_kernels_are_centered_in_an_odd_square(shape, tmp_path, rng):
    weights = rng.random(shape)
    np.save(tmp_path / 'a.npy', np.pad(weights, ((0, 9), (5, 0))))
    (kernel,) = read_kernels(str(tmp_path))
    side = kernel.shape[0]
    offsets = np.arange(side) - side // 2
    assert kernel.shape == (side, side) and side % 2
    assert np.abs(kernel.sum(axis=0) @ offsets) <= 0.5 + 1e-6
    assert np.abs(kernel.sum(axis=1) @ offsets) <= 0.5 + 1e-6
    np.testing.assert_allclose(kernel[kernel > 0], (weights / weights.sum()).ravel(), rtol=1e-6)


def test_camera_shake_kernels_survive_a_round_trip(tmp_path, rng):
    kernel = random_kernel(rng, (10, 10))
    np.savez(tmp_path / 'a.npz', coffee_00=kernel)
    (read,) = read_kernels(str(tmp_path))
    frame = (kernel.shape[0] - read.shape[0]) // 2
    np.testing.assert_allclose(np.pad(read, frame), kernel, rtol=1e-6)


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (-KERNEL, 'negative weights, down to -4: a blur cannot remove'),
        (np.zeros((3, 3)), 'a.npy is zero everywhere'),
        (np.full((3, 3), np.nan), 'not finite'),
        (np.ones(3), r'of shape \(3,\)'),
        (np.ones((0, 0)), 'zero everywhere'),
        (np.ones((2, 2), complex), 'complex128'),
        (np.ones((2, 3, 3, 3)), r'expected real numbers of shape \(height, width\)'),
        (np.stack([KERNEL, 0 * KERNEL]), r'a.npy\[1\] is zero'),
        (np.array([{}], object), 'NumPy cannot read the kernels'),
    ],
)
def test_errors_name_invalid_kernels(array, message, tmp_path):
    np.save(tmp_path / 'a.npy', array)
    with pytest.raises(UserError, match=message):
        read_kernels(str(tmp_path))


@pytest.mark.parametrize('name', ['a.npy', 'a.npz', 'a.mat', 'a.png'])
def test_errors_name_damaged_files(name, tmp_path, savemat):
    (tmp_path / name).write_bytes(b'PK\x03\x04 and then nothing that belongs there' * 9)
    with pytest.raises(UserError, match=name):
        read_kernels(str(tmp_path))


@pytest.mark.posix
@pytest.mark.parametrize('name', ['a.npy', 'a.npz', 'a.mat', 'a.png'])
def test_only_files_are_read(name, tmp_path, savemat, make_pipe):
    make_pipe(tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UserError, match=f'{name} is a named pipe, expected a regular file'):
            read_kernels(str(path))


def test_folders_without_kernels_and_color_images_are_rejected(tmp_path, write_image):
    with pytest.raises(UserError, match='gone do not exist'):
        read_kernels(str(tmp_path / 'gone'))
    with pytest.raises(UserError, match='no kernels in'):
        read_kernels(str(tmp_path))
    write_image('a.png')
    with pytest.raises(UserError, match='a.png is a color image'):
        read_kernels(str(tmp_path))


def test_error_explains_that_scipy_is_missing(tmp_path, savemat, monkeypatch):
    savemat(tmp_path / 'a.mat', {'kernel': KERNEL})
    original = builtins.__import__

    def without_scipy(name, *rest):
        if name.startswith('scipy'):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, '__import__', without_scipy)
    with pytest.raises(UserError, match='needs SciPy, which is not installed: pip install scipy'):
        read_kernels(str(tmp_path))
