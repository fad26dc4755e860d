"""The images in a folder and its subfolders."""

import os
import time
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from deeprftv2_plugin.utils.errors import DataWarning, UserError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
UNSUPPORTED = (
    *('.arw', '.avif', '.cr2', '.cr3', '.dng', '.exr', '.gif', '.hdr', '.heic', '.heif', '.j2k', '.jp2', '.jxl'),
    *('.nef', '.orf', '.pbm', '.pfm', '.pgm', '.pnm', '.ppm', '.psd', '.raf', '.raw', '.rw2', '.tga'),
)
"""Suffixes of other image formats."""
MAX_SECONDS = 600
"""Time in seconds after which a search is aborted. A million files on a network drive take less."""
PROGRESS_SECONDS = 5
"""Time in seconds after which a search shows its progress, and between updates."""


def is_image(path: str | Path, suffixes: tuple[str, ...] = SUFFIXES) -> bool:
    """Return whether a file name has an image suffix. Hidden files, such as previews, do not count."""
    name = os.path.basename(path)
    return name.lower().endswith(suffixes) and not name.startswith('.')


def list_images(folder: str | Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Return the sorted paths, relative to a folder, of all images below it.

    Links are followed, but each folder is searched only once. Images in formats that are not supported, and entries
    with the name of an image that are not files, are skipped with a `DataWarning`.

    Args:
        folder: The folder.
        suffixes: Lower-case suffixes of the formats that are supported.

    Raises:
        UserError: The folder cannot be listed, or the search takes longer than `MAX_SECONDS`.
    """
    images: list[Path] = []
    skipped: dict[str, list[str]] = {}
    for path, reason in _search(str(folder), suffixes):
        if reason is None:
            images.append(Path(path))
        else:
            skipped.setdefault(reason, []).append(path)
    for reason, paths in skipped.items():
        names = ', '.join([*sorted(paths)[:3], *['...'] * (len(paths) > 3)])
        warnings.warn(DataWarning(f'{folder}: skipped {reason}: {names} ({len(paths)} in all)'), stacklevel=2)
    return sorted(images)


def _search(root: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Yield the path below a root of each image, with None, and of each skipped entry, with the reason."""
    seen: set[str] = set()
    folders, links = deque(['']), deque[str]()
    progress = {'delay': PROGRESS_SECONDS, 'mininterval': PROGRESS_SECONDS, 'unit': ' files', 'leave': False}
    deadline = time.monotonic() + MAX_SECONDS
    with tqdm(desc=f'searching {root}', **progress) as bar:
        while folders or links:
            # Links come last, so that a folder inside the root is found under its own name.
            folder = folders.popleft() if folders else links.popleft()
            real = os.path.realpath(os.path.join(root, folder))
            if real in seen:
                yield folder, 'links to folders that are searched anyway'
                continue
            seen.add(real)
            try:
                with os.scandir(os.path.join(root, folder)) as entries:
                    for entry in entries:
                        bar.update()
                        if time.monotonic() > deadline:
                            raise UserError(
                                f'the search for images in {root} was aborted after {MAX_SECONDS} seconds, '
                                f'{bar.n} files and {len(seen)} folders: use a folder with fewer files'
                            )
                        path = os.path.join(folder, entry.name)
                        reason = _reason_to_skip(entry, suffixes)
                        if reason or is_image(path, suffixes):
                            yield path, reason
                        elif _is_folder(entry):
                            (links if entry.is_symlink() else folders).append(path)
            except OSError as error:
                if not folder:
                    raise UserError(f'cannot list the folder {root}: {error.strerror}') from error
                yield folder, f'folders that cannot be listed ({error.strerror})'


def _reason_to_skip(entry: os.DirEntry[str], suffixes: tuple[str, ...]) -> str | None:
    if entry.name.startswith('.'):
        return None
    if not is_image(entry.name, suffixes):
        unsupported = entry.name.lower().endswith(UNSUPPORTED) and not _is_folder(entry)
        known = ', '.join(suffixes) if len(suffixes) < 10 else 'those that are supported'
        return f'images in other formats than {known}' if unsupported else None
    if _is_folder(entry):
        return 'folders with names of images'
    missing = entry.is_symlink() and not os.path.exists(entry.path)  # listed: the error is raised when it is read
    return None if missing or entry.is_file() else 'pipes, sockets or devices with names of images'


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
