"""Blur kernels from files: NumPy and MATLAB arrays, and images."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.data.storage.listing import is_image
from deeprftv2_plugin.data.storage.mat_files import MAX_BYTES, read_mat
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.regular_files import reading

ARRAYS = ('.mat', '.npy', '.npz')


def read_kernels(path: str, variable: str | None = None) -> list[np.ndarray]:
    """Read the kernels of a file, or of all files in a folder, sorted by name.

    - .npy, and each array of an .npz: a kernel (height, width), or several (n, height, width).
    - .mat, up to version 7: a variable with a kernel, several kernels along the third axis, or a cell array of kernels.
    - Image: grayscale, with pixel values proportional to the light (no gamma).

    Each kernel is divided by its sum, shifted by whole pixels until its centroid is within half a pixel of its center
    pixel, and placed in the smallest odd square that contains its nonzero weights. Kernels with an even side thus get a
    center pixel, and the blurry image is not shifted relative to the sharp one.

    Args:
        path: File or folder.
        variable: Name of the variable in .mat and .npz files. By default, all arrays of an .npz file and the only
            variable of a .mat file are read.

    Returns:
        Arrays (k, k) of float32, k odd, nonnegative, with sum one.

    Raises:
        UserError: There is no kernel, a file is damaged or not supported, or a kernel is not two-dimensional, negative
            somewhere, zero everywhere, not finite, or an image in color.
    """
    root = Path(os.path.expanduser(path))
    if root.is_dir():
        files = sorted(file for file in root.iterdir() if is_image(file) or file.suffix.lower() in ARRAYS)
    elif root.exists():
        files = [root]
    else:
        raise UserError(f'the kernels {root} do not exist, expected a file or a folder')
    kernels = [normalize(kernel, name) for file in files for name, kernel in _read(file, variable)]
    if not kernels:
        raise UserError(f'no kernels in {root}, expected {", ".join(ARRAYS)} files or images')
    return kernels


def normalize(kernel: np.ndarray, name: str) -> np.ndarray:
    """Normalize and center weights (height, width) as described in `read_kernels`.

    Args:
        kernel: Array (height, width) of real numbers.
        name: Name of the kernel in error messages.

    Raises:
        UserError: The array is not a kernel.
    """
    if kernel.ndim != 2 or kernel.dtype.kind not in 'buif':
        found = f'{kernel.dtype} of shape {kernel.shape}'
        raise UserError(f'the kernel {name} is {found}, expected real numbers of shape (height, width)')
    weights = kernel.astype(np.float64)
    if not np.isfinite(weights).all():
        raise UserError(f'the kernel {name} has weights that are not finite')
    if (weights < 0).any():
        raise UserError(
            f'the kernel {name} has negative weights, down to {weights.min():.3g}: a blur cannot remove light'
        )
    if not weights.any():
        raise UserError(f'the kernel {name} is zero everywhere')
    weights /= weights.sum()
    positions = np.argwhere(weights)
    center = np.floor(weights[weights > 0] @ positions + 0.5).astype(int)
    offsets = positions - center
    reach = np.abs(offsets).max()
    centered = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    centered[tuple((offsets + reach).T)] = weights[weights > 0]
    return centered


def _read(file: Path, variable: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the kernels of a file with their names."""
    suffix = file.suffix.lower()
    if suffix not in ARRAYS:
        yield str(file), _read_image(file)
        return
    for name, array in _read_mat(file, variable) if suffix == '.mat' else _read_numpy(file, variable):
        if array.ndim == 3:
            yield from ((f'{name}[{number}]', kernel) for number, kernel in enumerate(array))
        else:
            yield name, array


def _read_numpy(file: Path, variable: str | None) -> list[tuple[str, np.ndarray]]:
    with reading(file, MAX_BYTES, 'the kernels') as stream:
        try:
            content = np.load(stream, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return [(str(file), content)]
            with content:
                arrays = dict(content)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f'NumPy cannot read the kernels {file}: {error}') from error
    if variable is not None and variable not in arrays:
        raise UserError(f'{file} has no variable {variable}. It has {", ".join(arrays)}')
    return [(f'{file}:{name}', array) for name, array in arrays.items() if variable in (None, name)]


def _read_mat(file: Path, variable: str | None) -> list[tuple[str, np.ndarray]]:
    value = read_mat(file, variable)
    name = str(file) if variable is None else f'{file}:{variable}'
    if value.dtype == object:  # a cell array
        return [(f'{name}[{number}]', cell) for number, cell in enumerate(value.ravel())]
    return [(name, value.transpose(2, 0, 1) if value.ndim == 3 else value)]


def _read_image(file: Path) -> np.ndarray:
    image = StoredImage(str(file)).read()
    if (image != image[..., :1]).any():
        raise UserError(f'the kernel {file} is a color image, expected grayscale')
    return image[..., 0]
