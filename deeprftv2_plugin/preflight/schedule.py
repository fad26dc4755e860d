"""Check that schedules, intervals, stages and batches match the number of iterations and of GPUs."""

from collections.abc import Iterator, Mapping
from typing import Any

from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.inference.restoration import size_multiple
from deeprftv2_plugin.preflight.findings import Finding, error, ok, warning
from deeprftv2_plugin.preflight.resources import gpus_here
from deeprftv2_plugin.training.stages import accumulation_of, stages_of

LENGTHS = {
    'CosineAnnealingLR': ('T_max', 'the rate rises again'),
    'CosineAnnealingRestartLR': ('periods', 'the rate stays constant'),
    'OneCycleLR': ('total_steps', 'the rate stays constant'),
    'PolynomialLR': ('total_iters', 'the rate is zero'),
}
"""Schedules of finite length: the argument with the length, and what happens afterwards."""


def check_schedule(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the schedule of the learning rate, the warm-up, the stages and the intervals with `train.total_iter`."""
    train_opt, total = opt['train'], opt['train']['total_iter']
    yield from check_rates(opt)
    warmup = train_opt.get('warmup_iter') or -1
    if warmup >= total:
        yield warning(f'train.warmup_iter is {warmup} of {total} iterations: the rate never reaches its full value')
    for place in range(len(stages_of(opt)), len(train_opt.get('stages') or [{}])):
        yield warning(f'train.stages[{place}] never begins: the stages before it last all {total} iterations')
    for section, key, consequence in (
        ('val', 'val_freq', 'the only validation is at the end'),
        ('logger', 'save_checkpoint_freq', 'nothing is saved before the end, so a killed run has to start over'),
    ):
        interval = (opt.get(section) or {}).get(key) or 0
        if interval > total:
            yield warning(f'{section}.{key} is {interval}, with {total} iterations: {consequence}')
    validated = [phase for phase in opt['datasets'] if phase != 'train']
    if validated and opt.get('val') is None:
        yield warning(f'datasets.{validated[0]} is not used: nothing is validated without the section val')
    if not validated and opt.get('val') is not None:
        yield warning('val has no effect: there is no datasets.val')


def check_rates(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Check where the schedule of the learning rate ends."""
    train_opt, total = opt['train'], opt['train']['total_iter']
    settings = train_opt.get('scheduler') or {}
    name = settings.get('type')
    if name is None:
        yield ok(f'the learning rate stays constant for {total} iterations')
        return
    key, afterwards = LENGTHS.get(name, (None, ''))
    if settings.get(key) is None:
        yield ok(f'{name} in {total} iterations')
    else:
        length = sum(settings[key]) if isinstance(settings[key], list) else settings[key]
        yield check_length(f'{name} over {length} of {total} iterations', length, total, afterwards, fails_after(opt))
    never = [milestone for milestone in settings.get('milestones') or [] if milestone > total]
    if never:
        yield warning(f'train.scheduler.milestones has {never}, but there are {total} iterations')


def check_length(text: str, length: int, total: int, afterwards: str, fails: bool) -> Finding:
    """Compare the length of a schedule with that of the training.

    Args:
        text: Description of the schedule.
        length: Length of the schedule in iterations.
        total: Length of the training in iterations.
        afterwards: What the schedule does after its end.
        fails: Whether the model raises an error after its end.
    """
    if length < total - 1 and fails:  # iteration n uses rate n - 1
        return error(f'{text}: the model raises an error after that')
    if length < total:
        return warning(f'{text}: {afterwards} after that')
    return warning(f'{text}: the rate does not reach its last value') if length > total else ok(text)


def fails_after(opt: Mapping[str, Any]) -> bool:
    """Return whether the model steps a schedule of BasicSR beyond its end, which raises an error."""
    model = MODEL_REGISTRY.get(opt['model_type'])
    own = model.update_learning_rate is BaseModel.update_learning_rate
    return own and opt['train']['scheduler']['type'] == 'CosineAnnealingRestartLR'


def check_batch(opt: Mapping[str, Any], net: nn.Module | None = None) -> Iterator[Finding]:
    """Check the crops of the stages, and compare the effective batch of this run with that of the recipe.

    Args:
        opt: The options.
        net: The network that processes the crops.
    """
    stages, here = stages_of(opt), gpus_here(opt)
    recipe = opt['train'].get('recipe_gpus')
    for number, stage in enumerate(stages, 1):
        text = f'stage {number}: {stage}'
        if net is None or stage.gt_size is None or crop_fits(net, stage.gt_size, opt.get('scale', 1)):
            yield ok(text)
        else:
            needed = f'gt_size is {stage.gt_size}, but {type(net).__name__} takes multiples of {size_multiple(net)}'
            yield error(f'{text}: {needed}')
    factor = here * accumulation_of(opt, here)
    text = f'effective batch = batch x GPUs x accumulation{f", for a recipe of {recipe} GPUs" if recipe else ""}\n'
    text += batch_table(opt, sorted({1, 2, 4, 8, here, recipe or 1}), here)
    if recipe in (None, factor):
        yield ok(text)
        return
    found, meant = (' and '.join(str(stage.batch * times) for stage in stages) for times in (factor, recipe))
    yield warning(f'a step has {found} images in this run, but {meant} in the recipe\n{text}')


def crop_fits(net: nn.Module, gt_size: int | list[int], scale: int = 1) -> bool:
    """Return whether a network accepts the size of crops, which are not resized.

    Args:
        net: The network.
        gt_size: Crop of the sharp image, one number or [height, width].
        scale: Factor by which the network enlarges.
    """
    return all(side // scale % size_multiple(net) == 0 for side in crop_size(gt_size))


def batch_table(opt: Mapping[str, Any], counts: list[int], here: int) -> str:
    """Return a table of effective batches by the number of GPUs. An arrow marks the number of this run."""
    stages = stages_of(opt)
    columns = ['GPUs', 'accumulation'] + [f'stage {number}' for number in range(1, len(stages) + 1)]
    lines = ['  '.join(columns)]
    for count in counts:
        accumulation = accumulation_of(opt, count)
        values = [count, accumulation, *(stage.batch * count * accumulation for stage in stages)]
        line = '  '.join(f'{value:>{len(column)}}' for column, value in zip(columns, values, strict=True))
        lines.append(f'{line}{"  <- this run" if count == here else ""}')
    return '\n'.join(lines)
