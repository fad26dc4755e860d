"""What a run begins with."""

import pytest
import torch
from basicsr.archs import build_network

from deeprftv2_plugin.preflight.checkpoints import check_checkpoints
from deeprftv2_plugin.utils.errors import UserError
from tests.preflight.findings import errors, warnings


def check(opt):
    return list(check_checkpoints(opt, {'g': build_network(opt['network_g'])}))


def save(path, opt, **network):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'params': build_network({**opt['network_g'], **network}).state_dict()}, path)
    return str(path)


@pytest.fixture
def state(folder, opt):
    """The state of iteration 2 of the experiment, with its weights."""
    experiment = folder / 'experiments/small'
    save(experiment / 'models/net_g_2.pth', opt)
    (experiment / 'training_states').mkdir()
    torch.save({'iter': 2}, experiment / 'training_states/2.state')
    return experiment / 'training_states/2.state'


def test_a_training_may_begin_with_random_weights_and_a_test_had_better_not(opt, test_opt):
    (finding,) = check(opt)
    assert '379 parameters' in finding.text and not warnings([finding])
    (text,) = warnings(check(test_opt))
    assert 'path.pretrain_network_g names none' in text


def test_weights_that_fit_are_counted(folder, opt):
    opt['path']['pretrain_network_g'] = save(folder / 'right.pth', opt)
    (finding,) = check(opt)
    assert finding.text.startswith('path.pretrain_network_g fits: ') and '379 parameters' in finding.text


def test_weights_that_fit_in_part_are_a_warning_where_that_is_wanted(folder, opt):
    opt['path'].update(pretrain_network_g=save(folder / 'other.pth', opt, num_conv=2), strict_load_g=False)
    (text,) = warnings(check(opt))
    assert 'names of' in text and 'other.pth do not fit' in text


@pytest.mark.parametrize(
    ('total', 'mark', 'words'), [(4, None, ''), (2, warnings, 'nothing is left'), (1, errors, 'raise train.total_iter')]
)
def test_a_state_is_compared_with_the_iterations(opt, state, total, mark, words):
    opt['path']['resume_state'] = str(state)
    opt['train']['total_iter'] = total
    found = check(opt)
    assert f'has done 2 of {total} iterations' in found[0].text
    if mark:
        assert words in mark(found)[0]
    else:
        assert not errors(found) and not warnings(found)


def test_a_state_without_its_weights_is_an_error(opt, state):
    opt['path']['resume_state'] = str(state)
    (state.parent.parent / 'models/net_g_2.pth').unlink()
    with pytest.raises(UserError, match='net_g_2.pth'):
        check(opt)


def test_an_earlier_run_is_told_of(opt, state):
    assert f'{state} is whole: --auto_resume' in check(opt)[-1].text
    state.write_bytes(state.read_bytes()[:100])
    (text,) = warnings(check(opt))
    assert 'none of the 1 training states' in text
