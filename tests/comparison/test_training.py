"""Train several networks with several seeds."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from deeprftv2_plugin import config
from deeprftv2_plugin.comparison import training
from deeprftv2_plugin.comparison.training import summarize, train_all
from deeprftv2_plugin.evaluation.metrics_log import MetricsLog
from deeprftv2_plugin.utils.errors import Interrupted, UserError

RECIPE = {
    'model_type': 'DeepRFTv2Model',
    'scale': 1,
    'num_gpu': 0,
    'datasets': {
        'train': {
            'name': 'pairs',
            'type': 'PairedDeblurDataset',
            'dataroot': 'pairs',
            'split': 'all',
            'gt_size': 16,
            'num_worker_per_gpu': 0,
            'batch_size_per_gpu': 1,
        },
        'val': {'name': 'pairs', 'type': 'PairedDeblurDataset', 'dataroot': 'pairs'},
    },
    'path': {},
    'train': {
        'total_iter': 4,
        'optim_g': {'type': 'AdamW', 'lr': 1e-3},
        'scheduler': {'type': 'CosineAnnealingLR'},
        'pixel_opt': {'type': 'L1Loss'},
    },
    'val': {'val_freq': 100, 'save_img': False, 'pbar': False, 'metrics': {'psnr': {'type': 'psnr'}}},
    'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
}
NETWORKS = {
    'small': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 1, 'upscale': 1},
    'wrong': {'type': 'EDSR', 'num_in_ch': 5, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 1, 'upscale': 1},
}


@pytest.fixture
def recipe(tmp_path):
    rng = np.random.default_rng(0)
    for name in ('blur', 'sharp'):
        (tmp_path / 'pairs' / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'pairs' / name / 'a.png'), rng.integers(0, 255, (24, 24, 3), np.uint8))
    (tmp_path / 'recipe.yml').write_text(yaml.safe_dump(RECIPE))
    return config.load('recipe.yml')


def test_finished_runs_are_not_repeated(recipe, monkeypatch):
    """One of two networks does not take the images. The second call only repeats its run."""
    runs = list(train_all(NETWORKS, recipe, [7], 'study', dict.fromkeys(NETWORKS, 3)))
    assert [(run['candidate'], run['seed']) for run in runs] == [('small', 7), ('wrong', 7)]
    assert runs[0]['iterations'] == 3 and runs[0]['metrics']['psnr'] > 0 and runs[0]['seconds'] > 0
    assert runs[0]['options']['train']['scheduler']['T_max'] == 3
    assert 'wrong_seed7.yml: ' in runs[1]['error']
    again = []
    monkeypatch.setattr(training, 'in_new_process', lambda *args, **kwargs: again.append(args[1]) or {'error': 'no'})
    assert list(train_all(NETWORKS, recipe, [7], 'study', dict.fromkeys(NETWORKS, 3)))[0] == runs[0]
    assert again == ['study/options/wrong_seed7.yml']
    with pytest.raises(UserError, match='small_seed7.yml is from an earlier run with other options'):
        list(train_all(NETWORKS, recipe, [7], 'study', dict.fromkeys(NETWORKS, 5)))


def test_an_interrupted_run_resumes(recipe, monkeypatch):
    """A training that is stopped by a signal raises an error. The next call resumes from its state."""

    def until_2(run, path, is_train, root, output):
        options = config.load(path)
        options['train']['total_iter'] = 2
        Path('short.yml').write_text(config.reading.dump(options))
        run('short.yml', is_train, root)
        return {'error': 'saved', 'status': 75}

    networks = {'small': NETWORKS['small']}
    monkeypatch.setattr(training, 'in_new_process', until_2)
    with pytest.raises(Interrupted) as caught:
        list(train_all(networks, recipe, [7], 'study'))
    assert caught.value.status == 75
    monkeypatch.setattr(training, 'in_new_process', lambda run, *args, output: run(*args) or {})
    (run,) = train_all(networks, recipe, [7], 'study')
    assert run['iterations'] == 4
    log = Path('study/experiments/small_seed7/metrics.jsonl').read_text()
    logged = [json.loads(line) for line in log.splitlines()]
    assert [line['iter'] for line in logged if 'lr' in line] == [1, 2, 3, 4]


def test_all_options_are_validated_before_the_first_training(recipe, monkeypatch):
    monkeypatch.setattr(training, 'in_new_process', lambda *args, **kwargs: pytest.fail('a training was started'))
    networks = NETWORKS | {'wrong': {'type': 'EDSR', 'depth': 3}}
    with pytest.raises(UserError, match='candidates.wrong: network_g.depth is unknown'):
        next(train_all(networks, recipe, [7], 'study'))
    assert not Path('study').exists()


def test_the_time_of_steps_that_are_not_logged_is_extrapolated():
    Path('run').mkdir()
    log = MetricsLog('run')
    for iteration, time in ((10, 0.5), (20, 0.25)):
        log.append(iteration, time=time)
    log.append(25, dataset='pairs', psnr=30.0)
    assert training._result(Path('run'), 25)['seconds'] == 10 * 0.5 + 15 * 0.25


def test_a_short_training_logs_the_time_of_a_step(recipe):
    recipe['logger']['print_freq'] = 100
    assert training.run_options('small', NETWORKS['small'], recipe, 7, 3, {})['logger']['print_freq'] == 3


def test_names_must_be_parts_of_paths(recipe):
    with pytest.raises(UserError, match="the name '../up' cannot be part of a path"):
        next(train_all({'../up': NETWORKS['small']}, recipe, [1], 'study'))


def test_mean_and_spread():
    def run(name, seed, value):
        return {'candidate': name, 'seed': seed, 'iterations': 5, 'seconds': 10.0 * seed, 'metrics': {'psnr': value}}

    runs = [run('a', 1, 24.0), run('b', 1, 25.0), run('a', 2, 26.0), {'candidate': 'b', 'seed': 2, 'error': 'no'}]
    found = summarize([*runs, {'candidate': 'c', 'seed': 1, 'error': 'no'}])
    assert found['a'] == {
        'runs': 2,
        'iterations': 5,
        'seconds': 15,
        'metrics': {'psnr': 25},
        'spread': {'psnr': pytest.approx(2**0.5)},
    }
    assert found['b']['metrics'] == {'psnr': 25} and 'spread' not in found['b'] and 'c' not in found


def test_the_spread_of_unknown_scores_is_unknown():
    runs = [
        {'candidate': 'a', 'seed': seed, 'iterations': 5, 'seconds': 1.0, 'metrics': {'psnr': value}}
        for seed, value in ((1, None), (2, 30.0))
    ]
    found = summarize(runs)['a']
    assert math.isnan(found['metrics']['psnr']) and math.isnan(found['spread']['psnr'])
