"""Differences between networks, paired by seed."""

import json

import pytest

from deeprftv2_plugin.comparison.pairing import differences, lines_of, write_differences


def run(candidate, seed, psnr):
    return {'candidate': candidate, 'seed': seed, 'metrics': {'psnr': psnr}}


RUNS = [
    run('a', 1, 20.0),
    run('b', 1, 21.0),
    run('a', 2, 30.0),
    run('b', 2, 31.2),
    run('a', 3, 25.0),
    run('b', 3, 26.4),
]


def test_effects_of_a_seed_on_both_networks_cancel():
    found = differences(RUNS, 'a')
    assert found['a'] == {'psnr': {'scores': {'1': 20.0, '2': 30.0, '3': 25.0}}}
    each = found['b']['psnr']
    assert each['difference'] == pytest.approx(1.2) and each['spread'] == pytest.approx(0.2)
    # Student's t of two degrees of freedom is 4.303
    assert each['interval'] == pytest.approx([1.2 - 4.303 * 0.2 / 3**0.5, 1.2 + 4.303 * 0.2 / 3**0.5], abs=1e-3)


def test_seeds_without_a_run_of_the_reference_are_ignored():
    runs = [*RUNS[:3], {'candidate': 'b', 'seed': 2, 'error': 'killed'}, run('b', 3, None), run('b', 4, 50.0)]
    each = differences(runs, 'a')['b']['psnr']
    assert each['difference'] == 1.0 and 'interval' not in each
    assert differences([run('b', 1, 2.0)], 'a')['b']['psnr'] == {'scores': {'1': 2.0}}


def test_the_table_has_a_line_for_each_network_and_metric(tmp_path):
    lines = write_differences(tmp_path, RUNS, 'a')
    assert lines == lines_of(differences(RUNS, 'a'), 'a')
    assert lines[-1] == '| b | psnr | 21.000, 31.200, 26.400 | +1.200 ± 0.200 | +0.703 to +1.697 |'
    assert json.loads((tmp_path / 'differences.json').read_text())['reference'] == 'a'
    assert (tmp_path / 'differences.md').read_text().splitlines() == lines
