"""Initial weights and training states."""

import os

import pytest
import torch
from basicsr.archs import build_network

from deeprftv2_plugin.preflight.checkpoints import check_checkpoints
from deeprftv2_plugin.preflight.model import build, networks_of
from deeprftv2_plugin.utils.errors import UserError
from tests.preflight.findings import errors, warnings


def check(opt):
    model = build(opt)
    return list(check_checkpoints(opt, networks_of(opt, model), model))


def save(path, opt, **network):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'params': build_network({**opt['network_g'], **network}).state_dict()}, path)
    return str(path)


@pytest.fixture
def state(folder, opt):
    """The state of iteration 2 of an experiment, with its weights."""
    experiment = folder / 'experiments/small'
    save(experiment / 'models/net_g_2.pth', opt)
    (experiment / 'training_states').mkdir()
    model = build(opt)
    state = {'iter': 2, 'epoch': 0, 'optimizers': [each.state_dict() for each in model.optimizers],
             'schedulers': [each.state_dict() for each in model.schedulers]}  # fmt: skip
    torch.save(state, experiment / 'training_states/2.state')
    return experiment / 'training_states/2.state'


def test_random_weights_are_ok_for_training_and_a_warning_for_a_test(opt, test_opt):
    (finding,) = check(opt)
    assert '379 parameters' in finding.text and not warnings([finding])
    (text,) = warnings(check(test_opt))
    assert 'path.pretrain_network_g is not set' in text


def test_matching_weights_are_counted(folder, opt):
    opt['path']['pretrain_network_g'] = save(folder / 'right.pth', opt)
    (finding,) = check(opt)
    assert finding.text.startswith('path.pretrain_network_g fits: ') and '379 parameters' in finding.text


def test_partially_matching_weights_are_a_warning_if_not_strict(folder, opt):
    opt['path'].update(pretrain_network_g=save(folder / 'other.pth', opt, num_conv=2), strict_load_g=False)
    (text,) = warnings(check(opt))
    assert 'names of' in text and 'other.pth do not fit' in text


@pytest.mark.parametrize(
    ('total', 'mark', 'words'),
    [(4, None, ''), (2, warnings, 'training is complete'), (1, errors, 'raise train.total_iter')],
)
def test_state_is_compared_with_the_iterations(opt, state, total, mark, words):
    opt['path']['resume_state'] = str(state)
    opt['train']['total_iter'] = total
    found = check(opt)
    assert f'is at iteration 2 of {total}' in found[0].text
    if mark:
        assert words in mark(found)[0]
    else:
        assert not errors(found) and not warnings(found)


def test_state_without_its_weights_is_an_error(opt, state):
    opt['path']['resume_state'] = str(state)
    (state.parent.parent / 'models/net_g_2.pth').unlink()
    with pytest.raises(UserError, match='net_g_2.pth'):
        check(opt)


def test_state_of_an_earlier_run_is_reported(opt, state):
    assert f'{state} is valid: --auto_resume' in check(opt)[-1].text
    state.write_bytes(state.read_bytes()[:100])
    (text,) = warnings(check(opt))
    assert 'none of the 1 training states' in text


def test_missing_files_are_errors(opt):
    opt['path']['pretrain_network_g'] = 'absent.pth'
    assert errors(check(opt)) == ['path.pretrain_network_g is absent.pth, which does not exist']
    opt['path']['resume_state'] = '1.state'
    assert errors(check(opt)) == ['path.resume_state is 1.state, which does not exist']


@pytest.mark.parametrize('option', ['pretrain_network_g', 'resume_state'])
def test_a_long_path_is_shortened_in_the_message(opt, option):
    opt['path'][option] = 'a' * 5000
    (text,) = errors(check(opt))
    assert text.startswith(f'path.{option} is aaa') and text.endswith('a..., which does not exist') and len(text) < 300


def test_weights_of_another_network_are_an_error_if_strict(folder, opt):
    opt['path']['pretrain_network_g'] = save(folder / 'other.pth', opt, num_conv=2)
    (text,) = errors(check(opt))
    assert 'other.pth: the weights do not match' in text
    opt['path']['strict_load_g'] = False
    assert not errors(check(opt))


def test_unsafe_weights_are_refused(opt):
    torch.save({'params': torch.nn.Conv2d}, 'unsafe.pth')
    opt['path']['pretrain_network_g'] = 'unsafe.pth'
    assert 'unsafe.pth: refused' in errors(check(opt))[0]


def test_resumed_weights_replace_pretrained_ones(opt, state):
    opt['path'].update(resume_state=str(state), pretrain_network_g='gone.pth')
    assert not errors(check(opt))


def test_weights_of_ignored_networks_are_not_read(opt, state):
    (state.parent.parent / 'models/net_g_2.pth').unlink()
    opt['path'].update(resume_state=str(state), ignore_resume_networks=['network_g'])
    assert not errors(check(opt))


@pytest.mark.parametrize(('param_key', 'words'), [(None, 'params_ema, the moving average'), ('params', 'params;')])
def test_set_of_weights_is_named(folder, opt, param_key, words):
    weights = build_network(opt['network_g']).state_dict()
    torch.save({'params': weights, 'params_ema': weights}, 'both.pth')
    opt['path'].update(pretrain_network_g='both.pth', param_key_g=param_key)
    (finding, *_) = check(opt)
    assert f'path.pretrain_network_g fits: both.pth, weights {words}' in finding.text


def test_mostly_mismatched_weights_are_an_error(folder, opt):
    torch.save({'params': {'body.0.weight': torch.ones(4, 3, 3, 3)}}, 'other.pth')
    opt['path'].update(pretrain_network_g='other.pth', strict_load_g=False)
    assert 'other.pth: only 1 of the ' in errors(check(opt))[0]


def test_state_of_another_optimizer_is_an_error(opt, state):
    content = torch.load(state)
    content['optimizers'][0]['state'] = {0: {'exp_avg': torch.zeros(7)}}
    torch.save(content, state)
    opt['path']['resume_state'] = str(state)
    with pytest.raises(UserError, match='the resumed state does not fit this network and train.optim_g'):
        check(opt)


@pytest.mark.posix
@pytest.mark.parametrize('option', ['pretrain_network_g', 'resume_state'])
def test_pipes_are_refused(folder, opt, option):
    os.mkfifo('pipe.pth')
    opt['path'][option] = 'pipe.pth'
    if option == 'resume_state':
        with pytest.raises(UserError, match='pipe.pth is a named pipe'):
            check(opt)
    else:
        assert 'pipe.pth is a named pipe' in errors(check(opt))[0]
