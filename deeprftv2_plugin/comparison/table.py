"""The table of a comparison, for the terminal and as CSV, Markdown and JSON."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deeprftv2_plugin.evaluation.metrics_log import finite
from deeprftv2_plugin.utils.atomic_io import write_whole, writing
from deeprftv2_plugin.utils.errors import printable

Row = Mapping[str, Any]
"""The figures of a network by the keys of `COLUMNS` and `STUDY`, its scores under `metrics` and `spread`, its `name`
and a `remark`."""
SCORES, SPREAD = 'metrics.', 'spread.'
"""Prefixes of the column keys for scores and for their standard deviations."""


class Column(NamedTuple):
    """A column of the table."""

    key: str
    heading: str
    show: Callable[[Any], str]


def _count(value: float) -> str:
    return f'{value / 1e6:.2f} M'


def _giga(value: float) -> str:
    return f'{value / 1e9:.4g} G' if value else '0'


def _seconds(value: float) -> str:
    return f'{value:.3g} s' if value >= 1 else f'{value * 1e3:.3g} ms'


def _bytes(value: float) -> str:
    return f'{value / 1e9:.2f} GB' if value >= 1e9 else f'{value / 1e6:.0f} MB'


COLUMNS = (
    Column('parameters', 'parameters', _count),
    Column('multiply_adds', 'multiply-adds', _giga),
    Column('attention_multiply_adds', '+ attention', _giga),
    Column('fourier_multiply_adds', '+ FFT', _giga),
    Column('scan_multiply_adds', '+ scan', _giga),
    Column('budget_multiply_adds', 'at 1920x1200', _giga),
    Column('fits_budget', 'fits', lambda fits: 'yes' if fits else 'no'),
    Column('evaluation_seconds_per_megapixel', 'time per MP', _seconds),
    Column('evaluation_bytes', 'memory', _bytes),
    Column('training_seconds', 'training step', _seconds),
    Column('training_bytes', 'memory', _bytes),
)


STUDY = (
    Column('iterations', 'iterations', str),
    Column('seconds', 'trained for', _seconds),
)
"""Additional columns for trained networks."""


def columns_of(rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return the columns of the metrics, `COLUMNS`, and the columns of `STUDY` for which a row has a figure."""
    found = []
    for metric in metrics_of(rows):
        found.append(Column(f'{SCORES}{metric}', metric, '{:.4f}'.format))
        if any(metric in row.get('spread', ()) for row in rows):
            found.append(Column(f'{SPREAD}{metric}', f'± {metric}', '{:.4f}'.format))
    return *found, *COLUMNS, *(column for column in STUDY if any(column.key in row for row in rows))


def metrics_of(rows: Sequence[Row]) -> list[str]:
    """Return the names of all metrics."""
    return list(dict.fromkeys(name for row in rows for name in row.get('metrics', ())))


def value_of(row: Row, key: str) -> Any:
    """Return the figure in a column, or None."""
    for prefix in (SCORES, SPREAD):
        if key.startswith(prefix):
            return row.get(prefix[:-1], {}).get(key.removeprefix(prefix))
    return row.get(key)


def cells(row: Row, columns: Sequence[Column]) -> list[str]:
    """Return the cells of a row as text: the name, a figure for each column, and the remark."""
    values = [value_of(row, column.key) for column in columns]
    figures = ['' if value is None else column.show(value) for value, column in zip(values, columns, strict=True)]
    return [printable(str(row['name'])), *figures, printable(row.get('remark') or '')]


def screen_lines(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Return the lines of the table for a terminal, with aligned columns."""
    texts = [['network', *(column.heading for column in columns), ''], *(cells(row, columns) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        '  '.join([name.ljust(widths[0]), *map(str.rjust, figures, widths[1:-1]), remark]).rstrip()
        for name, *figures, remark in texts
    ]


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return the table in Markdown."""
    headings = ['network', *(column.heading for column in columns), 'remark']
    lines = [headings, ['---', *('---:' for _ in columns), '---'], *(cells(row, columns) for row in rows)]
    escaped = ([cell.replace('\n', ' ').replace('|', '\\|') for cell in line] for line in lines)
    return ''.join(f'| {" | ".join(line)} |\n' for line in escaped)


def csv_text(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return the figures as comma-separated values in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    keys = ['name', *(column.key for column in columns), 'remark']
    writer.writerows([keys, *([value_of(row, key) for key in keys] for row in rows)])
    return printable(text.getvalue())


def write_tables(folder: Path, rows: Sequence[Row], columns: Sequence[Column], about: Mapping[str, Any]) -> None:
    """Write compare.csv, compare.md and compare.json to a folder, which is created if needed.

    Args:
        folder: The folder.
        rows: The figures.
        columns: The columns.
        about: Settings and machine, for the JSON file.

    Raises:
        UserError: A file cannot be written.
    """
    content = json.dumps(finite({**about, 'networks': [dict(row) for row in rows]}), indent=1, default=str)
    texts = {'csv': csv_text(rows, columns), 'md': markdown(rows, columns), 'json': f'{content}\n'}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, text in texts.items():
            write_whole(folder / f'compare.{suffix}', text.encode(errors='backslashreplace'))
