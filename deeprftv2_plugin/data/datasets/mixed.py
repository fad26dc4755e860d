"""Several data sets, each with a share of the samples."""

import math
import os
from bisect import bisect_right
from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate

from torch.utils.data import Dataset

from deeprftv2_plugin.utils.errors import UserError, nearest

SAMPLE = ('lq', 'gt', 'lq_path', 'gt_path')
"""What the samples of all parts have and a model reads; of other things only some may have, or in other sizes."""
COMMON = ('phase', 'gt_size', 'scale')
"""Options that are the same for all parts, so that a part has none of its own."""


class MixedDataset(Dataset):
    """Samples of several data sets, mixed with weights, for training.

    The index alone decides from which part a sample comes and which of its samples it is, so neither the number
    of workers nor that of processes changes anything. A pass over the data set gives each part its share,
    weight / sum of weights, exactly up to rounding, and is just long enough that every sample of every part is
    in it: the part that is largest for its weight is gone through once, the others several times, with no sample
    drawn more than once oftener than another. Thus the share of a part is not left to chance, as it were with
    independent draws, and no sample is left out. Two parts of 2103 and 24000 samples with equal weights have
    length 48000; the weights 1 and 11.4 bring that to about the sum of both.

    A sample has `lq`, `gt`, `lq_path` and `gt_path` as that of `PairedDeblurDataset`; what else a part gives,
    such as the `kernel` of `SyntheticBlurDataset`, is left out, since a batch needs it in all of its samples.

    The parts are looked up in BasicSR's registry. Call :func:`deeprftv2_plugin.register` first when this class is
    used outside of BasicSR's pipelines.

    Args:
        opt: The options of the data set, of which are read
            phase: 'train'; BasicSR sets it.
            parts: A list of options of data sets, each with the `type` of a registered one, the keys that this
                one reads, and `weight`, a number above 0; 1 when absent.
            gt_size: Crop of all parts, in pixels or [height, width]; looked up whenever a sample is made.
            name, scale: Those of the parts as well; BasicSR sets the scale.

    Raises:
        UserError: The phase is another, an option is wrong, or a part is empty or cannot be built.
    """

    def __init__(self, opt: dict):
        self.opt = opt  # BasicSR asks a data set for its name
        self.place = f'data set {opt.get("name", type(self).__name__)}'
        if opt['phase'] != 'train':
            raise UserError(
                f'{self.place}: a mixture is for training. For validation and test name each of the data sets '
                'by itself: val, val_2, ...'
            )
        settings = opt.get('parts')
        if not isinstance(settings, list) or not settings or not all(isinstance(each, Mapping) for each in settings):
            raise UserError(f'{self.place}: parts is {settings!r}, expected a list of options of data sets')
        common = {key: opt[key] for key in COMMON if key in opt}
        weights = [self._weight(number, each) for number, each in enumerate(settings)]
        self.parts = [self._build(number, each, common) for number, each in enumerate(settings)]
        self.ends = list(accumulate(shares([len(part) for part in self.parts], weights)))

    def _weight(self, number: int, settings: Mapping) -> Fraction:
        weight = settings.get('weight', 1)
        if type(weight) not in (int, float) or not 0 < weight < math.inf:
            raise UserError(f'{self.place}: parts.{number}.weight is {weight!r}, expected a number above 0')
        return Fraction(str(weight))  # 0.1 is meant as it is written

    def _build(self, number: int, settings: Mapping, common: Mapping) -> Dataset:
        from basicsr.data import build_dataset
        from basicsr.utils.registry import DATASET_REGISTRY

        for key in filter(settings.__contains__, COMMON):
            raise UserError(
                f'{self.place}: parts.{number}.{key} is set, but it is one for all parts: set it above them'
            )
        kind, names = settings.get('type'), [name for name, _ in DATASET_REGISTRY]
        known = [*names, *(name.removesuffix('_basicsr') for name in names)]
        if kind not in known:
            raise UserError(f'{self.place}: parts.{number}.type is {kind!r}, which is unknown. {nearest(kind, known)}')
        roots = {key: _expanded(value) for key, value in settings.items() if key.startswith('dataroot')}
        name = settings.get('name', f'{self.opt.get("name", type(self).__name__)}, part {number}')
        own = {key: value for key, value in settings.items() if key != 'weight'}
        part = build_dataset({**own, **common, **roots, 'name': name})
        if not len(part):
            raise UserError(f'{self.place}: there is nothing in parts.{number}')
        return part

    def __len__(self) -> int:
        return self.ends[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the part, and the index in it, of a sample."""
        if not 0 <= index < len(self):
            raise IndexError(f'sample {index} of {len(self)}')
        number = bisect_right(self.ends, index)
        start = self.ends[number - 1] if number else 0
        return number, (index - start) % len(self.parts[number])

    def __getitem__(self, index: int) -> dict:
        number, within = self.locate(index)
        part = self.parts[number]
        if 'gt_size' in self.opt:
            part.opt['gt_size'] = self.opt['gt_size']
        sample = part[within]
        return {key: sample[key] for key in SAMPLE if key in sample}


def shares(lengths: list[int], weights: list[Fraction]) -> list[int]:
    """How many samples of each part a pass takes: the least that hold all of them and are as the weights.

    What rounding down leaves goes to those that it has cost most.
    """
    total = sum(weights)
    length = math.ceil(max(size * total / weight for size, weight in zip(lengths, weights, strict=True)))
    exact = [length * weight / total for weight in weights]
    counts = [math.floor(share) for share in exact]
    losers = sorted(range(len(counts)), key=lambda number: counts[number] - exact[number])
    for number in losers[: length - sum(counts)]:
        counts[number] += 1
    return counts


def _expanded(root):
    """A root with the home directory in the place of ~, as BasicSR does it for data sets that are no parts."""
    return os.path.expanduser(root) if isinstance(root, str) else root
