"""The parts of the network: the Fourier Kernel Estimator, and every kind of block at its levels' shapes."""

import torch
from torch import nn

from benchmarks.counting import work_of
from benchmarks.measure import figures
from benchmarks.network import flat
from benchmarks.plan import Case, Setting
from deeprftv2_plugin.layers import BLOCKS, Blocks, FourierKernelEstimator, SelectiveScanMixer

CHANNELS = 48
"""At the finest level of DeepRFTv2-B."""
TRAIN_SIZE = SCAN_WINDOW = 256


def estimator_cases(setting: Setting) -> list[Case]:
    return [
        Case('fke', estimate, {'channels': CHANNELS, 'size': size, 'training': training})
        for size in setting.sizes_or(128, 256)
        for training in (False, True)
    ]


def block_cases(setting: Setting) -> list[Case]:
    shapes = [('SelectiveScanMixer', 0), ('SelectiveScanMixer', 1)]
    shapes += [(name, level) for name, kind in BLOCKS.items() for level in range(3) if level or not kind.turns]
    return [
        Case('blocks', block, {'kind': name, 'level': level, 'size': size, 'training': training})
        for size in setting.sizes_or(256)
        for name, level in shapes
        for training in (False, True)
    ]


def estimate(setting: Setting, channels: int, size: int, training: bool) -> dict:
    """An estimator, reversible in training, on a feature and a picture."""
    shapes = (1, channels, size, size), (1, 3, size, size)
    return _pass(setting, lambda: FourierKernelEstimator(channels), shapes, training)


def block(setting: Setting, kind: str, level: int, size: int, training: bool) -> dict:
    """One block of the encoder, or a mixer of the kernel column at full scale (level 0) or at half scale (1)."""
    channels, side = CHANNELS * 2**level, size // 2**level
    if kind == 'SelectiveScanMixer':
        return _pass(setting, lambda: SelectiveScanMixer(CHANNELS), [(1, CHANNELS, side, side // 2 + 1)], training)
    pool, window = (max(1, n // 2**level) for n in (TRAIN_SIZE * 3 // 2, SCAN_WINDOW))
    return _pass(
        setting,
        lambda: Blocks(kind, 1, channels, (pool, pool), (window, window)),
        [(1, channels, side, side)],
        training,
    )


def _pass(setting, build, shapes, training):
    """Figures of a call, in training with the gradients of inputs and parameters."""
    module: nn.Module = build().to(setting.device).train(training)
    inputs = [torch.rand(shape, device=setting.device, requires_grad=training) for shape in shapes]
    work = work_of(build, *shapes, training=training)
    if not training:
        with torch.no_grad():
            return figures(setting, lambda: module(*inputs), work)

    def run():
        out = module(*inputs)
        reached = [t for t in flat(out) if t.requires_grad and t.is_floating_point()]
        torch.autograd.backward(reached, [torch.ones_like(t) for t in reached])

    return figures(setting, run, work)
