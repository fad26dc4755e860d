"""The picture of time and memory over image size and over stages."""

import json
from pathlib import Path

from deeprftv2_plugin.utils.errors import UserError

NAME = 'performance.png'
LINES = (('evaluation', None), ('training, reversible', True), ('training, not reversible', False))
PANELS = (('sizes', 'size', 'image size in pixels'), ('stages', 'stages', 'stages'))
FIGURES = (('seconds', 1, 'time in seconds'), ('peak_bytes', 1e9, 'peak memory in GB'))


def draw(folder: Path) -> Path:
    """Draw the newest figures of `sizes` and `stages` in a folder; the picture lies beside the folder.

    Raises:
        UserError: There are none, or matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError('matplotlib is not installed: pip install matplotlib') from None
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    found = {benchmark: _newest(folder, benchmark, key) for benchmark, key, _ in PANELS}
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout='constrained')
    for column, (benchmark, key, name) in zip(axes.T, PANELS, strict=True):
        about, rows = found[benchmark]
        for axis, (value, unit, title) in zip(column, FIGURES, strict=True):
            for label, reversible in LINES:
                _line(axis, [r for r in rows if r['case'].get('reversible') == reversible], key, value, unit, label)
            axis.set(xlabel=name, ylabel=title, xticks=sorted({row['case'][key] for row in rows}))
            axis.set_ylim(0, 1.08 * max(row[value] for row in rows) / unit)
            axis.grid(alpha=0.3)
        case = rows[0]['case']
        at = '' if key == 'size' else f' at {case["size"]}x{case["size"]}'
        column[0].set_title(f'DeepRFTv2-{case["variant"]}{at}, {about["gpu"] or about["cpu"]}', fontsize=9)
    axes[0, 0].legend(frameon=False)
    path = folder.resolve().parent / NAME
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _line(axis, rows, key, value, unit, label):
    points = sorted((row['case'][key], row[value] / unit) for row in rows)
    if points:
        color = {name: f'C{index}' for index, (name, _) in enumerate(LINES)}[label]
        axis.plot(*zip(*points, strict=True), marker='o', color=color, label=label)


def _newest(folder, benchmark, key):
    """The newest file with all kinds of rows of a sub-benchmark, and those that differ from the first in key only."""
    files = [json.loads(path.read_text('utf-8')) for path in folder.glob('*.json')]
    for about in sorted(files, key=lambda about: about['date'], reverse=True):
        rows = [row for row in about['rows'] if row['benchmark'] == benchmark and 'seconds' in row]
        same = [name for name in ('variant', 'size') if name != key]
        rows = [row for row in rows if all(row['case'][name] == rows[0]['case'][name] for name in same)]
        if {True, False} <= {row['case'].get('reversible') for row in rows}:
            return about, rows
    raise UserError(f'{folder} holds no figures of {benchmark}: run "python scripts/benchmark.py {benchmark}" first')
