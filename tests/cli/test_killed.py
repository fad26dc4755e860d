"""A training that is killed at any moment and resumed ends as if nothing had happened."""

import json
import os
import random
import signal
import time

import pytest
import torch

from tests.cli.lives import run, start
from tests.cli.runs import options, write

KILLS = int(os.environ.get('KILLED_RUNS', 3))
"""How many runs are killed and resumed until they are done; the claim for the whole was seen with 20."""


def undisturbed_options():
    opt = options()
    opt.update(custom_imports=['tests.models.toys'], model_type='DeepRFTv2Model', network_g={'type': 'Noisy'})
    opt['train'].update(
        total_iter=40,
        ema_decay=0.9,
        optim_g={'type': 'AdamW', 'lr': 1e-2},
        scheduler={'type': 'CosineAnnealingLR'},
        stages=[
            {'iterations': 15, 'gt_size': 8, 'batch_size_per_gpu': 3},
            {'gt_size': [12, 16], 'batch_size_per_gpu': 2},
        ],
    )
    opt['datasets']['train'].update(type='PairedDeblurDataset', num_worker_per_gpu=1)
    for key in ('io_backend', 'use_hflip', 'gt_size', 'batch_size_per_gpu'):
        del opt['datasets']['train'][key]
    opt['val']['val_freq'] = 6
    opt['logger'].update(print_freq=2, save_checkpoint_freq=3, keep_checkpoints=2)
    return opt


def outcome(folder):
    """Weights, averages, the state and all metrics of a finished run, without the times that it took."""
    experiment = folder / 'experiments/small'
    weights = [torch.load(experiment / f'models/net_g_{name}.pth', weights_only=True) for name in ('latest', 'best')]
    state = torch.load(experiment / 'training_states/39.state', weights_only=True)
    lines = [json.loads(line) for line in (experiment / 'metrics.jsonl').read_text().splitlines()]
    return weights, state, [{k: v for k, v in line.items() if k not in ('time', 'data_time')} for line in lines]


def assert_same(found, expected):
    """Equal to the last bit."""
    assert json.dumps(found, default=repr) == json.dumps(expected, default=repr)
    torch.testing.assert_close(_tensors(found), _tensors(expected), rtol=0, atol=0)


def _tensors(content):
    if isinstance(content, torch.Tensor):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    from tests.cli.runs import write_pictures

    folder = tmp_path_factory.mktemp('undisturbed')
    write_pictures(folder)
    status, said = run(folder, 'train', '-opt', write(folder, undisturbed_options()))
    assert status == 0, said
    return outcome(folder)


def kill_at_random(process, said, chance):
    """Mostly while it trains: the way there is long, and nothing is written on it."""
    began = time.monotonic()
    while (
        process.is_alive()
        and 'Start training' not in (said.read_text() if said.exists() else '')
        and time.monotonic() < began + 60
    ):
        if chance.random() < 0.002:
            break
        process.join(0.01)
    process.join(chance.uniform(0, 0.6))
    process.kill()
    process.join()


@pytest.mark.parametrize('number', range(KILLS))
def test_a_run_killed_at_random_ends_with_the_same_weights(folder, undisturbed, number):
    """By signals at any time, and at the moments in which a file is written."""
    chance = random.Random(number)
    file = write(folder, undisturbed_options())
    for kills in range(60):
        workers = f'datasets:train:num_worker_per_gpu={chance.choice([0, 0, 1, 2])}'
        at_write = chance.randrange(1, 25) if kills == 0 or chance.random() < 0.5 else None
        (folder / 'life.txt').unlink(missing_ok=True)
        argv = ('train', '-opt', file, '--auto_resume', '--force_yml', workers)
        process = start(folder, *argv, die_at_write=at_write)
        if at_write is None:
            kill_at_random(process, folder / 'life.txt', chance)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, (folder / 'life.txt').read_text()
    assert kills and process.exitcode == 0
    assert_same(outcome(folder), undisturbed)
