import pytest
import torch

from deeprftv2_plugin.checkpoints.states import newest_whole, prune, read_state, write_state
from deeprftv2_plugin.utils.errors import UserError


class Unsafe:
    def __reduce__(self):
        return (exec, ('raise SystemExit',))


@pytest.fixture
def folders(tmp_path):
    """Folders with three states and their weights, as written during training."""
    states, models = tmp_path / 'training_states', tmp_path / 'models'
    states.mkdir()
    models.mkdir()
    for iteration in (9, 10, 100):
        write_state({'iter': iteration}, states / f'{iteration}.state')
        for suffix in ('pth', 'safetensors'):
            torch.save({'params': {'weight': torch.ones(500)}}, models / f'net_g_{iteration}.{suffix}')
    torch.save({'params': {'weight': torch.ones(500)}}, models / 'net_g_best.pth')
    return states, models


def truncate(path):
    path.write_bytes(path.read_bytes()[:-300])


def test_newest_state_is_found_by_its_iteration(folders):
    assert newest_whole(*folders, ['g']) == (folders[0] / '100.state', [])


def test_missing_folders_have_no_state(tmp_path):
    assert newest_whole(tmp_path / 'no', tmp_path / 'none', ['g']) == (None, [])


@pytest.mark.parametrize('damaged', ['training_states/100.state', 'models/net_g_100.pth'])
def test_damaged_files_are_skipped_and_named(folders, tmp_path, damaged):
    truncate(tmp_path / damaged)
    path, faults = newest_whole(*folders, ['g'])
    assert path == folders[0] / '10.state'
    assert len(faults) == 1 and damaged in faults[0]


def test_state_without_weights_is_skipped(folders):
    (folders[1] / 'net_g_100.pth').unlink()
    assert newest_whole(*folders, ['g'])[0] == folders[0] / '10.state'


def test_only_damaged_states_are_an_error(folders):
    for path in folders[0].iterdir():
        truncate(path)
    with pytest.raises(UserError, match='none of the 3 training states'):
        newest_whole(*folders, ['g'])


def test_prune_keeps_the_newest_and_unnumbered_files(folders):
    torch.save({}, folders[1] / 'net_g_5.pth')  # weights without a state, left by a killed process
    prune(*folders, keep=2)
    assert sorted(path.name for path in folders[0].iterdir()) == ['10.state', '100.state']
    numbers = {path.stem.removeprefix('net_g_') for path in folders[1].iterdir()}
    assert numbers == {'10', '100', 'best'}


@pytest.mark.parametrize('content', ['unsafe', 'truncated', 'missing', 'other'])
def test_unreadable_states_are_errors(tmp_path, content):
    path = tmp_path / '1.state'
    if content == 'unsafe':
        torch.save({'iter': Unsafe()}, path)
    elif content == 'truncated':
        torch.save({'iter': torch.ones(1000)}, path)
        truncate(path)
    elif content == 'other':
        torch.save({'weights': 1}, path)
    with pytest.raises(UserError, match='1.state'):
        read_state(path)


def test_schedule_states_load_with_weights_only(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    write_state({'iter': 3, 'schedulers': [schedule.state_dict()]}, tmp_path / '3.state')
    assert read_state(tmp_path / '3.state')['schedulers'][0]['milestones'] == schedule.milestones
