"""Optimisers and learning rate schedules by name, and how a schedule goes on by one iteration."""

from collections.abc import Callable, Mapping
from typing import Any

from basicsr.models import lr_scheduler as basicsr_schedules
from torch import Tensor, optim
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from deeprftv2_plugin import by_name


def _subclasses_in(module, base: type) -> dict[str, type]:
    members = {name: getattr(module, name) for name in dir(module) if not name.startswith('_')}
    return {
        name: member
        for name, member in members.items()
        if isinstance(member, type) and issubclass(member, base) and member is not base
    }


OPTIMISERS = _subclasses_in(optim, Optimizer)
# where both have a name, it means in BasicSR's option files what BasicSR understands by it
SCHEDULES = {
    **_subclasses_in(lr_scheduler, LRScheduler),
    **_subclasses_in(basicsr_schedules, LRScheduler),
    'MultiStepLR': basicsr_schedules.MultiStepRestartLR,
}


def build_optimiser(settings: Mapping[str, Any], params: list) -> Optimizer:
    """Any optimiser of ``torch.optim`` from ``train.optim_g``: its ``type`` and its arguments.

    Raises:
        UserError: ``torch.optim`` has no such optimiser, or it refuses the settings.
    """
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

    An optimiser that can be told so on the device, as torch's fused ones, is; for others the CPU has to wait for the
    device.

    Args:
        finite: Boolean tensor without dimensions.
        optimiser: Its gradients are there.
        loss: The loss that they are of.
        evaluate: Computes loss and gradients anew, for optimisers that want them more than once a step.
    """
    fused = all(group.get('fused') for group in optimiser.param_groups)  # a resumed state can say otherwise
    if fused and getattr(optimiser, '_step_supports_amp_scaling', False):
        optimiser.found_inf = (~finite).float()  # as torch.amp.GradScaler does it
        optimiser.step()
    elif finite:
        made = [loss]
        optimiser.step(lambda: made.pop() if made else evaluate())


def advance(schedule: LRScheduler, last_loss: Callable[[], float | None] = lambda: None) -> None:
    """Go on by one iteration; a schedule that has come to its end keeps its last rate.

    A schedule such as torch's cosine computes the next rate from the one it finds in the optimiser. So the
    rate that it set there itself is put back first, whatever a warm-up has made of it meanwhile.

    Args:
        schedule: The schedule of one optimiser.
        last_loss: Gives the last training loss, the same in all processes. ``ReduceLROnPlateau`` alone asks
            for it, and waits where it is None.
    """
    for group, rate in zip(schedule.optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group['lr'] = rate
    if isinstance(schedule, ReduceLROnPlateau):
        loss = last_loss()
        if loss is not None:
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
