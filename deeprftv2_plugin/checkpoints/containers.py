"""Read files of torch.save without executing code, and verify their checksums."""

import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from deeprftv2_plugin.utils.errors import UserError, first_line
from deeprftv2_plugin.utils.regular_files import open_regular

MAX_BYTES = 2**36
"""Maximum size of a file, 64 GiB."""
_OTHER_CONTENT = (
    (rb'version https://git-lfs', 'a Git LFS pointer, not a checkpoint: download the file itself (git lfs pull)'),
    (rb'<(!doctype|html|head|body|\?xml|!--)', 'an HTML page, not a checkpoint: download the file itself'),
    (rb'(?!PK)[\t\n\r -~]+\Z', 'a text file, not a checkpoint: download the file itself'),
)
_PACKED = getattr(torch, 'float4_e2m1fn_x2', None)
"""A type with two numbers per element, which PyTorch cannot convert."""
_FOLDER = 0x10
"""Bit of the attributes of a folder in an archive."""
_REFUSED = r'GLOBAL (\S+) (?:was|whose)|(?:Can only (?:create|build)|reduce for).* got (.*)|(Unsupported operand \d+)'


def open_checkpoint(path: str | Path) -> BinaryIO:
    """Open a file of weights or a training state.

    Raises:
        UserError: The file is missing, not regular, larger than `MAX_BYTES`, text such as a web page.
    """
    try:
        file = open_regular(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise UserError(f'{path}: checkpoint not found; check the path') from error
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise UserError(f'{path}: cannot be read ({getattr(error, "strerror", None) or error})') from error
    start = file.read(512).lstrip(b'\xef\xbb\xbf \t\r\n')
    file.seek(0)
    for pattern, meaning in _OTHER_CONTENT:
        if re.match(pattern, start, re.IGNORECASE):
            file.close()
            raise UserError(f'{path}: {meaning}')
    return file


def load(path: str | Path) -> Any:
    """Read a file of torch.save to the CPU.

    The checksums of the zip archive, which torch.load ignores, are verified. Files of PyTorch before 1.6 have none.
    NumPy scalars are converted to Python numbers.

    Raises:
        UserError: The file is missing or damaged, or it contains objects other than tensors and plain values.
    """
    with open_checkpoint(path) as file:
        try:
            start = file.read(4)
            if start == b'PK\x03\x04':
                _verify_archive(file)
            elif start and not start.startswith(b'\x80'):
                raise UserError(
                    'not a checkpoint: expected a .pth file of torch.save, or a name that ends in .safetensors'
                )
            file.seek(0)
            with torch.serialization.safe_globals(_NUMPY_SCALARS):
                return torch.load(file, map_location='cpu', weights_only=True)
        except UserError as error:
            raise UserError(f'{path}: {error}') from error
        except Exception as error:  # torch.load has no common exception class for damaged and unsafe files
            raise UserError(f'{path}: {_reason(error)}') from error


def tensors_of(content: Any, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested dicts, lists and tuples, with their keys joined by dots."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, (Mapping, list, tuple)):
        for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
            yield from tensors_of(value, f'{name}.{key}' if name else str(key))


def require_values(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Check that tensors are dense, store every element, and contain no NaN.

    Raises:
        UserError: A tensor fails a check. The message names it.
    """
    for name, value in tensors:
        packed = value.is_quantized or value.dtype is _PACKED
        if value.is_meta or packed or value.is_nested or value.layout is not torch.strided:
            kind = 'without values (device meta)' if value.is_meta else f'of {value.dtype}, {value.layout}'
            raise UserError(f'{name} is a tensor {kind}; expected a dense tensor of plain numbers')
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f'{name} has shape {tuple(value.shape)}, but the file stores fewer values (expanded)')
        if (value.is_floating_point() or value.is_complex()) and bool(value.isnan().any()):
            raise UserError(f'{name} contains NaN')


def _verify_archive(file: BinaryIO) -> None:
    with zipfile.ZipFile(file) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED:  # could expand to any size
                raise UserError(f'{record.filename} is compressed, which torch.save does not do; not a checkpoint')
            if record.is_dir() or record.external_attr & _FOLDER:  # torch.load would leave its memory uninitialized
                raise UserError(f'damaged: {record.filename} is marked as a folder; copy or download the file again')
        damaged = archive.testzip()
    if damaged is not None:
        raise UserError(f'damaged: the checksum of {damaged} is wrong; copy or download the file again')


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return 'does not fit into the memory of this machine'
    refused = re.search(_REFUSED, str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if refused:
        found = next(filter(None, refused.groups()))
        return (
            f'refused, because it contains objects other than tensors ({found}), and loading them could execute code. '
            'Ask its author for the state_dict only, or for a .safetensors file'
        )
    return f'truncated, damaged or not a checkpoint ({first_line(error)})'


class _NumpyType:
    """The type of a NumPy scalar in a file. It replaces `numpy.dtype`, so that no NumPy functions are called."""

    def __init__(self, code: str, *_: object):
        self.code, self.order = code, '|'

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


def _numpy_scalar(kind: _NumpyType, data: bytes) -> float:
    name = f'{kind.order}{kind.code}'
    if not re.fullmatch(r'[<>=|]([fiu][248]|[iub]1)', name):
        raise UserError(f'contains a NumPy scalar of type {name}, expected a number')
    return np.frombuffer(data, name, 1).item()


_NUMPY_SCALARS: list = [
    (_NumpyType, 'numpy.dtype'),
    (_numpy_scalar, 'numpy.core.multiarray.scalar'),
    (_numpy_scalar, 'numpy._core.multiarray.scalar'),
]
