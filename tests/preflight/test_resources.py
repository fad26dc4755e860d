"""GPU memory and disk space."""

import shutil
from types import SimpleNamespace

import pytest
from basicsr.archs import build_network
from torch import nn

from deeprftv2_plugin.preflight import resources
from deeprftv2_plugin.preflight.findings import Mark
from tests.preflight.findings import errors, warnings


def check(opt, there=None, net=None, monkeypatch=None):
    if there is not None:
        monkeypatch.setattr(resources, 'gpu_memory', lambda opt: there)
    return list(resources.check_memory(opt, net or build_network(opt['network_g']), 1000))


def test_memory_that_does_not_depend_on_the_stage_is_listed(opt):
    fixed, stage = check(opt)
    assert fixed.text.startswith('weights 1.52 kB, gradients 1.52 kB, optimizer 1 kB; activations are estimated')
    assert stage.text.startswith('stage 1, crops of 16x16, batch 1: about ')
    opt['train'].update(ema_decay=0.9, bf16=True)
    fixed, _ = check(opt)
    assert 'average 1.52 kB' in fixed.text and '(less with bf16)' in fixed.text


def test_estimate_is_proportional_to_the_pixels_of_a_stage(opt):
    opt['train']['stages'] = [{'iterations': 1}, {'iterations': 1, 'gt_size': [16, 32]}, {'batch_size_per_gpu': 4}]
    pixels = [resources.pixels_of(opt, stage) for stage in resources.stages_of(opt)]
    assert pixels == [256, 512, 1024]
    assert len(check(opt)) == 4


def test_input_of_networks_that_enlarge_is_smaller(opt):
    opt['scale'] = 2
    assert resources.pixels_of(opt, resources.stages_of(opt)[0]) == 64


def test_only_our_model_processes_the_batches_of_a_step_one_by_one(opt):
    opt['train']['accumulation'] = 3
    (stage,) = resources.stages_of(opt)
    assert resources.pixels_of(opt, stage) == 3 * 256
    assert resources.pixels_of({**opt, 'model_type': 'DeepRFTv2Model'}, stage) == 256


@pytest.mark.parametrize(('there', 'mark'), [(10_000, errors), (35_000, warnings)])
def test_gpu_that_is_too_small_is_reported(opt, monkeypatch, there, mark):
    (text,) = mark(check(opt, there, monkeypatch=monkeypatch))
    assert 'stage 1' in text and 'on the GPU' in text


def test_gpu_that_is_large_enough_is_ok(opt, monkeypatch):
    found = check(opt, 10**9, monkeypatch=monkeypatch)
    assert not errors(found) and not warnings(found)


def test_bf16_may_need_half_the_activations(opt, monkeypatch):
    assert errors(check(opt, 30_000, monkeypatch=monkeypatch))
    opt['train']['bf16'] = True
    assert warnings(check(opt, 30_000, monkeypatch=monkeypatch))


def test_network_with_other_inputs_is_not_estimated(opt):
    (text,) = warnings(check(opt, net=nn.Conv2d(1, 1, 1)))
    assert 'cannot be estimated: Conv2d' in text


def test_without_crops_nothing_is_estimated(opt):
    del opt['datasets']['train']['gt_size']
    assert 'no gt_size' in warnings(check(opt))[0]


WEIGHTS, OPTIMIZER = 379 * 4, 3000
FILES = 2 * WEIGHTS  # .pth and .safetensors


def check_free(opt, monkeypatch, free):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    (finding,) = resources.check_disk(opt, {'g': build_network(opt['network_g'])}, OPTIMIZER)
    return finding


@pytest.mark.parametrize(('missing', 'mark'), [(0, Mark.OK), (1, Mark.WARNING)])
@pytest.mark.parametrize(('keep', 'count'), [(None, 4), (2, 3), (9, 4)])
def test_disk_holds_all_checkpoints_that_are_kept(opt, monkeypatch, keep, count, missing, mark):
    opt['logger'].update(save_checkpoint_freq=1, keep_checkpoints=keep)
    needed = count * (FILES + OPTIMIZER) + 2 * FILES
    assert check_free(opt, monkeypatch, needed - missing).mark is mark


@pytest.mark.parametrize(('missing', 'mark'), [(0, Mark.WARNING), (1, Mark.ERROR)])
def test_two_checkpoints_must_fit(opt, monkeypatch, missing, mark):
    opt['logger']['save_checkpoint_freq'] = 1
    assert check_free(opt, monkeypatch, 2 * (FILES + OPTIMIZER) + 2 * FILES - missing).mark is mark


def test_average_is_one_more_set_of_weights(opt, monkeypatch):
    opt['train']['ema_decay'] = 0.9
    needed = 2 * (3 * WEIGHTS + OPTIMIZER) + 2 * 3 * WEIGHTS
    assert check_free(opt, monkeypatch, needed).mark is Mark.OK
    assert check_free(opt, monkeypatch, needed - 1).mark is Mark.ERROR


def test_a_folder_that_cannot_be_accessed_is_not_asked_for_its_disk(opt, folder, monkeypatch):
    """The check of the folders reports it."""
    opt['path']['experiments_root'] = str(folder / ('x' * 300))
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=10**9))
    assert list(resources.check_disk(opt, {}, 0))


def test_disk_is_that_of_the_folder_to_be_created(opt, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: asked.append(path) or SimpleNamespace(free=10**9))
    list(resources.check_disk(opt, {}, 0))
    (folder / 'experiments').mkdir()
    list(resources.check_disk(opt, {}, 0))
    assert asked == [folder, folder / 'experiments']


def test_images_that_exceed_the_memory_are_an_error(opt, test_opt):
    assert list(resources.check_images(opt)) == []
    opt['datasets']['train'].update(gt_size=1_000_000, batch_size_per_gpu=2)
    opt['train']['accumulation'] = 3
    assert (
        'stage 1: 6 pairs of 1000000x1000000 pixels takes 144 TB, but' in errors(list(resources.check_images(opt)))[0]
    )
    test_opt['val']['pad'] = [10**6, 10**6]
    assert 'val.pad: an image of 1000000x1000000' in errors(list(resources.check_images(test_opt)))[0]
