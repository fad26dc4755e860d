"""Plots of a comparison: quality against time and against operations."""

from collections.abc import Sequence
from pathlib import Path

from deeprftv2_plugin.comparison.table import SCORES, Row, value_of
from deeprftv2_plugin.utils.errors import UserError

AXES = {
    'time': ('evaluation_seconds_per_megapixel', 1, 'seconds per megapixel'),
    'multiply_adds': ('budget_multiply_adds', 1e9, 'G multiply-adds at 1920x1200'),
}
"""By the end of the file name: key of a row, unit, and label of the horizontal axis."""
LOGARITHMIC = 5
"""Ratio of the largest to the smallest value above which the horizontal axis is logarithmic."""
AREA = 60
"""Area of a bubble per million parameters, in square points."""


def require_matplotlib() -> None:
    """Raise UserError if matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("plots need matplotlib: pip install 'deeprftv2-plugin[compare]'") from None


def write_plots(folder: Path, rows: Sequence[Row], metric: str) -> list[Path]:
    """Plot a metric against the time and against the multiply-adds. The area of a bubble shows the parameters.

    Args:
        folder: An existing folder.
        rows: The figures. Rows without the metric are omitted.
        metric: Name of a metric. Its values under `spread`, if any, are shown as error bars.

    Returns:
        The paths of the files, METRIC_time.png and METRIC_multiply_adds.png, with underscores for spaces; empty if no
        row has all figures.
    """
    from matplotlib.figure import Figure

    paths = []
    for end, (key, unit, label) in AXES.items():
        needed = (f'{SCORES}{metric}', key, 'parameters')
        shown = [row for row in rows if None not in (value_of(row, each) for each in needed)]
        if not shown:
            continue
        figure = Figure(figsize=(7, 4.5), layout='constrained')
        axis = figure.subplots()
        for number, row in enumerate(shown):
            x, y, color = row[key] / unit, row['metrics'][metric], f'C{number % 10}'
            axis.scatter(x, y, AREA * row['parameters'] / 1e6, color=color, alpha=0.4)
            axis.errorbar(x, y, row.get('spread', {}).get(metric), fmt='.', color=color, capsize=3)
            axis.annotate(str(row['name']), (x, y), (0, 8), textcoords='offset points', ha='center', fontsize=8)
        values = [row[key] for row in shown]
        scale = 'log' if max(values) > LOGARITHMIC * min(values) else 'linear'
        axis.set(xlabel=label, ylabel=metric, xscale=scale)
        axis.margins(0.2)
        axis.grid(alpha=0.3)
        axis.set_title('area: number of parameters', fontsize=8)
        paths.append(folder / f'{metric}_{end}.png'.replace(' ', '_'))
        figure.savefig(paths[-1], dpi=110)
    return paths
