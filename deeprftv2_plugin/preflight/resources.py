"""Check that a training fits into the memory and onto the disk."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from deeprftv2_plugin.data.datasets.augmentation import crop_size
from deeprftv2_plugin.models.deeprftv2_model import DeepRFTv2Model
from deeprftv2_plugin.preflight.findings import Finding, amount, error, ok, warning
from deeprftv2_plugin.preflight.footprint import Activations
from deeprftv2_plugin.training.stages import TrainingStage, accumulation_of, gpus_of, stages_of
from deeprftv2_plugin.utils.errors import UserError, first_line
from deeprftv2_plugin.utils.memory import available_memory

RESERVE = 0.1
"""Fraction of the GPU memory that is reserved for CUDA, workspaces of libraries and fragmentation."""


def gpus_here(opt: Mapping[str, Any]) -> int:
    """Return the number of GPUs that share a step: the processes of a launcher (WORLD_SIZE), otherwise `num_gpu`.

    Raises:
        UserError: WORLD_SIZE is not a positive integer.
    """
    processes = os.environ.get('WORLD_SIZE', '1')
    if not processes.isdecimal() or int(processes) < 1:
        raise UserError(f'WORLD_SIZE is {processes!r} in the environment, expected a positive integer')
    return gpus_of({**opt, 'dist': 'WORLD_SIZE' in os.environ, 'world_size': int(processes)})


def gpu_memory(opt: Mapping[str, Any]) -> int | None:
    """Return the memory of the smallest visible GPU in bytes; None if the run uses no GPU."""
    if opt['num_gpu'] == 0 or not torch.cuda.is_available():
        return None
    return min(torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count()))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the size of all elements in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def check_images(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that a batch of each stage, and the padded images of a validation, fit into the memory of the machine."""
    needed = {}
    if opt['is_train']:
        for number, stage in enumerate(stages_of(opt), 1):
            height, width = crop_size(stage.gt_size or 1)
            count = stage.batch * accumulation_of(opt, gpus_here(opt))
            needed[f'stage {number}: {count} pairs of {height}x{width}'] = 2 * count * height * width
    pad = (opt.get('val') or {}).get('pad')
    if pad:
        needed['val.pad: an image of {}x{}'.format(*pad)] = pad[0] * pad[1]
    available = available_memory()
    for text, pixels in needed.items():
        size = 3 * 4 * pixels
        if available is not None and size > available:
            yield error(f'{text} pixels takes {amount(size)}, but {amount(available)} of memory is available')


def check_memory(opt: Mapping[str, Any], net: nn.Module, optimizer: int) -> Iterator[Finding]:
    """Estimate the memory of every stage and compare it with the GPU.

    Args:
        opt: The options.
        net: The network of `network_g`.
        optimizer: Size of the optimizer states in bytes.
    """
    try:
        activations = Activations(net)
    except Exception as fault:  # networks of other packages can raise any exception
        reason = first_line(fault)
        yield warning(f'cannot be estimated: {type(net).__name__} fails on a small crop of three channels: {reason}')
        return
    weights = bytes_of(net.state_dict().values())
    gradients = bytes_of(weight for weight in net.parameters() if weight.requires_grad)
    fixed = {'weights': weights, 'gradients': gradients, 'optimizer': optimizer}
    if opt['train'].get('ema_decay'):
        fixed['average'] = weights
    listed = ', '.join(f'{name} {amount(size)}' for name, size in fixed.items())
    yield ok(
        f'{listed}; activations are estimated for float32{" (less with bf16)" if opt["train"].get("bf16") else ""}'
    )
    for number, stage in enumerate(stages_of(opt), 1):
        if stage.gt_size is None:
            yield warning('cannot be estimated: datasets.train has no gt_size')
        else:
            yield check_stage(opt, number, stage, sum(fixed.values()), activations.peak(pixels_of(opt, stage)))


def pixels_of(opt: Mapping[str, Any], stage: TrainingStage) -> int:
    """Return the number of pixels in a batch of the network."""
    height, width = (side // opt.get('scale', 1) for side in crop_size(stage.gt_size))
    batch = stage.batch
    if not issubclass(MODEL_REGISTRY.get(opt['model_type']), DeepRFTv2Model):
        batch *= accumulation_of(opt, gpus_here(opt))  # BasicSR's models process all batches of a step at once
    return batch * height * width


def check_stage(opt: Mapping[str, Any], number: int, stage: TrainingStage, fixed: int, activations: float) -> Finding:
    """Compare one stage with the GPU.

    Args:
        opt: The options.
        number: Number of the stage.
        stage: The stage.
        fixed: Memory in bytes that does not depend on the stage.
        activations: Memory of the activations in bytes.
    """
    needed, available = fixed + activations, gpu_memory(opt)
    height, width = crop_size(stage.gt_size)
    text = f'stage {number}, crops of {height}x{width}, batch {stage.batch}: about {amount(needed)}'
    if available is None:
        return ok(text)
    text += f' of {amount(available)} on the GPU'
    least = fixed + activations / 2 if opt['train'].get('bf16') else needed
    if least > available:
        return error(f'{text}; lower batch_size_per_gpu or gt_size')
    return warning(text) if needed > (1 - RESERVE) * available else ok(text)


def check_disk(opt: Mapping[str, Any], networks: Mapping[str, nn.Module], optimizer: int) -> Iterator[Finding]:
    """Compare the size of the files that a training writes with the free disk space.

    Args:
        opt: The options.
        networks: All networks.
        optimizer: Size of the optimizer states in bytes.
    """
    weights = bytes_of(tensor for net in networks.values() for tensor in net.state_dict().values())
    sets = 2 if opt['train'].get('ema_decay') else 1
    files = (sets + 1) * weights  # .pth, and .safetensors with one set
    each = files + optimizer
    saved = int(opt['train']['total_iter'] // opt['logger']['save_checkpoint_freq'])
    keep = opt['logger'].get('keep_checkpoints')
    count = min(saved, keep + 1) if keep else saved  # the oldest is removed after the newest is written
    named = files * (2 if (opt.get('val') or {}).get('metrics') else 1)
    folder = Path(opt['path']['experiments_root'])
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if os.path.isdir(path))).free
    text = (
        f'{amount(free)} free; {count} checkpoints of {amount(each)} and the latest and best weights take '
        f'{amount(count * each + named)}'
    )
    if free < min(count, 2) * each + named:
        yield error(f'{text}: there is no room for two checkpoints in {folder.parent}')
    elif free < count * each + named:
        yield warning(f'{text}: lower logger.keep_checkpoints or free space in {folder.parent}')
    else:
        yield ok(text)
