"""Build the model of a run on the CPU, and run it on a small input."""

import copy
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from basicsr.utils import set_random_seed
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from deeprftv2_plugin.config.schema import LARGEST_RATE
from deeprftv2_plugin.config.signatures import TRANSPARENT
from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.data.loading.loader import DrawnDataset
from deeprftv2_plugin.data.loading.plan import Draw
from deeprftv2_plugin.data.storage.images import ImageSequence
from deeprftv2_plugin.evaluation.validation import compute_metrics, to_images
from deeprftv2_plugin.inference.restoration import size_multiple
from deeprftv2_plugin.metrics.trajectory import LEAST_SIDE
from deeprftv2_plugin.models.deeprftv2_model import DeepRFTv2Model
from deeprftv2_plugin.preflight.findings import Finding, amount, error, ok, warning
from deeprftv2_plugin.preflight.resources import bytes_of
from deeprftv2_plugin.training.optimizers import weights_of
from deeprftv2_plugin.training.stages import stages_of
from deeprftv2_plugin.utils.errors import UserError, describe_error
from deeprftv2_plugin.utils.memory import available_memory

SIDE = 96
"""Maximum height and width of the images on which `basicsr check` runs a model."""
SMALL_SIDE = 32
"""Maximum height and width of such images before a training or a test."""
GROWTH = 1000
"""Maximum factor by which an optimizer step with gradients of 0 or 1 may increase the weights."""
RATES = 1000
"""Number of iterations for which the learning rate is computed."""


def build(options: Mapping[str, Any]) -> BaseModel:
    """Build the model with its networks, losses, optimizers and schedules, with random weights.

    Raises:
        UserError: The model cannot be built.
    """
    opt = copy.deepcopy({**options, 'num_gpu': 0})  # BasicSR's models remove entries from the options
    opt['path'] = {key: value for key, value in opt['path'].items() if not key.startswith('pretrain_network_')}
    networks = [key for key in opt if key.startswith('network_')]
    for key in networks:
        require_memory(key, copy.deepcopy(opt[key]))
    if opt['is_train']:
        opt['train'].update(ema_decay=0, compile=False)  # no copy for the average, and no slow compilation
    set_random_seed(opt['manual_seed'] + opt['rank'])  # the checks so far may have drawn random numbers
    try:
        return build_model(opt)
    except UserError:
        raise
    except Exception as fault:  # models of other packages can raise any exception
        for key in networks:
            _require_network(key, opt[key])
        raise UserError(f'{opt["model_type"]} cannot be built: {describe_error(fault)}') from fault


def _require_network(key: str, settings: dict) -> None:
    try:
        build_network(settings)
    except Exception as fault:
        raise UserError(f'{key} {settings["type"]} cannot be built: {describe_error(fault)}') from fault


def require_memory(key: str, settings: dict) -> None:
    """Check that the weights of a network fit into the memory before any are allocated.

    Raises:
        UserError: The weights do not fit.
    """
    available = available_memory()
    try:
        with torch.device('meta'):
            needed = bytes_of(build_network(settings).state_dict().values())
    except Exception:  # some networks cannot be built on the meta device; wrong arguments are reported by `build`
        return
    if available is not None and needed > available:
        raise UserError(
            f'{key}: the weights take {amount(needed)}, but {amount(available)} of memory is available: '
            'use a smaller network'
        )


def networks_of(opt: Mapping[str, Any], model: BaseModel) -> dict[str, nn.Module]:
    """Return the networks of a model by label, such as 'g' for `network_g`."""
    labels = [key.removeprefix('network_') for key in opt if key.startswith('network_')]
    return {label: getattr(model, f'net_{label}') for label in labels if hasattr(model, f'net_{label}')}


def optimizer_bytes(optimizers: Iterable[Optimizer]) -> int:
    """Return the size of the optimizer states in bytes, after two steps, which change the weights.

    Raises:
        UserError: After a step, weights are not finite, or more than `GROWTH` times as large.
        Exception: An optimizer fails.
    """
    total = 0
    for optimizer in optimizers:
        weights = [weight for weight in weights_of(optimizer) if weight.numel()]
        for gradient in (0, 1):  # wrong arguments may have an effect with only one of them
            before = _greatest(weights)
            for weight in weights:
                weight.grad = torch.full_like(weight, gradient)
            optimizer.step(lambda: 0.0)
            after = _greatest(weights)
            if not after <= GROWTH * max(before, 1):
                raise UserError(
                    f'{type(optimizer).__name__} changes the largest weight from {before:.3g} to {after:.3g} in a step '
                    f'with gradients of {gradient}: check its arguments'
                )
        total += bytes_of(part for part in tree_leaves(list(optimizer.state.values())) if isinstance(part, Tensor))
    return total


def _greatest(weights: Iterable[Tensor]) -> float:
    """Return the largest magnitude of the weights. It is NaN or infinity if one of them is not finite."""
    return float(torch.stack([weight.detach().abs().amax().float() for weight in weights]).amax())


def check_rates(opt: Mapping[str, Any], model: BaseModel) -> Iterator[Finding]:
    """Compute the learning rate of the first iterations. This changes the model's schedules."""
    settings = opt['train'].get('scheduler') or {}
    label = f'train.scheduler {settings.get("type", "")}'.strip()
    for iteration in range(1, min(opt['train']['total_iter'], RATES) + 1):
        try:
            model.update_learning_rate(iteration, warmup_iter=opt['train'].get('warmup_iter', -1))
            rates = model.get_current_learning_rate()
        except Exception as fault:  # schedules can raise any exception
            yield error(f'{label} fails at iteration {iteration}: {describe_error(fault)}')
            return
        if not all(0 <= rate <= LARGEST_RATE for rate in rates):
            found = f'the learning rate of iteration {iteration} is {rates[0]:g}'
            yield error(f'{label}: {found}, expected a number in [0, {LARGEST_RATE}]')
            return


def check_passes(
    opt: Mapping[str, Any], model: BaseModel, datasets: Mapping[str, SizedDataset], thorough: bool = True
) -> Iterator[Finding]:
    """Run network and losses on a training batch, and network and metrics on an image of each other dataset.

    Args:
        opt: The options.
        model: The model. It is skipped if it overrides how BasicSR's SRModel trains.
        datasets: The datasets by phase, as far as they can be built.
        thorough: Whether to use whole batches and images of up to `SIDE`, instead of two images of up to `SMALL_SIDE`.
    """
    if not isinstance(model, SRModel) or 'network_d' in opt:
        yield ok(f'skipped: {type(model).__name__} does not train and restore as SRModel does')
        return
    if model.opt.get('val'):
        model.opt['val'].update(pad=None, ensemble=False)  # keep the images small and the passes few
    side = SIDE if thorough else SMALL_SIDE
    # a network of another package may require larger images or a GPU
    own = type(model.net_g).__module__.partition('.')[0] in TRANSPARENT
    fault = error if own else warning
    with torch.no_grad():
        if opt['is_train']:
            yield _guarded(
                'training batch', fault, lambda: train_pass(opt, model, datasets.get('train'), side, thorough)
            )
        for phase, dataset in datasets.items():
            if phase != 'train':
                name = f'{opt["datasets"][phase]["name"]} ({phase})'
                yield _guarded(name, fault, functools.partial(validation_pass, opt, model, dataset, side))


class NetworkFails(Exception):
    """The network raises an error or returns a wrong shape."""


def _guarded(name: str, network_fault: Callable[[str], Finding], run: Callable[[], str]) -> Finding:
    """Return the finding of a pass. If the network fails, return `network_fault` of the message."""
    try:
        return ok(f'{name}: {run()}')
    except UserError as fault:
        return error(f'{name}: {fault}')
    except NetworkFails as fault:
        return network_fault(f'{name}: {fault}')
    except Exception as fault:  # datasets, losses and metrics of other packages can raise any exception
        return error(f'{name}: {describe_error(fault)}')


@contextmanager
def _in_network(model: SRModel) -> Iterator[None]:
    """Convert errors in the block to `NetworkFails`."""
    try:
        yield
    except UserError:
        raise
    except Exception as fault:
        raise NetworkFails(
            f'network_g {type(model.net_g).__name__} fails on images {_size(model.lq)}: {describe_error(fault)}'
        ) from fault


def _size(image: Tensor) -> str:
    return 'x'.join(map(str, image.shape))


def train_pass(
    opt: Mapping[str, Any], model: SRModel, dataset: SizedDataset | None, side: int = SIDE, thorough: bool = True
) -> str:
    """Run network and losses on random images with the shape of a training batch, cropped to `side`.

    Args:
        opt: The options.
        model: The model.
        dataset: The training data, which determines the number of channels.
        side: Maximum height and width.
        thorough: Whether to use a whole batch, instead of at most two images.

    Returns:
        A text with the shape and the losses, or the reason why the pass is skipped.

    Raises:
        NetworkFails: The network fails.
        UserError: A loss fails or is not finite.
    """
    stage = stages_of(opt)[0]
    if stage.gt_size is None:
        return 'skipped, since datasets.train has no gt_size'
    channels = _channels(dataset, stage.gt_size)
    if channels is None:
        return 'skipped, since the samples are not single images'
    scale, multiple = opt.get('scale', 1), size_multiple(model.net_g)
    limit = max(multiple, side // multiple * multiple)
    height, width = (min(length // scale, limit) for length in crop_size(stage.gt_size))
    shape = (stage.batch if thorough else min(stage.batch, 2), channels, height, width)
    needed = 1000 * bytes_of([torch.empty(shape, device='meta')])  # rough estimate for a network with many feature maps
    available = available_memory()
    if available is not None and needed > available:
        return f'skipped, since a batch of {shape[0]} may need {amount(needed)} of memory'
    model.net_g.train()
    model.feed_data({'lq': torch.rand(shape), 'gt': torch.rand(*shape[:2], height * scale, width * scale)})
    losses: dict[str, Tensor]
    with _in_network(model):
        output = model.run(model.lq) if isinstance(model, DeepRFTv2Model) else model.net_g(model.lq)
        _check_shape(output, model.gt)
    compute = model.compute_losses if isinstance(model, DeepRFTv2Model) else functools.partial(_compute_losses, model)
    try:
        losses = compute(output, model.gt)
    except Exception as fault:
        raise UserError(f'a loss of train fails on images {_size(model.gt)}: {describe_error(fault)}') from fault
    for name, value in losses.items():
        if not torch.isfinite(value).all():
            raise UserError(f'{name} is {float(value):g} for random images: check the arguments of the loss')
    listed = ', '.join(f'{name} {float(value):.3g}' for name, value in losses.items())
    return f'{_size(model.lq)}, {listed}'


def _channels(dataset: SizedDataset | None, gt_size: int | list[int]) -> int | None:
    """Return the number of channels of blurry images; None if samples are not single images, 3 if unknown."""
    try:
        sample = DrawnDataset(dataset, 0, 0)[Draw(0, 0, gt_size)][0] if dataset else {}
    except Exception:  # reported by the data checks
        sample = {}
    if 'lq' not in sample:
        return 3
    return sample['lq'].shape[0] if sample['lq'].ndim == 3 else None


def _check_shape(output: Any, gt: Tensor) -> None:
    """Check that the last output has the shape of the sharp images. Losses would broadcast other shapes."""
    images = getattr(output, 'full', output)
    last = images if isinstance(images, Tensor) else images[-1]
    if last.shape != gt.shape:
        raise ValueError(f'it returns {_size(last)}, but the sharp images are {_size(gt)}')


def _compute_losses(model: SRModel, output: Any, gt: Tensor) -> dict[str, Tensor]:
    """Return the losses of BasicSR's SRModel."""
    losses = {}
    if model.cri_pix:
        losses['l_pix'] = model.cri_pix(output, gt)
    if model.cri_perceptual:
        parts = zip(('l_percep', 'l_style'), model.cri_perceptual(output, gt), strict=True)
        losses.update({name: value for name, value in parts if value is not None})
    return losses


def _side_for(settings: Mapping[str, Any], side: int) -> int:
    """Return the height and width of a part of an image that is large enough for a metric."""
    parameters = inspect.signature(METRIC_REGISTRY.get(settings['type'])).parameters
    if 'trajectory' in parameters:
        return max(side, LEAST_SIDE)
    cropped = (settings.get(key, parameters[key].default) for key in ('crop_border', 'border') if key in parameters)
    return side + 2 * max((pixels for pixels in cropped if isinstance(pixels, int)), default=0)


def validation_pass(opt: Mapping[str, Any], model: SRModel, dataset: SizedDataset, side: int = SIDE) -> str:
    """Restore a part of the first image of a dataset and compute the metrics.

    Args:
        opt: The options.
        model: The model.
        dataset: The dataset.
        side: Maximum height and width of the part. It is larger if metrics crop borders or need more.

    Returns:
        A text with the size and the metrics, or the reason why the pass is skipped.

    Raises:
        NetworkFails: The network fails.
        UserError: A metric fails or is NaN.
        Exception: The dataset fails.
    """
    if not len(dataset):
        return 'skipped, since it is empty'
    scale, sample = opt.get('scale', 1), dataset[0]
    if sample['lq'].ndim != 3:
        return 'skipped, since its samples are not single images'
    metrics = (opt.get('val') or {}).get('metrics') or {}
    side = max((_side_for(settings, side) for settings in metrics.values()), default=side)
    parts = {
        key: sample[key][None, :, :length, :length]
        for key, length in (('lq', side), ('gt', side * scale))
        if key in sample
    }
    vars(model).pop('gt', None)  # left over from another image
    model.feed_data(parts)
    with _in_network(model):
        model.test()
    images = model.get_current_visuals()
    blurry, restored, *sharp = to_images(*(images[key] for key in ('lq', 'result', 'gt') if key in images))
    known: dict[str, Any] = {}
    if 'kernel' in sample:
        known['kernel'] = sample['kernel'].numpy()
    if 'trajectory' in sample:
        known['trajectory'] = ImageSequence(tuple(sample['trajectory'][:1]), side)
    scores: dict[str, float] = {}
    for name, settings in metrics.items():
        try:
            scores |= compute_metrics(restored, sharp[0] if sharp else None, {name: settings}, blurry=blurry, **known)
        except Exception as fault:
            raise UserError(f'val.metrics.{name} fails: {describe_error(fault)}') from fault
        if math.isnan(scores.get(name, 0)):
            raise UserError(f'val.metrics.{name} is nan for an image of {"x".join(map(str, restored.shape))}')
    listed = ''.join(f', {name} {value:.4g}' for name, value in scores.items())
    return f'{_size(parts["lq"])} restored{listed}'
