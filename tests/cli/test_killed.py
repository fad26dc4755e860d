"""A training run that is killed at any time and resumed gives the same result as an uninterrupted run."""

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
"""Number of runs that are killed and resumed until they are complete."""


def uninterrupted_options():
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
    """Return the weights, averages, state and metrics of a completed run, without times."""
    experiment = folder / 'experiments/small'
    weights = [torch.load(experiment / f'models/net_g_{name}.pth', weights_only=True) for name in ('latest', 'best')]
    state = torch.load(experiment / 'training_states/39.state', weights_only=True)
    lines = [json.loads(line) for line in (experiment / 'metrics.jsonl').read_text().splitlines()]
    return weights, state, [{k: v for k, v in line.items() if k not in ('time', 'data_time')} for line in lines]


def assert_same(found, expected):
    """Assert that two outcomes are bitwise equal."""
    assert json.dumps(found, default=repr) == json.dumps(expected, default=repr)
    torch.testing.assert_close(_tensors(found), _tensors(expected), rtol=0, atol=0)


def _tensors(content):
    if isinstance(content, torch.Tensor):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    from tests.cli.runs import write_images

    folder = tmp_path_factory.mktemp('uninterrupted')
    write_images(folder)
    status, output = run(folder, 'train', '-opt', write(folder, uninterrupted_options()))
    assert status == 0, output
    return outcome(folder)


def kill_at_random(process, output, random_source):
    """Kill a process at a random time, mostly during training and rarely during its startup."""
    began = time.monotonic()
    while (
        process.is_alive()
        and 'Start training' not in (output.read_text() if output.exists() else '')
        and time.monotonic() < began + 60
    ):
        if random_source.random() < 0.002:
            break
        process.join(0.01)
    process.join(random_source.uniform(0, 0.6))
    process.kill()
    process.join()


@pytest.mark.parametrize('number', range(KILLS))
def test_killed_run_ends_with_the_same_weights(folder, uninterrupted, number):
    """Kill the run at random times and while it writes files."""
    random_source = random.Random(number)
    file = write(folder, uninterrupted_options())
    for kills in range(60):
        workers = f'datasets:train:num_worker_per_gpu={random_source.choice([0, 0, 1, 2])}'
        at_write = random_source.randrange(1, 25) if kills == 0 or random_source.random() < 0.5 else None
        (folder / 'life.txt').unlink(missing_ok=True)
        argv = ('train', '-opt', file, '--auto_resume', '--force_yml', workers)
        process = start(folder, *argv, die_at_write=at_write)
        if at_write is None:
            kill_at_random(process, folder / 'life.txt', random_source)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL, (folder / 'life.txt').read_text()
    assert kills and process.exitcode == 0
    assert_same(outcome(folder), uninterrupted)
