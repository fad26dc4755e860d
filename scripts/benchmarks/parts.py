"""Parts of the network, the data loader, and the metrics."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.measure import TRAINING, Setting, Skip, figures, forward, work_of
from deeprftv2_plugin.comparison.measurement import PeakMemory, size_of, tensors, time_of
from deeprftv2_plugin.layers import Blocks, FourierKernelEstimator, SelectiveScanMixer
from deeprftv2_plugin.ops import backends, selective_scan

CHANNELS = 48
"""Channels of the finest level of DeepRFTv2-B."""
BASICSR_METRICS = {'psnr': 'calculate_psnr', 'ssim': 'calculate_ssim', 'ssim_3d': 'calculate_ssim'}
"""The metrics of BasicSR to compare with. It has no three-dimensional SSIM on the CPU."""


def scan_backends(device: str) -> list[str]:
    """Return the usable backends with a float32 scan on a device, in the order of preference."""
    probe = torch.zeros(1, device=device)
    usable = backends.usable(os.environ.get(backends.VARIABLE))
    able = [backend for backend in usable if hasattr(backend, 'selective_scan') and backend.takes(probe)]
    return [backend.__name__.rpartition('.')[2] for backend in able]


def scan(setting: Setting, implementation: str, channels: int, states: int, length: int, memory: bool = False) -> dict:
    """Measure a scan and its backward pass, or their memory in addition to the inputs and the incoming gradient."""
    function = {'mambapy': mambapy_scan, 'sequential': sequential_scan}.get(implementation, selective_scan)
    if function is selective_scan:
        os.environ[backends.VARIABLE] = implementation
    inputs = scan_inputs(setting.device, channels, states, length)
    run = with_gradients(function, inputs)
    if not memory:
        flop, size = 9 * channels * states * length, 4 * length * (3 * channels + 2 * states)
        moved = 4 * length * (8 * channels + 6 * states)
        return figures(setting, run, [(TRAINING * flop, TRAINING * size)]) | {'moved_bytes': moved}
    with_gradients(function, scan_inputs(setting.device, channels, states, 100))()  # load the libraries
    peak = PeakMemory(setting.device)
    run()
    used = peak.used()
    if used['increase_bytes'] is None:
        raise Skip('the memory of a process before the scan is only known on Linux')
    ratio = used['increase_bytes'] / size_of(inputs)
    return used | {'extra_ratio': ratio, 'note': f'extra memory {ratio:.2f} times the inputs'}


def scan_inputs(device: str, channels: int, states: int, length: int) -> list[torch.Tensor]:
    """Return u, delta, A, B, C, D and delta_bias for a batch of one."""
    shapes = [(1, length, channels)] * 2 + [(1, length, states)] * 2 + [(channels,)] * 2
    u, delta, B, C, D, bias = (torch.randn(shape, device=device) for shape in shapes)
    A = -torch.arange(1.0, states + 1, device=device).repeat(channels, 1)
    return [t.requires_grad_() for t in (u, delta, A, B, C, D, bias - 4)]


def with_gradients(function: Callable, inputs: list[torch.Tensor]) -> Callable[[], object]:
    """Return a function that computes a scan and the gradients of its inputs."""
    weight = torch.randn_like(inputs[0])

    def run():
        y = function(*inputs)
        return y, torch.autograd.grad(y, inputs, weight)

    return run


def mambapy_scan(u, delta, A, B, C, D, delta_bias):
    """Compute the scan as mambapy's Mamba block does, with its parallel scan."""
    from mambapy.pscan import pscan

    step = F.softplus(delta + delta_bias)[..., None]
    states = pscan(torch.exp(step * A), step * B.unsqueeze(2) * u[..., None])
    return (states @ C[..., None]).squeeze(3) + D * u


def sequential_scan(u, delta, A, B, C, D, delta_bias):
    """Compute the recurrence of `ops.selective_scan` step by step."""
    step = F.softplus(delta + delta_bias)
    decay, gain = torch.exp(step[..., None] * A), (step * u)[..., None] * B.unsqueeze(2)
    state, outputs = torch.zeros_like(gain[:, 0]), []
    for position in range(u.shape[1]):
        state = decay[:, position] * state + gain[:, position]
        outputs.append((state * C[:, position, None]).sum(-1))
    return torch.stack(outputs, 1) + D * u


def estimator(setting: Setting, channels: int, size: int, training: bool) -> dict:
    """Run an estimator, reversible in training, on features and an image."""
    return _module(setting, lambda: FourierKernelEstimator(channels), [channels, 3], (size, size), training)


def block(setting: Setting, kind: str, level: int, size: int, training: bool) -> dict:
    """Run a block of the encoder, or a mixer of the kernel column at full scale (level 0) or at half scale (1)."""
    side = size // 2**level
    if kind == 'SelectiveScanMixer':
        return _module(setting, lambda: SelectiveScanMixer(CHANNELS), [CHANNELS], (side, side // 2 + 1), training)
    channels, pool, window = CHANNELS * 2**level, 384 // 2**level, 256 // 2**level  # as trained on crops of 256x256
    build = lambda: Blocks(kind, 1, channels, (pool, pool), (window, window))  # noqa: E731
    return _module(setting, build, [channels], (side, side), training)


def _module(setting, build, channels, space, training):
    """Return a call on inputs of these channels, in training with the gradients of inputs and parameters."""
    shapes = [(1, each, *space) for each in channels]
    if not training:
        return forward(setting, build, *shapes)
    module = build().to(setting.device).train()
    inputs = [torch.rand(shape, device=setting.device, requires_grad=True) for shape in shapes]

    def run():
        outputs = [t for t in tensors(module(*inputs)) if t.requires_grad and t.is_floating_point()]
        torch.autograd.backward(outputs, [torch.ones_like(t) for t in outputs])

    return figures(setting, run, work_of(build, *shapes, training=True))


def load(setting: Setting, storage: str, size: int, workers: int) -> dict:
    """Load random crops in batches of one from pairs of PNG images, frames of 1280x720 or crops of 512x512."""
    from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset

    samples = 2 if setting.quick else 24 * (1 + workers)
    with TemporaryDirectory() as folder:
        roots = [_store(Path(folder, kind), storage, seed) for seed, kind in enumerate(('blur', 'sharp'))]
        options = {'phase': 'train', 'dataroot_lq': roots[0], 'dataroot_gt': roots[1], 'gt_size': size}
        dataset = PairedDeblurDataset(options)
        sampler = RandomSampler(dataset, replacement=True, num_samples=samples)
        loader = DataLoader(dataset, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
        found = time_of(lambda: [sample['lq'].shape for sample in loader], 0 if setting.quick else 4)
    rate = samples / found['seconds']
    return found | {'images_per_second': rate, 'note': f'{rate:.3g} images/s'}


def _store(root: Path, storage: str, seed: int) -> str:
    """Write images to files or LMDB."""
    import cv2

    from deeprftv2_plugin.data.storage.lmdb_writer import LmdbWriter

    count, height, width = (24, 512, 512) if storage.startswith('crops') else (6, 720, 1280)
    images = {f'{index:06d}': image for index, image in enumerate(_images(count, height, width, seed))}
    if storage.endswith('LMDB'):
        root = root.with_suffix('.lmdb')
        with LmdbWriter(root) as writer:
            for name, image in images.items():
                writer.add(name, image)
    else:
        root.mkdir()
        for name, image in images.items():
            cv2.imwrite(str(root / f'{name}.png'), image)
    return str(root)


def _images(count: int, height: int, width: int, seed: int) -> Iterator:
    """Return random images that compress about as well as photographs."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(seed)
    for _ in range(count):
        coarse = cv2.GaussianBlur(rng.normal(128, 300, (height, width, 3)), (0, 0), 4)
        yield np.clip(coarse + rng.normal(0, 2, coarse.shape), 0, 255).astype(np.uint8)


def metric(setting: Setting, metric: str, width: int, height: int) -> dict:
    """Measure a metric of two 8-bit frames and that of BasicSR, always on one core of the CPU."""
    import cv2

    from deeprftv2_plugin.basicsr_bridge.registration import register

    register()
    from basicsr.utils.registry import METRIC_REGISTRY

    cv2.setNumThreads(1)
    sharp, blurry = _images(2, height, width, 0)

    def time_metric(name, **options):
        call = METRIC_REGISTRY.get(name)
        return time_of(lambda: call(blurry, sharp, **options), 0 if setting.quick else 2)

    found, theirs = time_metric(metric), time_metric(BASICSR_METRICS[metric], crop_border=0)['seconds']
    ratio = theirs / found['seconds']
    note = f"{ratio:.1f} times as fast as BasicSR's {BASICSR_METRICS[metric]}, {theirs * 1e3:.0f} ms"
    return found | {'basicsr_seconds': theirs, 'basicsr_ratio': ratio, 'note': note}
