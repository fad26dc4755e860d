"""Models of BasicSR in a training run."""

import os
import signal

import pytest
import torch
from basicsr.models.sr_model import SRModel

from deeprftv2_plugin.basicsr_bridge.run_options import complete
from deeprftv2_plugin.basicsr_bridge.sample_stream import make_plan, position
from deeprftv2_plugin.basicsr_bridge.training_run import TrainingRun
from deeprftv2_plugin.training import signals
from deeprftv2_plugin.utils.errors import Interrupted, UserError
from tests.cli.runs import options


@pytest.fixture
def opt(tmp_path):
    return complete(options(), str(tmp_path), is_train=True)


@pytest.fixture
def run(opt):
    run = TrainingRun()
    with run.in_basicsr():
        run.plan = make_plan(opt, length=4)
        yield run


def test_a_model_of_basicsr_keeps_its_class_and_behavior(opt, run):
    model = run.build_model(opt)
    assert isinstance(model, SRModel) and type(model).__name__ == 'SRModel'
    assert opt['train']['optim_g']['type'] == 'Adam'  # BasicSR removes it from the options that it is given
    assert not {'save', 'stream_at', 'plan'} & vars(model).keys()


def test_states_store_the_position_in_the_data(opt, run):
    model = run.build_model(opt)
    for key in ('models', 'training_states'):
        os.makedirs(opt['path'][key])
    assert model.save(0, 2)
    state = torch.load(os.path.join(opt['path']['training_states'], '2.state'), weights_only=True)
    assert state['stream'] == position(run.plan, 2)


class Signaling(torch.utils.data.Dataset):
    """Images, at the second of which the process gets a signal."""

    opt = {'name': 'images'}

    def __len__(self):
        return 3

    def __getitem__(self, index):
        assert index < 2, 'the validation does not stop'
        if index == 1:
            signal.raise_signal(signal.SIGTERM)
        return {'lq': torch.rand(3, 8, 8), 'gt': torch.rand(3, 8, 8), 'lq_path': f'{index}.png'}


@pytest.mark.parametrize('model_type', ['SRModel', 'DeepRFTv2Model'])
def test_signal_stops_a_validation_and_saves_the_state(opt, run, model_type):
    model = run.build_model({**opt, 'model_type': model_type})
    for key in ('models', 'training_states'):
        os.makedirs(opt['path'][key])
    model.update_learning_rate(1)
    model.feed_data({'lq': torch.rand(1, 3, 16, 16), 'gt': torch.rand(1, 3, 16, 16)})
    model.optimize_parameters(1)
    with signals.watched(), pytest.raises(Interrupted, match='SIGTERM: the state of iteration 1 is saved'):
        model.validation(torch.utils.data.DataLoader(Signaling()), 1, None)
    assert os.listdir(opt['path']['training_states']) == ['1.state'] and not model.failed_validations


def test_training_continues_after_a_failed_save_except_for_the_last(opt, run):
    model = run.build_model(opt)
    os.makedirs(os.path.dirname(opt['path']['models']))
    open(opt['path']['models'], 'x').close()  # not a folder
    assert not model.save(0, 2)
    with pytest.raises(UserError, match='models'):
        model.save(-1, -1)
