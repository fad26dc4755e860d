"""Resume optimizers and schedules from a training state, with the settings of the options."""

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from itertools import chain
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from deeprftv2_plugin.checkpoints.containers import tensors_of
from deeprftv2_plugin.training import environment, memory_layout
from deeprftv2_plugin.training.optimizers import advance, has_two_modes, restore_weights, weights_of
from deeprftv2_plugin.utils.errors import UserError, first_line

RESTART = 'To continue training from its weights, start a new run with path.pretrain_network_g'
PROGRESS = ('last_epoch', 'best', 'num_bad_epochs', 'cooldown_counter', 'base_lrs', 'T_cur', 'T_i')
"""Attributes of schedules that are not settings."""


def types_of(optimizers: Sequence[Optimizer], schedules: Sequence[LRScheduler]) -> dict[str, list[str]]:
    """Return the names of the classes of optimizers and schedules, for the training state."""
    named = {'optimizers': optimizers, 'schedulers': schedules}
    return {key: [type(each).__name__ for each in objects] for key, objects in named.items()}


def prepare(model: Any, state: Mapping[str, Any], same_schedules: bool = True) -> None:
    """Check that a training state belongs to a model, and warn about changes of software or hardware.

    PyTorch's optimizers load tensors of any shape. Fused optimizers then access memory outside of these tensors.

    Args:
        model: A BasicSR model.
        state: The state, as `checkpoints.states.read_state` returns it.
        same_schedules: Whether the schedules must be of the same classes as those of the state.

    Raises:
        UserError: The state belongs to another network or other optimizers. The message names the first difference.
    """
    types = types_of(model.optimizers, model.schedulers)
    for key, found in types.items():
        if len(state[key]) != len(found):
            raise UserError(f'the resumed state has {len(state[key])} {key}, expected {len(found)}. {RESTART}')
    before = state.get('types', {}).get('optimizers', types['optimizers'])
    if before != types['optimizers']:
        raise UserError(
            f'train.optim_g.type is {", ".join(types["optimizers"])}, but the resumed state is that of '
            f'{", ".join(map(str, before))}. Restore the former type. {RESTART}'
        )
    for schedule, saved in zip(model.schedulers, state['schedulers'], strict=True):
        if same_schedules and saved.keys() != schedule.state_dict().keys():
            raise UserError(
                f'train.scheduler.type is {type(schedule).__name__}, but the resumed state is that of another '
                f'schedule, with {", ".join(saved)}. Restore the former type. {RESTART}'
            )
    for optimizer, saved in zip(model.optimizers, state['optimizers'], strict=True):
        problem = next(_problems(optimizer, saved), None)
        if problem is not None:
            raise UserError(
                f'the resumed state does not fit this network and train.optim_g ({type(optimizer).__name__}): '
                f'{problem}. Use the options of the run that saved it. {RESTART}'
            )
    for text in environment.changes(state.get('environment') or {}, model.device):
        get_root_logger().warning(text)


def resume_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> list[str]:
    """Load the state of an optimizer that `prepare` has accepted, but keep the settings of the options.

    Returns:
        A message for each setting that differs from that in the state. `resume_schedule` sets the learning rate of the
        next iteration.

    Raises:
        UserError: The optimizer fails with this state.
    """
    changes = []
    groups = []
    for number, (group, before) in enumerate(zip(optimizer.param_groups, saved['param_groups'], strict=True)):
        own = group.keys() - _progress_keys(optimizer)
        progress = {key: value for key, value in before.items() if key not in own}
        settings = {key: value for key, value in group.items() if key != 'params' and key not in progress}
        where = f' of parameter group {number}' if len(optimizer.param_groups) > 1 else ''
        scheduled = {'lr'} | ({'betas', 'momentum'} if 'base_momentum' in group else set())
        for key in (optimizer.defaults.keys() | {'initial_lr'}) - scheduled:
            if key in settings and key in before and not _equal(before[key], settings[key]):
                name = {'initial_lr': 'lr'}.get(key, key)
                changes.append(_change(f'train.optim_g.{name}{where}', settings[key], before[key]))
        groups.append({**group, **progress, 'params': before['params']})
    optimizer.load_state_dict({'state': saved['state'], 'param_groups': groups})
    try:
        memory_layout.match_state(optimizer)
        finite = _can_step(optimizer)
    except Exception as error:  # optimizers of other packages can raise any exception
        raise UserError(
            f'the resumed state does not fit train.optim_g ({type(optimizer).__name__}): {first_line(error)}. {RESTART}'
        ) from error
    if not finite:
        raise UserError(f'the resumed state leads to weights that are not finite: it is damaged. {RESTART}')
    return changes


def _progress_keys(optimizer: Optimizer) -> set[str]:
    """Return the entries of parameter groups that an optimizer updates itself: defaults that are not arguments."""
    return optimizer.defaults.keys() - signature(type(optimizer)).parameters.keys()


def training_weights(optimizers: Sequence[Optimizer]) -> dict[str, list[list[Tensor]]]:
    """Return the training weights of optimizers that have two modes, for a training state; empty if none has."""
    if not any(map(has_two_modes, optimizers)):
        return {}
    return {'training_weights': [[weight.detach().cpu() for weight in weights_of(each)] for each in optimizers]}


def resume_weights(optimizers: Sequence[Optimizer], saved: Sequence[Sequence[Tensor]] | None) -> None:
    """Restore the training weights of optimizers that have two modes.

    Raises:
        UserError: The state does not have the weights of this network.
    """
    if not any(map(has_two_modes, optimizers)):
        return
    expected = [[weight.shape for weight in weights_of(each)] for each in optimizers]
    if saved is None or [[value.shape for value in values] for values in saved] != expected:
        raise UserError(
            f'the resumed state has no weights for training that fit this network, which '
            f'{type(optimizers[0]).__name__} needs. {RESTART}'
        )
    for optimizer, values in zip(optimizers, saved, strict=True):
        restore_weights(optimizer, values)


def _can_step(optimizer: Optimizer) -> bool:
    """Take a step with a copy of an optimizer and its weights; return whether the weights remain finite."""
    groups = [[nn.Parameter(weight.detach().clone()) for weight in group['params']] for group in optimizer.param_groups]
    twin = _twin(optimizer, groups)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for weight in chain.from_iterable(groups):
        weight.grad = torch.ones_like(weight)
    twin.step(lambda: 0.0)
    return all(bool(weight.isfinite().all()) for weight in chain.from_iterable(groups))


def _twin(optimizer: Optimizer, groups: Sequence[list[nn.Parameter]]) -> Optimizer:
    """Return a new optimizer with the settings of another one for other weights, by group."""
    accepted = signature(type(optimizer)).parameters
    settings = [{**group, 'params': weights} for group, weights in zip(optimizer.param_groups, groups, strict=True)]
    make: Any = type(optimizer)
    return make(settings, **{key: value for key, value in optimizer.defaults.items() if key in accepted})


def resume_schedule(
    schedule: LRScheduler,
    saved: Mapping[str, Any],
    iteration: int,
    before: str | None = None,
    rates: Sequence[Any] | None = None,
) -> list[str]:
    """Bring a schedule with the settings of the options to an iteration.

    The schedule is advanced from the beginning, so that it equals that of an uninterrupted run with these options. A
    ReduceLROnPlateau, which depends on the losses so far, takes its progress from the state instead.

    Args:
        schedule: A new schedule.
        saved: The state of the schedule that was saved.
        iteration: The iteration of the state.
        before: Name of the class of the saved schedule, if known.
        rates: Initial learning rates of the saved run, as far as known.

    Returns:
        A message for each setting that differs from that in the state.

    Raises:
        UserError: Only one of the two schedules depends on the losses.
    """
    name = type(schedule).__name__
    plateau = isinstance(schedule, ReduceLROnPlateau)
    if plateau != ('num_bad_epochs' in saved):
        raise UserError(
            f'train.scheduler.type is {name}, but the resumed state is that of {before or "another schedule"}, and '
            f'only one of them uses the losses so far. Restore the former type. {RESTART}'
        )
    if before is not None and before != name:
        changes = [_change('train.scheduler.type', name, before)]
    else:
        changes = [
            _change(f'train.scheduler.{key}', value, saved[key])
            for key, value in vars(schedule).items()
            if key in saved and not key.startswith('_') and key not in PROGRESS and not _equal(saved[key], value)
        ]
    if plateau:
        _resume_plateau(schedule, saved, rates)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)  # PyTorch warns that no step has been taken
            for _ in range(iteration - 1):
                advance(schedule)
    return changes


def _resume_plateau(schedule: LRScheduler, saved: Mapping[str, Any], rates: Sequence[Any] | None) -> None:
    initial = schedule.get_last_lr()
    progress = {key: saved[key] for key in PROGRESS if key in saved and key in vars(schedule)}
    last: Any = saved.get('_last_lr')
    if not all(map(_is_number, progress.values())) or not _are_rates(last, initial):
        raise UserError(f'the resumed state is damaged: its schedule has {progress} and the rates {last}. {RESTART}')
    vars(schedule).update(progress)
    known = rates if rates is not None and _are_rates(rates, initial) else initial
    factors = [now / before if before else 1 for now, before in zip(initial, known, strict=True)]
    vars(schedule)['_last_lr'] = [rate * factor for rate, factor in zip(last, factors, strict=True)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _are_rates(values: Any, expected: Sequence[Any]) -> bool:
    fit = isinstance(values, list) and len(values) == len(expected) and all(map(_is_number, values))
    return fit and all(0 <= value < math.inf for value in values)


def _problems(optimizer: Optimizer, saved: Mapping[str, Any]) -> Iterator[str]:
    """Yield the reasons why a state cannot belong to an optimizer."""
    counts = [len(group['params']) for group in optimizer.param_groups]
    numbers = [group['params'] for group in saved['param_groups']]
    if [len(each) for each in numbers] != counts:
        yield f'it has {[len(each) for each in numbers]} parameters (by group), expected {counts}'
        return
    listed = [number for each in numbers for number in each]
    if len(set(listed)) < len(listed) or saved['state'].keys() - set(listed):
        yield 'its values do not belong to its parameters'
        return
    weights = weights_of(optimizer)
    total = sum(weight.numel() for weight in weights)
    for number, weight, expected in zip(listed, weights, _state_after_steps(optimizer), strict=True):
        values = saved['state'].get(number)
        if not values or all(value is None for value in values.values()):
            continue  # the optimizer has no state yet for these weights
        problem = _mismatch(values, expected, {1, weight.numel(), total})
        if problem:
            yield f'for a weight of shape {tuple(weight.shape)}, {problem}'


def _mismatch(values: Mapping[str, Any], expected: Mapping[str, Any], sizes: set[int]) -> str | None:
    """Return how the state of a weight differs from what an optimizer stores, or None.

    Args:
        values: The resumed state of the weight.
        expected: The state that the optimizer stores for it.
        sizes: Possible numbers of elements of tensors that `expected` does not contain.
    """
    for key, target in expected.items():
        value = values.get(key)
        if value is None:
            return f'it has no {key}, only {", ".join(values)}'
        if not isinstance(target, Tensor):
            continue
        if target.numel() == 1 and isinstance(value, int | float):
            continue  # step counts of older versions of PyTorch
        if not isinstance(value, Tensor):
            return f'its {key} is of {type(value).__name__}, expected a tensor'
        if value.shape != target.shape and not value.numel() == target.numel() == 1:
            return f'its {key} has shape {tuple(value.shape)}, expected {tuple(target.shape)}'
    for key, content in values.items():
        target = expected.get(key)
        if isinstance(target, Tensor):
            continue
        is_number = isinstance(target, int | float)
        if is_number and not isinstance(content, int | float | Tensor):
            return f'its {key} is of {type(content).__name__}, expected a number'
        possible = {1} if is_number else sizes | {each.numel() for _, each in tensors_of(target)}
        for name, value in tensors_of(content, key):
            if value.numel() not in possible:
                return f'its {name} has shape {tuple(value.shape)}'
    for key, value in tensors_of(values):
        if value.is_complex() or (value.numel() > 1 and not value.is_floating_point()):
            return f'its {key} is of {value.dtype}'
    return None


def _state_after_steps(optimizer: Optimizer) -> list[Mapping[str, Any]]:
    """Return the state of each weight after two steps, which is complete for any optimizer.

    The result is empty if the optimizer cannot take a step with dense gradients.
    """
    groups = [
        [nn.Parameter(torch.zeros_like(weight)) for weight in group['params']] for group in optimizer.param_groups
    ]
    weights = list(chain.from_iterable(groups))
    try:
        twin = _twin(optimizer, groups)
        for gradient in (1, 2):
            for weight in weights:
                weight.grad = torch.full_like(weight, gradient)
            twin.step(lambda: 0.0)
    except Exception:  # optimizers of other packages can raise any exception
        return [{}] * len(weights)
    return [twin.state.get(weight, {}) for weight in weights]


def _change(name: str, now: Any, before: Any) -> str:
    return f'{name} is {now}, it was {before} in the resumed state. The new value applies.'


def _equal(one: Any, other: Any) -> bool:
    """Return whether settings are equal. Lists equal tuples, and numbers may differ by rounding errors."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)
