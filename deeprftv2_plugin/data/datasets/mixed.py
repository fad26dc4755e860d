"""A dataset that mixes several datasets with weights."""

import math
import os
from bisect import bisect_right
from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate
from typing import Any

from torch.utils.data import Dataset

from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.utils.errors import UserError, nearest

SAMPLE = ('lq', 'gt', 'lq_path', 'gt_path')
"""Keys of a sample that the model reads. Other keys may be missing in some parts, so they cannot be batched."""
COMMON = ('phase', 'gt_size', 'scale')
"""Options that apply to all parts and cannot be set for a single one."""


class MixedDataset(Dataset):
    """Samples of several datasets, mixed with weights, for training.

    The index determines the part and the sample of that part, independent of the number of workers and processes. In
    one epoch, each part gets exactly its share, weight / sum of weights, up to rounding. The epoch is just long enough
    to include every sample of every part: the part that is largest relative to its weight is used once, and the others
    are repeated. The repetitions of the samples of a part differ by at most one. Unlike independent random draws, this
    leaves out no sample. Two parts of 2103 and 24000 samples with equal weights have length 48000. With the weights 1
    and 11.4, the length is about the sum of both.

    A sample has the keys `lq`, `gt`, `lq_path` and `gt_path` of `PairedDeblurDataset`. Other keys, such as `kernel` of
    `SyntheticBlurDataset`, are dropped, since batching needs the same keys in all samples.

    The parts are looked up in BasicSR's registry. Call :func:`deeprftv2_plugin.register` first when this class is
    used outside of BasicSR's pipelines.

    Args:
        opt: The dataset options, with the keys
            phase: 'train', set by BasicSR.
            parts: A list of dataset options, each with the `type` of a registered dataset, the options of that dataset,
                and an optional `weight` greater than 0. Default weight: 1.
            gt_size: Crop of all parts, in pixels or [height, width]. Read for every sample.
            name, scale: Passed on to the parts. BasicSR sets the scale.

    Raises:
        UserError: The phase is not 'train', an option is invalid, or a part is empty or cannot be built.
    """

    def __init__(self, opt: dict[str, Any]):
        self.opt = opt  # BasicSR reads the name of a dataset from its options
        self.label = f'dataset {opt.get("name", type(self).__name__)}'
        if opt['phase'] != 'train':
            raise UserError(
                f'{self.label}: mixed datasets are for training only. For validation and test list each dataset '
                'separately: val, val_2, ...'
            )
        settings = opt.get('parts')
        if not isinstance(settings, list) or not settings or not all(isinstance(each, Mapping) for each in settings):
            raise UserError(f'{self.label}: parts is {settings!r}, expected a list of dataset options')
        common = {key: opt[key] for key in COMMON if key in opt}
        weights = [self._weight(number, each) for number, each in enumerate(settings)]
        self.parts: list[SizedDataset] = [self._build(number, each, common) for number, each in enumerate(settings)]
        self.ends = list(accumulate(shares([len(part) for part in self.parts], weights)))

    def _weight(self, number: int, settings: Mapping[str, Any]) -> Fraction:
        weight = settings.get('weight', 1)
        if type(weight) not in (int, float) or not 0 < weight < math.inf:
            raise UserError(f'{self.label}: parts.{number}.weight is {weight!r}, expected a number greater than 0')
        return Fraction(str(weight))  # the decimal number of the option, not the nearest float

    def _build(self, number: int, settings: Mapping[str, Any], common: Mapping[str, Any]) -> SizedDataset:
        from basicsr.data import build_dataset
        from basicsr.utils.registry import DATASET_REGISTRY

        for key in filter(settings.__contains__, COMMON):
            raise UserError(
                f'{self.label}: parts.{number}.{key} is set, but {key} applies to all parts: set it next to parts'
            )
        kind, names = settings.get('type'), [name for name, _ in DATASET_REGISTRY]
        known = [*names, *(name.removesuffix('_basicsr') for name in names)]
        if kind not in known:
            raise UserError(f'{self.label}: parts.{number}.type is {kind!r}, which is unknown. {nearest(kind, known)}')
        roots = {key: _expand_user(value) for key, value in settings.items() if key.startswith('dataroot')}
        name = settings.get('name', f'{self.opt.get("name", type(self).__name__)}, part {number}')
        own = {key: value for key, value in settings.items() if key != 'weight'}
        part = build_dataset({**own, **common, **roots, 'name': name})
        if not len(part):
            raise UserError(f'{self.label}: parts.{number} has no samples')
        return part

    def __len__(self) -> int:
        return self.ends[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """Return the number of the part and the index in that part of a sample.

        Raises:
            IndexError: The index is negative, or not less than the length.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index {index} is out of range for {len(self)} samples')
        number = bisect_right(self.ends, index)
        start = self.ends[number - 1] if number else 0
        return number, (index - start) % len(self.parts[number])

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, part_index = self.locate(index)
        part = self.parts[number]
        if 'gt_size' in self.opt:
            part.opt['gt_size'] = self.opt['gt_size']
        sample = part[part_index]
        return {key: sample[key] for key in SAMPLE if key in sample}


def shares(lengths: list[int], weights: list[Fraction]) -> list[int]:
    """Return the number of samples of each part in an epoch, proportional to the weights and as small as possible.

    No number is smaller than the length of its part. Fractions are rounded down, and the remainder goes to the parts
    with the largest fractions.
    """
    total = sum(weights)
    length = math.ceil(max(size * total / weight for size, weight in zip(lengths, weights, strict=True)))
    exact = [length * weight / total for weight in weights]
    counts = [math.floor(share) for share in exact]
    largest_fractions = sorted(range(len(counts)), key=lambda number: counts[number] - exact[number])
    for number in largest_fractions[: length - sum(counts)]:
        counts[number] += 1
    return counts


def _expand_user(root: Any) -> Any:
    """Expand ~ to the home folder. BasicSR does this only for datasets at the top level."""
    return os.path.expanduser(root) if isinstance(root, str) else root
