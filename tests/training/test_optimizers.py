"""Optimizers that an option file selects by name."""

import pytest
import torch
from torch import nn

from deeprftv2_plugin.training.optimizers import build_optimizer, evaluation_weights, optimizers_for, step_if_finite
from deeprftv2_plugin.utils.errors import UserError


def test_optimizers_of_torch_and_of_other_modules_are_found():
    assert optimizers_for('AdamW')['AdamW'] is torch.optim.AdamW
    assert optimizers_for('torch.optim.adamw.AdamW')['torch.optim.adamw.AdamW'] is torch.optim.AdamW
    optimizer = build_optimizer({'type': 'torch.optim.sgd.SGD', 'lr': 0.5}, [nn.Parameter(torch.ones(1))])
    assert optimizer.param_groups[0]['lr'] == 0.5


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('no_such_package.Adam', 'the package no_such_package is not installed'),
        ('torch.optim.adamw.Adamw', 'torch.optim.adamw has no optimizer Adamw. Did you mean AdamW'),
        ('torch.nn.Linear', 'torch.nn has no optimizer Linear'),
        ('torch.no_such_module.Adam', 'cannot be imported'),
        ('.Adam', 'cannot be imported'),
        ('Adam.', 'the package Adam is not installed'),
    ],
)
def test_unknown_names_are_errors(name, message):
    with pytest.raises(UserError, match=message):
        optimizers_for(name)


def unused():
    raise AssertionError('the loss was recomputed')


@pytest.mark.parametrize(
    'settings',
    [
        {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'dampening': 0.5},
        {'type': 'SGD', 'lr': 0.1},
        {'type': 'AdamW', 'lr': 0.1},
        {'type': 'Adam', 'lr': 0.1, 'fused': False},
        {'type': 'RMSprop', 'lr': 0.1, 'momentum': 0.9},
    ],
    ids=str,
)
def test_skipped_steps_leave_no_trace(settings):
    """The weights are the same as without these steps, also if the first one, which creates the state, is skipped."""
    results = []
    for skipped in ((), (0, 2)):
        weight = nn.Parameter(torch.ones(5))
        optimizer = build_optimizer(settings, [weight])
        for index in range(5):
            if index in (0, 2) and index not in skipped:
                continue
            weight.grad = torch.full_like(weight, torch.nan if index in skipped else index)
            step_if_finite(torch.tensor(index not in skipped), optimizer, torch.tensor(1.0), unused)
        results.append(weight.detach())
    assert not torch.equal(results[0], torch.ones(5))
    assert torch.equal(*results)


class TwoModes(torch.optim.SGD):
    """An optimizer whose weights for evaluation are a third of those for training, up to rounding errors."""

    def eval(self):
        self._multiply(1 / 3)

    def train(self):
        self._multiply(3)

    @torch.no_grad()
    def _multiply(self, factor):
        for group in self.param_groups:
            for weight in group['params']:
                weight.mul_(factor)


def test_weights_for_training_are_the_same_after_an_evaluation():
    before = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    weight, other = nn.Parameter(before.clone()), nn.Parameter(before.clone())
    with evaluation_weights([TwoModes([weight]), torch.optim.SGD([other])]):
        torch.testing.assert_close(weight.detach(), before / 3)
        assert torch.equal(other, before)
    assert torch.equal(weight, before)
    with pytest.raises(ZeroDivisionError), evaluation_weights([TwoModes([weight])]):
        raise ZeroDivisionError
    assert torch.equal(weight, before)
    assert not torch.equal(before * (1 / 3) * 3, before)
