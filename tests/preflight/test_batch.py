"""The rule by which a recipe for some GPUs runs on others."""

import pytest

from deeprftv2_plugin.preflight.batch import check_batch, table
from tests.preflight.findings import errors, warnings


@pytest.fixture
def recipe(opt):
    """A recipe in two stages for eight GPUs."""
    opt['train'].update(recipe_gpus=8, stages=[{'iterations': 2, 'batch_size_per_gpu': 2}, {}])
    return opt


def test_the_effective_batch_is_the_same_on_one_two_four_and_eight(recipe):
    rows = [line.split()[:4] for line in table(recipe, [1, 2, 4, 8], 1).splitlines()[1:]]
    assert rows == [['1', '8', '16', '8'], ['2', '4', '16', '8'], ['4', '2', '16', '8'], ['8', '1', '16', '8']]


@pytest.mark.parametrize(('processes', 'here'), [(None, '1'), ('2', '2'), ('3', '3')])
def test_the_number_that_there_is_has_a_row_and_a_mark(recipe, monkeypatch, processes, here):
    if processes:
        monkeypatch.setenv('WORLD_SIZE', processes)
    recipe['num_gpu'] = 0
    (marked,) = [line for line in list(check_batch(recipe))[-1].text.splitlines() if line.endswith('<- here')]
    assert marked.split()[0] == here


def test_stages_are_told(recipe):
    first, second, _ = check_batch(recipe)
    assert 'stage 1: iterations 1 to 2' in first.text and 'batch size 2 per GPU' in first.text
    assert 'stage 2: iterations 3 to 4' in second.text and 'batch size 1 per GPU' in second.text


def test_crops_that_the_network_cannot_take_are_an_error(recipe):
    recipe['train']['stages'] = [{'iterations': 2, 'gt_size': [16, 12]}, {}]
    (text,) = errors(list(check_batch(recipe, multiple=8)))
    assert 'stage 1' in text and 'multiples of 8' in text
    del recipe['train']['stages'], recipe['datasets']['train']['gt_size']
    assert not errors(list(check_batch(recipe, multiple=8)))


def test_another_effective_batch_than_the_recipes_is_a_warning(recipe, monkeypatch):
    assert not warnings(list(check_batch(recipe)))
    monkeypatch.setenv('WORLD_SIZE', '3')
    (text,) = warnings(list(check_batch(recipe)))
    assert 'a step sees 18 and 9 pictures here, but 16 and 8 by the recipe' in text
    recipe['train']['accumulation'] = 1
    assert 'a step sees 6 and 3 pictures' in warnings(list(check_batch(recipe)))[0]


def test_without_a_recipe_any_batch_is_right(opt, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '5')
    assert not warnings(list(check_batch(opt)))
