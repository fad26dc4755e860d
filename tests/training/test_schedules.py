"""Optimizers and learning rate schedules by name, warm-up, and the end of a schedule."""

import math

import pytest
import torch

from deeprftv2_plugin.training.optimizers import OPTIMIZERS, SCHEDULES, advance, build_optimizer, build_schedule
from deeprftv2_plugin.utils.errors import UserError
from tests.models.toys import make_model, train

RATE = 0.1
STEPS = 12
# required arguments
SETTINGS = {
    'StepLR': {'step_size': 4},
    'MultiStepLR': {'milestones': [3, 6]},
    'MultiStepRestartLR': {'milestones': [3, 6], 'gamma': 0.5},
    'CosineAnnealingLR': {'T_max': STEPS, 'eta_min': 1e-3},
    'CosineAnnealingWarmRestarts': {'T_0': 5},
    'CosineAnnealingRestartLR': {'periods': [6, 6], 'restart_weights': [1, 0.5], 'eta_min': 1e-3},
    'ExponentialLR': {'gamma': 0.9},
    'CyclicLR': {'base_lr': 0.01, 'max_lr': 0.1},
    'OneCycleLR': {'max_lr': 0.1, 'total_steps': STEPS},
    'SequentialLR': {
        'schedulers': [{'type': 'ConstantLR', 'factor': 0.5}, {'type': 'ExponentialLR', 'gamma': 0.9}],
        'milestones': [4],
    },
    'ChainedScheduler': {
        'schedulers': [{'type': 'LinearLR', 'start_factor': 0.5}, {'type': 'ExponentialLR', 'gamma': 0.9}]
    },
}
NEED_FUNCTIONS = {'LambdaLR', 'MultiplicativeLR'}


def weights():
    return [torch.nn.Parameter(torch.ones(3, 3))]


def schedule(settings, rate=RATE):
    optimizer = build_optimizer({'type': 'SGD', 'lr': rate, 'momentum': 0.9}, weights())
    return build_schedule(settings, optimizer)


def rates(schedule, steps, warmup_iter=-1):
    """Return the rates of the iterations 1 to ``steps``."""
    found = []
    group = schedule.optimizer.param_groups[0]
    for current_iter in range(1, steps + 1):
        if current_iter > 1:
            advance(schedule, [1.0])
        found.append(group['lr'])
        schedule.optimizer.step()
        if current_iter < warmup_iter:
            group['lr'] *= 0.01  # a warm-up changes the rate of the optimizer
    return found


@pytest.mark.parametrize('name', sorted(OPTIMIZERS.keys() - {'SparseAdam'}))
def test_every_torch_optimizer_takes_a_step(name):
    (weight,) = params = weights()
    optimizer = build_optimizer({'type': name, 'lr': 0.01}, params)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert weight.square().sum() < 9


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'type': 'Adamw', 'lr': 0.1}, "'Adamw', which is unknown. Did you mean AdamW"),
        ({'lr': 0.1}, 'optim_g.type is None'),
        ({'type': 'AdamW', 'lr': -1}, 'AdamW does not accept.*Invalid learning rate'),
        ({'type': 'AdamW', 'lr': '1e-3'}, "AdamW does not accept.*'1e-3'"),
        ({'type': 'AdamW', 'learning_rate': 0.1}, 'AdamW does not accept.*learning_rate'),
    ],
)
def test_invalid_optimizer_settings_are_errors(settings, message):
    with pytest.raises(UserError, match=message):
        build_optimizer(settings, weights())


@pytest.mark.parametrize('name', sorted(SCHEDULES.keys() - NEED_FUNCTIONS))
def test_every_schedule_can_be_advanced_past_its_end(name):
    found = rates(schedule({'type': name, **SETTINGS.get(name, {})}), 2 * STEPS)
    assert all(math.isfinite(rate) and rate >= 0 for rate in found)


@pytest.mark.parametrize('name', ['CosineAnnealingRestartLR', 'OneCycleLR'])
def test_ended_schedule_keeps_its_last_rate(name):
    found = rates(schedule({'type': name, **SETTINGS[name]}), 2 * STEPS)
    assert set(found[STEPS + 1 :]) == {found[STEPS]}
    assert found[STEPS] == min(found)


@pytest.mark.parametrize('name', sorted(SCHEDULES.keys() - NEED_FUNCTIONS))
def test_warm_up_does_not_change_later_rates(name):
    settings = {'type': name, **SETTINGS.get(name, {})}
    assert rates(schedule(settings), STEPS, warmup_iter=5) == pytest.approx(rates(schedule(settings), STEPS))


def test_plateau_monitors_the_loss():
    settings = {'type': 'ReduceLROnPlateau', 'patience': 1, 'factor': 0.5}
    assert rates(schedule(settings), 6)[-1] < RATE
    still_learning = schedule(settings)
    for loss in (5.0, 4.0, 3.0, 2.0, 1.0):
        advance(still_learning, [loss])
    assert still_learning.get_last_lr() == [RATE]


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'type': 'CosineAnealingLR', 'T_max': 5}, 'Did you mean CosineAnnealingLR'),
        ({'type': 'CosineAnnealingLR'}, 'CosineAnnealingLR does not accept.*T_max'),
        ({'type': 'LambdaLR', 'lr_lambda': '1 / epoch'}, 'LambdaLR does not accept'),
        ({'type': 'CosineAnnealingRestartLR', 'periods': [5, 5]}, 'same length'),
        ({'type': 'ChainedScheduler', 'schedulers': [{'type': 'Step'}]}, "'Step', which is unknown"),
    ],
)
def test_invalid_schedule_settings_are_errors(settings, message):
    with pytest.raises(UserError, match=message):
        schedule(settings)


def test_warm_up_factor_ends_at_one():
    """A recursive schedule such as the cosine must not use the rates of the warm-up."""
    cosine = {'type': 'CosineAnnealingLR', 'T_max': 10, 'eta_min': 1e-3}
    found = train(make_model(scheduler=cosine), range(1, 12), warmup_iter=4)
    for current_iter, rate in enumerate(found, start=1):
        scheduled = 1e-3 + (RATE - 1e-3) * (1 + math.cos(math.pi * (current_iter - 1) / 10)) / 2
        assert rate == pytest.approx(scheduled * min(1, current_iter / 4))


def test_multi_step_schedule_with_warm_up():
    steps = {'type': 'MultiStepLR', 'milestones': [2, 6], 'gamma': 0.5}
    found = train(make_model(scheduler=steps), range(1, 9), warmup_iter=4)
    assert found == pytest.approx([RATE * f for f in (0.25, 0.5, 0.375, 0.5, 0.5, 0.5, 0.25, 0.25)])


def test_rate_is_constant_without_a_schedule():
    assert train(make_model(), range(1, 4), warmup_iter=2) == [RATE / 2, RATE, RATE]


def test_resumed_warm_up_matches_an_uninterrupted_one(tmp_path):
    cosine = {'type': 'CosineAnnealingLR', 'T_max': 10}
    expected = train(make_model(scheduler=cosine), range(1, 9), warmup_iter=6)
    stopped = make_model(scheduler=cosine)
    train(stopped, range(1, 4), warmup_iter=6)
    stopped.opt['path']['training_states'] = tmp_path
    stopped.save_training_state(0, 3)
    resumed = make_model(scheduler=cosine)
    resumed.resume_training(torch.load(tmp_path / '3.state', weights_only=True))
    assert train(resumed, range(4, 9), warmup_iter=6) == pytest.approx(expected[3:])
