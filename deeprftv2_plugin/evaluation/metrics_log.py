"""What a training measures, as JSON Lines: one object a line, whole lines only."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

from basicsr.utils import get_root_logger

from deeprftv2_plugin.utils.atomic_io import write_whole

NAME = 'metrics.jsonl'


class Journal:
    """The file ``metrics.jsonl`` of an experiment.

    A line has ``iter`` and what was measured then: losses, learning rate and times of a training step, or with
    ``dataset`` the metrics of a validation. A number that is not finite is null.

    Args:
        folder: The experiment's.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder, NAME)

    def append(self, iteration: int, **values: object) -> None:
        """Add a line; a validation's is on the disk when this returns. On a full disk the training goes on without."""
        line = json.dumps(finite({'iter': iteration, **values}))
        try:
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(line + '\n')
                if 'dataset' in values:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            get_root_logger().error(f'{self.path} lacks iteration {iteration}: {error.strerror}')

    def __iter__(self) -> Iterator[dict]:
        if not self.path.is_file():
            return
        with open(self.path, encoding='utf-8') as file:
            for line in file:
                with contextlib.suppress(ValueError):  # a kill or a full disk can leave half a line
                    yield json.loads(line)

    def rewind(self, iteration: int) -> None:
        """Drop what was measured after an iteration; a run that goes on from there measures it again."""
        if self.path.is_file():
            kept = (json.dumps(record) + '\n' for record in self if record['iter'] <= iteration)
            write_whole(self.path, ''.join(kept).encode())


def finite(value: object) -> object:
    """What JSON can say: null for numbers that are not finite, in whatever they are."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
