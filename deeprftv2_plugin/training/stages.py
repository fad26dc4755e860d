"""The stages of a training: how large its crops and its batches are in which iterations."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.utils.errors import UserError, nearest


class Stage(NamedTuple):
    """Iterations with equal crops and batches."""

    first: int
    """Its first iteration; they count from 1."""
    last: int
    gt_size: int | list[int] | None
    """Crop in pixels, one number or [height, width]; None where the data set has no such option."""
    batch: int
    """Pictures that one GPU (or process on a CPU) takes at a time."""

    def __str__(self) -> str:
        patches = '' if self.gt_size is None else 'patches of {}x{} pixels, '.format(*crop_size(self.gt_size))
        return f'iterations {self.first} to {self.last}, {patches}{self.batch} at a time on each GPU'


def stages_of(opt: Mapping[str, Any]) -> list[Stage]:
    """The stages that options describe; one where they say nothing of stages.

    ``train.stages`` is a list of sections with ``iterations``, ``gt_size`` and ``batch_size_per_gpu``; the last
    has no ``iterations``, it lasts to ``train.total_iter``. What a stage leaves out is as in ``datasets.train``.
    Stages that begin after ``total_iter`` are left out.

    Raises:
        UserError: An entry is unknown, missing, or no such number.
    """
    data_opt = opt['datasets']['train']
    train_opt = opt['train']
    total = _count(train_opt['total_iter'], 'train.total_iter')
    sections = train_opt.get('stages') or [{}]
    if not isinstance(sections, list) or not all(isinstance(section, Mapping) for section in sections):
        raise UserError(f'train.stages is {sections!r}, expected a list of sections such as {{iterations: 1000, ...}}')
    stages, first = [], 1
    for number, section in enumerate(sections):
        place = f'train.stages[{number}]'
        known = {'gt_size', 'batch_size_per_gpu'} | ({'iterations'} if number < len(sections) - 1 else set())
        for key in section:
            if key == 'iterations' and key not in known:
                raise UserError(f'{place}.iterations: the last stage has none, since it lasts to train.total_iter')
            if key not in known:
                raise UserError(f'{place}.{key} is unknown. {nearest(key, known)}')
        last = total
        if 'iterations' in known:
            last = first - 1 + _count(section.get('iterations'), f'{place}.iterations')
        for key in section:
            if all(key in each for each in sections) and data_opt.get(key) is not None:
                raise UserError(
                    f'datasets.train.{key} is {data_opt[key]!r}, but every one of train.stages has its own: set it '
                    f'there, or drop the stages (train:stages=~)'
                )
        merged = {key: section.get(key, data_opt.get(key)) for key in ('gt_size', 'batch_size_per_gpu')}
        if merged['gt_size'] is not None:
            crop_size(merged['gt_size'])
        owner = place if train_opt.get('stages') else 'datasets.train'
        batch = _count(merged['batch_size_per_gpu'], f'{owner}.batch_size_per_gpu')
        if first <= total:
            stages.append(Stage(first, min(last, total), merged['gt_size'], batch))
        first = last + 1
    return stages


def accumulation_of(opt: Mapping[str, Any], gpus: int) -> int:
    r"""How many batches one step of the optimiser takes.

    ``train.accumulation`` says it; without it the step takes what makes up for GPUs that are not there,
    :math:`\lceil R / G \rfloor` batches on :math:`G` GPUs by a recipe for :math:`R` of them
    (``train.recipe_gpus``), so that the effective batch stays the recipe's.

    Args:
        opt: The options.
        gpus: The number of GPUs, or of processes on a CPU, that share in a step.

    Raises:
        UserError: An option is no positive whole number.
    """
    train_opt = opt['train']
    if train_opt.get('accumulation') is not None:
        return _count(train_opt['accumulation'], 'train.accumulation')
    recipe = train_opt.get('recipe_gpus')
    return 1 if recipe is None else max(1, round(_count(recipe, 'train.recipe_gpus') / gpus))


def gpus_of(opt: Mapping[str, Any]) -> int:
    """How many GPUs share a step, by the options as BasicSR has parsed them; a process on a CPU counts as one."""
    return opt['world_size'] if opt['dist'] else max(1, opt['num_gpu'])


def _count(value, place):
    if type(value) is not int or value < 1:
        raise UserError(f'{place} is {value!r}, expected a whole number from 1 up')
    return value
