"""Distributed validation: every process restores a share of the images, and all processes get the same metrics."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

import deeprftv2_plugin.metrics
from deeprftv2_plugin.data.storage.images import ImageSequence
from deeprftv2_plugin.utils.errors import Interrupted, UserError, describe_error

LOGGED_IMAGES = 3
"""Number of images per dataset that are sent to TensorBoard."""
LOGGED_HEIGHT = 256
"""Maximum height of an image in TensorBoard, in pixels."""
LOG_INTERVAL = 60
"""Seconds between progress messages in the log if no bar is shown."""


class ImageScore(NamedTuple):
    """The metrics of one image."""

    name: str
    """Unique name in the dataset, from `image_name`."""
    depth: int
    """Bit depth."""
    metrics: dict[str, float]
    smaller_tile: tuple[int, int] | None = None
    """Height and width of the tiles if they were smaller than those of the options, for lack of memory."""


def local_samples(
    loader: DataLoader, rank: int, processes: int, tolerant: bool = False
) -> Iterator[tuple[int, dict | UserError]]:
    """Yield the index and the sample of each image that this process restores: every `processes`-th of the dataset.

    Args:
        loader: Loader of the whole dataset.
        rank: Rank of this process.
        processes: Number of processes.
        tolerant: Whether to yield the error, instead of raising it, if a sample cannot be read.
    """
    indices = range(rank, len(cast(Sized, loader.dataset)), processes)
    if processes > 1:
        loader = DataLoader(Subset(loader.dataset, indices), batch_size=1, num_workers=loader.num_workers)
    samples = iter(loader)
    for index in indices:
        sample: dict | UserError
        try:
            sample = next(samples)
        except Exception as error:  # datasets of other packages can raise any exception
            if not tolerant or isinstance(error, StopIteration):
                raise
            known = isinstance(error, UserError)
            text = str(error) if known else f'image {index + 1} cannot be read: {type(error).__name__}: {error}'
            sample = UserError(text)
        yield index, sample


def gather_lists(share: list[str], processes: int) -> list[str]:
    """Return the concatenated lists of all processes."""
    shares = [share]
    if processes > 1:
        shares = [[] for _ in range(processes)]
        torch.distributed.all_gather_object(shares, share)
    return [each for part in shares for each in part]


def has_ground_truth(dataset: Any) -> bool:
    """Return whether a dataset has sharp images, or its options set a path of sharp images."""
    pairs = getattr(dataset, 'pairs', None)
    if pairs:
        return any(pair.gt for pair in pairs)
    return bool(dataset.opt.get('dataroot') or dataset.opt.get('dataroot_gt'))


@contextmanager
def fails_together(processes: int) -> Iterator[None]:
    """Raise an error of one process in all processes at the end of the block, so that none waits forever.

    Raises:
        UserError: Another process raised an error. The process with the error raises that error.
    """
    fault = None
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        if processes == 1:
            raise
        fault = error
    if processes > 1:
        reasons: list[str | None] = [None] * processes
        torch.distributed.all_gather_object(reasons, fault and describe_error(fault))
        if fault:
            raise fault
        for rank, reason in enumerate(reasons):
            if reason:
                raise UserError(f'process {rank}: {reason}')


def gather_scores(share: dict[int, ImageScore], processes: int) -> list[ImageScore]:
    """Return the scores of all processes in the order of the dataset, the same list in every process."""
    shares = [share]
    if processes > 1:
        shares = [{} for _ in range(processes)]
        torch.distributed.all_gather_object(shares, share)
    found = {index: score for part in shares for index, score in part.items()}
    return [found[index] for index in sorted(found)]


def mean_metrics(scores: Sequence[ImageScore]) -> dict[str, float]:
    """Return the mean of each metric. The sum is exact, so the result does not depend on the number of processes."""
    names = list(scores[0].metrics) if scores else []
    return {name: math.fsum(score.metrics[name] for score in scores) / len(scores) for name in names}


def compute_metrics(
    result: np.ndarray, target: np.ndarray | None, metrics: Mapping[str, dict], **known: Any
) -> dict[str, float]:
    """Compute the metrics of one image.

    Args:
        result: Restored image (H, W, 3), BGR, uint8 or uint16. It is rounded to 8 bit for metrics that do not accept
            16 bit, such as those of BasicSR.
        target: Sharp image, or None. Full-reference metrics are omitted without it.
        metrics: The section `val.metrics`.
        known: Further arguments for metrics that accept them: `blurry`, the image that was restored; `kernel`, the true
            kernel; and `trajectory`, the sharp images along the trajectory of the camera.
    """
    data = {'img': result} if target is None else {'img': result, 'img2': target}

    def inputs(metric: str) -> dict[str, Any]:
        images = data if accepts_16_bit(metric) else {key: to_8_bit(image) for key, image in data.items()}
        parameters = signature(METRIC_REGISTRY.get(metric)).parameters
        return {**images, **{key: value for key, value in known.items() if key in parameters}}

    return {
        name: float(calculate_metric(inputs(settings['type']), settings))
        for name, settings in metrics.items()
        if target is not None or not is_full_reference(settings['type'])
    }


def known_of(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return the further arguments of `compute_metrics` from a sample in a batch of one."""
    known: dict[str, Any] = {}
    if 'kernel' in sample:
        known['kernel'] = sample['kernel'][0].numpy()
    if 'trajectory' in sample:
        known['trajectory'] = ImageSequence(tuple(path for (path,) in sample['trajectory']))
    return known


def accepts_16_bit(metric: str) -> bool:
    """Return whether a registered metric accepts 16 bit. Metrics of this package do; others may require 8 bit."""
    return getattr(METRIC_REGISTRY.get(metric), '__module__', '').startswith(deeprftv2_plugin.metrics.__name__)


def is_full_reference(metric: str) -> bool:
    """Return whether a registered metric compares with a reference image."""
    return 'img2' in signature(METRIC_REGISTRY.get(metric)).parameters


@contextmanager
def error_context(image: str) -> Iterator[None]:
    """Prefix the message of a UserError with the name of an image."""
    try:
        yield
    except UserError as error:
        raise UserError(f'{image}: {error}') from error


def image_name(dataset: Any, path: str) -> str:
    """Return the name of an image in its dataset: the path relative to the data root, without suffix."""
    root = dataset.opt.get('dataroot_lq')
    name = os.path.splitext(path)[0]
    if isinstance(root, str) and os.path.isabs(path) == os.path.isabs(root):
        below = os.path.relpath(name, root)
        if not below.startswith(os.pardir):
            return below
    if os.path.isabs(name):
        return os.path.basename(name)
    return os.path.join('', *(part for part in os.path.normpath(name).split(os.sep) if part != os.pardir))


def result_path(opt: Mapping[str, Any], dataset_name: str, name: str, current_iter: int | str) -> str:
    """Return the path of a restored image: as in BasicSR, in a subfolder per dataset and sequence.

    Args:
        opt: BasicSR's options.
        dataset_name: Name of the dataset.
        name: Name of the image, from `image_name`.
        current_iter: The iteration of a training; ignored in a test.
    """
    folder, base = os.path.split(name)
    parent = os.path.join(opt['path']['visualization'], dataset_name, folder)
    if opt['is_train']:
        return os.path.join(parent, base, f'{base}_{current_iter}.png')
    return os.path.join(parent, f'{base}_{opt["val"].get("suffix") or opt["name"]}.png')


def thumbnail(images: Sequence[np.ndarray]) -> np.ndarray:
    """Place images (H, W, 3), BGR, side by side in one image (h, w, 3), RGB, uint8, with h <= `LOGGED_HEIGHT`."""
    height = min(LOGGED_HEIGHT, *(image.shape[0] for image in images))
    return cv2.cvtColor(to_8_bit(side_by_side(images, height)), cv2.COLOR_BGR2RGB)


def side_by_side(images: Sequence[np.ndarray], height: int) -> np.ndarray:
    """Scale images (H, W, 3) to the same height and place them side by side."""
    sizes = [(max(1, image.shape[1] * height // image.shape[0]), height) for image in images]
    return np.hstack(
        [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image, size in zip(images, sizes, strict=True)]
    )


def to_8_bit(image: np.ndarray) -> np.ndarray:
    """Round an image of uint16 to uint8; return an image of uint8 unchanged."""
    return image if image.dtype == np.uint8 else np.rint(image / 257).astype(np.uint8)


def to_images(*tensors: torch.Tensor, depth: int = 8) -> list[np.ndarray]:
    """Convert tensors (1, 3, H, W), RGB, to arrays (H, W, 3), BGR, clamped to [0, 1] and rounded.

    Args:
        tensors: Floating-point images.
        depth: 8 for uint8, 16 for uint16.
    """
    dtype = np.uint8 if depth == 8 else np.uint16
    images = (tensor2img([tensor.detach().float().cpu()], out_type=np.float32) for tensor in tensors)
    return [(image * np.iinfo(dtype).max).round().astype(dtype) for image in images]


class ValidationProgress:
    """Show a progress bar on a terminal; otherwise log the progress every `LOG_INTERVAL` seconds.

    Args:
        name: Name of the dataset.
        total: Number of images.
        visible: Whether this process shows the progress. True in one process only.
        bar: Whether to show a bar.
    """

    def __init__(self, name: str, total: int, visible: bool = True, bar: bool = True):
        self.name, self.total, self.done = name, total, 0
        self._bar = tqdm(total=total, unit='image', desc=name, disable=None if visible and bar else True)
        self._log: Callable = get_root_logger().info if visible and self._bar.disable else lambda text: None
        self._last_log = time.monotonic()

    def advance(self) -> None:
        """Count one more image."""
        self.done += 1
        self._bar.update()
        if time.monotonic() - self._last_log > LOG_INTERVAL:
            self._last_log = time.monotonic()
            self._log(f'Validation {self.name}: {self.done} of {self.total} images')

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()
