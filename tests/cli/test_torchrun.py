"""Training and testing with torchrun on a CPU."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import deeprftv2_plugin
from deeprftv2_plugin import cli
from tests.cli.runs import options, test_options, write, write_images

ITERATIONS = 20


def torchrun(*argv, processes=2, restarts=0, launcher='torch.distributed.run'):
    package = str(Path(deeprftv2_plugin.__file__).parents[1])  # if the package is not installed
    environment = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        'PYTHONPATH': f'{package}{os.pathsep}.',
    }
    command = [sys.executable, '-m', launcher, '--standalone', f'--nproc_per_node={processes}']
    command += [f'--max-restarts={restarts}', '-m', 'deeprftv2_plugin', *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize('launcher', ['torch.distributed.run', 'torch.distributed.launch'])
def test_launcher_is_detected(folder, launcher):
    """The second launcher passes --local-rank before the subcommand."""
    result = torchrun('train', '-opt', write(folder, options()), launcher=launcher)
    assert result.returncode == 0, result.stderr
    log = next((folder / 'experiments/small').glob('*.log')).read_text()
    assert 'dist: True' in log
    assert 'world_size: 2' in log
    assert result.stderr.count('Start training from') == 1


def test_invalid_options_are_reported_once(folder):
    result = torchrun('train', '-opt', write(folder, options()), '--force_yml', 'train:total_iters=9')
    assert result.returncode != 0
    assert result.stderr.count('train.total_iters is unknown') == 1, result.stderr
    assert not (folder / 'experiments').exists()


@pytest.mark.parametrize(('iterations', 'status'), [(4, 0), (0, 1)])
def test_exit_status_does_not_depend_on_the_finalization_of_python(folder, iterations, status):
    """Threads of gloo may abort the process while Python shuts down. Here a module does so."""
    opt = {**options(), 'custom_imports': ['tests.cli.aborting']}
    opt['train']['total_iter'] = iterations
    result = torchrun('train', '-opt', write(folder, opt), processes=1)
    assert 'exit handlers ran' in result.stderr
    assert 'SIGABRT' not in result.stderr
    assert result.returncode == status, result.stderr


def curve_options(batch, accumulation=1, **data):
    """Return options for effective batches of four, divided as given, with a NaN sample."""
    opt = options()
    opt.update(custom_imports=['tests.models.toys', 'tests.cli.troubles'], model_type='DeepRFTv2Model')
    opt['network_g'] = {'type': 'TwoScales'}
    kept = {key: opt['datasets']['train'][key] for key in ('name', 'dataroot_lq', 'dataroot_gt', 'num_worker_per_gpu')}
    data.update(type='TroubledDataset', gt_size=16, batch_size_per_gpu=batch, poisoned=[6])
    opt['datasets']['train'] = {**kept, **data}
    opt['train'].update(total_iter=ITERATIONS, accumulation=accumulation, clip_grad_norm=1.0,
                        frequency_opt={'type': 'FourierLoss', 'loss_weight': 0.01})  # fmt: skip
    opt['logger']['save_checkpoint_freq'] = 4
    del opt['val']
    return opt


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('torchrun')
    write_images(folder, count=7)
    return folder


def curve(folder, name):
    """Return the logged values of every step except times, with NaN for values that are not finite."""
    lines = [json.loads(line) for line in (folder / 'experiments' / name / 'metrics.jsonl').read_text().splitlines()]
    assert [line['iter'] for line in lines] == list(range(1, ITERATIONS + 1))
    shown = [{key: value for key, value in line.items() if 'time' not in key} for line in lines]
    return [{key: float('nan') if value is None else value for key, value in line.items()} for line in shown]


def train_here(folder, name, opt):
    assert cli.main(['train', '-opt', write(folder, {**opt, 'name': name}, f'{name}.yml')]) == 0
    return curve(folder, name)


@pytest.fixture(scope='module')
def whole(place):
    """The curve of a single process with batches of four."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield train_here(place, 'whole', curve_options(4))


def assert_same_curve(found, expected):
    assert any(math.isnan(line['l_total']) for line in expected), 'no step was skipped'
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=2e-5, nan_ok=True)


def test_accumulation_has_the_same_losses(whole, place, monkeypatch):
    monkeypatch.chdir(place)
    assert_same_curve(train_here(place, 'accumulated', curve_options(2, accumulation=2)), whole)


def test_restarted_process_has_the_same_losses(whole, place, monkeypatch):
    """There are two processes with batches of two. The second one is killed in its twelfth step.

    The first one saves the state of the eleventh when the connection is lost, unless torchrun ends it before. The last
    regular state is that of the eighth. More than one restart is allowed since gloo's first connection may fail.
    """
    monkeypatch.chdir(place)
    opt = {**curve_options(2, deadly=23), 'name': 'killed'}
    result = torchrun('train', '-opt', write(place, opt, 'killed.yml'), restarts=3)
    assert result.returncode == 0, result.stderr
    log = ''.join(path.read_text() for path in (place / 'experiments/killed').glob('*.log'))
    assert 'torchrun has restarted this training: restart 1.' in log
    assert re.search('Resumed after iteration (8 with sample 32|11 with sample 44) ', log)
    assert_same_curve(curve(place, 'killed'), whole)


def test_another_number_of_processes_resumes_at_the_right_sample(whole, place, monkeypatch):
    monkeypatch.chdir(place)
    opt = {**curve_options(4), 'name': 'grown'}
    opt['train'] = {**opt['train'], 'total_iter': 12}
    assert cli.main(['train', '-opt', write(place, opt, 'grown.yml')]) == 0
    opt = {**curve_options(2), 'name': 'grown'}
    result = torchrun('train', '-opt', write(place, opt, 'grown.yml'), '--auto_resume')
    assert result.returncode == 0, result.stderr
    assert 'Resumed with another number of processes: 2, it was 1.' in result.stderr
    assert_same_curve(curve(place, 'grown'), whole)


def scores(text):
    return re.findall(r'# \w+: \S+', text)


def test_metrics_do_not_depend_on_the_number_of_processes(place, monkeypatch, capsys):
    """Each of seven images is scored and saved once."""
    monkeypatch.chdir(place)
    opt = test_options()
    opt.update(custom_imports=['tests.models.toys'], model_type='DeepRFTv2Model', network_g={'type': 'TwoScales'})
    opt['val']['metrics']['ssim'] = {'type': 'calculate_ssim', 'crop_border': 0}
    opt['val']['save_img'] = True
    found = {}
    for processes in (1, 2, 3):
        opt['name'] = f'scores{processes}'
        result = torchrun('test', '-opt', write(place, opt, f'{processes}.yml'), processes=processes)
        assert result.returncode == 0, result.stderr
        log = next((place / f'results/scores{processes}').glob('*.log')).read_text()
        found[processes] = scores(log)
        assert len(list((place / f'results/scores{processes}/visualization').rglob('*.png'))) == 7
    assert len(found[1]) == 2 and found[1] == found[2] == found[3]
