"""Losses and metrics of a training run as JSON Lines."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from basicsr.utils import get_root_logger

from deeprftv2_plugin.utils.atomic_io import sync, write_whole
from deeprftv2_plugin.utils.regular_files import open_to_append

NAME = 'metrics.jsonl'


class MetricsLog:
    """The file ``metrics.jsonl`` of an experiment.

    Each line has ``iter`` and either the losses, learning rate and times of a training step, or ``dataset`` and the
    metrics of a validation. Numbers that are not finite are null.

    Args:
        folder: Folder of the experiment.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder, NAME)

    def append(self, iteration: int, **values: object) -> None:
        """Append a line. Validation results are flushed to disk. A failed write is logged and otherwise ignored."""
        try:
            line = json.dumps(finite({'iter': iteration, **values}), default=float)
            with open_to_append(self.path) as file:
                file.write(f'{line}\n'.encode())
                if 'dataset' in values:
                    sync(file)
        except (OSError, TypeError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or error
            get_root_logger().warning(f'{self.path}: iteration {iteration} could not be logged: {reason}')

    def __iter__(self) -> Iterator[dict]:
        """Yield the valid lines. A killed process, a full disk or an incomplete copy can leave damaged ones.

        A failure to read the file is logged and otherwise ignored.
        """
        if not self.path.is_file():
            return
        try:
            with open(self.path, 'rb') as file:
                yield from filter(None, map(parse, file))
        except OSError as error:
            get_root_logger().warning(f'{self.path} cannot be read: {error.strerror or error}')

    def rewind(self, iteration: int) -> None:
        """Remove damaged lines and those after an iteration, before training resumes from it.

        A failure to read or write the file is logged and otherwise ignored.
        """
        if not self.path.is_file():
            return
        try:
            found = self.path.read_bytes().splitlines()
            records = [record for record in map(parse, found) if record is not None]
            if len(records) < len(found):
                get_root_logger().warning(f'{self.path}: removed damaged lines: {len(found) - len(records)}.')
            kept = (json.dumps(record) + '\n' for record in records if record['iter'] <= iteration)
            write_whole(self.path, ''.join(kept).encode())
        except OSError as error:
            get_root_logger().warning(
                f'{self.path} could not be truncated to iteration {iteration}, from which training resumes: '
                f'{error.strerror or error}. Later lines of the earlier run remain.'
            )


def parse(line: bytes) -> dict | None:
    """Return the content of a line, or None if the line is damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get('iter')) is not int:
        return None
    numbers = (value for key, value in record.items() if key != 'dataset')
    if not all(value is None or type(value) in (int, float) for value in numbers):
        return None
    return record if isinstance(record.get('dataset', ''), str) else None


def finite(value: object) -> object:
    """Replace numbers that are not finite, which JSON cannot represent, by None in nested dicts and lists."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
