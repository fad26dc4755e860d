"""Determine the input and output files of a command from its arguments."""

import glob
import os
import tempfile
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from deeprftv2_plugin.data.storage.listing import UNSUPPORTED, list_images
from deeprftv2_plugin.inference.photographs.reading import suffixes
from deeprftv2_plugin.inference.photographs.writing import format_of, require_format
from deeprftv2_plugin.utils.atomic_io import writing
from deeprftv2_plugin.utils.errors import UserError


class Job(NamedTuple):
    """An image to restore."""

    source: Path
    target: Path


class _Input(NamedTuple):
    folder: Path
    """The given folder, or the folder of the given file."""
    name: Path
    """Path of the file relative to that folder."""

    @property
    def path(self) -> Path:
        return self.folder / self.name


def plan(inputs: Sequence[str], output: str) -> list[Job]:
    """Find the images and determine the paths of the results.

    Args:
        inputs: Files, folders, which are searched recursively, and patterns such as `*.jpg`.
        output: A file if the only input is a file and `output` has the suffix of a format that can be written;
            otherwise a folder. Results have the paths of the images relative to the given folder or to the part of the
            pattern before the first wildcard; or relative to the common folder of all inputs if the former are not
            unique. The suffix '.png' is appended to the names of images in formats that cannot be written.

    Raises:
        UserError: There are no images, or two results would have the same path.
    """
    target = Path(output)
    found = _unique([each for text in inputs for each in _images(text, target)])
    if not found:
        raise UserError(f'no images in {", ".join(inputs)}: pass images, or folders that contain images')
    is_folder = target.is_dir() or output.endswith(os.sep)
    if not is_folder and _is_image_name(target):
        if len(found) == 1 and not any(map(os.path.isdir, inputs)):
            require_format(target)
            return [Job(found[0].path, target)]
        raise UserError(f'-o {output} is the name of an image, but there are several images or a folder: use a folder')
    names = [each.name for each in found]
    if len(set(names)) < len(names) or any('..' in name.parts for name in names):
        absolute = [os.path.abspath(each.path) for each in found]
        common = os.path.commonpath([os.path.dirname(path) for path in absolute])
        names = [Path(os.path.relpath(path, common)) for path in absolute]
    jobs = [Job(each.path, target / written_name(name)) for each, name in zip(found, names, strict=True)]
    sources: dict[Path, Path] = {}
    for job in jobs:
        if other := sources.get(job.target):
            raise UserError(f'{other} and {job.source} would both be written to {job.target}: rename one of them')
        sources[job.target] = job.source
    return jobs


def select(jobs: Sequence[Job], overwrite: bool, skip_existing: bool) -> list[Job]:
    """Return the jobs to be done.

    Raises:
        UserError: Results exist and neither option is set, results would replace images without `overwrite`, or a
            folder cannot be written to.
    """
    originals = {os.path.realpath(job.source) for job in jobs}
    replaced = [job for job in jobs if os.path.realpath(job.target) in originals]
    if replaced and not overwrite:
        raise UserError(
            f'{replaced[0].target} is one of the images: use another folder for the results, or --overwrite to replace '
            'the images'
        )
    left = [job for job in jobs if overwrite or not os.path.lexists(job.target)]
    existing = set(jobs).difference(left)
    if existing and not skip_existing:
        raise UserError(
            f'{min(existing).target} exists ({len(existing)} of {len(jobs)} results do): use --skip-existing to '
            'restore only the others, or --overwrite to replace them'
        )
    for folder in sorted({job.target.parent for job in left}):
        require_writable(folder)
    return left


def _images(text: str, target: Path) -> list[_Input]:
    """Return a file, or the images in a folder or those that match a pattern, except the results of earlier runs."""
    folder = Path(text)
    if not os.path.lexists(text):
        folder, names = _matches(text)
    elif folder.is_dir():
        names = list_images(folder, suffixes())
    else:
        return [_Input(folder.parent, Path(folder.name))]
    results = os.path.realpath(target)
    if results.startswith(os.path.join(os.path.realpath(folder), '')):
        names = [name for name in names if not os.path.realpath(folder / name).startswith(results + os.sep)]
    return [_Input(folder, name) for name in names]


def _matches(pattern: str) -> tuple[Path, list[Path]]:
    """Return the part of a pattern before the first wildcard, and the matching files and images relative to it.

    Raises:
        UserError: Nothing matches.
    """
    found = sorted(map(Path, glob.glob(pattern, recursive=True)))
    if not found:
        what = 'matches nothing' if glob.has_magic(pattern) else 'does not exist'
        raise UserError(f'{pattern} {what}: check the path of the images')
    folder = Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    lists = ([path / name for name in list_images(path, suffixes())] if path.is_dir() else [path] for path in found)
    return folder, [path.relative_to(folder) for paths in lists for path in paths]


def _unique(found: Sequence[_Input]) -> list[_Input]:
    """Remove inputs that are the same file as an earlier one."""
    by_file: dict[str, _Input] = {}
    for each in found:
        by_file.setdefault(os.path.realpath(each.path), each)
    return list(by_file.values())


def _is_image_name(path: Path) -> bool:
    return path.suffix.lower() in (*suffixes(), *UNSUPPORTED) or format_of(path) is not None


def written_name(name: Path) -> Path:
    """Return the name of a result: that of the image, with '.png' appended if its format cannot be written."""
    return name if format_of(name) else name.with_name(f'{name.name}.png')


def require_free(option: str, path: Path, overwrite: bool) -> None:
    """Check that an output file does not exist, unless it may be overwritten.

    Args:
        option: Name of the option that sets the file, for error messages.
        path: The file.
        overwrite: Whether an existing file may be replaced.

    Raises:
        UserError: The path is a folder, or a file that must not be replaced.
    """
    if path.is_dir():
        raise UserError(f'{option} {path} is a folder: use the name of a file')
    if os.path.lexists(path) and not overwrite:
        raise UserError(f'{path} exists: use --overwrite to replace it')


def require_writable(folder: Path) -> None:
    """Create a folder and check that files can be written there.

    Raises:
        UserError: The folder cannot be created or written to.
    """
    with writing(f'to the folder {folder}'):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
