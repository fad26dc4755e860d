"""Differences between networks trained with the same seeds and therefore the same batches."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeprftv2_plugin.comparison.training import Run
from deeprftv2_plugin.utils.atomic_io import write_whole, writing

NAME = 'differences'


def differences(runs: Sequence[Run], reference: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the scores of each network by seed, and their paired differences to the reference.

    Args:
        runs: The runs of a study. Failed runs are ignored, as are seeds for which the reference failed.
        reference: Name of the reference network.

    Returns:
        For each network and metric: 'scores' by seed, and except for the reference 'difference', the mean of the
        network's scores minus those of the reference. With several seeds also 'spread', the sample standard deviation
        of the difference, and 'interval', its 95 % confidence interval by Student's t-distribution.
    """
    values: dict[str, dict[str, dict[int, float]]] = {}
    for run in runs:
        for metric, value in run.get('metrics', {}).items():
            if value is not None and math.isfinite(value):
                values.setdefault(run['candidate'], {}).setdefault(metric, {})[run['seed']] = value
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, metrics in values.items():
        found[name] = {}
        for metric, scores in metrics.items():
            found[name][metric] = {'scores': {str(seed): value for seed, value in scores.items()}}
            others = values.get(reference, {}).get(metric, {})
            paired = [value - others[seed] for seed, value in scores.items() if seed in others]
            if name != reference and paired:
                found[name][metric] |= {'difference': statistics.fmean(paired), **_uncertainty(paired)}
    return found


def _uncertainty(values: Sequence[float]) -> dict[str, Any]:
    if len(values) < 2:
        return {}
    from scipy.stats import t

    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    reach = float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return {'spread': deviation, 'interval': [mean - reach, mean + reach]}


def lines_of(found: dict[str, dict[str, dict[str, Any]]], reference: str) -> list[str]:
    """Return the lines of a Markdown table of differences."""
    lines = [
        f'| network | metric | scores by seed | difference to {reference} | 95 % interval |',
        '|---|---|---|---|---|',
    ]
    for name, metrics in found.items():
        for metric, each in metrics.items():
            scores = ', '.join(f'{value:.3f}' for value in each['scores'].values())
            difference = f'{each["difference"]:+.3f}' if 'difference' in each else ''
            difference += f' ± {each["spread"]:.3f}' if 'spread' in each else ''
            interval = '{:+.3f} to {:+.3f}'.format(*each['interval']) if 'interval' in each else ''
            lines.append(f'| {name} | {metric} | {scores} | {difference} | {interval} |')
    return lines


def write_differences(folder: Path, runs: Sequence[Run], reference: str) -> list[str]:
    """Write differences.json and differences.md to a folder and return the lines of the table.

    Raises:
        UserError: A file cannot be written.
    """
    found = differences(runs, reference)
    lines = lines_of(found, reference)
    content = {'reference': reference, 'networks': found}
    with writing(folder):
        write_whole(folder / f'{NAME}.json', f'{json.dumps(content, indent=1)}\n'.encode())
        write_whole(folder / f'{NAME}.md', '\n'.join([*lines, '']).encode())
    return lines
