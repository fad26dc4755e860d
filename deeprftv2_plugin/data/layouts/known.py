"""Recognize deblurring datasets by their directory layout."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deeprftv2_plugin.data.layouts import folders, kernel_benchmarks, lists
from deeprftv2_plugin.data.layouts.pairs import Pair, Readers, check_unique_names
from deeprftv2_plugin.utils.errors import DataWarning, UserError
from deeprftv2_plugin.utils.regular_files import why_absent


class Layout(NamedTuple):
    """A directory layout of datasets."""

    name: str
    description: str
    find: Callable[[Path], Readers]
    """Returns the splits of a folder, empty if the folder has another layout."""


LAYOUTS = (
    Layout('GoPro', '{train,test}/SEQUENCE/{blur,sharp}; blur_gamma is ignored', folders.gopro),
    Layout('GoPro-flat', '{train,test}/{blur,sharp} or {input,target}, frames GOPR*', folders.flat_gopro),
    Layout('HIDE', 'train, test/{test-close-ups,test-long-shot} and GT, paired by name', folders.hide),
    Layout(
        'REDS',
        '{train,val}/*_{blur,blur_jpeg,sharp}/SEQUENCE; val_300 is every tenth frame, ..._jpeg uses blur_jpeg',
        folders.reds,
    ),
    Layout('DPDD', '{train,val,test}_c/{source,target}, paired by sorted order', folders.dpdd),
    Layout('RealBlur-J', 'RealBlur-J*/SCENE/{gt,blur}, RealBlur_J_{train,test}_list.txt', lists.realblur_j),
    Layout('RealBlur-R', 'RealBlur-R*/SCENE/{gt,blur}, RealBlur_R_{train,test}_list.txt', lists.realblur_r),
    Layout('RSBlur', 'RSBlur*, with lists RSBlur*{train,val,test}*.txt in the format of RealBlur', lists.rsblur),
    Layout('Levin', 'im05_flit01.mat, ...: x sharp, y blurry, f the kernel', kernel_benchmarks.levin),
    Layout('Koehler', 'Blurry1_1.png, ... and Image1/Kernel1/GroundTruth1_1_1.png, ...', kernel_benchmarks.kohler),
    Layout('Lai', '{uniform,nonuniform} with ground_truth and kernel, real_dataset (real)', kernel_benchmarks.lai),
    Layout(
        'pairs',
        '{blur,sharp}, {input,target}, {lq,gt} or {source,target} below {train,val,test} or directly (split all)',
        folders.pair_folders,
    ),
)
"""All layouts recognized by `recognize`. The last one, any folder of pairs, is used only if no other one matches."""


class RecognizedDataset(NamedTuple):
    """A dataset on disk with a known layout."""

    layout: str
    """The name of the layout, see `LAYOUTS`."""
    root: Path
    readers: Readers

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that exist on disk."""
        return tuple(self.readers)

    def default_split(self, phase: str) -> str:
        """Return the split for BasicSR's phase 'train', 'val' or 'test': the one of that name, or 'all'."""
        return folders.UNDIVIDED if folders.UNDIVIDED in self.readers else phase

    def pairs(self, split: str) -> list[Pair]:
        """Return the pairs of a split, sorted by name.

        Names are unique in a split. They consist of the distinguishing parts of the path joined by underscores, as in
        GOPR0372_07_00_000047 and RealBlur-J_scene050_1. They have no suffix, dot or space, which LMDB keys in BasicSR
        cannot have. Bytes that are not ASCII are replaced as in caf-xc3-xa9.

        Raises:
            UserError: The split does not exist or is empty, an image has no partner, or a listed image is missing.
        """
        if split not in self.readers:
            raise UserError(
                f'{self.root}, recognized as {self.layout}, has no split {split!r}. It has {", ".join(self.splits)}'
            )
        pairs = [pair._replace(name=_as_key(pair.name)) for pair in self.readers[split]()]
        check_unique_names(pairs)
        return sorted(pairs)


def recognize(root: str | Path) -> RecognizedDataset:
    """Recognize the layout of a dataset.

    Args:
        root: The unpacked folder of an archive, or its parent.

    Raises:
        UserError: The folder does not exist, contains several datasets, or has none of the known `LAYOUTS`.
    """
    root = Path(root).expanduser()
    require_folder(root)
    try:
        content = sorted(path for path in root.iterdir() if not path.name.startswith('.'))
    except OSError as error:
        raise UserError(f'cannot list the dataset {root}: {error.strerror}') from error
    found = _matches(root) or [match for path in content if os.path.isdir(path) for match in _matches(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f'{root} contains several datasets: {_shorten([f"{each.root} ({each.layout})" for each in found])}. '
            'Choose one of these folders'
        )
    raise UserError(
        f'{root} has no known dataset layout. It contains '
        f'{_shorten([path.name for path in content]) or "nothing"}. Known layouts:\n'
        + '\n'.join(f'  {known.name:10}  {known.description}' for known in LAYOUTS)
        + '\nFor other layouts, set dataroot_lq for the blurry and dataroot_gt for the sharp images'
    )


def require_folder(root: Path) -> None:
    """Check that a dataset is a folder.

    Raises:
        UserError: It is not, or it does not exist or cannot be accessed.
    """
    if not os.path.isdir(root):
        problem = 'is not a folder' if os.path.exists(root) else why_absent(root)
        raise UserError(f'the dataset {root} {problem}')


def _matches(folder: Path) -> list[RecognizedDataset]:
    """Return a folder with each layout that matches it. The general layout is used only if no other one matches."""
    try:
        *special, general = (RecognizedDataset(known.name, folder, known.find(folder)) for known in LAYOUTS)
    except OSError as error:
        warnings.warn(DataWarning(f'skipped {folder}, which cannot be listed: {error.strerror}'), stacklevel=3)
        return []
    return [match for match in special if match.readers] or [match for match in [general] if match.readers]


def _as_key(name: str) -> str:
    ascii_name = os.fsencode(name).decode('ascii', 'backslashreplace')
    return re.sub(r'[.\s\\]', '-', ascii_name)


def _shorten(names: list[str], most: int = 6) -> str:
    return ', '.join(names[:most] + ['...'] * (len(names) > most))
