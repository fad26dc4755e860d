"""Iterations that do not fit each other."""

import pytest

from deeprftv2_plugin.preflight.schedule import check_schedule
from tests.preflight.findings import errors, warnings


def check(opt, **train):
    opt['train'].update(train)
    return list(check_schedule(opt))


def test_a_schedule_as_long_as_the_training_is_fine(opt):
    (finding,) = check(opt, scheduler={'type': 'CosineAnnealingLR', 'T_max': 4})
    assert finding.text == 'CosineAnnealingLR over 4 of 4 iterations'
    assert not warnings([finding])


@pytest.mark.parametrize(
    ('schedule', 'words'),
    [
        ({'type': 'CosineAnnealingLR', 'T_max': 3}, 'over 3 of 4 iterations: the rate rises again'),
        ({'type': 'CosineAnnealingLR', 'T_max': 9}, 'over 9 of 4 iterations: the rate does not come to its end'),
        ({'type': 'OneCycleLR', 'total_steps': 2, 'max_lr': 1}, 'over 2 of 4'),
        ({'type': 'PolynomialLR', 'total_iters': 2}, 'over 2 of 4 iterations: the rate is zero'),
        ({'type': 'CosineAnnealingRestartLR', 'periods': [3, 3]}, 'over 6 of 4'),
        ({'type': 'MultiStepLR', 'milestones': [2, 5, 6]}, 'milestones has [5, 6]'),
    ],
)
def test_a_schedule_of_another_length_is_a_warning(opt, schedule, words):
    (text,) = warnings(check(opt, scheduler=schedule))
    assert words in text


def test_where_basicsrs_model_fails_after_the_last_period_it_is_an_error(opt):
    schedule = {'type': 'CosineAnnealingRestartLR', 'periods': [1, 1]}
    assert 'ends with an error' in errors(check(opt, scheduler=schedule))[0]
    opt['model_type'] = 'DeepRFTv2Model'
    found = check(opt, scheduler=schedule)
    assert not errors(found) and 'the rate stays' in warnings(found)[0]


def test_no_schedule_and_one_of_another_package_are_fine(opt):
    assert 'stays' in check(opt, scheduler=None)[0].text
    assert 'OurOwn in 4 iterations' in check(opt, scheduler={'type': 'OurOwn'})[0].text


def test_a_warm_up_without_end_is_a_warning(opt):
    assert 'train.warmup_iter is 4 of 4' in warnings(check(opt, warmup_iter=4))[0]


def test_stages_that_never_begin_are_warned_of(opt):
    text = warnings(check(opt, stages=[{'iterations': 2}, {'iterations': 2}, {'iterations': 9}, {}]))
    assert [line.partition(' ')[0] for line in text] == ['train.stages[2]', 'train.stages[3]']


@pytest.mark.parametrize(('section', 'key'), [('val', 'val_freq'), ('logger', 'save_checkpoint_freq')])
def test_intervals_beyond_the_end_are_warned_of(opt, section, key):
    opt[section][key] = 5
    (text,) = warnings(check(opt))
    assert f'{section}.{key} is 5, with 4 iterations' in text
