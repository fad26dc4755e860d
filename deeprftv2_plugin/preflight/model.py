"""Build the model of a run on the CPU, and send a little data through it."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from basicsr.models.sr_model import SRModel
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.evaluation.validation import compute_metrics, to_images
from deeprftv2_plugin.inference.restoration import size_multiple
from deeprftv2_plugin.models.deeprftv2_model import DeepRFTv2Model
from deeprftv2_plugin.preflight.findings import Finding, amount, error, ok
from deeprftv2_plugin.preflight.resources import bytes_of
from deeprftv2_plugin.training.stages import stages_of
from deeprftv2_plugin.utils.errors import UserError

SIDE = 96
"""Greatest height and width of the images that are sent through a model."""


def build(options: Mapping[str, Any]) -> BaseModel:
    """Build the model with its networks, losses, optimizers and schedules, with random weights.

    Raises:
        UserError: It cannot be built.
    """
    opt = copy.deepcopy({**options, 'num_gpu': 0})  # BasicSR's models remove entries from the options
    opt['path'] = {key: value for key, value in opt['path'].items() if not key.startswith('pretrain_network_')}
    if opt['is_train']:
        opt['train'].update(ema_decay=0, compile=False)  # one network is enough, and compiling takes long
    try:
        return build_model(opt)
    except UserError:
        raise
    except Exception as fault:  # models of other packages raise what they like
        for key in [key for key in opt if key.startswith('network_')]:
            _require_network(key, opt[key])
        raise UserError(f'{opt["model_type"]} cannot be built: {type(fault).__name__}: {fault}') from fault


def _require_network(key: str, settings: dict) -> None:
    try:
        build_network(settings)
    except Exception as fault:
        raise UserError(f'{key} {settings["type"]} cannot be built: {fault}') from fault


def networks_of(opt: Mapping[str, Any], model: BaseModel) -> dict[str, nn.Module]:
    """Return the networks of a model by their labels, such as 'g' for that of `network_g`."""
    labels = [key.removeprefix('network_') for key in opt if key.startswith('network_')]
    return {label: getattr(model, f'net_{label}') for label in labels if hasattr(model, f'net_{label}')}


def optimizer_bytes(optimizers: Iterable[Optimizer]) -> int:
    """Return the bytes that optimizers store besides the weights, after a first step. The step changes the weights."""
    total = 0
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for weight in group['params']:
                weight.grad = torch.zeros_like(weight)
        optimizer.step(lambda: 0.0)
        total += bytes_of(part for part in tree_leaves(list(optimizer.state.values())) if isinstance(part, Tensor))
    return total


def check_passes(opt: Mapping[str, Any], model: BaseModel, datasets: Mapping[str, SizedDataset]) -> Iterator[Finding]:
    """Send a training batch through network and losses, and an image of each other data set through the metrics.

    Args:
        opt: The options.
        model: The model; one that overrides how BasicSR's SRModel trains is skipped.
        datasets: The data sets by phase, as far as they can be built.
    """
    if not isinstance(model, SRModel) or 'network_d' in opt:
        yield ok(f'skipped: {type(model).__name__} does not train and restore as SRModel does')
        return
    if model.opt.get('val'):
        model.opt['val'].update(pad=None, ensemble=False)  # the images stay small, one pass is enough
    with torch.no_grad():
        if opt['is_train']:
            yield _guarded('training batch', lambda: train_pass(opt, model))
        for phase, dataset in datasets.items():
            if phase != 'train':
                name = f'{opt["datasets"][phase]["name"]} ({phase})'
                yield _guarded(name, lambda dataset=dataset: validation_pass(opt, model, dataset))


def _guarded(name: str, run: Any) -> Finding:
    try:
        return ok(f'{name}: {run()}')
    except UserError as fault:
        return error(f'{name}: {fault}')
    except Exception as fault:  # networks, losses and metrics of other packages raise what they like
        return error(f'{name}: {type(fault).__name__}: {fault}')


def train_pass(opt: Mapping[str, Any], model: SRModel) -> str:
    """Run network and losses on random images, of the shape of a training batch up to `SIDE`.

    Returns:
        The shape and the losses, or why there are none.

    Raises:
        Exception: What the network or a loss raises.
    """
    stage = stages_of(opt)[0]
    if stage.gt_size is None:
        return 'skipped, since datasets.train has no gt_size'
    scale, multiple = opt.get('scale', 1), size_multiple(model.net_g)
    limit = max(multiple, SIDE // multiple * multiple)
    height, width = (min(side // scale, limit) for side in crop_size(stage.gt_size))
    shape = (stage.batch, 3, height, width)
    needed = 1000 * bytes_of([torch.empty(shape, device='meta')])  # roughly that of a network with many wide maps
    available = available_memory()
    if available is not None and needed > available:
        return f'skipped, since a batch of {stage.batch} may need {amount(needed)} of memory'
    model.net_g.train()
    model.feed_data({'lq': torch.rand(shape), 'gt': torch.rand(stage.batch, 3, height * scale, width * scale)})
    losses: dict[str, Tensor]
    if isinstance(model, DeepRFTv2Model):
        losses = model.compute_losses(model.run(model.lq), model.gt)
    else:
        losses = _compute_losses(model, model.net_g(model.lq))
    listed = ', '.join(f'{name} {float(value):.3g}' for name, value in losses.items())
    return f'{"x".join(map(str, shape))}, {listed}'


def _compute_losses(model: SRModel, output: Any) -> dict[str, Tensor]:
    """Return the losses of BasicSR's SRModel."""
    losses = {}
    if model.cri_pix:
        losses['l_pix'] = model.cri_pix(output, model.gt)
    if model.cri_perceptual:
        parts = zip(('l_percep', 'l_style'), model.cri_perceptual(output, model.gt), strict=True)
        losses.update({name: value for name, value in parts if value is not None})
    return losses


def validation_pass(opt: Mapping[str, Any], model: SRModel, dataset: SizedDataset) -> str:
    """Restore a part of the first image of a data set and compute the metrics.

    Returns:
        The size and the metrics, or why there are none.

    Raises:
        Exception: What the data set, the network or a metric raises.
    """
    if not len(dataset):
        return 'skipped, since it is empty'
    scale, sample = opt.get('scale', 1), dataset[0]
    if sample['lq'].ndim != 3:
        return 'skipped, since its samples are not single images'
    parts = {
        key: sample[key][None, :, :side, :side] for key, side in (('lq', SIDE), ('gt', SIDE * scale)) if key in sample
    }
    vars(model).pop('gt', None)  # that of another image
    model.feed_data(parts)
    model.test()
    images = model.get_current_visuals()
    blurry, restored, *sharp = to_images(*(images[key] for key in ('lq', 'result', 'gt') if key in images))
    metrics = (opt.get('val') or {}).get('metrics') or {}
    scores = compute_metrics(restored, sharp[0] if sharp else None, metrics, blurry)
    listed = ''.join(f', {name} {value:.4g}' for name, value in scores.items())
    return f'{"x".join(map(str, parts["lq"].shape))} restored{listed}'


def available_memory() -> int | None:
    """Return the bytes of memory that are available to programs; None if the system does not say."""
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    values = {name: int(value.split()[0]) for name, _, value in (line.partition(':') for line in lines)}
    return values['MemAvailable'] * 1024 if 'MemAvailable' in values else None
