"""Check that the images of all datasets can be read, and report their sizes."""

import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from basicsr.data import build_dataset
from basicsr.utils.registry import MODEL_REGISTRY

from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
from deeprftv2_plugin.data.layouts.pairs import Pair
from deeprftv2_plugin.data.loading.loader import DrawnDataset
from deeprftv2_plugin.data.loading.plan import Draw
from deeprftv2_plugin.evaluation.validation import image_name
from deeprftv2_plugin.models.restoration_model import RestorationModel
from deeprftv2_plugin.preflight.findings import Finding, amount, error, ok, warning
from deeprftv2_plugin.training.stages import stages_of
from deeprftv2_plugin.utils.errors import DataWarning, UserError, describe_error
from deeprftv2_plugin.utils.memory import available_memory

SAMPLED = 8
"""Maximum number of pairs of a dataset that are decoded."""


def check_data(opt: Mapping[str, Any], datasets: dict[str, SizedDataset] | None = None) -> Iterator[Finding]:
    """Build every dataset of the options and read a few of its images.

    Args:
        opt: The options.
        datasets: Filled with the datasets by phase.
    """
    for phase, settings in opt['datasets'].items():
        name = f'{settings["name"]} ({phase})'
        crops = crops_of(opt) if phase == 'train' else []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always', DataWarning)
                dataset = build_dataset(settings)
            yield from (warning(f'{name}: {each.message}') for each in caught if each.category is DataWarning)
            if datasets is not None:
                datasets[phase] = dataset
            for part in getattr(dataset, 'parts', [dataset]):  # MixedDataset has parts
                label = name if part is dataset else f'{name}, {part.opt["type"]}'
                if not len(part):
                    yield error(f'{label}: it is empty')
                elif isinstance(part, PairedDeblurDataset):
                    # A test continues after damaged images without ground truth.
                    tolerated = not opt['is_train'] and part.pairs[0].gt is None
                    allowed = SAMPLED if tolerated else settings.get('max_damaged') or 0
                    yield from check_pairs(label, part.pairs, crops, allowed)
                else:
                    yield from check_samples(label, part, crops)
                    if phase != 'train':
                        yield from check_names(label, part, opt)
        except UserError as fault:
            yield error(f'{name}: {fault}')
        except Exception as fault:  # datasets of other packages can raise any exception
            yield error(f'{name}: {settings["type"]} fails: {describe_error(fault)}')
        else:
            if phase == 'train':
                yield from check_epoch(name, len(dataset), settings.get('dataset_enlarge_ratio', 1))


def check_epoch(name: str, length: int, ratio: int) -> Iterator[Finding]:
    """Check that the order of the samples in an epoch fits into the memory."""
    needed, available = 2 * 8 * length * ratio, available_memory()
    if available is not None and needed > available:
        yield error(
            f'{name}: an epoch of {length} samples times dataset_enlarge_ratio {ratio} takes {amount(needed)}, but '
            f'{amount(available)} of memory is available: lower the ratio'
        )


def crops_of(opt: Mapping[str, Any]) -> list[int | list[int]]:
    """Return the distinct crop sizes of the stages, as in `gt_size`; none if the dataset has no such option."""
    crops = []
    for stage in stages_of(opt):
        if stage.gt_size is not None and stage.gt_size not in crops:
            crops.append(stage.gt_size)
    return crops


def check_pairs(
    name: str, pairs: list[Pair], crops: Sequence[int | list[int]] = (), max_damaged: int = 0
) -> Iterator[Finding]:
    """Decode pairs from all parts of a dataset.

    Args:
        name: Name of the dataset.
        pairs: The pairs.
        crops: Crop sizes for training, each one number or [height, width].
        max_damaged: Number of damaged pairs that may be skipped.
    """
    numbers = sorted({round(place * (len(pairs) - 1) / (SAMPLED - 1)) for place in range(SAMPLED)})
    sizes, faults, seconds = [], [], 0.0
    for pair in (pairs[number] for number in numbers):
        begin = time.perf_counter()
        try:
            sizes.append(_size_of(pair))
        except UserError as fault:
            faults.append(str(fault))
        seconds += time.perf_counter() - begin
    for message in faults:
        yield warning(f'{name}: {message}') if len(faults) <= max_damaged else error(f'{name}: {message}')
    if not sizes:
        return
    kind = 'pairs' if pairs[0].gt else 'images without ground truth'
    text = f'{name}: {len(pairs)} {kind}; {len(sizes)} decoded in {1000 * seconds / len(numbers):.0f} ms each'
    too_small = {crop: _count_smaller(sizes, *crop) for crop in map(crop_size, crops)}
    yield ok(f'{text}; {_range(sizes)}{"; all crops fit" if too_small and not any(too_small.values()) else ""}')
    for (height, width), small in too_small.items():
        if small:
            yield warning(
                f'{name}: crops of {height}x{width} (height x width) are padded with zeros, since {small} of '
                f'{len(sizes)} images are smaller'
            )


def _size_of(pair: Pair) -> tuple[int, int]:
    """Return the height and width of the images of a pair.

    Raises:
        UserError: An image cannot be read, or the sizes differ.
    """
    images = [image for image in (pair.lq, pair.gt) if image]
    sizes = [image.read().shape[:2] for image in images]
    if len(set(sizes)) > 1:
        found = ', '.join(
            '{} has {}x{} pixels'.format(image, *size[::-1]) for image, size in zip(images, sizes, strict=True)
        )
        raise UserError(f'the images of a pair differ in size: {found}')
    return sizes[0]


def _count_smaller(sizes: list[tuple[int, int]], height: int, width: int) -> int:
    return sum(size[0] < height or size[1] < width for size in sizes)


def _range(sizes: list[tuple[int, int]]) -> str:
    """Describe the range of widths and heights."""
    widths, heights = sorted({width for _, width in sizes}), sorted({height for height, _ in sizes})
    if len(set(sizes)) == 1:
        return f'{widths[0]}x{heights[0]}'
    return f'{widths[0]} to {widths[-1]} wide, {heights[0]} to {heights[-1]} high'


def check_names(name: str, dataset: Any, opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that the results of one of BasicSR's datasets are saved under different names.

    Args:
        name: Name of the dataset.
        dataset: The dataset, whose `paths` are those of the images, if it has this attribute.
        opt: The options.
    """
    own = issubclass(MODEL_REGISTRY.get(opt['model_type']), RestorationModel)
    reported = own and not opt['is_train']  # the report of a test contains the worst images
    if not reported and not (opt.get('val') or {}).get('save_img'):
        return
    seen: dict[str, str] = {}
    for item in getattr(dataset, 'paths', []):
        path = item['lq_path'] if isinstance(item, Mapping) else item
        saved = image_name(dataset, path) if own else os.path.splitext(os.path.basename(path))[0]
        if saved in seen:
            yield error(f'{name}: {seen[saved]} and {path} would both be saved as {saved}: rename one')
            return
        seen[saved] = path


def check_samples(name: str, dataset: SizedDataset, crops: Sequence[int | list[int]]) -> Iterator[Finding]:
    """Load one sample of any dataset for every crop size, as training and validation do."""
    drawn: Sequence[int | list[int] | None] = crops or [None]
    for crop in drawn:
        begin = time.perf_counter()
        sample = dataset[0] if crop is None else DrawnDataset(dataset, 0, 0)[Draw(0, 0, crop)][0]
        milliseconds = 1000 * (time.perf_counter() - begin)
        shapes = ', '.join(f'{key} {"x".join(map(str, sample[key].shape))}' for key in ('lq', 'gt') if key in sample)
        yield ok(f'{name}: {len(dataset)} samples; one loaded in {milliseconds:.0f} ms: {shapes}')
