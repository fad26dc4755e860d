"""The benchmark program: its arithmetic, what it compares, and a run of the smallest kind."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip('resource', reason='the benchmark measures memory where the system has getrusage')
SCRIPTS = Path(__file__).resolve().parents[1] / 'scripts'
sys.path.append(str(SCRIPTS))

from benchmarks import architectures, counting, data, goals, measure, metrics, scan  # noqa: E402
from benchmarks.plan import Case, Setting  # noqa: E402

from deeprftv2_plugin.archs import DeepRFTv2  # noqa: E402
from deeprftv2_plugin.ops import selective_scan  # noqa: E402
from deeprftv2_plugin.utils.errors import UserError  # noqa: E402


def benchmark(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPTS / 'benchmark.py', *arguments], capture_output=True, text=True, timeout=120
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


def test_an_unknown_name_is_an_error_in_a_sentence(tmp_path):
    done = benchmark('scam', '--out', tmp_path)
    assert done.returncode != 0
    assert done.stderr == "benchmark: there is no sub-benchmark 'scam'. Did you mean scan?\n"


def test_the_median_is_taken_without_the_first_run(monkeypatch):
    times = iter([100.0, 1.0, 5.0, 2.0])
    monkeypatch.setattr(measure, 'seconds_of', lambda run, device: next(times))
    assert measure.median_time(None, 'cpu', seconds=0, least=3) == {'seconds': 2.0, 'fastest': 1.0, 'runs': 3}


def test_the_floor_is_set_by_what_bounds_each_product():
    work = [(100, 10), (10, 100)]
    assert measure.floor(work, flop_per_second=10) == 11
    assert measure.floor(work, flop_per_second=10, bytes_per_second=5) == 10 + 20


def test_products_are_counted_as_torch_counts_them():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(72, 5))
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(2, 3, 5, 5))
    work = counting.work_of(lambda: network, (2, 3, 5, 5))
    assert sum(flop for flop, _ in work) == counter.get_total_flops()
    first = 4 * (2 * 3 * 25 + 8 * 3 * 9 + 8 + 2 * 8 * 25)
    assert work[0][1] == first


def test_multiply_adds_of_the_published_network():
    """122.9 G of products and 4.8 G of scans in the authors' code, less the pictures that only training needs."""
    unneeded = 48 * 3 * 9 * (3 * 256**2 + 4 * 128**2)
    work = counting.work_of(partial(DeepRFTv2, 'B'), (1, 3, 256, 256))
    assert sum(flop for flop, _ in work) / 2 == pytest.approx(127.7e9 - unneeded, rel=1e-3)


def test_all_scans_compute_the_same():
    arguments = scan._arguments('cpu', 3, 8, 21)
    expected = selective_scan(*arguments)
    torch.testing.assert_close(scan._sequential(*arguments), expected, rtol=1e-4, atol=1e-5)
    pscan = pytest.importorskip('mambapy.pscan').pscan
    torch.testing.assert_close(scan._mambapy(pscan, *arguments), expected, rtol=1e-4, atol=1e-5)


def test_architectures_are_named_with_their_settings():
    assert architectures.parse('EDSR') == ('EDSR', {})
    assert architectures.parse('A:width=64,depths=[1,2],up=,f=false') == (
        'A',
        {'width': 64, 'depths': [1, 2], 'up': None, 'f': False},
    )
    with pytest.raises(UserError, match="found '64'"):
        architectures.parse('NAFNet:64')


def test_goals_tell_what_was_reached_and_what_was_not_measured():
    def row(benchmark, **figures):
        case = {'variant': 'B', 'size': 256, 'reversible': True}
        return {'benchmark': benchmark, 'case': case, **figures}

    rows = [row('training', yards=61.0, peak_bytes=3.4e9), row('evaluation', error='no memory')]
    lines = goals.reached(rows, 'cpu')
    verdicts = {line['bound']: (line['verdict'], line['reached']) for line in lines}
    assert verdicts['at most 50 yards'] == ('not met', '61.0 yards')
    assert verdicts['at most 3.5 GB'] == ('met', '3.40 GB')
    assert verdicts['floor ratio at most 2.0'] == ('not measured here', 'no memory')
    assert verdicts['at most 2 times moving its inputs and outputs once'][0] == 'not measured here'


@pytest.mark.parametrize(('rate', 'verdict'), [(40.0, 'met'), (3.0, 'not met')])
def test_the_loader_is_held_against_what_a_step_consumes(rate, verdict):
    storage, workers = data.GOAL
    cases = [{'storage': storage, 'workers': workers}, {'variant': 'B'}, {'variant': 'T'}]
    rows = [
        {'benchmark': 'data', 'case': {**case, 'size': 256}, 'images_per_second': each}
        for case, each in zip(cases, (rate, 4.0, 20.0), strict=True)
    ]
    (line,) = [line for line in goals.reached(rows, 'cpu') if line['goal'].startswith('loader')]
    assert line['verdict'] == verdict
    assert line['reached'] == f'{rate:.3g} images/s, {rate / 4:.3g} times B, {rate / 20:.3g} times T'


@pytest.mark.parametrize('storage', data.STORAGES)
def test_every_storage_can_be_loaded(storage):
    assert data.load(Setting(quick=True), storage, size=32, workers=0)['images_per_second'] > 0


@pytest.mark.parametrize('name', metrics.THEIRS)
def test_metrics_are_timed_beside_basicsrs(name):
    found = metrics.score(Setting(quick=True), name, width=32, height=24)
    assert found['basicsr_ratio'] == found['basicsr_seconds'] / found['seconds']


def test_a_label_names_the_case():
    case = Case('x', None, {'variant': 'B', 'size': 8, 'reversible': False, 'channels_last': True})
    assert case.label == 'variant B, size 8, not reversible, channels last'


def test_quick_cases_are_tiny_unless_a_size_is_given():
    assert Setting(quick=True).sizes_or(256) == (32,)
    assert Setting(quick=True, sizes=(64,)).sizes_or(256) == (64,)
    assert Setting().variants_or('B', 'S') == ('B', 'S')
