"""The table on the screen, the JSON file, and the plot."""

import datetime
import json
from pathlib import Path

from deeprftv2_plugin.utils.errors import UserError

COLUMNS = f'{"":74}{"time":>10}{"yards":>9}{"floor ratio":>13}{"peak":>10}{"increase":>10}'
MODES = {None: 'evaluation', True: 'training, reversible', False: 'training, not reversible'}
"""The lines of the plot, by the value of 'reversible' in a case."""


def heading(about: dict) -> str:
    """Describe the machine in two lines."""
    where = about['gpu'] or f'{about["cpu"]}, {about["cores"]} cores, {about["threads"]} threads'
    versions = ', '.join(f'{name} {about[name]}' for name in ('python', 'torch', 'triton', 'deeprftv2_plugin'))
    return f'{where}; {versions}\nbackends: {about["backends"]}'


def line(row: dict) -> str:
    """Return a row of the table under COLUMNS."""
    start = f'{row["benchmark"]:12}{row["label"]:62}'
    if reason := row.get('error') or row.get('skipped'):
        return f'{start} {"failed" if "error" in row else "skipped"}: {reason}'
    cells = (
        ('seconds', 10, lambda s: f'{s:.2f} s' if s >= 1 else f'{s * 1e3:.1f} ms'),
        ('yards', 9, '{:.2f}'.format),
        ('floor_ratio', 13, '{:.2f}'.format),
        ('peak_bytes', 10, _size),
        ('increase_bytes', 10, _size),
    )
    figures = ''.join(f'{"" if row.get(key) is None else show(row[key]):>{width}}' for key, width, show in cells)
    return f'{start}{figures}  {row.get("note", "")}'.rstrip()


def _size(count):
    return f'{count / 1e9:.2f} GB' if count >= 1e9 else f'{count / 1e6:.0f} MB'


def goal_table(goals: list[dict]) -> str:
    """Return a table of the goals, their bounds and the results."""
    lines = [f'{g["goal"]:46}{g["bound"]:38}{g["verdict"]:19}{g["reached"]}' for g in goals]
    return '\n'.join([f'{"goal":46}{"bound":38}{"verdict":19}reached', *lines])


def write(folder: Path, about: dict, rows: list[dict], goals: list[dict]) -> Path:
    """Write all figures to a file named after the device and the time."""
    moment = datetime.datetime.fromisoformat(about['date'])
    path = folder / f'{about["device"]}-{moment:%Y-%m-%d-%H%M%S}.json'
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, 'goals': goals, 'rows': rows}, indent=1) + '\n', 'utf-8')
    return path


def plot(folder: Path) -> Path:
    """Plot time and memory over image size and stages, from the newest figures in a folder, to a file next to it.

    Raises:
        UserError: There are no figures, or matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError('matplotlib is not installed: pip install matplotlib') from None
    figure = Figure(figsize=(9, 6.4), layout='constrained')
    axes = figure.subplots(2, 2)
    for column, benchmark, key in zip(axes.T, ('sizes', 'stages'), ('size', 'stages'), strict=True):
        about, rows = _newest(folder, benchmark, key)
        quantities = (('seconds', 1, 'time in seconds'), ('peak_bytes', 1e9, 'peak memory in GB'))
        for axis, (quantity, unit, title) in zip(column, quantities, strict=True):
            for number, (reversible, label) in enumerate(MODES.items()):
                mode = [row for row in rows if row['case'].get('reversible') is reversible]
                if points := sorted((row['case'][key], row[quantity] / unit) for row in mode):
                    axis.plot(*zip(*points, strict=True), marker='o', color=f'C{number}', label=label)
            name = 'image size in pixels' if key == 'size' else 'stages'
            axis.set(xlabel=name, ylabel=title, xticks=sorted({row['case'][key] for row in rows}))
            axis.set_ylim(0, 1.08 * max(row[quantity] for row in rows) / unit)
            axis.grid(alpha=0.3)
        case = rows[0]['case']
        at = '' if key == 'size' else f' at {case["size"]}x{case["size"]}'
        column[0].set_title(f'DeepRFTv2-{case["variant"]}{at}, {about["gpu"] or about["cpu"]}', fontsize=9)
    axes[0, 0].legend(frameon=False)
    path = folder.resolve().parent / 'performance.png'
    figure.savefig(path, dpi=110)
    return path


def _newest(folder, benchmark, key):
    """Return the newest file with both kinds of training, and its rows that differ from the first only in the key."""
    files = [json.loads(path.read_text('utf-8')) for path in folder.glob('*.json')]
    for about in sorted(files, key=lambda about: about['date'], reverse=True):
        rows = [row for row in about['rows'] if row['benchmark'] == benchmark and 'seconds' in row]
        same = [name for name in ('variant', 'size') if name != key]
        rows = [row for row in rows if all(row['case'][name] == rows[0]['case'][name] for name in same)]
        if {True, False} <= {row['case'].get('reversible') for row in rows}:
            return about, rows
    raise UserError(f'{folder} has no figures of {benchmark}: run "python scripts/benchmark.py {benchmark}" first')
