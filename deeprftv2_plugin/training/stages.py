"""Training stages: crop size and batch size as a function of the iteration."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.utils.errors import UserError, nearest


class TrainingStage(NamedTuple):
    """A range of iterations with the same crop size and batch size."""

    first: int
    """First iteration, counted from 1."""
    last: int
    """Last iteration, inclusive."""
    gt_size: int | list[int] | None
    """Crop size in pixels, one number or [height, width]; None if the dataset has no such option."""
    batch: int
    """Images per batch on each GPU, or in each process on a CPU."""

    def __str__(self) -> str:
        crops = '' if self.gt_size is None else 'crops of {}x{} pixels, '.format(*crop_size(self.gt_size))
        return f'iterations {self.first} to {self.last}, {crops}batch size {self.batch} per GPU'


def stages_of(opt: Mapping[str, Any]) -> list[TrainingStage]:
    """Return the training stages that the options describe; a single one without ``train.stages``.

    ``train.stages`` is a list of sections with ``iterations``, ``gt_size`` and ``batch_size_per_gpu``. The last section
    has no ``iterations``; it extends to ``train.total_iter``. Missing keys default to those of ``datasets.train``.
    Stages that begin after ``total_iter`` are omitted.

    Raises:
        UserError: A key is unknown, a key is missing, or a value is not a positive integer.
    """
    data_opt = opt['datasets']['train']
    train_opt = opt['train']
    total = _count(train_opt['total_iter'], 'train.total_iter')
    sections = train_opt.get('stages') or [{}]
    if not isinstance(sections, list) or not all(isinstance(section, Mapping) for section in sections):
        raise UserError(f'train.stages is {sections!r}, expected a list of sections such as {{iterations: 1000, ...}}')
    stages: list[TrainingStage] = []
    first = 1
    for number, section in enumerate(sections):
        place = f'train.stages[{number}]'
        known = {'gt_size', 'batch_size_per_gpu'} | ({'iterations'} if number < len(sections) - 1 else set())
        for key in section:
            if key == 'iterations' and key not in known:
                raise UserError(f'{place}.iterations is set, but the last stage extends to train.total_iter: remove it')
            if key not in known:
                raise UserError(f'{place}.{key} is unknown. {nearest(key, known)}')
        last = total
        if 'iterations' in known:
            last = first - 1 + _count(section.get('iterations'), f'{place}.iterations')
        for key in section:
            if all(key in each for each in sections) and data_opt.get(key) is not None:
                raise UserError(
                    f'datasets.train.{key} is {data_opt[key]!r}, but every stage in train.stages overrides it: set it '
                    'in the stages, or remove the stages (train:stages=~)'
                )
        merged = {key: section.get(key, data_opt.get(key)) for key in ('gt_size', 'batch_size_per_gpu')}
        if merged['gt_size'] is not None:
            crop_size(merged['gt_size'])
        owner = place if train_opt.get('stages') else 'datasets.train'
        batch = _count(merged['batch_size_per_gpu'], f'{owner}.batch_size_per_gpu')
        if first <= total:
            stages.append(TrainingStage(first, min(last, total), merged['gt_size'], batch))
        first = last + 1
    return stages


def accumulation_of(opt: Mapping[str, Any], gpus: int) -> int:
    r"""Return the number of batches per optimizer step.

    This is ``train.accumulation`` if given. Otherwise, a recipe for :math:`R` GPUs (``train.recipe_gpus``) accumulates
    :math:`\lceil R / G \rfloor` batches on :math:`G` GPUs, which keeps the effective batch size of the recipe.

    Args:
        opt: The options.
        gpus: Number of GPUs, or of processes on a CPU.

    Raises:
        UserError: An option is not a positive integer.
    """
    train_opt = opt['train']
    if train_opt.get('accumulation') is not None:
        return _count(train_opt['accumulation'], 'train.accumulation')
    recipe = train_opt.get('recipe_gpus')
    return 1 if recipe is None else max(1, round(_count(recipe, 'train.recipe_gpus') / gpus))


def gpus_of(opt: Mapping[str, Any]) -> int:
    """Return the number of GPUs from the options that BasicSR has parsed. On a CPU, each process counts as one."""
    return opt['world_size'] if opt['dist'] else max(1, opt['num_gpu'])


def _count(value: object, place: str) -> int:
    if type(value) is not int or value < 1:
        raise UserError(f'{place} is {value!r}, expected a positive integer')
    return value
