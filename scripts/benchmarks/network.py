"""Whole networks: evaluation, training, tiles, precision, torch.compile, architectures of BasicSR."""

import functools
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.measure import Setting, Skip, figures, forward, work_of
from deeprftv2_plugin import load
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import load_network
from deeprftv2_plugin.comparison.candidates import build_network, parse_architecture
from deeprftv2_plugin.comparison.measurement import training_step
from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.ops import TileGrid
from deeprftv2_plugin.ops.backends import VARIABLE

DATA = Path('datasets/quickstart')
WEIGHTS = Path('experiments/train_quickstart/models/net_g_latest.safetensors')  # contains the settings of the network


def evaluate(setting: Setting, variant: str, size: int) -> dict:
    """Run one image through the network, without gradients."""
    return forward(setting, lambda: DeepRFTv2(variant), (1, 3, size, size))


def train(
    setting: Setting,
    variant: str,
    size: int,
    batch: int = 1,
    stages: int = 2,
    reversible: bool = True,
    backend: str | None = None,
    bf16: bool = False,
    channels_last: bool = False,
    fused: bool = True,
    seconds: float | None = None,
    threads: int | None = None,
) -> dict:
    """Run a training step. If `seconds` is 0, run it once and omit the floor, to measure the memory."""
    if backend:
        os.environ[VARIABLE] = backend
    if threads:
        torch.set_num_threads(threads)

    def build():
        return DeepRFTv2(variant, stages=stages, reversible=reversible)

    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = build().to(setting.device, memory_format=layout)
    blurry = torch.rand(batch, 3, size, size, device=setting.device).to(memory_format=layout)
    step = training_step(network, blurry, bf16, fused)
    if seconds == 0:
        found = figures(setting, step, seconds=0)
    else:
        dtype = torch.bfloat16 if bf16 else torch.float32
        found = figures(setting, step, work_of(build, blurry.shape, training=True, itemsize=dtype.itemsize), dtype)
    rate = batch / found['seconds']
    found |= {'images_per_second': rate, 'note': f'{rate:.3g} images/s'}
    if setting.device == 'cuda':
        found['host_synchronizations'] = host_synchronizations(step)
        found['note'] += f', {found["host_synchronizations"]} host synchronizations'
    return found


def host_synchronizations(step: Callable[[], None]) -> int:
    """Count how often a step makes the CPU wait for the GPU."""
    torch.cuda.set_sync_debug_mode('warn')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        step()
    torch.cuda.set_sync_debug_mode('default')
    return sum('synchroniz' in str(warning.message) for warning in caught)


def compare_compiled(setting: Setting, variant: str, size: int, training: bool) -> dict:
    """Compare torch.compile with eager mode, for an evaluation or a reversible training step."""
    network = DeepRFTv2(variant).to(setting.device).eval()
    x = torch.rand(1, 3, size, size, device=setting.device)
    step = training_step(network, x) if training else lambda: network(x)
    with torch.set_grad_enabled(training):
        eager = figures(setting, step)['seconds']
        network.compile(fullgraph=True)
        start = time.perf_counter()
        step()
        preparation = time.perf_counter() - start
        compiled = figures(setting, step)
    ratio = compiled['seconds'] / eager
    note = f'{ratio:.2f} times eager, after {preparation:.0f} s of compiling'
    return compiled | {'eager_seconds': eager, 'compile_seconds': preparation, 'ratio': ratio, 'note': note}


def in_tiles(setting: Setting, variant: str, width: int, height: int, tile: int, overlap: int) -> dict:
    """Restore a frame in tiles, and compare time and peak memory with those of single tiles."""
    network = DeepRFTv2(variant).to(setting.device)
    frame, count = torch.rand(1, 3, height, width, device=setting.device), len(TileGrid((height, width), tile, overlap))
    single = frame[..., :tile, :tile].contiguous()
    one = figures(setting, lambda: restore(network, single))
    whole = figures(setting, lambda: restore(network, frame, tile, overlap), seconds=0)
    time_ratio = whole['seconds'] / (count * one['seconds'])
    memory_ratio = whole['peak_bytes'] / one['peak_bytes']
    note = f'{count} tiles: {time_ratio:.2f} times {count} single tiles, {memory_ratio:.2f} times the peak of one'
    ratios = {'time_ratio': time_ratio, 'memory_ratio': memory_ratio, 'note': note}
    return whole | {'tile_seconds': one['seconds'], 'tiles': count} | ratios


def photograph(setting: Setting, width: int, height: int) -> dict:
    """Deblur an 8-bit image with the weights of the package, like `basicsr deblur` between reading and writing."""
    deblur = load(device=setting.device)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = figures(setting, lambda: deblur(image), seconds=0)
    rate = found['seconds'] / (width * height / 1e6)
    return found | {'seconds_per_megapixel': rate, 'note': f'{rate:.2f} s per megapixel'}


def compare_precisions(setting: Setting, variant: str, size: int) -> dict:
    """Compare the output under bfloat16 autocast with that in float32, for random weights."""
    network, x = DeepRFTv2(variant).to(setting.device).eval(), torch.rand(1, 3, size, size, device=setting.device)

    def half_precision():
        with torch.autocast(setting.device, torch.bfloat16):
            return network(x)

    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():  # the scales of residual branches, which are initialized to zero
                parameter.normal_(0, 0.1)
        exact, rounded = network(x), half_precision().float()
        found = figures(setting, half_precision)
    decibels = -10 * torch.log10(F.mse_loss(rounded, exact) / F.mse_loss(x, exact)).item()
    note = f'the error of bf16 is {decibels:.1f} dB below the difference of output and input'
    return found | {'difference_db': decibels, 'note': note}


def compare_held_out(setting: Setting, images: str, bf16: bool) -> dict:
    """Compare the PSNR under bfloat16 autocast with that in float32 on the held-out images of the quickstart."""
    if not (WEIGHTS.exists() and DATA.exists()):
        raise Skip('requires the results of bash scripts/quickstart.sh')
    from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset

    roots = {'dataroot_lq': str(DATA / 'test_blur.lmdb'), 'dataroot_gt': str(DATA / 'test_sharp.lmdb')}
    dataset = PairedDeblurDataset({'phase': 'test', **roots})
    network, differences = load_network(WEIGHTS).to(setting.device), []
    for index in range(1 if setting.quick else len(dataset)):
        sample, scores = dataset[index], []
        for enabled in (False, True):
            with torch.autocast(setting.device, torch.bfloat16, enabled=enabled):
                output = restore(network, sample['lq'][None].to(setting.device))[0].float().cpu()
            pair = (image.clamp(0, 1).mul(255).round() / 255 for image in (output, sample['gt']))
            scores.append(-10 * F.mse_loss(*pair).log10().item())
        differences.append(scores[1] - scores[0])
    mean, worst = sum(differences) / len(differences), max(map(abs, differences))
    return {'difference_db': mean, 'worst_db': worst, 'note': f'mean {mean:+.4f} dB, worst image {worst:.4f} dB'}


def architecture(setting: Setting, arch: str, size: int, training: bool) -> dict:
    """Run one image through an architecture of BasicSR, or train it for a step."""
    name, settings = parse_architecture(arch)
    build = functools.partial(build_network, {'type': name, **settings})
    network, x = build().to(setting.device).eval(), torch.rand(1, 3, size, size, device=setting.device)
    try:
        work = work_of(build, x.shape, training=training)
    except Exception:  # FakeTensorMode does not support every architecture; the floor is then omitted
        work = []
    step = training_step(network, x) if training else lambda: network(x)
    with torch.set_grad_enabled(training):
        return figures(setting, step, work)
