"""Whether a training step of every stage fits into the GPU's memory."""

from collections.abc import Iterator, Mapping
from typing import Any

from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.models.deeprftv2_model import DeepRFTv2Model
from deeprftv2_plugin.preflight.devices import gpu_memory, gpus_here
from deeprftv2_plugin.preflight.findings import Finding, amount, error, ok, warning
from deeprftv2_plugin.preflight.footprint import Activations
from deeprftv2_plugin.preflight.model import bytes_of
from deeprftv2_plugin.training.stages import TrainingStage, accumulation_of, stages_of

RESERVE = 0.1
"""Part of a GPU's memory that CUDA itself, the libraries' work space and gaps between tensors may take."""


def check_memory(opt: Mapping[str, Any], net: nn.Module, optimiser: int) -> Iterator[Finding]:
    """Estimates what every stage takes, and compares it with the GPU.

    Args:
        opt: The options.
        net: The network of `network_g`.
        optimiser: Bytes that the optimisers keep.
    """
    try:
        activations = Activations(net)
    except Exception as fault:  # networks of other packages raise what they like
        first = (str(fault) or type(fault).__name__).splitlines()[0]
        yield warning(f'cannot be estimated: {type(net).__name__} fails on a small crop of three channels: {first}')
        return
    weights = bytes_of(net.state_dict().values())
    gradients = bytes_of(weight for weight in net.parameters() if weight.requires_grad)
    fixed = {'weights': weights, 'gradients': gradients, 'optimiser': optimiser}
    if opt['train'].get('ema_decay'):
        fixed['average'] = weights
    listed = ', '.join(f'{name} {amount(size)}' for name, size in fixed.items())
    yield ok(f'{listed}; activations estimated for float32{", bf16 takes less" if opt["train"].get("bf16") else ""}')
    for number, stage in enumerate(stages_of(opt), 1):
        if stage.gt_size is None:
            yield warning('cannot be estimated: datasets.train has no gt_size')
        else:
            yield check_stage(opt, number, stage, sum(fixed.values()), activations.peak(pixels_of(opt, stage)))


def pixels_of(opt: Mapping[str, Any], stage: TrainingStage) -> int:
    """How many pixels the network takes at a time."""
    height, width = (side // opt.get('scale', 1) for side in crop_size(stage.gt_size))
    batch = stage.batch
    if not issubclass(MODEL_REGISTRY.get(opt['model_type']), DeepRFTv2Model):
        batch *= accumulation_of(opt, gpus_here(opt))  # BasicSR's models take all batches of a step at once
    return batch * height * width


def check_stage(opt: Mapping[str, Any], number: int, stage: TrainingStage, fixed: int, activations: float) -> Finding:
    """Compares one stage with the GPU.

    Args:
        opt: The options.
        number: Of the stage.
        stage: The stage.
        fixed: Bytes that do not depend on it.
        activations: Bytes that do.
    """
    needed, there = fixed + activations, gpu_memory(opt)
    height, width = crop_size(stage.gt_size)
    text = f'stage {number}, patches of {height}x{width}, {stage.batch} at a time: about {amount(needed)}'
    if there is None:
        return ok(text)
    text += f' of the {amount(there)} of the GPU'
    least = fixed + activations / 2 if opt['train'].get('bf16') else needed
    if least > there:
        return error(f'{text}; lower batch_size_per_gpu or gt_size')
    return warning(text) if needed > (1 - RESERVE) * there else ok(text)
