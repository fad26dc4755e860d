"""Schedules, intervals, stages and batches."""

import pytest
from torch import nn

from deeprftv2_plugin.preflight.schedule import batch_table, check_batch, check_schedule, crop_fits
from deeprftv2_plugin.utils.errors import UserError
from tests.preflight.findings import errors, warnings


def check(opt, **train):
    opt['train'].update(train)
    return list(check_schedule(opt))


def test_schedule_as_long_as_the_training_is_ok(opt):
    (finding,) = check(opt, scheduler={'type': 'CosineAnnealingLR', 'T_max': 4})
    assert finding.text == 'CosineAnnealingLR over 4 of 4 iterations'
    assert not warnings([finding])


@pytest.mark.parametrize(
    ('schedule', 'words'),
    [
        ({'type': 'CosineAnnealingLR', 'T_max': 3}, 'over 3 of 4 iterations: the rate rises again'),
        ({'type': 'CosineAnnealingLR', 'T_max': 9}, 'over 9 of 4 iterations: the rate does not reach its last value'),
        ({'type': 'OneCycleLR', 'total_steps': 2, 'max_lr': 1}, 'over 2 of 4'),
        ({'type': 'PolynomialLR', 'total_iters': 2}, 'over 2 of 4 iterations: the rate is zero'),
        ({'type': 'CosineAnnealingRestartLR', 'periods': [3, 3]}, 'over 6 of 4'),
        ({'type': 'MultiStepLR', 'milestones': [2, 5, 6]}, 'milestones has [5, 6]'),
    ],
)
def test_schedule_of_another_length_is_a_warning(opt, schedule, words):
    (text,) = warnings(check(opt, scheduler=schedule))
    assert words in text


def test_schedule_after_which_basicsrs_model_fails_is_an_error(opt):
    schedule = {'type': 'CosineAnnealingRestartLR', 'periods': [1, 1]}
    assert 'the model raises an error' in errors(check(opt, scheduler=schedule))[0]
    opt['model_type'] = 'DeepRFTv2Model'
    found = check(opt, scheduler=schedule)
    assert not errors(found) and 'the rate stays constant' in warnings(found)[0]


def test_no_schedule_and_unknown_schedules_are_ok(opt):
    assert 'stays constant' in check(opt, scheduler=None)[0].text
    assert 'OurOwn in 4 iterations' in check(opt, scheduler={'type': 'OurOwn'})[0].text


def test_warmup_longer_than_the_training_is_a_warning(opt):
    assert 'train.warmup_iter is 4 of 4' in warnings(check(opt, warmup_iter=4))[0]


def test_stages_that_never_begin_are_a_warning(opt):
    text = warnings(check(opt, stages=[{'iterations': 2}, {'iterations': 2}, {'iterations': 9}, {}]))
    assert [line.partition(' ')[0] for line in text] == ['train.stages[2]', 'train.stages[3]']


@pytest.mark.parametrize(('section', 'key'), [('val', 'val_freq'), ('logger', 'save_checkpoint_freq')])
def test_intervals_longer_than_the_training_are_a_warning(opt, section, key):
    opt[section][key] = 5
    (text,) = warnings(check(opt))
    assert f'{section}.{key} is 5, with 4 iterations' in text


@pytest.fixture
def recipe(opt):
    """A recipe in two stages for eight GPUs."""
    opt['train'].update(recipe_gpus=8, stages=[{'iterations': 2, 'batch_size_per_gpu': 2}, {}])
    return opt


def test_effective_batch_is_the_same_on_one_two_four_and_eight_gpus(recipe):
    rows = [line.split()[:4] for line in batch_table(recipe, [1, 2, 4, 8], 1).splitlines()[1:]]
    assert rows == [['1', '8', '16', '8'], ['2', '4', '16', '8'], ['4', '2', '16', '8'], ['8', '1', '16', '8']]


@pytest.mark.parametrize(('processes', 'here'), [(None, '1'), ('2', '2'), ('3', '3')])
def test_number_of_gpus_of_this_run_is_marked(recipe, monkeypatch, processes, here):
    if processes:
        monkeypatch.setenv('WORLD_SIZE', processes)
    recipe['num_gpu'] = 0
    (marked,) = [line for line in list(check_batch(recipe))[-1].text.splitlines() if line.endswith('<- this run')]
    assert marked.split()[0] == here


def test_stages_are_listed(recipe):
    first, second, _ = check_batch(recipe)
    assert 'stage 1: iterations 1 to 2' in first.text and 'batch size 2 per GPU' in first.text
    assert 'stage 2: iterations 3 to 4' in second.text and 'batch size 1 per GPU' in second.text


def of_eight():
    net = nn.Identity()
    net.size_multiple = 8
    return net


def test_crops_that_the_network_does_not_accept_are_an_error(recipe):
    recipe['train']['stages'] = [{'iterations': 2, 'gt_size': [16, 12]}, {}]
    (text,) = errors(list(check_batch(recipe, of_eight())))
    assert 'stage 1' in text and 'gt_size is [16, 12], but Identity takes multiples of 8' in text
    del recipe['train']['stages'], recipe['datasets']['train']['gt_size']
    assert not errors(list(check_batch(recipe, of_eight())))


def test_effective_batch_that_differs_from_the_recipe_is_a_warning(recipe, monkeypatch):
    assert not warnings(list(check_batch(recipe)))
    monkeypatch.setenv('WORLD_SIZE', '3')
    (text,) = warnings(list(check_batch(recipe)))
    assert 'a step has 18 and 9 images in this run, but 16 and 8 in the recipe' in text
    recipe['train']['accumulation'] = 1
    assert 'a step has 6 and 3 images' in warnings(list(check_batch(recipe)))[0]


@pytest.mark.parametrize('processes', ['abc', '0', '-1', ''])
def test_a_wrong_number_of_processes_is_an_error(recipe, monkeypatch, processes):
    monkeypatch.setenv('WORLD_SIZE', processes)
    with pytest.raises(UserError, match=f"WORLD_SIZE is '{processes}' in the environment, expected a positive integer"):
        list(check_batch(recipe))


def test_any_batch_is_ok_without_a_recipe(opt, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '5')
    assert not warnings(list(check_batch(opt)))


def test_crops_of_a_network_that_enlarges_are_those_of_its_input():
    assert crop_fits(of_eight(), 32, scale=2) and crop_fits(of_eight(), [32, 48], scale=2)
    assert not crop_fits(of_eight(), 24, scale=2)


def test_validation_data_without_validation_and_the_reverse_are_warnings(opt):
    assert not warnings(check(opt))
    assert (
        'val has no effect'
        in warnings(list(check_schedule({**opt, 'datasets': {'train': {**opt['datasets']['train']}}})))[0]
    )
    opt['val'] = None
    assert 'datasets.val is not used' in warnings(check(opt))[0]
