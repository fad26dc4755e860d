"""Optimizers that an option file selects by name."""

import pytest
import torch
from torch import nn

from deeprftv2_plugin.training.optimizers import build_optimizer, optimizers_for
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
