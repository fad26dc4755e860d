"""What a test leaves behind: tables of all pictures, of their sequences and of the whole, and the worst pictures."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from basicsr.utils import get_root_logger

from deeprftv2_plugin.evaluation import protocol
from deeprftv2_plugin.evaluation.metrics_log import finite
from deeprftv2_plugin.evaluation.validation import Scored, means
from deeprftv2_plugin.evaluation.worst_images import Worst
from deeprftv2_plugin.utils.atomic_io import write_whole
from deeprftv2_plugin.utils.errors import UserError

LOGGED = 40
"""The number of sequences up to which the log shows each; the files have them all."""


class Report:
    """The report of a test on one data set, in the folder results/NAME of the run.

    - ``SET.csv``: a line for each picture with its name, its sequence and its metrics, in the order of the data set.
    - ``SET.json``: the protocol, the mean of each metric over all pictures and over those of each sequence, the
      worst pictures, and the versions of what computed it. A number that is not finite is null.
    - ``worst/SET``: the ten worst pictures by the first metric, blurry, restored and sharp side by side.
    - The log: the means and the protocol.

    Args:
        opt: BasicSR's options.
        dataset_name: The name of the data set.
    """

    def __init__(self, opt: dict, dataset_name: str):
        self.opt, self.dataset_name = opt, dataset_name
        self.folder = Path(opt['path']['results_root'])
        self.worst = None

    def consider(self, index: int, scored: Scored, pictures: Sequence[np.ndarray]) -> None:
        """Take note of a picture that this process has restored.

        Args:
            index: Of the picture in the data set.
            scored: Its metrics.
            pictures: Blurry, restored and, where it is known, sharp, (H, W, 3), BGR.
        """
        if scored.metrics and self.worst is None:
            first = next(iter(scored.metrics))
            self.worst = Worst(first, self.opt['val']['metrics'][first].get('better', 'higher'))
        if self.worst:
            self.worst.consider(index, scored, pictures)

    def write(self, found: Sequence[Scored]) -> None:
        """Write the report: the first process all but the pictures, which those write that have restored them.

        Args:
            found: What all processes have found, in the order of the data set.

        Raises:
            UserError: A file cannot be written.
        """
        try:
            if self.worst:
                self.worst.write(self.folder / 'worst' / self.dataset_name, found)
            if self.opt['rank'] == 0:
                self._write_tables(found)
        except OSError as error:
            raise UserError(
                f'the report {error.filename or self.folder} could not be written: {error.strerror or error}. Make '
                'room, or see to the rights of its folder'
            ) from error

    def _write_tables(self, found):
        sequences = sequences_of([scored.name for scored in found])
        parts = {}
        for scored, sequence in zip(found, sequences, strict=True):
            parts.setdefault(sequence, []).append(scored)
        parts.pop('', None)
        worst = self.worst.ranking(found) if self.worst else ()
        followed = protocol.describe(self.opt, means(found), {scored.depth for scored in found})
        summary = {
            'dataset': self.dataset_name,
            'protocol': followed,
            'weights': self.opt['path'].get('pretrain_network_g'),
            'network': self.opt['network_g'],
            'pictures': len(found),
            'overall': means(found),
            'sequences': {name: {'pictures': len(part), **means(part)} for name, part in sorted(parts.items())},
            'worst': [{'name': each.name, **each.metrics} for _, each in worst],
            'versions': protocol.versions(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / f'{self.dataset_name}.csv', lines(found, sequences).encode())
        text = json.dumps(finite(summary), indent=2, ensure_ascii=False, default=str)
        write_whole(self.folder / f'{self.dataset_name}.json', f'{text}\n'.encode())
        get_root_logger().info(self._in_words(summary))

    def _in_words(self, summary):
        """The means and the protocol, for the log."""
        paragraphs = [f'{self.dataset_name}: {summary["pictures"]} pictures restored']
        if summary['overall']:
            shown = summary['sequences'] if len(summary['sequences']) <= LOGGED else {}
            paragraphs += table({**shown, 'overall': {'pictures': summary['pictures'], **summary['overall']}})
            if len(shown) < len(summary['sequences']):
                paragraphs.append(f'{len(summary["sequences"])} sequences are in {self.dataset_name}.json.')
            paragraphs.append(f'The worst are in worst/{self.dataset_name}.')
        else:
            paragraphs.append('No scores.')
        return '\n'.join([*paragraphs, f'Protocol: {protocol.in_words(summary["protocol"])}.'])


def sequences_of(names: Sequence[str]) -> list[str]:
    """The sequences that pictures belong to, by their names; empty strings in a set without sequences.

    A data set names a picture by the folders that it is in, which are its sequence, and its number there: joined by
    slashes, or by underscores as in GOPR0384_11_00_000047, 000_00000009, test-close-ups_100fromGOPR1087 and
    RealBlur-J_scene050_1. Flattened GoPro has a hyphen before the number. Where no two pictures have it in common,
    what stands in front is not a sequence.
    """
    found = []
    for name in names:
        flat = re.fullmatch(r'([^/]+)-\d+', name)
        found.append(os.path.dirname(name) or (flat[1] if flat else name.rpartition('_')[0]))
    common = any(count > 1 for sequence, count in Counter(found).items() if sequence)
    return found if common else [''] * len(found)


def lines(found: Sequence[Scored], sequences: Sequence[str]) -> str:
    """The metrics of every picture as comma-separated values, in all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['name', 'sequence', *(found[0].metrics if found else ())])
    writer.writerows([each.name, part, *each.metrics.values()] for each, part in zip(found, sequences, strict=True))
    return text.getvalue()


def table(rows: dict[str, dict[str, float]]) -> list[str]:
    """The lines of a table with aligned columns: names on the left, numbers on the right, four digits of fractions."""
    cells = [['sequence', *next(iter(rows.values()))]]
    for name, values in rows.items():
        cells.append([name, *(str(v) if isinstance(v, int) else f'{v:.4f}' for v in values.values())])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        '  '.join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))])
        for name, *others in cells
    ]
