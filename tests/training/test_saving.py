"""Weights and states that are not finite are errors; a network may have infinite buffers."""

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from deeprftv2_plugin.checkpoints import read_weights
from deeprftv2_plugin.checkpoints.states import read_state
from deeprftv2_plugin.utils.errors import UserError
from tests.models.toys import OneScale, make_model, options, train


@ARCH_REGISTRY.register()
class Masked(OneScale):
    """A network with a constant that is infinite."""

    def __init__(self):
        super().__init__()
        self.register_buffer('mask', torch.tensor([0.0, -torch.inf]))


def trained(network='OneScale', model_type='DeepRFTv2Model', iterations=(1, 2), **settings):
    """Return a model that has saved the last of its iterations."""
    settings.setdefault('optim_g', {'type': 'Adam', 'lr': 1e-3})
    settings.setdefault('scheduler', {'type': 'MultiStepLR', 'milestones': [9]})
    model = make_model(opt={**options(network, **settings), 'model_type': model_type})
    train(model, iterations)
    model.save(0, iterations[-1])
    return model


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
@pytest.mark.parametrize('model_type', ['DeepRFTv2Model', 'SRModel'])
@pytest.mark.parametrize('rank', [0, 1])
def test_weights_that_are_not_finite_are_not_saved_by_any_process(folder, model_type, value, rank):
    model = trained(model_type=model_type)
    with torch.no_grad():
        model.net_g.body[2].bias[1] = value
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model.opt['rank'] = rank
    for iteration, name in ((4, '4'), (-1, 'latest')):
        with pytest.raises(UserError, match=rf'net_g_{name} \(params\): body.2.bias has 1 values.*Lower the learning'):
            model.save(0, iteration)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert read_weights('net_g_2.pth') and read_state('2.state')['iter'] == 2


def test_average_that_is_not_finite_is_not_saved(folder):
    model = trained(ema_decay=0.9)
    model.net_g_ema.body[1].running_var.fill_(torch.nan)
    with pytest.raises(UserError, match=r'net_g_4 \(params_ema\): body.1.running_var has 4 values'):
        model.save(0, 4)
    assert not (folder / 'net_g_4.pth').exists()


def test_state_of_an_optimizer_that_is_not_finite_is_not_saved(folder):
    model = trained()
    next(iter(model.optimizer_g.state.values()))['exp_avg'].fill_(torch.nan)
    with pytest.raises(UserError, match=r'4\.state: optimizers.0.state.0.exp_avg contains NaN.*Training has diverged'):
        model.save(0, 4)
    assert not (folder / '4.state').exists()


def test_infinite_buffers_are_saved():
    model = trained('Masked')
    assert torch.equal(read_weights('net_g_2.pth')['mask'], model.net_g.mask)
