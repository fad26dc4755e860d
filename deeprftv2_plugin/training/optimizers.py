"""Optimisers and learning rate schedules by name, and how a schedule goes on by one iteration."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from basicsr.models import lr_scheduler as basicsr_schedules
from torch import Tensor, optim
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from deeprftv2_plugin.utils import build as by_name


def _subclasses_in(module, base: type) -> dict[str, type]:
    members = {name: getattr(module, name) for name in dir(module) if not name.startswith('_')}
    return {
        name: member
        for name, member in members.items()
        if isinstance(member, type) and issubclass(member, base) and member is not base
    }


OPTIMISERS = _subclasses_in(optim, Optimizer)
FUSED = ('Adam', 'AdamW', 'SGD')
"""Optimizers that take a step in one pass over all weights, and can be told on the device to skip it."""
# where both have a name, it means in BasicSR's option files what BasicSR understands by it
SCHEDULES = {
    **_subclasses_in(lr_scheduler, LRScheduler),
    **_subclasses_in(basicsr_schedules, LRScheduler),
    'MultiStepLR': basicsr_schedules.MultiStepRestartLR,
}


def build_optimiser(settings: Mapping[str, Any], params: list) -> Optimizer:
    """Any optimiser of ``torch.optim`` from ``train.optim_g``: its ``type`` and its arguments.

    Those in ``FUSED`` are fused unless the settings say otherwise, so that :func:`step_where` need not wait.

    Raises:
        UserError: ``torch.optim`` has no such optimiser, or it refuses the settings.
    """
    if settings.get('type') in FUSED and not settings.keys() & {'fused', 'foreach', 'differentiable'}:
        settings = {**settings, 'fused': True}
    return by_name.build('train.optim_g', settings, OPTIMISERS, params=params)


def build_schedule(settings: Mapping[str, Any], optimiser: Optimizer) -> LRScheduler:
    """Any schedule of BasicSR or ``torch.optim.lr_scheduler`` from ``train.scheduler``.

    The settings are its ``type`` and its arguments; the list ``schedulers`` of ``SequentialLR`` and
    ``ChainedScheduler`` consists of such settings again. ``MultiStepLR`` is BasicSR's, which can restart.
    All count iterations; ``ReduceLROnPlateau`` watches the training loss.

    Raises:
        UserError: Neither has such a schedule, or it refuses the settings.
    """
    settings = dict(settings)
    if 'schedulers' in settings:
        settings['schedulers'] = [build_schedule(inner, optimiser) for inner in settings['schedulers']]
    return by_name.build('train.scheduler', settings, SCHEDULES, optimizer=optimiser)


def step_where(finite: Tensor, optimiser: Optimizer, loss: Tensor, evaluate: Callable[[], Tensor]) -> None:
    """One step of the optimiser, unless loss or gradient are not finite.

    An optimiser that can be told so on the device, as torch's fused ones, is. For others the CPU waits for the device,
    and so it does for the first step with momentum: skipped on the device, it would leave the momentum undefined.

    Args:
        finite: Boolean tensor without dimensions.
        optimiser: Its gradients are there.
        loss: The loss that they are of.
        evaluate: Computes loss and gradients anew, for optimisers that want them more than once a step.
    """
    # a resumed state can say something else than the settings
    fused = all(group.get('fused') for group in optimiser.param_groups)
    ready = optimiser.state or not any(group.get('momentum') for group in optimiser.param_groups)
    if fused and ready and getattr(optimiser, '_step_supports_amp_scaling', False):
        optimiser.found_inf = (~finite).float()  # as torch.amp.GradScaler does it
        optimiser.step()
    elif finite:
        made = [loss]
        optimiser.step(lambda: made.pop() if made else evaluate())


def advance(schedule: LRScheduler, losses: Sequence[float] = ()) -> None:
    """Go on by one iteration; a schedule that has come to its end keeps its last rate.

    A schedule such as torch's cosine computes the next rate from the one it finds in the optimiser. So the
    rate that it set there itself is put back first, whatever a warm-up has made of it meanwhile.

    Args:
        schedule: The schedule of one optimiser.
        losses: The training losses that have become known since the last call, the same in all processes.
            ``ReduceLROnPlateau`` alone looks at them.
    """
    for group, rate in zip(schedule.optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group['lr'] = rate
    if isinstance(schedule, ReduceLROnPlateau):
        for loss in losses:
            schedule.step(loss)
    elif not _has_ended(schedule):
        schedule.step()


def _has_ended(schedule: LRScheduler) -> bool:
    """Whether one more step would raise an error."""
    if isinstance(schedule, basicsr_schedules.CosineAnnealingRestartLR):
        return schedule.last_epoch >= schedule.cumulative_period[-1]
    if isinstance(schedule, OneCycleLR):
        return schedule.last_epoch >= schedule.total_steps - 1
    return False
