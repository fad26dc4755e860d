"""Parts of the network, the data loader, and the metrics."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F

from benchmarks.measure import (
    TRAINING,
    Case,
    PeakMemory,
    Setting,
    Skip,
    figures,
    grid,
    size_of,
    tensors,
    time_of,
    work_of,
)
from benchmarks.network import forward, train
from deeprftv2_plugin.layers import BLOCKS, Blocks, FourierKernelEstimator, SelectiveScanMixer
from deeprftv2_plugin.ops import backends, selective_scan

SCAN = {'channels': 96, 'states': 8, 'length': 16384}
"""The scan that the goals on the CPU are about."""
NETWORK_SCANS = ((96, 33024), (192, 16384), (384, 4096))
"""Channels and lengths in DeepRFTv2-B at 256x256: the kernel columns at full scale, and the encoder's two levels."""
LONGEST_LOOP = 4096  # a loop in Python takes minutes for longer sequences
CHANNELS = 48
"""Of the finest level of DeepRFTv2-B."""
STORAGES = ('frames in files', 'frames in LMDB', 'crops in LMDB')
BASICSR_METRICS = {'psnr': 'calculate_psnr', 'ssim': 'calculate_ssim', 'ssim_3d': 'calculate_ssim'}
"""What ours are compared with. BasicSR has no three-dimensional SSIM on the CPU."""
FRAME = {'width': 1280, 'height': 720}


def scan_cases(setting: Setting) -> list[Case]:
    ours = scan_backends(setting.device)
    longer = (65536, 131072) if setting.device == 'cuda' else ()
    shapes = [(96, length) for length in (1024, 4096, 16384, *longer)] + list(NETWORK_SCANS)
    cases = []
    for channels, length in [(96, 64)] if setting.quick else shapes:
        key = {'channels': channels, 'states': 8, 'length': length}
        for name in [*ours, 'mambapy', 'sequential'][: -1 if length > LONGEST_LOOP else None]:
            default = key == SCAN or (setting.device == 'cuda' and name in ours)
            cases.append(Case(time_scan, {'implementation': name} | key, default))
    # so long that what an allocator keeps or rounds does not count
    key = SCAN | {'length': 256 if setting.quick else 65536, 'memory': True}
    return cases + [Case(scan_memory, {'implementation': name} | key, name == ours[0]) for name in ours]


def estimator_cases(setting: Setting) -> list[Case]:
    return grid(estimator, channels=[CHANNELS], size=setting.sizes_or(128, 256), training=(False, True))


def block_cases(setting: Setting) -> list[Case]:
    shapes = [('SelectiveScanMixer', 0), ('SelectiveScanMixer', 1)]
    shapes += [(name, level) for name, kind in BLOCKS.items() for level in range(3) if level or not kind.turns]
    return [
        case
        for name, level in shapes
        for case in grid(block, kind=[name], level=[level], size=setting.sizes_or(256), training=(False, True))
    ]


def data_cases(setting: Setting) -> list[Case]:
    size = [32 if setting.quick else 256]
    return grid(load, storage=STORAGES, size=size, workers=(0, 2)) + grid(
        train, variant=setting.variants_or('T', 'B'), size=size
    )


def metric_cases(setting: Setting) -> list[Case]:
    frame = {'width': 32, 'height': 24} if setting.quick else FRAME
    return [Case(metric, {'metric': name, **frame}, default=name != 'psnr') for name in BASICSR_METRICS]


def scan_backends(device: str) -> list[str]:
    """Return the usable backends with a float32 scan on a device, in the order of preference."""
    probe = torch.zeros(1, device=device)
    usable = backends.usable(os.environ.get(backends.VARIABLE))
    able = [backend for backend in usable if hasattr(backend, 'selective_scan') and backend.takes(probe)]
    return [backend.__name__.rpartition('.')[2] for backend in able]


def time_scan(setting: Setting, implementation: str, channels: int, states: int, length: int) -> dict:
    """Run a scan and its backward pass."""
    scan = {'mambapy': mambapy_scan, 'sequential': sequential_scan}.get(implementation, selective_scan)
    if scan is selective_scan:
        os.environ[backends.VARIABLE] = implementation
    flop, size = 9 * channels * states * length, 4 * length * (3 * channels + 2 * states)
    run = _with_gradients(scan, scan_inputs(setting.device, channels, states, length))
    found = figures(setting, run, [(TRAINING * flop, TRAINING * size)])
    return found | {'moved_bytes': 4 * length * (8 * channels + 6 * states)}


def scan_memory(
    setting: Setting, implementation: str, channels: int, states: int, length: int, memory: bool = True
) -> dict:
    """Return the memory of a scan, its result and all gradients besides the inputs and the incoming gradient."""
    os.environ[backends.VARIABLE] = implementation
    _with_gradients(selective_scan, scan_inputs(setting.device, channels, states, 100))()  # load the libraries
    inputs = scan_inputs(setting.device, channels, states, length)
    run = _with_gradients(selective_scan, inputs)
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


def _with_gradients(scan: Callable, inputs: list[torch.Tensor]) -> Callable:
    weight = torch.randn_like(inputs[0])

    def run():
        y = scan(*inputs)
        return y, torch.autograd.grad(y, inputs, weight)

    return run


def mambapy_scan(u, delta, A, B, C, D, delta_bias):
    """Compute the scan as mambapy's Mamba block does, with its parallel scan."""
    try:
        from mambapy.pscan import pscan
    except ImportError:
        raise Skip('mambapy is not installed: pip install mambapy') from None
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
    """A call on inputs of these channels; in training with the gradients of inputs and parameters."""
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
    try:
        from torch.utils.data import DataLoader, RandomSampler

        from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
    except ImportError as error:
        raise Skip(f'{error.name} is not installed: pip install lmdb opencv-python') from None
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
    """Draw images that compress about as well as photographs do."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(seed)
    for _ in range(count):
        coarse = cv2.GaussianBlur(rng.normal(128, 300, (height, width, 3)), (0, 0), 4)
        yield np.clip(coarse + rng.normal(0, 2, coarse.shape), 0, 255).astype(np.uint8)


def metric(setting: Setting, metric: str, width: int, height: int) -> dict:
    """Compute a metric of two 8-bit frames on one core of the CPU, whatever the setting, and BasicSR's."""
    try:
        import cv2

        from deeprftv2_plugin.basicsr_bridge.registration import register
    except ImportError as error:
        raise Skip(f'{error.name} is not installed: pip install opencv-python') from None
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
