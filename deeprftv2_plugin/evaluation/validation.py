"""Validation by all processes: each restores its share of the pictures, and all come to the same numbers."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import NamedTuple

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

import deeprftv2_plugin.metrics
from deeprftv2_plugin.utils.errors import UserError

SHOWN = 3
"""How many pictures of a data set go to TensorBoard."""
SHOWN_HEIGHT = 256
PULSE = 60
"""Seconds between two words about the progress in the log, where no terminal shows a bar."""


class Scored(NamedTuple):
    """What is found out about one picture."""

    name: str
    """Unique in its data set, as `picture_name` gives it."""
    depth: int
    """Bits of its values."""
    metrics: dict[str, float]


def own_share(loader: DataLoader, rank: int, processes: int) -> Iterator[tuple[int, dict]]:
    """Index and sample of every picture that this process restores: each `processes`-th of the data set."""
    indices = range(rank, len(loader.dataset), processes)
    if processes > 1:
        loader = DataLoader(Subset(loader.dataset, indices), batch_size=1, num_workers=loader.num_workers)
    return zip(indices, loader, strict=True)


def joined(share: dict[int, Scored], processes: int) -> list[Scored]:
    """What all processes have found, in the order of the data set: the same list in each."""
    everybody = [share]
    if processes > 1:
        everybody = [None] * processes
        torch.distributed.all_gather_object(everybody, share)
    found = {index: scored for part in everybody for index, scored in part.items()}
    return [found[index] for index in sorted(found)]


def means(found: Sequence[Scored]) -> dict[str, float]:
    """The mean of each metric, by an exact sum, so that it does not depend on who computed what."""
    names = list(found[0].metrics) if found else []
    return {name: math.fsum(scored.metrics[name] for scored in found) / len(found) for name in names}


def score(result: np.ndarray, target: np.ndarray | None, metrics: dict[str, dict]) -> dict[str, float]:
    """The metrics of one picture (H, W, 3), BGR; those that compare are left out where there is no target.

    Metrics that take 8 bit only, as BasicSR's do, get 16 bit rounded to them.
    """
    data = {'img': result} if target is None else {'img': result, 'img2': target}

    def seen_by(metric):
        return data if judges_depth(metric) else {key: to_8_bit(picture) for key, picture in data.items()}

    return {
        name: float(calculate_metric(seen_by(settings['type']), settings))
        for name, settings in metrics.items()
        if target is not None or not compares(settings['type'])
    }


def judges_depth(metric: str) -> bool:
    """Whether a registered metric takes 16 bit: those here do, while BasicSR promises others pictures of 8 bit."""
    return getattr(METRIC_REGISTRY.get(metric), '__module__', '').startswith(deeprftv2_plugin.metrics.__name__)


@contextmanager
def naming(picture: str) -> Iterator[None]:
    """Lets a UserError in its block say which picture it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f'{picture}: {error}') from error


def compares(metric: str) -> bool:
    """Whether a registered metric needs a second picture."""
    return 'img2' in signature(METRIC_REGISTRY.get(metric)).parameters


def picture_name(dataset, path: str) -> str:
    """What distinguishes a picture in its data set, without suffix: the folders below the data root, and the name."""
    root = dataset.opt.get('dataroot_lq')
    name = os.path.splitext(path)[0]
    if isinstance(root, str) and os.path.isabs(path) == os.path.isabs(root):
        below = os.path.relpath(name, root)
        if not below.startswith(os.pardir):
            return below
    return os.path.basename(name) if os.path.isabs(name) else os.path.normpath(name)


def result_path(opt: dict, dataset_name: str, name: str, current_iter: int | str) -> str:
    """Where a restored picture is saved, as BasicSR has it, in the folder of its sequence."""
    folder, base = os.path.split(name)
    if opt['is_train']:
        return os.path.join(opt['path']['visualization'], folder, base, f'{base}_{current_iter}.png')
    suffix = opt['val'].get('suffix') or opt['name']
    return os.path.join(opt['path']['visualization'], dataset_name, folder, f'{base}_{suffix}.png')


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3), BGR, next to each other in one (H, W, 3) of uint8, RGB, of limited height."""
    height = min(SHOWN_HEIGHT, *(picture.shape[0] for picture in pictures))
    return cv2.cvtColor(to_8_bit(beside(pictures, height)), cv2.COLOR_BGR2RGB)


def beside(pictures: Sequence[np.ndarray], height: int) -> np.ndarray:
    """Pictures (H, W, 3) next to each other in one, scaled to the same height."""
    sizes = [(max(1, picture.shape[1] * height // picture.shape[0]), height) for picture in pictures]
    return np.hstack(
        [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p, size in zip(pictures, sizes, strict=True)]
    )


def to_8_bit(picture: np.ndarray) -> np.ndarray:
    """A picture of uint8 as it is, one of uint16 rounded."""
    return picture if picture.dtype == np.uint8 else np.rint(picture / 257).astype(np.uint8)


class Progress:
    """A bar on a terminal, now and then a line in the log elsewhere.

    Args:
        name: The data set.
        total: The number of pictures.
        visible: False in all processes but one.
        bar: Whether a bar is wanted.
    """

    def __init__(self, name: str, total: int, visible: bool = True, bar: bool = True):
        self.name, self.total, self.done = name, total, 0
        self._bar = tqdm(total=total, unit='image', desc=name, disable=None if visible and bar else True)
        self._log: Callable = get_root_logger().info if visible and self._bar.disable else lambda text: None
        self._spoken = time.monotonic()

    def advance(self) -> None:
        self.done += 1
        self._bar.update()
        if time.monotonic() - self._spoken > PULSE:
            self._spoken = time.monotonic()
            self._log(f'Validation {self.name}: {self.done} of {self.total} pictures')

    def close(self) -> None:
        self._bar.close()


def to_pictures(*tensors: torch.Tensor, depth: int = 8) -> list[np.ndarray]:
    """Arrays (H, W, 3) of uint8 or uint16, BGR, of tensors (1, 3, H, W): clamped to [0, 1] and rounded."""
    kind = np.uint8 if depth == 8 else np.uint16
    pictures = (tensor2img([tensor.detach().float().cpu()], out_type=np.float32) for tensor in tensors)
    return [(picture * np.iinfo(kind).max).round().astype(kind) for picture in pictures]
