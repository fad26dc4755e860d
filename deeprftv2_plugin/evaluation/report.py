"""Test reports: metrics per image, per sequence and overall, and the worst images."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from basicsr.utils import get_root_logger

from deeprftv2_plugin.evaluation import protocol
from deeprftv2_plugin.evaluation.metrics_log import finite
from deeprftv2_plugin.evaluation.page import Cell, Table, files_of, save_images, saved_image, write_page
from deeprftv2_plugin.evaluation.validation import ImageScore, mean_metrics
from deeprftv2_plugin.evaluation.worst_images import WorstImages
from deeprftv2_plugin.metrics.direction import better_of
from deeprftv2_plugin.utils.atomic_io import advice, write_whole
from deeprftv2_plugin.utils.errors import UserError, printable

METHOD = 'restored'
"""Label of the restored images on the page."""
LOGGED_SEQUENCES = 40
"""Maximum number of sequences shown in the log; the files contain all of them."""


class Report:
    r"""The report of a test on one dataset, written to the folder results/NAME of the run.

    - ``SET.csv``: name, sequence and metrics of each image, in the order of the dataset. In names that are not UTF-8,
      bytes are escaped as in ``\udce9``.
    - ``SET.json``: the protocol, the mean of each metric overall and per sequence, the worst images, and the software
      versions. Numbers that are not finite are null.
    - ``worst/SET``: the ten worst images by the first metric; blurry, restored and sharp image side by side.
    - The log: the means and the protocol.
    - If the option ``path.page`` is a folder: ``SET.html`` in it, a page with all images, and ``SET_files`` with their
      files.

    Args:
        opt: BasicSR's options.
        dataset_name: Name of the dataset.
        weights: Set of weights that was loaded, for the JSON file; None if the weights are random.
    """

    def __init__(self, opt: dict, dataset_name: str, weights: str | None = None):
        self.opt, self.dataset_name, self.weights = opt, dataset_name, weights
        self.folder = Path(opt['path']['results_root'])
        self.page = Path(opt['path']['page'], f'{dataset_name}.html') if opt['path'].get('page') else None
        self.worst: WorstImages | None = None

    def consider(self, index: int, score: ImageScore, images: Sequence[np.ndarray]) -> None:
        """Record an image that this process has restored.

        Args:
            index: Index in the dataset.
            score: Metrics of the restored image.
            images: Blurry, restored and, if available, sharp image, (H, W, 3), BGR.

        Raises:
            UserError: An image cannot be written to the folder of the page.
        """
        if score.metrics and self.worst is None:
            first = next(iter(score.metrics))
            self.worst = WorstImages(first, better_of(self.opt['val']['metrics'][first]))
        if self.worst:
            self.worst.consider(index, score, images)
        if self.page:
            with self._readable_errors():
                save_images(files_of(self.page), score.name, images)

    def write(self, scores: Sequence[ImageScore]) -> None:
        """Write the report. Each process writes the images that it has restored, the first process everything else.

        Args:
            scores: Scores of all processes in the order of the dataset.

        Raises:
            UserError: A file cannot be written.
        """
        with self._readable_errors():
            if self.worst:
                self.worst.write(self.folder / 'worst' / self.dataset_name, scores)
            if self.opt['rank'] == 0:
                self._write_tables(scores)

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f'the report {error.filename or self.folder} could not be written: {error.strerror or error}. '
                f'{advice(error)}'
            ) from error

    def _write_tables(self, scores: Sequence[ImageScore]) -> None:
        sequences = sequences_of([score.name for score in scores])
        parts: dict[str, list[ImageScore]] = {}
        for score, sequence in zip(scores, sequences, strict=True):
            parts.setdefault(sequence, []).append(score)
        parts.pop('', None)
        worst = self.worst.ranking(scores) if self.worst else ()
        overall = mean_metrics(scores)
        smaller_tiles = [score.smaller_tile for score in scores if score.smaller_tile]
        summary = {
            'dataset': self.dataset_name,
            'protocol': protocol.describe(self.opt, overall, {score.depth for score in scores}, smaller_tiles),
            'weights': self.opt['path'].get('pretrain_network_g'),
            'set of weights': self.weights or 'random',
            'network': self.opt['network_g'],
            'images': len(scores),
            'overall': overall,
            'sequences': {name: {'images': len(part), **mean_metrics(part)} for name, part in sorted(parts.items())},
            'worst': [{'name': each.name, **each.metrics} for each in worst],
            'versions': protocol.versions(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / f'{self.dataset_name}.csv', printable(csv_text(scores, sequences)).encode())
        text = json.dumps(finite(summary), indent=2, ensure_ascii=False, default=str)
        write_whole(self.folder / f'{self.dataset_name}.json', f'{printable(text)}\n'.encode())
        get_root_logger().info(printable(self._log_text(summary)))
        if self.page:
            self._write_page(self.page, scores, summary)

    def _write_page(self, page: Path, scores: Sequence[ImageScore], summary: dict[str, Any]) -> None:
        rows = {**summary['sequences'], 'overall': {'images': summary['images'], **summary['overall']}}
        table = Table(
            ['sequence', *rows['overall']],
            [[Cell(name), *(Cell(_shown(value), value) for value in row.values())] for name, row in rows.items()],
        )
        better = {name: better_of(self.opt['val']['metrics'][name]) for name in summary['overall']}
        images = [saved_image(files_of(page), each.name, METHOD, each.metrics) for each in scores]
        notes = [f'Weights: {summary["weights"] or "random"}', f'Protocol: {protocol.to_text(summary["protocol"])}.']
        write_page(page, f'{self.dataset_name}, {self.opt["name"]}', table, images, better, notes)
        get_root_logger().info(printable(f'The images are in {page}.'))

    def _log_text(self, summary: dict[str, Any]) -> str:
        """Return the means and the protocol as text."""
        paragraphs = [f'{self.dataset_name}: {summary["images"]} images restored']
        if summary['overall']:
            shown = summary['sequences'] if len(summary['sequences']) <= LOGGED_SEQUENCES else {}
            paragraphs += table({**shown, 'overall': {'images': summary['images'], **summary['overall']}})
            if len(shown) < len(summary['sequences']):
                paragraphs.append(f'{len(summary["sequences"])} sequences, see {self.dataset_name}.json.')
            paragraphs.append(f'The worst images are in worst/{self.dataset_name}.')
        else:
            paragraphs.append('No scores.')
        return '\n'.join([*paragraphs, f'Protocol: {protocol.to_text(summary["protocol"])}.'])


def sequences_of(names: Sequence[str]) -> list[str]:
    """Return the sequence of each image from its name; empty strings for a dataset without sequences.

    The name of an image consists of the sequence and a number, separated by a slash or an underscore, as in
    GOPR0384_11_00_000047, 000_00000009, test-close-ups_100fromGOPR1087 and RealBlur-J_scene050_1. Flattened versions of
    GoPro have a hyphen before the number. If no two images share a prefix, the dataset has no sequences.
    """
    found = []
    for name in names:
        flat = re.fullmatch(r'([^/]+)-\d+', name)
        found.append(os.path.dirname(name) or (flat[1] if flat else name.rpartition('_')[0]))
    common = any(count > 1 for sequence, count in Counter(found).items() if sequence)
    return found if common else [''] * len(found)


def csv_text(scores: Sequence[ImageScore], sequences: Sequence[str]) -> str:
    """Return the metrics of every image as comma-separated values with full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['name', 'sequence', *(scores[0].metrics if scores else ())])
    writer.writerows([each.name, part, *each.metrics.values()] for each, part in zip(scores, sequences, strict=True))
    return text.getvalue()


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:.4f}'


def table(rows: dict[str, dict[str, float]]) -> list[str]:
    """Return the lines of a table with aligned columns. Floating-point numbers have four decimals."""
    cells = [['sequence', *next(iter(rows.values()))]]
    for name, values in rows.items():
        cells.append([name, *map(_shown, values.values())])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        '  '.join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))])
        for name, *others in cells
    ]
