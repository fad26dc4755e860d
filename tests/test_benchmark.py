"""The benchmark program: computations, comparisons, and a small run."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip('resource', reason='the benchmark measures memory with getrusage')
SCRIPTS = Path(__file__).resolve().parents[1] / 'scripts'
sys.path.append(str(SCRIPTS))

from benchmarks import cases, goals, measure, parts, report  # noqa: E402
from benchmarks.measure import Case, Setting  # noqa: E402

from deeprftv2_plugin.archs import DeepRFTv2  # noqa: E402
from deeprftv2_plugin.comparison.measurement import machine  # noqa: E402
from deeprftv2_plugin.ops import selective_scan  # noqa: E402
from deeprftv2_plugin.utils.errors import UserError  # noqa: E402


def benchmark(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPTS / 'benchmark.py', *arguments], capture_output=True, text=True, timeout=600
    )


def test_a_run_prints_and_writes_its_figures(tmp_path):
    done = benchmark('tiles', '--quick', '--threads', '1', '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'not measured here' in done.stdout
    (path,) = tmp_path.glob('cpu-*.json')
    found = json.loads(path.read_text())
    (row,) = found['rows']
    assert found['threads'] == 1 and found['torch'] == torch.__version__
    assert row['benchmark'] == 'tiles' and row['case']['variant'] == 'T'
    assert row['yards'] == pytest.approx(row['seconds'] / row['yard_seconds'])
    assert 0 < row['increase_bytes'] < row['peak_bytes']
    assert len(found['goals']) == len(goals.GOALS)


def test_an_unknown_name_gives_a_suggestion(tmp_path):
    done = benchmark('scam', '--out', tmp_path)
    assert done.returncode != 0
    # PyTorch for CUDA may warn before that there is no GPU
    assert done.stderr.splitlines()[-1] == "benchmark: there is no sub-benchmark 'scam'. Did you mean scan?"


def fail(setting):
    raise ValueError('first line\nsecond line')


def test_a_failed_case_is_a_row():
    assert Case(fail, {}).measure(Setting())['error'] == 'ValueError: first line'


def test_each_product_is_bound_by_operations_or_by_memory():
    work = [(100, 10), (10, 100)]
    assert measure.floor(work, flop_per_second=10) == 11
    assert measure.floor(work, flop_per_second=10, bytes_per_second=5) == 10 + 20


def test_products_are_counted_as_by_flop_counter_mode():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(72, 5))
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(2, 3, 5, 5))
    work = measure.work_of(lambda: network, (2, 3, 5, 5))
    assert sum(flop for flop, _ in work) == counter.get_total_flops()
    first = 4 * (2 * 3 * 25 + 8 * 3 * 9 + 8 + 2 * 8 * 25)
    assert work[0][1] == first


def test_multiply_adds_of_the_published_network():
    """The authors' code has 122.9 G in products and 4.8 G in scans, of which some images are only for training."""
    unneeded = 48 * 3 * 9 * (3 * 256**2 + 4 * 128**2)
    work = measure.work_of(partial(DeepRFTv2, 'B'), (1, 3, 256, 256))
    assert sum(flop for flop, _ in work) / 2 == pytest.approx(127.7e9 - unneeded, rel=1e-3)


def test_all_scans_agree():
    arguments = parts.scan_inputs('cpu', 3, 8, 21)
    expected = selective_scan(*arguments)
    torch.testing.assert_close(parts.sequential_scan(*arguments), expected, rtol=1e-4, atol=1e-5)
    pytest.importorskip('mambapy.pscan')
    torch.testing.assert_close(parts.mambapy_scan(*arguments), expected, rtol=1e-4, atol=1e-5)


def test_goal_table_has_results_and_missing_measurements():
    def row(benchmark, **figures):
        case = {'variant': 'B', 'size': 256, 'reversible': True}
        return {'benchmark': benchmark, 'case': case, **figures}

    rows = [row('training', yards=61.0, peak_bytes=3.4e9), row('evaluation', error='no memory')]
    lines = goals.reached(rows, 'cpu')
    verdicts = {line['bound']: (line['verdict'], line['reached']) for line in lines}
    assert verdicts['at most 50 yards'] == ('not met', '61.0 yards')
    assert verdicts['at most 3.5 GB'] == ('met', '3.40 GB')
    assert verdicts['floor ratio at most 2.0'] == ('not measured here', 'no memory')
    assert verdicts['at most 2 times moving its data once'][0] == 'not measured here'


@pytest.mark.parametrize(('rate', 'verdict'), [(40.0, 'met'), (3.0, 'not met')])
def test_the_loader_is_compared_with_the_training_steps(rate, verdict):
    keys = [{'storage': cases.STORAGES[-1], 'workers': 2}, {'variant': 'B'}, {'variant': 'T'}]
    rows = [
        {'benchmark': 'data', 'case': {**case, 'size': 256}, 'images_per_second': each}
        for case, each in zip(keys, (rate, 4.0, 20.0), strict=True)
    ]
    (line,) = [line for line in goals.reached(rows, 'cpu') if line['goal'].startswith('loader')]
    assert line['verdict'] == verdict
    assert line['reached'] == f'{rate:.3g} images/s, {rate / 4:.3g} times B, {rate / 20:.3g} times T'


@pytest.mark.parametrize('storage', cases.STORAGES)
def test_every_storage_can_be_loaded(storage):
    assert parts.load(Setting(quick=True), storage, size=32, workers=0)['images_per_second'] > 0


@pytest.mark.parametrize('name', parts.BASICSR_METRICS)
def test_metrics_are_compared_with_basicsrs(name):
    found = parts.metric(Setting(quick=True), name, width=32, height=24)
    assert found['basicsr_ratio'] == found['basicsr_seconds'] / found['seconds']


def test_a_label_describes_the_case():
    case = Case(fail, {'variant': 'B', 'size': 8, 'reversible': False, 'channels_last': True})
    assert case.label == 'variant B, size 8, not reversible, channels last'


def test_the_command_line_chooses_arguments_of_cases():
    def keys(**options):
        return [case.key for case in measure.grid(Setting(**options), fail, variant='BS', size=(256,))]

    assert keys() == [{'variant': 'B', 'size': 256}, {'variant': 'S', 'size': 256}]
    assert keys(quick=True) == [{'variant': 'T', 'size': 32}]
    assert keys(quick=True, chosen={'size': [64, 128]}) == [{'variant': 'T', 'size': 64}, {'variant': 'T', 'size': 128}]


def test_default_cases_decide_all_goals_except_two():
    rows = [
        {'benchmark': name, 'case': case.key, 'skipped': 'is a default case'}
        for name, (_, make) in cases.BENCHMARKS.items()
        for case in make(Setting())
        if case.default
    ]
    undecided = {line['reached'] for line in goals.reached(rows, 'cpu')} - {'is a default case'}
    assert undecided == {
        f'needs {what}' for what in ('the sub-benchmark data', 'the sub-benchmark compile', 'a GPU: --device cuda')
    }


def test_the_ratio_of_torch_compile_has_no_bound():
    rows = [
        {'benchmark': 'compile', 'case': {'variant': 'T', 'size': 256, 'training': training}, 'ratio': ratio}
        for training, ratio in ((False, 0.8), (True, 1.25))
    ]
    (line,) = [line for line in goals.reached(rows, 'cpu') if 'torch.compile' in line['goal']]
    assert line['verdict'] == 'no bound'
    assert line['reached'] == 'evaluation 0.80 times, training step 1.25 times'


def test_a_goal_takes_the_fastest_backend():
    rows = [
        {'benchmark': 'scan', 'case': {'implementation': name, **cases.SCAN}, 'seconds': seconds}
        for name, seconds in (('pytorch', 0.2), ('native', 0.02), ('mambapy', 0.7), ('sequential', 0.001))
    ]
    assert goals.reached(rows, 'cpu')[0]['reached'] == '35.0 times (native, 20.0 ms)'


def test_the_plot_needs_figures_of_both_kinds_of_training(tmp_path):
    pytest.importorskip('matplotlib')
    folder = tmp_path / 'benchmarks'
    rows = [
        {
            'benchmark': benchmark,
            'case': {'variant': 'B', 'size': 64, 'stages': 1, 'reversible': reversible},
            'seconds': 1.0,
            'peak_bytes': 1e9,
        }
        for benchmark in ('sizes', 'stages')
        for reversible in (True, False)
    ]
    about = machine('cpu')
    report.write(folder, about, rows[:3], [])
    with pytest.raises(UserError, match='no figures of stages'):
        report.plot(folder)
    report.write(folder, about, rows, [])
    assert report.plot(folder) == tmp_path / 'performance.png'
    assert (tmp_path / 'performance.png').stat().st_size > 0


@pytest.mark.parametrize(('waits', 'verdict'), [(0, 'met'), (1, 'not met')])
def test_goals_on_the_gpu_allow_no_host_synchronization(waits, verdict):
    rows = [
        {'benchmark': 'precision', 'case': {'variant': 'B', **key}, 'images_per_second': rate, **figures}
        for key, rate, figures in (
            ({'backend': 'pytorch'}, 4.0, {}),
            ({'bf16': True}, 10.0, {'host_synchronizations': waits}),
        )
    ]
    lines = {line['goal']: line for line in goals.reached(rows, 'cuda')}
    line = lines['training step on the GPU against float32']
    assert (line['verdict'], line['reached']) == (verdict, f'2.50 times, {waits} host synchronizations')
    assert lines['T evaluation, 256x256']['reached'] == 'applies to the CPU'


def test_the_slowest_scan_on_the_gpu_decides():
    rows = [
        {
            'benchmark': 'scan',
            'case': {'implementation': 'triton', 'channels': channels, 'length': length},
            'seconds': seconds,
            'bytes_per_second': 100.0,
            'moved_bytes': 50.0,
        }
        for (channels, length), seconds in zip(cases.NETWORK_SCANS, (0.5, 1.5, 0.75), strict=True)
    ]
    (line,) = [line for line in goals.reached(rows, 'cuda') if line['goal'].startswith('scan on the GPU')]
    assert (line['verdict'], line['reached']) == ('not met', 'at most 3.00 times, at 192x16384')
