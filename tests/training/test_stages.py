import pytest

from deeprftv2_plugin.training.stages import TrainingStage, accumulation_of, stages_of
from deeprftv2_plugin.utils.errors import UserError


def options(stages=None, total=100, data=None, **train):
    return {'datasets': {'train': data or {}}, 'train': {'total_iter': total, 'stages': stages, **train}}


def test_default_is_a_single_stage():
    assert stages_of(options(data={'gt_size': 64, 'batch_size_per_gpu': 2})) == [TrainingStage(1, 100, 64, 2)]


def test_stages_are_consecutive_and_inherit_defaults():
    stages = [{'iterations': 30, 'gt_size': 32}, {'iterations': 50, 'batch_size_per_gpu': 1}, {'gt_size': [64, 96]}]
    found = stages_of(options(stages, data={'gt_size': 16, 'batch_size_per_gpu': 4}))
    assert found == [TrainingStage(1, 30, 32, 4), TrainingStage(31, 80, 16, 1), TrainingStage(81, 100, [64, 96], 4)]
    assert str(found[2]) == 'iterations 81 to 100, crops of 64x96 pixels, batch size 4 per GPU'


def test_stages_after_total_iter_are_omitted():
    stages = [{'iterations': 30, 'batch_size_per_gpu': 2}, {'batch_size_per_gpu': 1}]
    assert stages_of(options(stages, total=20)) == [TrainingStage(1, 20, None, 2)]
    assert stages_of(options(stages, total=30)) == [TrainingStage(1, 30, None, 2)]
    assert stages_of(options(stages, total=31)) == [TrainingStage(1, 30, None, 2), TrainingStage(31, 31, None, 1)]


@pytest.mark.parametrize(
    'stages, words',
    [
        ([{'batch_size_per_gpu': 1, 'patch': 3}], 'patch is unknown'),
        ([{'batch_size_per_gpu': 1}, {'batch_size_per_gpu': 1}], r'stages\[0\].iterations is None'),
        ([{'batch_size_per_gpu': 1, 'iterations': 9}], 'the last stage extends to train.total_iter'),
        ([{'gt_size': 16}], r'stages\[0\].batch_size_per_gpu is None'),
        ([{'batch_size_per_gpu': 1, 'gt_size': 'big'}], 'gt_size'),
        ({'gt_size': 16}, 'expected a list'),
    ],
)
def test_invalid_stages_are_errors(stages, words):
    with pytest.raises(UserError, match=words):
        stages_of(options(stages))


def test_crop_size_that_every_stage_overrides_is_an_error():
    stages = [{'iterations': 30, 'gt_size': 32}, {'gt_size': 64}]
    with pytest.raises(UserError, match='datasets.train.gt_size is 16.*train:stages=~'):
        stages_of(options(stages, data={'gt_size': 16, 'batch_size_per_gpu': 1}))


@pytest.mark.parametrize('gpus, expected', [(1, 8), (2, 4), (3, 3), (4, 2), (8, 1), (16, 1)])
def test_accumulation_replaces_missing_gpus(gpus, expected):
    assert accumulation_of(options(recipe_gpus=8), gpus) == expected


def test_explicit_accumulation_takes_precedence():
    assert accumulation_of(options(recipe_gpus=8, accumulation=3), 2) == 3
    assert accumulation_of(options(), 2) == 1
    with pytest.raises(UserError, match='train.accumulation is 0'):
        accumulation_of(options(accumulation=0), 1)
