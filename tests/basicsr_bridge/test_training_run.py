"""Models of BasicSR in a training run."""

import os

import pytest
import torch
from basicsr.models.sr_model import SRModel

from deeprftv2_plugin.basicsr_bridge.run_options import complete
from deeprftv2_plugin.basicsr_bridge.sample_stream import make_plan, position
from deeprftv2_plugin.basicsr_bridge.training_run import TrainingRun
from deeprftv2_plugin.utils.errors import UserError
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


def test_training_continues_after_a_failed_save_except_for_the_last(opt, run):
    model = run.build_model(opt)
    os.makedirs(os.path.dirname(opt['path']['models']))
    open(opt['path']['models'], 'x').close()  # not a folder
    assert not model.save(0, 2)
    with pytest.raises(UserError, match='models'):
        model.save(-1, -1)
