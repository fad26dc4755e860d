"""A dataset that needs no download: photographs of scikit-image with random camera shake, as pairs of LMDBs."""

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from deeprftv2_plugin.data.blur.camera import blur_window
from deeprftv2_plugin.data.blur.trajectory import random_kernel
from deeprftv2_plugin.data.storage.lmdb_writer import LmdbWriter
from deeprftv2_plugin.data.storage.photographs import HELD_OUT, TRAINING, photograph
from deeprftv2_plugin.utils.atomic_io import writing
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.temporary import temporary_folder


def prepare_photographs(dest: str | Path, seed: int = 0, progress: bool = True) -> Path:
    """Write dest/{train,test}_{blur,sharp}.lmdb and dest/{train,test}_kernels.npz with a kernel for every key.

    The data is written to a temporary folder next to `dest`, which is renamed at the end. `dest` is never incomplete.

    Args:
        dest: Folder to create.
        seed: Seed of crops, kernels and noise. Equal seeds give equal images.
        progress: Whether to show progress bars.

    Returns:
        The path `dest`.

    Raises:
        UserError: `dest` exists or cannot be written.
    """
    dest = Path(dest)
    if os.path.lexists(dest):
        raise UserError(f'{dest} exists and is not overwritten: remove it or choose another folder')
    with writing(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        _write(dest, seed, progress)
    return dest


def _write(dest: Path, seed: int, progress: bool) -> None:
    with temporary_folder(dest.parent, f'.{dest.name}.') as partial:
        for number, (split, photographs) in enumerate((('train', TRAINING), ('test', HELD_OUT))):
            _write_split(partial, split, photographs, np.random.default_rng([seed, number]), progress)
        # Temporary folders are private, but a dataset should be readable by others.
        partial.chmod(0o755)
        partial.rename(dest)


def _write_split(folder: Path, split: str, names: tuple[str, ...], rng: np.random.Generator, progress: bool) -> None:
    kernels: dict[str, Any] = {}
    bar = tqdm(names, desc=f'{split} photographs', unit='photograph', disable=not progress)
    with (
        LmdbWriter(folder / f'{split}_blur.lmdb') as blurry,
        LmdbWriter(folder / f'{split}_sharp.lmdb') as sharp,
    ):
        for name in bar:
            image = np.asarray(cv2.imread(str(photograph(name))))
            windows = quarters(image) if split == 'test' else detailed_windows(image, rng)
            for number, window in enumerate(windows):
                key = f'{Path(name).stem}_{number:02d}'
                kernels[key] = random_kernel(rng)
                blurry_window, sharp_window = blur_window(image, window, kernels[key], rng)
                blurry.add(key, blurry_window)
                sharp.add(key, sharp_window)
    np.savez_compressed(folder / f'{split}_kernels.npz', **kernels)


def quarters(image: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Yield the four quarters of an image, row by row."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    for top, left in product((0, height), (0, width)):
        yield slice(top, top + height), slice(left, left + width)


def detailed_windows(
    image: np.ndarray, rng: np.random.Generator, count: int = 24, size: int = 160
) -> Iterator[tuple[slice, slice]]:
    """Yield random windows, each the most detailed of four candidates.

    Uniform regions, such as a night sky, show no blur to learn from.

    Args:
        image: Array (H, W, 3), BGR.
        rng: Random generator.
        count: Number of windows.
        size: Maximum height and width of a window in pixels.

    Yields:
        Rows and columns of a window.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    detail = cv2.Sobel(gray, -1, 1, 0) ** 2 + cv2.Sobel(gray, -1, 0, 1) ** 2
    height, width = min(size, gray.shape[0]), min(size, gray.shape[1])
    for _ in range(count):
        corners = rng.integers(0, (gray.shape[0] - height + 1, gray.shape[1] - width + 1), (4, 2))
        windows = [(slice(top, top + height), slice(left, left + width)) for top, left in corners.tolist()]
        yield max(windows, key=lambda window: detail[window].mean())
