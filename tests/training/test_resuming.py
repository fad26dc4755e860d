"""Resuming optimizers and schedules with the settings of the options, and only from a state that matches."""

import copy
import math
import re

import pytest
import torch

from deeprftv2_plugin.checkpoints.states import read_state
from deeprftv2_plugin.training import environment
from deeprftv2_plugin.training.optimizers import OPTIMIZERS, SCHEDULES
from deeprftv2_plugin.utils.errors import UserError
from tests.models.toys import make_model, options, train

from .test_schedules import NEED_FUNCTIONS, SETTINGS

ADAM = {'type': 'AdamW', 'lr': 0.01, 'betas': [0.9, 0.99], 'weight_decay': 0.1}
COSINE = {'type': 'CosineAnnealingLR', 'T_max': 10}
PLATEAU = {'type': 'ReduceLROnPlateau', 'patience': 0, 'factor': 0.5, 'threshold': 0.5}


def saved(folder, iterations=3, network='TwoScales', **settings):
    """Train a model, save it in a folder, and return it."""
    model = make_model(network, **settings)
    model.opt['path'].update(models=str(folder), training_states=str(folder))
    train(model, range(1, iterations + 1))
    model.save(0, iterations)
    return model


def resumed(folder, iterations=3, network='TwoScales', state=None, **settings):
    """Return a model with the options `settings`, resumed from the files of `saved` or from `state`."""
    opt = options(network, **settings)
    opt['path'].update(pretrain_network_g=str(folder / f'net_g_{iterations}.pth'), param_key_g='params')
    model = make_model(opt=opt)
    model.resume_training(state or read_state(folder / f'{iterations}.state'))
    return model


def assert_equal(one, other):
    torch.testing.assert_close(dict(one.net_g.state_dict()), dict(other.net_g.state_dict()), rtol=0, atol=0)


def changes(log):
    return [record.message for record in log.records if 'in the resumed state' in record.message]


@pytest.mark.parametrize('name', sorted(SCHEDULES.keys() - NEED_FUNCTIONS))
def test_resumed_schedule_equals_an_uninterrupted_one(tmp_path, log, name):
    settings = {'scheduler': {'type': name, **SETTINGS.get(name, {})}}
    model = saved(tmp_path, **settings)
    other = resumed(tmp_path, **settings)
    assert train(model, range(4, 8), warmup_iter=5) == train(other, range(4, 8), warmup_iter=5)
    assert_equal(model, other)
    assert not changes(log)


def test_losses_of_a_plateau_belong_to_the_state(tmp_path):
    """The rate falls in every step whose loss is not much better, including the first one after resuming."""
    settings = {'scheduler': PLATEAU, 'optim_g': {'type': 'SGD', 'lr': 0.1}}
    for iterations in (1, 2, 3, 4):
        model = saved(tmp_path, iterations, **settings)
        other = resumed(tmp_path, iterations, **settings)
        rates = train(model, range(iterations + 1, 8))
        assert rates == train(other, range(iterations + 1, 8)) and rates[-1] < 0.1
        assert_equal(model, other)


@pytest.mark.parametrize('name', sorted(OPTIMIZERS.keys() - {'SparseAdam', 'Muon'}))
def test_resumed_optimizer_equals_an_uninterrupted_one(tmp_path, log, name):
    settings = {'optim_g': {'type': name, 'lr': 0.01}}
    model = saved(tmp_path, **settings)
    other = resumed(tmp_path, **settings)
    train(model, range(4, 6))
    train(other, range(4, 6))
    assert_equal(model, other)
    assert not changes(log)


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'lr': 0.002}, 'train.optim_g.lr is 0.002, it was 0.01'),
        ({'weight_decay': 0.5}, 'train.optim_g.weight_decay is 0.5, it was 0.1'),
        ({'betas': [0.5, 0.99]}, r'train.optim_g.betas is \(0.5, 0.99\), it was \(0.9, 0.99\)'),
        ({'eps': 0.1}, 'train.optim_g.eps is 0.1, it was 1e-08'),
        ({'fused': False}, 'train.optim_g.fused is False, it was True'),
    ],
)
def test_changed_settings_of_the_optimizer_apply_and_are_logged(tmp_path, log, changed, words):
    saved(tmp_path, optim_g=ADAM, scheduler=COSINE)
    other = resumed(tmp_path, optim_g={**ADAM, **changed}, scheduler=COSINE)
    (text,) = changes(log)
    assert text.endswith('in the resumed state. The new value applies.')
    assert re.match(words, text)
    (group,) = other.optimizer_g.param_groups
    (rate,) = train(other, [4])
    assert rate == pytest.approx(changed.get('lr', 0.01) * (1 + math.cos(math.pi * 3 / 10)) / 2)
    assert all(group[key] == pytest.approx(value) for key, value in changed.items() if key != 'lr')


@pytest.mark.parametrize(
    ('scheduler', 'words'),
    [
        ({'type': 'CosineAnnealingLR', 'T_max': 20}, 'train.scheduler.T_max is 20, it was 10'),
        ({**COSINE, 'eta_min': 0.001}, 'train.scheduler.eta_min is 0.001, it was 0.0'),
        ({'type': 'MultiStepLR', 'milestones': [2]}, 'train.scheduler.type is MultiStepRestartLR, it was Cosine'),
        ({'type': 'StepLR', 'step_size': 2}, 'train.scheduler.type is StepLR, it was CosineAnnealingLR'),
        ({'type': 'ExponentialLR', 'gamma': 0.5}, 'train.scheduler.type is ExponentialLR, it was CosineAnnealingLR'),
        (None, 'train.scheduler.type is ConstantLR, it was CosineAnnealingLR'),
    ],
)
def test_another_schedule_applies_and_is_logged(tmp_path, log, scheduler, words):
    """The rates are those of a run that used this schedule from the beginning."""
    saved(tmp_path, scheduler=COSINE)
    rates = train(resumed(tmp_path, scheduler=scheduler), range(4, 9))
    assert rates == train(make_model('TwoScales', scheduler=scheduler), range(1, 9))[3:]
    assert changes(log)[0].startswith(words)


def test_changed_rate_of_a_plateau_applies(tmp_path, log):
    settings = {'scheduler': PLATEAU, 'optim_g': {'type': 'SGD', 'lr': 0.1}}
    model = saved(tmp_path, **settings)
    other = resumed(tmp_path, scheduler=PLATEAU, optim_g={'type': 'SGD', 'lr': 0.2})
    assert train(other, [4]) == pytest.approx([2 * rate for rate in train(model, [4])])
    assert changes(log) == ['train.optim_g.lr is 0.2, it was 0.1 in the resumed state. The new value applies.']


@pytest.mark.parametrize(('before', 'after'), [(COSINE, PLATEAU), (PLATEAU, COSINE), (PLATEAU, None)])
def test_change_of_a_schedule_that_depends_on_the_losses_is_an_error(tmp_path, before, after):
    saved(tmp_path, scheduler=before)
    names = [each and each['type'] or 'ConstantLR' for each in (after, before)]
    with pytest.raises(UserError, match='scheduler.type is {}, but the resumed state is that of {}'.format(*names)):
        resumed(tmp_path, scheduler=after)


@pytest.mark.parametrize('after', ['SGD', 'RMSprop', 'LBFGS', 'Adagrad', 'Adam'])
def test_another_optimizer_is_an_error(tmp_path, after):
    saved(tmp_path, optim_g=ADAM)
    with pytest.raises(UserError, match=f'optim_g.type is {after}, but the resumed state is that of AdamW'):
        resumed(tmp_path, optim_g={'type': after, 'lr': 0.1})


@pytest.mark.parametrize('after', ['RMSprop', 'Adagrad', 'Adadelta'])
def test_another_optimizer_is_recognized_by_its_values(tmp_path, after):
    """The state has no names of classes, like those of BasicSR and older versions."""
    saved(tmp_path, optim_g=ADAM)
    state = read_state(tmp_path / '3.state')
    del state['types']
    with pytest.raises(UserError, match=f'optim_g.*{after}.*start a new run with path.pretrain_network_g'):
        resumed(tmp_path, state=state, optim_g={'type': after, 'lr': 0.1})


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        ({'type': 'AdamW', 'lr': 0.1}, {'type': 'AdamW', 'lr': 0.1, 'amsgrad': True}),
        ({'type': 'RMSprop', 'lr': 0.1}, {'type': 'RMSprop', 'lr': 0.1, 'momentum': 0.5}),
    ],
)
def test_settings_that_need_other_values_are_an_error(tmp_path, before, after):
    saved(tmp_path, optim_g=before)
    with pytest.raises(UserError, match='it has no (max_exp_avg_sq|momentum_buffer), only'):
        resumed(tmp_path, optim_g=after)
    saved(tmp_path, optim_g=after)
    train(resumed(tmp_path, optim_g=before), [4])


def test_momentum_can_be_added_to_sgd(tmp_path):
    saved(tmp_path, optim_g={'type': 'SGD', 'lr': 0.1})
    model = resumed(tmp_path, optim_g={'type': 'SGD', 'lr': 0.1, 'momentum': 0.9})
    train(model, [4, 5])
    (optimizer,) = model.optimizers
    weights = [weight for group in optimizer.param_groups for weight in group['params']]
    assert all(optimizer.state[weight]['momentum_buffer'].any() for weight in weights)


@pytest.mark.parametrize(
    ('key', 'change', 'words'),
    [
        ('H_diag', lambda values: torch.zeros(0), r'H_diag has shape \(0,\)'),
        ('H_diag', lambda values: torch.zeros(2), r'H_diag has shape \(2,\)'),
        ('H_diag', lambda values: '1', 'H_diag is of str, expected a number'),
        ('al', lambda values: [torch.zeros(7), *values[1:]], r'al.0 has shape \(7,\)'),
    ],
)
def test_numbers_and_lists_of_other_kinds_are_an_error(tmp_path, key, change, words):
    """Short states contain numbers and lists of None in the place of these tensors."""
    optimizer = {'type': 'LBFGS', 'lr': 0.1, 'max_iter': 2}
    saved(tmp_path, optim_g=optimizer)
    state = read_state(tmp_path / '3.state')
    stored = values(state)
    stored[key] = change(stored[key])
    with pytest.raises(UserError, match=words):
        resumed(tmp_path, state=state, optim_g=optimizer)


@pytest.fixture
def state(tmp_path):
    saved(tmp_path, optim_g=ADAM)
    return read_state(tmp_path / '3.state')


def values(state):
    return state['optimizers'][0]['state'][0]


def group(state):
    return state['optimizers'][0]['param_groups'][0]


SPOILT = {
    'shape': lambda state: values(state).update(exp_avg=torch.zeros(7)),
    'larger': lambda state: values(state).update(exp_avg=torch.zeros(9, 9, 3, 3)),
    'scalar': lambda state: values(state).update(exp_avg_sq=torch.tensor(0.0)),
    'missing': lambda state: values(state).pop('exp_avg'),
    'number': lambda state: values(state).update(exp_avg=0.5),
    'integers': lambda state: values(state).update(exp_avg=values(state)['exp_avg'].long()),
    'complex': lambda state: values(state).update(exp_avg=values(state)['exp_avg'] * 1j),
    'steps': lambda state: values(state).update(step=torch.zeros(4)),
    'count': lambda state: group(state).update(params=[0, 1, 2]),
    'twice': lambda state: group(state).update(params=[0, 0, 2, 3]),
    # both convolutions of the network have weights of the same shape
    'shared': lambda state: (group(state).update(params=[0, 1, 0, 3]), state['optimizers'][0]['state'].pop(2)),
    'unknown': lambda state: group(state).update(params=[4, 5, 6, 7]),
    'groups': lambda state: state['optimizers'][0]['param_groups'].append({'params': []}),
    'optimizers': lambda state: state['optimizers'].append(copy.deepcopy(state['optimizers'][0])),
    'schedules': lambda state: state['schedulers'].clear(),
}


@pytest.mark.parametrize('spoil', SPOILT.values(), ids=SPOILT)
def test_state_of_another_network_is_an_error(tmp_path, state, spoil):
    """A fused optimizer would crash."""
    spoil(state)
    with pytest.raises(UserError, match='the resumed state'):
        resumed(tmp_path, state=state, optim_g=ADAM)


@pytest.mark.parametrize('model_type', ['DeepRFTv2Model', 'SRModel'])
def test_state_of_another_width_is_an_error(tmp_path, model_type):
    settings = {
        'optim_g': {'type': 'Adam', 'lr': 0.1, 'fused': True},
        'scheduler': {'type': 'MultiStepLR', 'milestones': [9]},
    }
    saved(tmp_path, network={'type': 'OneScale', 'width': 6}, **settings)
    model = make_model(opt={**options({'type': 'OneScale', 'width': 4}, **settings), 'model_type': model_type})
    with pytest.raises(UserError, match=r'for a weight of shape \(4, 3, 3, 3\), its exp_avg has shape \(6, 3, 3, 3\)'):
        model.resume_training(read_state(tmp_path / '3.state'))


def test_another_schedule_of_basicsrs_models_is_an_error(tmp_path):
    optim_g = {'type': 'Adam', 'lr': 0.1}
    saved(tmp_path, optim_g=optim_g, scheduler={'type': 'MultiStepLR', 'milestones': [9]})
    cosine = {'type': 'CosineAnnealingRestartLR', 'periods': [9]}
    opt = {**options('TwoScales', optim_g=optim_g, scheduler=cosine), 'model_type': 'SRModel'}
    with pytest.raises(UserError, match='scheduler.type is CosineAnnealingRestartLR, but the resumed state is that of'):
        make_model(opt=opt).resume_training(read_state(tmp_path / '3.state'))


def test_change_of_the_environment_is_logged(tmp_path, log, state):
    resumed(tmp_path, state=state, optim_g=ADAM)
    assert 'Resumed with another' not in log.text
    state['environment'].update({'number of threads': 64, 'version of torch': '1.0', 'backends': 'triton, pytorch'})
    resumed(tmp_path, state=state, optim_g=ADAM)
    threads = torch.get_num_threads()
    assert f'Resumed with another number of threads: {threads}, it was 64.' in log.text
    assert f'Resumed with another version of torch: {torch.__version__}, it was 1.0.' in log.text
    assert 'Resumed with another backends' in log.text
    assert log.text.count('Resumed with another') == 3
    assert environment.changes({}, torch.device('cpu')) == []


@pytest.mark.parametrize(
    'name',
    [
        'schedulefree.AdamWScheduleFree',
        'schedulefree.SGDScheduleFree',
        'schedulefree.RAdamScheduleFree',
        'pytorch_optimizer.ScheduleFreeAdamW',
        'pytorch_optimizer.SOAP',
        'pytorch_optimizer.Lion',
    ],
)
def test_resumed_optimizer_of_another_package_equals_an_uninterrupted_one(tmp_path, log, name):
    pytest.importorskip(name.partition('.')[0])
    settings = {'optim_g': {'type': name, 'lr': 0.01}}
    uninterrupted = make_model('TwoScales', **settings)
    train(uninterrupted, range(1, 6))
    model = saved(tmp_path, **settings)
    other = resumed(tmp_path, **settings)
    train(model, range(4, 6))
    train(other, range(4, 6))
    assert_equal(model, uninterrupted)  # saving changes nothing
    assert_equal(model, other)
    assert not changes(log)


def test_weights_for_evaluation_are_saved_and_validated(tmp_path):
    pytest.importorskip('schedulefree')
    model = saved(tmp_path, optim_g={'type': 'schedulefree.AdamWScheduleFree', 'lr': 0.01})
    before = copy.deepcopy(dict(model.net_g.state_dict()))
    model.optimizer_g.eval()
    averaged = dict(model.net_g.state_dict())
    stored = torch.load(tmp_path / 'net_g_3.pth', weights_only=True)['params']
    torch.testing.assert_close(stored, averaged, rtol=0, atol=0)
    model.optimizer_g.train()
    assert any(not torch.equal(before[key], stored[key]) for key in stored)
    state = read_state(tmp_path / '3.state')
    weights = [weight for weight in before.values() if weight.is_floating_point()]
    assert len(state['training_weights'][0]) == len(weights)


def test_a_state_saved_within_a_validation_has_the_weights_for_training(tmp_path):
    """A signal saves it there."""
    pytest.importorskip('schedulefree')
    settings = {'optim_g': {'type': 'schedulefree.AdamWScheduleFree', 'lr': 0.01}}
    model = saved(tmp_path, **settings)
    with model.evaluating():
        model.save(0, 3)
    other = resumed(tmp_path, **settings)
    train(model, range(4, 6))
    train(other, range(4, 6))
    assert_equal(model, other)


def test_blocks_with_weights_for_evaluation_can_be_nested():
    pytest.importorskip('schedulefree')
    model = make_model('TwoScales', optim_g={'type': 'schedulefree.AdamWScheduleFree', 'lr': 0.01})
    train(model, range(1, 4))
    before = copy.deepcopy(model.net_g.state_dict())
    with model.evaluating():
        outer = copy.deepcopy(model.net_g.state_dict())
        with model.evaluating():
            inner = copy.deepcopy(model.net_g.state_dict())
        after = copy.deepcopy(model.net_g.state_dict())
    torch.testing.assert_close([outer, outer, before], [inner, after, model.net_g.state_dict()], rtol=0, atol=0)
    assert any(not torch.equal(before[key], outer[key]) for key in before)
    train(model, [4])


@pytest.mark.parametrize(
    'spoil', [lambda state: state.pop('training_weights'), lambda state: state['training_weights'][0].pop()]
)
def test_state_without_weights_for_training_is_an_error(tmp_path, spoil):
    pytest.importorskip('schedulefree')
    settings = {'optim_g': {'type': 'schedulefree.AdamWScheduleFree', 'lr': 0.01}}
    saved(tmp_path, **settings)
    state = read_state(tmp_path / '3.state')
    spoil(state)
    with pytest.raises(UserError, match='no weights for training'):
        resumed(tmp_path, state=state, **settings)
