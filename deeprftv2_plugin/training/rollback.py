"""Undo what an iteration changes before its optimizers take a step."""

import copy
from typing import Any

import torch
from torch import nn


def networks_of(model: Any) -> list[nn.Module]:
    """Return the networks and other modules that are attributes of a BasicSR model."""
    return [each for each in vars(model).values() if isinstance(each, nn.Module)]


class Rollback:
    """The schedules, the settings of the optimizers, the losses for the schedules, and the buffers before an iteration.

    Weights and the states of optimizers are not copied: they change only when the optimizers take a step.

    Args:
        model: A BasicSR model whose learning rate for the iteration is not set yet.
    """

    def __init__(self, model: Any):
        groups = [group for optimizer in model.optimizers for group in optimizer.param_groups]
        self._groups = [(group, {key: group[key] for key in group if key != 'params'}) for group in groups]
        self._schedules = [(schedule, copy.deepcopy(schedule.state_dict())) for schedule in model.schedulers]
        self._losses = list(getattr(model, 'unseen_losses', ()))
        self._buffers = [(buffer, buffer.clone()) for net in networks_of(model) for buffer in net.buffers()]
        self._model = model

    @torch.no_grad()
    def undo(self) -> None:
        """Restore everything. Has no effect on a model that has not changed."""
        for schedule, state in self._schedules:
            schedule.load_state_dict(state)
        for group, settings in self._groups:
            group.update(settings)
        if hasattr(self._model, 'unseen_losses'):
            self._model.unseen_losses = self._losses
        for buffer, value in self._buffers:
            buffer.copy_(value)
