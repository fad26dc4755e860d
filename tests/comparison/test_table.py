"""The files of a comparison."""

import csv
import json

from deeprftv2_plugin.comparison.table import COLUMNS, columns_of, screen_lines, write_tables

ROWS = [
    {'name': 'A|B', 'parameters': 694024, 'multiply_adds': 4.3e9, 'fits_budget': True, 'metrics': {'psnr': 25.67891}},
    {'name': 'broken', 'remark': 'evaluation: out of memory', 'failed': True},
]


def test_files_have_the_same_figures(tmp_path):
    write_tables(tmp_path / 'new', ROWS, columns_of(ROWS), {'size': 128})
    records = list(csv.DictReader((tmp_path / 'new/compare.csv').open()))
    assert [records[0][key] for key in ('name', 'parameters', 'metrics.psnr')] == ['A|B', '694024', '25.67891']
    assert records[1]['parameters'] == '' and records[1]['remark'] == 'evaluation: out of memory'
    assert json.loads((tmp_path / 'new/compare.json').read_text()) == {'size': 128, 'networks': ROWS}
    head, rule, first, second = (tmp_path / 'new/compare.md').read_text().splitlines()
    assert head.count('|') == rule.count('|') == second.count('|') == len(COLUMNS) + 4
    assert first.startswith('| A\\|B | 25.6789 | 0.69 M | 4.3 G |')


def test_columns_on_screen_are_aligned():
    head, first, second = screen_lines(ROWS, columns_of(ROWS))
    assert head.split()[:2] == ['network', 'psnr'] and first.split()[:2] == ['A|B', '25.6789']
    assert head.index('psnr') + len('psnr') == first.index('25.6789') + len('25.6789')
    assert second.startswith('broken ') and second.endswith('  evaluation: out of memory')
