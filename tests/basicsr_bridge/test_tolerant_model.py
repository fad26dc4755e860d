"""Failures that do not stop a training, or stop it with a clear message."""

import copy

import pytest
import torch
from torch import nn

from deeprftv2_plugin.basicsr_bridge.run_options import complete
from deeprftv2_plugin.basicsr_bridge.sample_stream import make_plan
from deeprftv2_plugin.basicsr_bridge.tolerant_model import explain_step_error
from deeprftv2_plugin.basicsr_bridge.training_run import TrainingRun
from deeprftv2_plugin.utils.errors import UserError
from tests.cli.runs import options


@pytest.fixture
def model(tmp_path):
    """BasicSR's SRModel in a run."""
    opt = complete(options(), str(tmp_path), is_train=True)
    run = TrainingRun()
    with run.in_basicsr():
        run.plan = make_plan(opt, length=4)
        model = run.build_model(opt)
        model.feed_data({'lq': torch.rand(1, 3, 16, 16), 'gt': torch.rand(1, 3, 16, 16)})
        yield model


class Unreadable(torch.utils.data.Dataset):
    """A dataset whose images cannot be read."""

    opt = {'name': 'unreadable'}

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise OSError('a damaged image')


def test_networks_keep_their_modes_when_a_validation_fails(model, monkeypatch):
    saved = []
    monkeypatch.setattr(model, 'save', lambda *position: saved.append(position))
    loader = torch.utils.data.DataLoader(Unreadable())
    model.net_g.eval = lambda: pytest.fail('not before an image is read')
    model.validation(loader, 4, None)
    model.validation(loader, 4, None)  # BasicSR repeats the last validation
    assert saved == [(0, 4)] and model.failed_validations.keys() == {'unreadable'}
    with pytest.raises(
        UserError, match='the last validation of unreadable, at iteration 4, failed: OSError: a damaged'
    ):
        model.require_last_validations()
    model.failed_validations.clear()
    assert model.net_g.training


def test_training_mode_is_restored_after_an_error_in_the_network(model, monkeypatch):
    monkeypatch.setattr(model, 'save', lambda *position: None)
    monkeypatch.setattr(Unreadable, '__getitem__', lambda self, index: {'lq': torch.rand(5, 9, 9), 'lq_path': 'a.png'})
    model.validation(torch.utils.data.DataLoader(Unreadable()), 4, None)
    assert model.failed_validations and model.net_g.training
    model.failed_validations.clear()


def test_iteration_is_undone_until_its_optimizer_takes_a_step(model, monkeypatch):
    assert model.done is None and not model.save_last()
    for iteration in (1, 2):
        model.update_learning_rate(iteration)
        model.optimize_parameters(iteration)
    assert model.done == 2
    before = copy.deepcopy([model.optimizers[0].state_dict(), model.schedulers[0].state_dict()])
    model.update_learning_rate(3)
    assert model.get_current_learning_rate() != [before[0]['param_groups'][0]['lr']]
    model.feed_data({'lq': torch.rand(1, 5, 16, 16), 'gt': torch.rand(1, 3, 16, 16)})
    with pytest.raises(RuntimeError):
        model.optimize_parameters(3)
    saved = []
    monkeypatch.setattr(model, 'save', lambda *position: not saved.append(position))
    assert model.save_last() and saved == [(0, 2)]
    torch.testing.assert_close([model.optimizers[0].state_dict(), model.schedulers[0].state_dict()], before)


def test_iteration_whose_optimizer_fails_is_not_saved(model, monkeypatch):
    def fail(*args, **settings):
        raise ValueError('in the step')

    model.optimize_parameters(1)
    monkeypatch.setattr(torch.optim.Adam, '_init_group', fail)
    with pytest.raises(ValueError, match='in the step'):
        model.optimize_parameters(2)
    assert model.done is None and not model.save_last()


def test_lack_of_memory_in_a_step_names_the_options(model, monkeypatch):
    monkeypatch.setattr(model, 'cri_pix', lambda *images: torch.empty(1 << 60))
    with pytest.raises(UserError, match='iteration 1: there is not enough memory .*batch_size_per_gpu'):
        model.optimize_parameters(1)


def test_other_errors_are_not_explained():
    assert explain_step_error(RuntimeError('shapes differ'), nn.Linear(2, 2)) is None
