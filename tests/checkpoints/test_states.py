import os
from pathlib import Path

import pytest
import torch

from deeprftv2_plugin.checkpoints.states import WRITTEN, newest_whole, prune, read_state, record_written, write_state
from deeprftv2_plugin.utils.errors import UserError


class Unsafe:
    def __reduce__(self):
        return (exec, ('raise SystemExit',))


def state_of(iteration, **parts):
    return {'iter': iteration, 'epoch': 0, 'optimizers': [], 'schedulers': [], **parts}


@pytest.fixture
def folders(tmp_path):
    """Folders with three states and their weights, as saved during training."""
    states, models = tmp_path / 'training_states', tmp_path / 'models'
    states.mkdir()
    models.mkdir()
    for iteration in (9, 10, 100):
        write_state(state_of(iteration), states / f'{iteration}.state')
        names = [f'net_g_{iteration}.{suffix}' for suffix in ('pth', 'safetensors')]
        for name in names:
            torch.save({'params': {'weight': torch.ones(500)}}, models / name)
        record_written(tmp_path, [f'{iteration}.state', *names])
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


def test_it_is_an_error_if_all_states_are_damaged(folders):
    for path in folders[0].iterdir():
        truncate(path)
    with pytest.raises(UserError, match='none of the 3 training states'):
        newest_whole(*folders, ['g'])


def test_it_is_an_error_if_the_folder_cannot_be_listed(folders, monkeypatch):
    """Without permission, for example. Training would start over otherwise."""

    def fail(path):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'iterdir', fail)
    with pytest.raises(UserError, match=r'training_states cannot be listed \(Permission denied\): check'):
        newest_whole(*folders, ['g'])


def test_prune_keeps_the_newest_and_unnumbered_files(folders):
    record_written(folders[0].parent, ['net_g_5.pth'])
    torch.save({}, folders[1] / 'net_g_5.pth')  # weights without a state, left by a killed process
    prune(folders[0].parent, *folders, keep=2)
    assert sorted(path.name for path in folders[0].iterdir()) == ['10.state', '100.state']
    numbers = {path.stem.removeprefix('net_g_') for path in folders[1].iterdir()}
    assert numbers == {'10', '100', 'best'}


def test_prune_removes_only_what_the_training_has_written(folders):
    own = [folders[1] / name for name in ('net_g_teacher_1.pth', 'net_mine_1.safetensors', 'net_g_9_copy.pth')]
    own.append(folders[0] / '1.state')
    for path in own:
        path.write_bytes(b'of the user')
    prune(folders[0].parent, *folders, keep=1)
    assert all(path.read_bytes() == b'of the user' for path in own)
    assert sorted(path.name for path in folders[0].glob('*.state')) == ['1.state', '100.state']
    record_written(folders[0].parent, ['101.state'])  # the list is continued after it was shortened
    assert sorted((folders[0].parent / WRITTEN).read_text().split()) == [
        '100.state', '101.state', 'net_g_100.pth', 'net_g_100.safetensors'
    ]  # fmt: skip


def test_prune_removes_nothing_without_a_list(folders):
    (folders[0].parent / WRITTEN).unlink()
    before = sorted(folders[0].iterdir()), sorted(folders[1].iterdir())
    prune(folders[0].parent, *folders, keep=1)
    assert (sorted(folders[0].iterdir()), sorted(folders[1].iterdir())) == before


@pytest.mark.parametrize('done', range(6))
def test_interrupted_prune_leaves_no_state_without_weights(folders, monkeypatch, done):
    """Two states and the four files of their weights are removed, one after the other."""
    unlink, removed = Path.unlink, []

    def interrupted(path, **settings):
        if len(removed) == done:
            raise KeyboardInterrupt
        removed.append(path)
        unlink(path, **settings)

    monkeypatch.setattr(Path, 'unlink', interrupted)
    with pytest.raises(KeyboardInterrupt):
        prune(folders[0].parent, *folders, keep=1)
    for state in folders[0].iterdir():
        assert (folders[1] / f'net_g_{state.stem}.pth').exists()


def test_a_list_that_does_not_reach_the_disk_is_an_error(tmp_path, monkeypatch):
    """Otherwise files could remain that no list contains after a loss of power."""

    def fail(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='No space left on device'):
        record_written(tmp_path, ['1.state'])


@pytest.mark.posix
@pytest.mark.parametrize('kind', ['link', 'dangling', 'pipe'])
def test_the_list_is_only_written_to_a_regular_file(tmp_path, plant, kind):
    plant(tmp_path / WRITTEN, kind)
    with pytest.raises(OSError, match='expected a regular file'):
        record_written(tmp_path, ['1.state'])


OPTIMIZER = {'state': {0: {'exp_avg': torch.ones(2)}}, 'param_groups': [{'params': [0], 'lr': 0.1}]}
STREAM = {'samples': 4, 'seed': 1, 'number of processes': 1, 'effective batch': 2,
          'number of samples in the data set': 9}  # fmt: skip


def test_complete_states_are_read(tmp_path):
    state = state_of(3, optimizers=[OPTIMIZER], stream=STREAM, unseen_losses=[0.5],
                     best_metric_results={'val': {'psnr': {'better': 'higher', 'val': 30.0, 'iter': 2}}})  # fmt: skip
    write_state(state, tmp_path / '3.state')
    found = read_state(tmp_path / '3.state')
    assert torch.equal(found['optimizers'][0]['state'][0].pop('exp_avg'), torch.ones(2))
    state['optimizers'] = [{**OPTIMIZER, 'state': {0: {}}}]
    assert found == state


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('iter', -1), ('iter', 2.0), ('iter', True), ('iter', None), ('epoch', None), ('optimizers', None),
        ('optimizers', {}), ('optimizers', [5]), ('optimizers', [{'state': {}}]),
        ('optimizers', [{**OPTIMIZER, 'state': {'a': {}}}]), ('optimizers', [{**OPTIMIZER, 'param_groups': [{}]}]),
        ('optimizers', [{**OPTIMIZER, 'param_groups': [{'params': ['a']}]}]), ('schedulers', None),
        ('schedulers', [None]), ('stream', None), ('stream', {}), ('stream', {'samples': 4}),
        ('stream', {**STREAM, 'samples': -4}), ('best_metric_results', []), ('best_metric_results', {'val': 3}),
        ('best_metric_results', {'val': {'psnr': {'val': 'x', 'iter': 1}}}), ('unseen_losses', ['x']),
        ('unseen_losses', 3), ('environment', 5), ('types', {'optimizers': 'SGD'}),
        ('types', {'optimizers': ['SGD']}),
        ('optimizers', [{**OPTIMIZER, 'state': {0: {'exp_avg': torch.tensor([1, torch.nan])}}}]),
        ('optimizers', [{**OPTIMIZER, 'state': {0: {'exp_avg': torch.ones(2, device='meta')}}}]),
    ],
)  # fmt: skip
def test_incomplete_states_count_as_damaged(folders, key, value):
    """An older state is used instead."""
    write_state(state_of(100, **{key: value}), folders[0] / '100.state')
    path, (fault,) = newest_whole(*folders, ['g'])
    assert path == folders[0] / '10.state'
    assert '100.state: not a complete training state' in fault and key in fault


def test_state_whose_name_has_another_iteration_is_skipped(folders):
    write_state(state_of(50), folders[0] / '100.state')
    path, (fault,) = newest_whole(*folders, ['g'])
    assert path == folders[0] / '10.state' and 'its iteration does not match its name' in fault


@pytest.mark.posix
@pytest.mark.parametrize('place', ['training_states/100.state', 'models/net_g_100.pth'])
@pytest.mark.parametrize('kind', ['folder', 'pipe', 'device', 'loop'])
def test_entries_that_are_not_files_are_skipped(folders, tmp_path, place, kind):
    path = tmp_path / place
    path.unlink()
    {
        'folder': path.mkdir,
        'pipe': lambda: os.mkfifo(path),
        'device': lambda: path.symlink_to('/dev/zero'),
        'loop': lambda: path.symlink_to(path),
    }[kind]()
    found, (fault,) = newest_whole(*folders, ['g'])
    assert found == folders[0] / '10.state' and place in fault


@pytest.mark.parametrize('content', ['unsafe', 'truncated', 'missing', 'other'])
def test_unreadable_states_are_errors(tmp_path, content):
    path = tmp_path / '1.state'
    if content == 'unsafe':
        torch.save(state_of(Unsafe()), path)
    elif content == 'truncated':
        torch.save(state_of(torch.ones(1000)), path)
        truncate(path)
    elif content == 'other':
        torch.save({'weights': 1}, path)
    with pytest.raises(UserError, match='1.state'):
        read_state(path)


def test_schedule_states_load_with_weights_only(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    write_state(state_of(3, schedulers=[schedule.state_dict()]), tmp_path / '3.state')
    assert read_state(tmp_path / '3.state')['schedulers'][0]['milestones'] == schedule.milestones
