"""Stages against the memory of a GPU."""

import pytest
from basicsr.archs import build_network
from torch import nn

from deeprftv2_plugin.preflight import memory
from tests.preflight.findings import errors, warnings


def check(opt, there=None, net=None, monkeypatch=None):
    if there is not None:
        monkeypatch.setattr(memory, 'gpu_memory', lambda opt: there)
    return list(memory.check_memory(opt, net or build_network(opt['network_g']), 1000))


def test_what_does_not_depend_on_the_stage_is_listed(opt):
    fixed, stage = check(opt)
    assert fixed.text.startswith('weights 1.52 kB, gradients 1.52 kB, optimiser 1 kB; activations estimated')
    assert stage.text.startswith('stage 1, patches of 16x16, 1 at a time: about ')
    opt['train'].update(ema_decay=0.9, bf16=True)
    fixed, _ = check(opt)
    assert 'average 1.52 kB' in fixed.text and 'bf16 takes less' in fixed.text


def test_every_stage_has_its_estimate_in_proportion_to_its_pixels(opt):
    opt['train']['stages'] = [{'iterations': 1}, {'iterations': 1, 'gt_size': [16, 32]}, {'batch_size_per_gpu': 4}]
    pixels = [memory.pixels_of(opt, stage) for stage in memory.stages_of(opt)]
    assert pixels == [256, 512, 1024]
    assert len(check(opt)) == 4


def test_networks_that_enlarge_take_smaller_pictures(opt):
    opt['scale'] = 2
    assert memory.pixels_of(opt, memory.stages_of(opt)[0]) == 64


def test_only_our_model_takes_the_batches_of_a_step_one_after_the_other(opt):
    opt['train']['accumulation'] = 3
    (stage,) = memory.stages_of(opt)
    assert memory.pixels_of(opt, stage) == 3 * 256
    assert memory.pixels_of({**opt, 'model_type': 'DeepRFTv2Model'}, stage) == 256


@pytest.mark.parametrize(('there', 'mark'), [(10_000, errors), (35_000, warnings)])
def test_a_gpu_that_is_too_small_is_told(opt, monkeypatch, there, mark):
    (text,) = mark(check(opt, there, monkeypatch=monkeypatch))
    assert 'stage 1' in text and 'of the GPU' in text


def test_a_gpu_that_is_large_enough_is_fine(opt, monkeypatch):
    found = check(opt, 10**9, monkeypatch=monkeypatch)
    assert not errors(found) and not warnings(found)


def test_in_bf16_half_the_activations_may_do(opt, monkeypatch):
    assert errors(check(opt, 30_000, monkeypatch=monkeypatch))
    opt['train']['bf16'] = True
    assert warnings(check(opt, 30_000, monkeypatch=monkeypatch))


def test_a_network_that_takes_other_pictures_is_not_estimated(opt):
    (text,) = warnings(check(opt, net=nn.Conv2d(1, 1, 1)))
    assert 'cannot be estimated: Conv2d' in text


def test_without_crops_nothing_is_estimated(opt):
    del opt['datasets']['train']['gt_size']
    assert 'no gt_size' in warnings(check(opt))[0]
