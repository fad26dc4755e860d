"""Blur kernels from files: arrays of numpy and MATLAB, and pictures."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from deeprftv2_plugin.data.storage.images import StoredImage, is_image
from deeprftv2_plugin.utils.errors import UserError

ARRAYS = ('.mat', '.npy', '.npz')


def read_kernels(path: str, variable: str | None = None) -> list[np.ndarray]:
    """The kernels of a file, or of all files of a folder in the order of their names.

    - .npy, and each array of an .npz: a kernel, or several one after the other, (n, height, width).
    - .mat, up to version 7: a variable that is a kernel, several of them along its third axis, or a cell array
      of kernels.
    - A picture: gray, its pixel values in proportion to the light, without gamma.

    Each is divided by its sum. It is moved by whole pixels so that its centroid is, to half a pixel, its middle
    pixel, and put into the smallest odd square that holds what is not zero: so a kernel of an even side has a
    middle too, and the blurry picture is not shifted against the sharp one.

    Args:
        path: File or folder.
        variable: Name of the variable in .mat and .npz files. Without, a .mat file has to have a single one,
            while all of an .npz file are read.

    Returns:
        Arrays (k, k) of float32, k odd, nowhere negative, with sum one.

    Raises:
        UserError: There is no kernel; a file is damaged or of another kind; or a kernel has other than two
            axes, is negative somewhere, zero everywhere, not finite, or, as a picture, coloured.
    """
    root = Path(os.path.expanduser(path))
    if root.is_dir():
        files = sorted(file for file in root.iterdir() if is_image(file) or file.suffix.lower() in ARRAYS)
    elif root.exists():
        files = [root]
    else:
        raise UserError(f'the kernels {root} do not exist: name a file or a folder')
    kernels = [normalise(kernel, name) for file in files for name, kernel in _read(file, variable)]
    if not kernels:
        raise UserError(f'no kernels in {root}: {", ".join(ARRAYS)} files and pictures are read')
    return kernels


def normalise(kernel: np.ndarray, name: str) -> np.ndarray:
    """A kernel as `read_kernels` returns it, of weights (height, width); the name is for its errors."""
    if kernel.ndim != 2 or kernel.dtype.kind not in 'buif':
        found = f'{kernel.dtype} of shape {kernel.shape}'
        raise UserError(f'the kernel {name} is {found}: real numbers (height, width) are expected')
    weights = kernel.astype(np.float64)
    if not np.isfinite(weights).all():
        raise UserError(f'the kernel {name} has weights that are not finite')
    if (weights < 0).any():
        raise UserError(f'the kernel {name} has negative weights, down to {weights.min():.3g}: light only adds up')
    if not weights.any():
        raise UserError(f'the kernel {name} is zero everywhere')
    weights /= weights.sum()
    places = np.argwhere(weights)
    middle = np.floor(weights[weights > 0] @ places + 0.5).astype(int)
    offsets = places - middle
    reach = np.abs(offsets).max()
    centred = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    centred[tuple((offsets + reach).T)] = weights[weights > 0]
    return centred


def _read(file: Path, variable: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """The kernels of a file with their names."""
    suffix = file.suffix.lower()
    if suffix == '.mat':
        arrays = _read_mat(file, variable)
    elif suffix in ARRAYS:
        arrays = _read_numpy(file, variable)
    else:
        yield str(file), _read_picture(file)
        return
    for name, array in arrays:
        if array.ndim == 3:
            yield from ((f'{name}[{number}]', kernel) for number, kernel in enumerate(array))
        else:
            yield name, array


def _read_numpy(file: Path, variable: str | None) -> list[tuple[str, np.ndarray]]:
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return [(str(file), content)]
        with content:
            arrays = dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f'numpy cannot read the kernels {file}: {error}') from error
    names = arrays if variable is None else [_existing(variable, arrays, file)]
    return [(f'{file}:{name}', arrays[name]) for name in names]


def _read_mat(file: Path, variable: str | None) -> list[tuple[str, np.ndarray]]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f'to read {file}, scipy is needed, which is not installed: pip install scipy') from error
    try:
        content = loadmat(file)
    except NotImplementedError as error:
        raise UserError(f"{file} is a MATLAB file of version 7.3: save it with save(..., '-v7')") from error
    except Exception as error:  # a damaged file makes scipy fail in many ways
        raise UserError(f'scipy cannot read the MATLAB file {file}: {error}') from error
    names = [name for name in content if not name.startswith('__')]
    if variable is None and len(names) != 1:
        raise UserError(f'{file} has the variables {", ".join(names) or "none"}: say as variable which is the kernel')
    name = names[0] if variable is None else _existing(variable, names, file)
    value = content[name]
    if value.dtype == object:  # a cell array
        return [(f'{file}:{name}[{number}]', cell) for number, cell in enumerate(value.ravel())]
    return [(f'{file}:{name}', value.transpose(2, 0, 1) if value.ndim == 3 else value)]


def _existing(variable: str, names: Iterable[str], file: Path) -> str:
    if variable not in names:
        raise UserError(f'{file} has no variable {variable}. It has {", ".join(names)}')
    return variable


def _read_picture(file: Path) -> np.ndarray:
    picture = StoredImage(str(file)).read()
    if (picture != picture[..., :1]).any():
        raise UserError(f'the kernel {file} is a coloured picture: a gray one is expected')
    return picture[..., 0]
