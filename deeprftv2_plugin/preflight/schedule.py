"""Whether what happens at certain iterations fits the number of iterations."""

from collections.abc import Iterator, Mapping
from typing import Any

from basicsr.models.base_model import BaseModel
from basicsr.utils.registry import MODEL_REGISTRY

from deeprftv2_plugin.preflight.findings import Finding, error, ok, warning
from deeprftv2_plugin.training.stages import stages_of

LENGTHS = {
    'CosineAnnealingLR': ('T_max', 'the rate rises again'),
    'CosineAnnealingRestartLR': ('periods', 'the rate stays as it is'),
    'OneCycleLR': ('total_steps', 'the rate stays as it is'),
    'PolynomialLR': ('total_iters', 'the rate is zero'),
}
"""Schedules that end at some iteration: the setting that says where, and what comes after it."""


def check_schedule(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Compares the learning rate's schedule, the warm-up, the stages and the intervals with `train.total_iter`."""
    train_opt, total = opt['train'], opt['train']['total_iter']
    yield from check_rates(opt)
    warmup = train_opt.get('warmup_iter') or -1
    if warmup >= total:
        yield warning(f'train.warmup_iter is {warmup} of {total} iterations: the rate never comes to its height')
    for place in range(len(stages_of(opt)), len(train_opt.get('stages') or [{}])):
        yield warning(
            f'train.stages[{place}] never begins: the stages before it last as long as the {total} iterations'
        )
    for section, key, consequence in (
        ('val', 'val_freq', 'it is validated at the end only'),
        ('logger', 'save_checkpoint_freq', 'nothing is saved before the end, and a run that is killed starts over'),
    ):
        interval = (opt.get(section) or {}).get(key) or 0
        if interval > total:
            yield warning(f'{section}.{key} is {interval}, with {total} iterations: {consequence}')


def check_rates(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Sees where the schedule of the learning rate ends."""
    train_opt, total = opt['train'], opt['train']['total_iter']
    settings = train_opt.get('scheduler') or {}
    name = settings.get('type')
    if name is None:
        yield ok(f'the learning rate stays as it is for {total} iterations')
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
    """Compares the length of a schedule with that of the training."""
    if length < total - 1 and fails:  # iteration n asks for the rate number n - 1
        return error(f'{text}, and after it the model ends with an error')
    if length < total:
        return warning(f'{text}: {afterwards} after it')
    return warning(f'{text}: the rate does not come to its end') if length > total else ok(text)


def fails_after(opt: Mapping[str, Any]) -> bool:
    """Whether the model goes on to ask a schedule of BasicSR for rates when it has ended."""
    model = MODEL_REGISTRY.get(opt['model_type'])
    own = model.update_learning_rate is BaseModel.update_learning_rate
    return own and opt['train']['scheduler']['type'] == 'CosineAnnealingRestartLR'
