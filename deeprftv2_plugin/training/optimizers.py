"""Build optimizers and learning rate schedules by name, take conditional steps, and advance schedules."""

import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from basicsr.models import lr_scheduler as basicsr_schedules
from torch import Tensor, optim
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from deeprftv2_plugin.utils.build import build
from deeprftv2_plugin.utils.errors import UserError, first_line, nearest


def _subclasses_in(module: ModuleType, base: type) -> dict[str, type]:
    members = {name: getattr(module, name) for name in dir(module) if not name.startswith('_')}
    return {
        name: member
        for name, member in members.items()
        if isinstance(member, type) and issubclass(member, base) and member is not base
    }


OPTIMIZERS = _subclasses_in(optim, Optimizer)
FUSED = ('Adam', 'AdamW', 'SGD')
"""Optimizers with a fused implementation, which can skip a step on the device."""
# BasicSR's schedules take precedence over torch's schedules of the same name, as in BasicSR's option files
SCHEDULES = {
    **_subclasses_in(lr_scheduler, LRScheduler),
    **_subclasses_in(basicsr_schedules, LRScheduler),
    'MultiStepLR': basicsr_schedules.MultiStepRestartLR,
}


def optimizers_for(name: object) -> Mapping[str, type]:
    """Return the optimizers that an option file can select: those of ``torch.optim`` and the given one, by name.

    Args:
        name: A class of ``torch.optim``, or the module and the class of another package, such as
            ``schedulefree.AdamWScheduleFree``. The module is imported.

    Raises:
        UserError: The package is not installed, or has no such optimizer.
    """
    if not isinstance(name, str) or '.' not in name:
        return OPTIMIZERS
    module_name, _, class_name = name.rpartition('.')
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        package = module_name.partition('.')[0]
        if error.name == package:
            raise UserError(
                f'{name}: the package {package} is not installed. Install it, or use an optimizer of torch.optim'
            ) from error
        raise UserError(f'{name} cannot be imported: {first_line(error)}') from error
    except (Exception, SystemExit) as error:  # modules can raise any exception
        raise UserError(f'{name} cannot be imported: {first_line(error)}') from error
    known = _subclasses_in(module, Optimizer)
    if class_name not in known:
        raise UserError(f'{module_name} has no optimizer {class_name}. {nearest(class_name, known)}')
    return {**OPTIMIZERS, name: known[class_name]}


def build_optimizer(settings: Mapping[str, Any], params: list) -> Optimizer:
    """Build an optimizer from ``train.optim_g``, in training mode if it has modes.

    Optimizers in ``FUSED`` are fused by default, so that :func:`step_if_finite` does not synchronize with the device.

    Args:
        settings: ``type``, see :func:`optimizers_for`, and the arguments of the optimizer.
        params: Parameters or parameter groups.

    Raises:
        UserError: There is no such optimizer, or it does not accept the settings.
    """
    if settings.get('type') in FUSED and not settings.keys() & {'fused', 'foreach', 'differentiable'}:
        settings = {**settings, 'fused': True}
    optimizer = build('train.optim_g', settings, optimizers_for(settings.get('type')), params=params)
    if has_two_modes(optimizer):
        optimizer.train()
    return optimizer


def has_two_modes(optimizer: Any) -> bool:
    """Return whether an optimizer has different weights for training and for evaluation.

    Schedule-free optimizers compute gradients at other weights than those used for evaluation. Their methods ``train``
    and ``eval`` switch between them.

    References:
        Defazio et al., "The Road Less Scheduled", NeurIPS 2024.
    """
    return callable(getattr(optimizer, 'train', None)) and callable(getattr(optimizer, 'eval', None))


def weights_of(optimizer: Optimizer) -> list[Tensor]:
    """Return all weights in the parameter groups of an optimizer."""
    return list(itertools.chain.from_iterable(group['params'] for group in optimizer.param_groups))


@contextmanager
def evaluation_weights(optimizers: Sequence[Any]) -> Iterator[None]:
    """Switch optimizers that have two modes to the weights for evaluation within the block. Must not be nested.

    Afterwards, the weights for training are bit-identical to those before, unlike after ``eval`` and ``train``.
    """
    switched = [optimizer for optimizer in optimizers if has_two_modes(optimizer)]
    before = [[weight.detach().clone() for weight in weights_of(optimizer)] for optimizer in switched]
    for optimizer in switched:
        optimizer.eval()
    try:
        yield
    finally:
        for optimizer, values in zip(switched, before, strict=True):
            optimizer.train()
            restore_weights(optimizer, values)


@torch.no_grad()
def restore_weights(optimizer: Optimizer, values: Sequence[Tensor]) -> None:
    """Copy values, which may be on another device, to the weights of an optimizer."""
    for weight, value in zip(weights_of(optimizer), values, strict=True):
        weight.copy_(value)


def build_schedule(settings: Mapping[str, Any], optimizer: Optimizer) -> LRScheduler:
    """Build a schedule of BasicSR or ``torch.optim.lr_scheduler`` from ``train.scheduler``.

    All schedules count iterations. ``ReduceLROnPlateau`` monitors the training loss. ``MultiStepLR`` is BasicSR's
    ``MultiStepRestartLR``.

    Args:
        settings: ``type`` and the arguments of the schedule. For ``SequentialLR`` and ``ChainedScheduler``, the list
            ``schedulers`` contains settings of the same form.
        optimizer: The optimizer whose learning rate is scheduled.

    Raises:
        UserError: There is no such schedule, or it does not accept the settings.
    """
    settings = dict(settings)
    if 'schedulers' in settings:
        settings['schedulers'] = [build_schedule(inner, optimizer) for inner in settings['schedulers']]
    return build('train.scheduler', settings, SCHEDULES, optimizer=optimizer)


def step_if_finite(finite: Tensor, optimizer: Optimizer, loss: Tensor, evaluate: Callable[[], Tensor]) -> None:
    """Take an optimizer step unless the loss or the gradient is not finite.

    Fused optimizers decide on the device. For other optimizers, the CPU synchronizes with the device, as it does for
    the first step with momentum, since skipping that step on the device would leave the momentum uninitialized.

    Args:
        finite: Boolean scalar tensor.
        optimizer: Optimizer whose parameters have gradients.
        loss: Loss of the current gradients. Line searches depend on its value, so it must be equal in all processes.
        evaluate: Recomputes the loss and the gradients, for optimizers that need several evaluations per step.
    """
    # read from the parameter groups, since a resumed state can differ from the settings
    fused = all(group.get('fused') for group in optimizer.param_groups)
    ready = optimizer.state or not any(group.get('momentum') for group in optimizer.param_groups)
    if fused and ready and getattr(optimizer, '_step_supports_amp_scaling', False):
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler does
        optimizer.step()
    elif finite:
        computed = [loss]

        def closure() -> Any:
            return computed.pop() if computed else evaluate()

        optimizer.step(closure)


def advance(schedule: LRScheduler, losses: Sequence[float] = ()) -> None:
    """Advance a schedule by one iteration. A schedule that has ended keeps its last rate.

    Recursive schedules, such as torch's cosine, compute the next rate from the optimizer's current one. The scheduled
    rate is therefore restored first, in case a warm-up has changed it.

    Args:
        schedule: The schedule of one optimizer.
        losses: Training losses since the last call, identical in all processes. Only used by ``ReduceLROnPlateau``.
    """
    for group, rate in zip(schedule.optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group['lr'] = rate
    if isinstance(schedule, ReduceLROnPlateau):
        for loss in losses:
            schedule.step(loss)
    elif not _has_ended(schedule):
        schedule.step()


def _has_ended(schedule: LRScheduler) -> bool:
    """Return whether another step would raise an error."""
    if isinstance(schedule, basicsr_schedules.CosineAnnealingRestartLR):
        return schedule.last_epoch >= schedule.cumulative_period[-1]
    if isinstance(schedule, OneCycleLR):
        return schedule.last_epoch >= schedule.total_steps - 1
    return False
