"""Room for checkpoints."""

import shutil
from types import SimpleNamespace

import pytest
from basicsr.archs import build_network

from deeprftv2_plugin.preflight.disk import check_disk
from deeprftv2_plugin.preflight.findings import Mark

WEIGHTS, OPTIMISER = 379 * 4, 3000
FILES = 2 * WEIGHTS  # .pth and .safetensors


def check(opt, monkeypatch, free):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    (finding,) = check_disk(opt, {'g': build_network(opt['network_g'])}, OPTIMISER)
    return finding


@pytest.mark.parametrize(('missing', 'mark'), [(0, Mark.OK), (1, Mark.WARNING)])
@pytest.mark.parametrize(('keep', 'count'), [(None, 4), (2, 3), (9, 4)])
def test_all_that_is_kept_at_a_time_needs_room(opt, monkeypatch, keep, count, missing, mark):
    opt['logger'].update(save_checkpoint_freq=1, keep_checkpoints=keep)
    needed = count * (FILES + OPTIMISER) + 2 * FILES
    assert check(opt, monkeypatch, needed - missing).mark is mark


@pytest.mark.parametrize(('missing', 'mark'), [(0, Mark.WARNING), (1, Mark.ERROR)])
def test_two_checkpoints_must_fit(opt, monkeypatch, missing, mark):
    opt['logger']['save_checkpoint_freq'] = 1
    assert check(opt, monkeypatch, 2 * (FILES + OPTIMISER) + 2 * FILES - missing).mark is mark


def test_an_average_is_one_set_of_weights_more(opt, monkeypatch):
    opt['train']['ema_decay'] = 0.9
    needed = 2 * (3 * WEIGHTS + OPTIMISER) + 2 * 3 * WEIGHTS
    assert check(opt, monkeypatch, needed).mark is Mark.OK
    assert check(opt, monkeypatch, needed - 1).mark is Mark.ERROR


def test_the_disk_is_that_of_the_folder_to_be_made(opt, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: asked.append(path) or SimpleNamespace(free=10**9))
    list(check_disk(opt, {}, 0))
    (folder / 'experiments').mkdir()
    list(check_disk(opt, {}, 0))
    assert asked == [folder, folder / 'experiments']
