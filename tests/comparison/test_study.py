"""The option file of a study."""

import json
from pathlib import Path

import pytest

from deeprftv2_plugin.comparison import study, training
from deeprftv2_plugin.comparison.operations import count_operations
from deeprftv2_plugin.comparison.study import add_results, iterations_of, read_study
from deeprftv2_plugin.utils.errors import UserError

QUICKSTART = Path(__file__).parents[2] / 'options/compare_quickstart.yml'
VALID = """
name: study
model_type: DeepRFTv2Model
num_gpu: 0
scale: 1
train: {total_iter: 9, optim_g: {type: AdamW, lr: 1e-3}, pixel_opt: {type: L1Loss}}
datasets:
  train: {name: x, type: PairedDeblurDataset, dataroot: x, num_worker_per_gpu: 0, gt_size: 32, batch_size_per_gpu: 2}
logger: {print_freq: 100, save_checkpoint_freq: 100, use_tb_logger: false}
candidates: {T: {type: DeepRFTv2, variant: T}, 9: {type: SwinIR}}
seeds: [1, 2]
budget: {minutes: 2}
"""


def write(text):
    Path('study.yml').write_text(text)
    return read_study('study.yml')


def test_networks_are_separated_from_the_recipe():
    found = write(VALID)
    assert found.recipe.keys() == {'name', 'model_type', 'num_gpu', 'scale', 'train', 'datasets', 'logger'}
    assert [candidate.name for candidate in found.networks()] == ['T', '9']
    assert found.seeds == [1, 2] and found.photographs is None


def test_a_network_can_change_the_recipe(tmp_path, monkeypatch):
    recipe = '{train: {optim_g: {lr: 2}}}'
    found = write(VALID.replace('{type: SwinIR}', f'{{type: SwinIR, recipe: {recipe}}}') + 'reference: T')
    assert found.candidates['9'] == {'type': 'SwinIR'} and found.reference == 'T'
    monkeypatch.setattr(training, '_finished', lambda folder, run: run)
    first, second = training.train_all(found.candidates, found.recipe, [1], tmp_path, changes=found.changes)
    assert first['options']['train']['optim_g'] == {'type': 'AdamW', 'lr': 1e-3}
    assert second['options']['train']['optim_g'] == {'type': 'AdamW', 'lr': 2}


def test_a_section_of_another_type_replaces_that_of_the_recipe():
    found = write(VALID.replace('lr: 1e-3}', 'lr: 1e-3, betas: [0.9, 0.9]}, scheduler: {type: StepLR, step_size: 5}'))
    changes = {'train': {'optim_g': {'type': 'SGD', 'lr': 2}, 'scheduler': {'type': 'CosineAnnealingLR'}}}
    options = training.run_options('T', found.candidates['T'], found.recipe, 1, 7, changes)
    assert options['train']['optim_g'] == {'type': 'SGD', 'lr': 2}
    assert options['train']['scheduler'] == {'type': 'CosineAnnealingLR', 'T_max': 7}


def test_null_leaves_out_an_inherited_network():
    Path('base.yml').write_text(VALID)
    assert list(write('_base_: base.yml\ncandidates: {T: ~}').candidates) == ['9']


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('candidates: {T: ', 'candidates: {T: 3, U: ', 'candidates is'),
        ('seeds: [1, 2]', 'seeds: 3', 'seeds is 3, expected a list'),
        ('seeds: [1, 2]', 'seeds: []', 'seeds is'),
        ('seeds: [1, 2]', 'seeds: [1, 2, 1]', r'seeds is \[1, 2, 1\], expected different numbers'),
        ('{T: {type: DeepRFTv2, variant: T}, 9: {type: SwinIR}}', '{}', r'candidates is \{\}, expected sections'),
        ('{minutes: 2}', '{hours: 2}', 'budget is'),
        ('{minutes: 2}', '{minutes: 2, iterations: 3}', 'budget is'),
        ('{minutes: 2}', '{iterations: 0}', 'budget is'),
        ('{minutes: 2}', '{iterations: .inf}', 'budget is'),
        ('{minutes: 2}', '{minutes: .inf}', 'budget is'),
        ('seeds', 'photographs: 3\nseeds', 'photographs is 3'),
        ('seeds', 'reference: S\nseeds', "reference is 'S', expected one of T, 9"),
        ('{type: SwinIR}', '{type: SwinIR, recipe: 3}', 'candidates.9.recipe is 3'),
        ('train: {total', 'other: {total', 'has no section train'),
    ],
)
def test_wrong_values(old, new, message):
    with pytest.raises(UserError, match=message):
        write(VALID.replace(old, new))


def test_equal_time_is_measured_once(tmp_path, monkeypatch):
    measured = []

    def in_new_process(run, candidate, setting):
        measured.append((candidate.name, setting.size, setting.batch))
        return {'training_seconds': {'T': 0.5, '9': 0.25}[candidate.name]}

    monkeypatch.setattr(study, 'in_new_process', in_new_process)
    for _ in range(2):  # the second time as after an interruption
        assert iterations_of(write(VALID), tmp_path, 'cpu') == {'T': 240, '9': 480}
    assert measured == [('T', 32, 2), ('9', 32, 2)]
    assert json.loads((tmp_path / 'budget.json').read_text())['minutes'] == 2
    equal = write(VALID.replace('{minutes: 2}', '{iterations: 5}'))
    assert iterations_of(equal, tmp_path, 'cpu') == {'T': 5, '9': 5}


def test_equal_time_includes_accumulation_stages_and_the_recipe_of_the_network(tmp_path, monkeypatch):
    """A step takes 0.1 seconds per image. The first stage takes 60 of the 120 seconds of networks with 4 batches."""
    measured = []

    def in_new_process(run, candidate, setting):
        measured.append((candidate.name, setting.size, setting.batch))
        return {'training_seconds': 0.1 * setting.batch}

    monkeypatch.setattr(study, 'in_new_process', in_new_process)
    text = VALID.replace('total_iter: 9', 'recipe_gpus: 4, total_iter: 9, stages: [{iterations: 75, gt_size: 16}, {}]')
    own = '{type: SwinIR, recipe: {datasets: {train: {batch_size_per_gpu: 1}}, train: {recipe_gpus: 1, stages: ~}}}'
    found = write(text.replace('{type: SwinIR}', own))
    assert iterations_of(found, tmp_path, 'cpu') == {'T': 75 + 75, '9': 1200}
    assert measured == [('T', 16, 2), ('T', 32, 2), ('9', 32, 1)]


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('datasets:', 'others:', 'candidates.T: datasets is missing'),
        ('optim_g:', 'scheduler: 5, optim_g:', 'candidates.T: train.scheduler is 5, expected a section'),
        ('{type: SwinIR}', '{type: SwinIR, depth: 3}', 'candidates.9: network_g.depth is unknown'),
    ],
)
def test_wrong_recipes_are_found_before_a_step_is_measured(tmp_path, monkeypatch, old, new, message):
    monkeypatch.setattr(study, 'in_new_process', lambda *args: pytest.fail('a step was measured'))
    with pytest.raises(UserError, match=message):
        iterations_of(write(VALID.replace(old, new)), tmp_path, 'cpu')


def test_failed_runs_are_remarks():
    rows = [{'name': 'a', 'remark': '', 'failed': False}, {'name': 'b', 'remark': 'training: slow', 'failed': True}]
    done = {'candidate': 'a', 'iterations': 5, 'seconds': 1.0}
    add_results(
        rows,
        [
            done | {'seed': 1, 'metrics': {'psnr': 20}},
            done | {'seed': 2, 'metrics': {'psnr': 22}},
            {'candidate': 'b', 'seed': 1, 'error': 'no memory'},
        ],
    )
    assert rows[0]['metrics'] == {'psnr': 21} and not rows[0]['failed']
    assert rows[1]['remark'] == 'training: slow; seed 1: no memory'


def test_networks_of_the_quickstart_have_equal_costs_in_training():
    pytest.importorskip('spandrel')
    costs = [count_operations(each.build(), 48, 48).total for each in read_study(str(QUICKSTART)).networks()]
    assert len(costs) == 3 and max(costs) < 1.05 * min(costs), costs
