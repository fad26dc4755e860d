"""Losses and metrics of a training run as JSON Lines."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

from basicsr.utils import get_root_logger

from deeprftv2_plugin.utils.atomic_io import write_whole

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
        """Append a line. Validation results are synced to disk. A failed write is logged and otherwise ignored."""
        line = json.dumps(finite({'iter': iteration, **values}))
        try:
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(line + '\n')
                if 'dataset' in values:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            get_root_logger().error(f'{self.path}: iteration {iteration} could not be logged: {error.strerror}')

    def __iter__(self) -> Iterator[dict]:
        if not self.path.is_file():
            return
        with open(self.path, encoding='utf-8') as file:
            for line in file:
                with contextlib.suppress(ValueError):  # a killed process or a full disk can leave a partial line
                    yield json.loads(line)

    def rewind(self, iteration: int) -> None:
        """Remove the lines after an iteration, before training resumes from it."""
        if self.path.is_file():
            kept = (json.dumps(record) + '\n' for record in self if record['iter'] <= iteration)
            write_whole(self.path, ''.join(kept).encode())


def finite(value: object) -> object:
    """Replace numbers that are not finite, which JSON cannot represent, by None in nested dicts and lists."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
