"""Deblurring data sets as their archives unpack: which one a folder holds, and which pictures pair in it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deeprftv2_plugin.data.layouts import listed as layouts_listed
from deeprftv2_plugin.data.layouts import paired as layouts_paired
from deeprftv2_plugin.data.layouts.pairs import Pair, Readers, require_unique
from deeprftv2_plugin.utils.errors import UserError


class KnownLayout(NamedTuple):
    """A way in which data sets are laid out."""

    name: str
    description: str
    find: Callable[[Path], Readers]
    """The splits that a folder holds in this layout; none where it is laid out otherwise."""


LAYOUTS = (
    KnownLayout('GoPro', '{train,test}/SEQUENCE/{blur,sharp}; blur_gamma is left alone', layouts_paired.sequences),
    KnownLayout('GoPro-flat', '{train,test}/{blur,sharp} or {input,target}, frames GOPR*', layouts_paired.flat_gopro),
    KnownLayout('HIDE', 'train, test/{test-close-ups,test-long-shot} and GT, by the names', layouts_paired.hide),
    KnownLayout(
        'REDS',
        '{train,val}/*_{blur,blur_jpeg,sharp}/SEQUENCE; val_300 is every tenth frame, ..._jpeg takes blur_jpeg',
        layouts_paired.reds,
    ),
    KnownLayout('DPDD', '{train,val,test}_c/{source,target}, by the order of the names', layouts_paired.dpdd),
    KnownLayout(
        'RealBlur-J', 'RealBlur-J*/SCENE/{gt,blur}, RealBlur_J_{train,test}_list.txt', layouts_listed.realblur_j
    ),
    KnownLayout(
        'RealBlur-R', 'RealBlur-R*/SCENE/{gt,blur}, RealBlur_R_{train,test}_list.txt', layouts_listed.realblur_r
    ),
    KnownLayout(
        'RSBlur', 'RSBlur*, with lists RSBlur*{train,val,test}*.txt like those of RealBlur', layouts_listed.rsblur
    ),
    KnownLayout(
        'pairs',
        '{blur,sharp}, {input,target}, {lq,gt} or {source,target} below {train,val,test}, or directly (split all)',
        layouts_paired.folders,
    ),
)
"""All layouts that `recognise` knows. The last one, any folder of pairs, counts where none of the others fits."""


class Layout(NamedTuple):
    """A data set on disk whose layout has been recognised."""

    name: str
    """Of the layout, as in `LAYOUTS`."""
    root: Path
    readers: Readers

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are there."""
        return tuple(self.readers)

    def default_split(self, phase: str) -> str:
        """The split for BasicSR's phase 'train', 'val' or 'test': the one of its name, or all of an undivided set."""
        return layouts_paired.UNDIVIDED if layouts_paired.UNDIVIDED in self.readers else phase

    def pairs(self, split: str) -> list[Pair]:
        """The pairs of a split, in the order of their names.

        The names are unique in the split. They join with underscores what distinguishes a pair, as in
        GOPR0372_07_00_000047 and RealBlur-J_scene050_1, without suffix, dot or blank, which the keys of an LMDB
        must not have.

        Raises:
            UserError: There is no such split, it is empty, a picture has no partner, or a list names one that is
                missing.
        """
        if split not in self.readers:
            raise UserError(
                f'{self.root}, laid out like {self.name}, has no split {split!r}: it has {", ".join(self.splits)}'
            )
        pairs = [pair._replace(name=re.sub(r'[.\s]', '-', pair.name)) for pair in self.readers[split]()]
        require_unique(pairs)
        return sorted(pairs)


def recognise(root: str | Path) -> Layout:
    """Finds out how a data set is laid out.

    Args:
        root: The folder that an archive unpacks to, or the one around it.

    Raises:
        UserError: The folder is missing, holds several data sets, or is laid out like none of `LAYOUTS`.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f'the data set {root} is no folder' if root.exists() else f'the data set {root} does not exist')
    content = sorted(path for path in root.iterdir() if not path.name.startswith('.'))
    found = _fitting(root) or [layout for path in content if path.is_dir() for layout in _fitting(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f'{root} holds several data sets: {_shortened([f"{each.root} ({each.name})" for each in found])}. '
            'Name the folder of one'
        )
    raise UserError(
        f'{root} is laid out like no data set that is known here. It holds '
        f'{_shortened([path.name for path in content]) or "nothing"}. Known are\n'
        + '\n'.join(f'  {known.name:10}  {known.description}' for known in LAYOUTS)
        + '\nOther folders are named one by one: dataroot_lq for the blurry, dataroot_gt for the sharp pictures'
    )


def _fitting(folder: Path) -> list[Layout]:
    """The layouts that fit a folder; a folder of pairs only where no other does."""
    *special, general = (Layout(known.name, folder, known.find(folder)) for known in LAYOUTS)
    return [layout for layout in special if layout.readers] or [layout for layout in [general] if layout.readers]


def _shortened(names: list[str], most: int = 6) -> str:
    return ', '.join(names[:most] + ['...'] * (len(names) > most))
