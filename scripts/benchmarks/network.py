"""The network: evaluation and training step, by variant, size and number of stages."""

import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.counting import forced, work_of
from benchmarks.measure import figures
from benchmarks.plan import Case, Setting
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.ops import half_scale

STAGES = (1, 2, 3, 4)
MEASURED = (('B', 128), ('B', 256), ('T', 256))
"""Variants and sizes that goals are about."""


def evaluation_cases(setting: Setting) -> list[Case]:
    return [
        Case('evaluation', evaluate, {'variant': variant, 'size': size}, default=(variant, size) in MEASURED)
        for variant in setting.variants_or('B', 'S', 'T')
        for size in setting.sizes_or(128, 256)
    ]


def training_cases(setting: Setting) -> list[Case]:
    return [
        Case('training', train, key, default=reversible and size == 256 and (variant, size) in MEASURED)
        for variant in setting.variants_or('B', 'S', 'T')
        for size in setting.sizes_or(256)
        for reversible in (True, False)
        for key in [{'variant': variant, 'size': size, 'reversible': reversible}]
    ]


def size_cases(setting: Setting) -> list[Case]:
    keys = [
        {'variant': variant, 'size': size}
        for variant in setting.variants_or('B')
        for size in setting.sizes_or(64, 128, 192, 256)
    ]
    return [
        *(Case('sizes', evaluate, key) for key in keys),
        *(Case('sizes', train, key | {'reversible': reversible}) for key in keys for reversible in (True, False)),
    ]


def stage_cases(setting: Setting) -> list[Case]:
    return [
        Case('stages', train_once, key, default=reversible or stages <= 2)
        for variant in setting.variants_or('B')
        for size in setting.sizes_or(256)
        for reversible in (True, False)
        for stages in STAGES
        for key in [{'variant': variant, 'size': size, 'stages': stages, 'reversible': reversible}]
    ]


def compile_cases(setting: Setting) -> list[Case]:
    return [
        Case('compile', compare_compiled, {'variant': variant, 'size': size, 'training': training})
        for variant in setting.variants_or('T')
        for size in setting.sizes_or(256)
        for training in (False, True)
    ]


def quickstart_cases(setting: Setting) -> list[Case]:
    key = {'variant': 'T', 'size': 48, 'batch': 2, 'reversible': False}
    return [
        Case('quickstart', train_as_quickstart, key | backend, default=True)
        for backend in ({}, {'backend': 'pytorch', 'fused': False})
    ]


def evaluate(setting: Setting, variant: str, size: int) -> dict:
    """One picture through the network, without gradients."""
    network, x = DeepRFTv2(variant).to(setting.device).eval(), torch.rand(1, 3, size, size, device=setting.device)
    work = work_of(lambda: DeepRFTv2(variant), tuple(x.shape))
    with torch.no_grad():
        return figures(setting, lambda: network(x), work)


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
    once: bool = False,
) -> dict:
    """A step of training: forward pass, absolute error of all pictures at both scales, backward pass, AdamW."""

    def build():
        return DeepRFTv2(variant, stages=stages, reversible=reversible)

    shape = (batch, 3, size, size)
    work = [] if once else work_of(build, shape, training=True, itemsize=2 if bf16 else 4)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = build().to(setting.device, memory_format=layout).train()
    blurry, sharp = (torch.rand(shape, device=setting.device).to(memory_format=layout) for _ in range(2))
    step = TrainingStep(network, blurry, {size: sharp, size // 2: half_scale(sharp)}, bf16, fused)
    with forced(backend) if backend else nullcontext():
        found = _measured_step(setting, step, work, once)
    rate = batch / found['seconds']
    return found | {'images_per_second': rate, 'note': f'{rate:.3g} images/s' + found.get('note', '')}


def compare_compiled(setting: Setting, variant: str, size: int, training: bool) -> dict:
    """A pass or a reversible training step through torch.compile, with the seconds it takes, against eager mode."""
    network = DeepRFTv2(variant).to(setting.device).train(training)
    x, sharp = (torch.rand(1, 3, size, size, device=setting.device) for _ in range(2))
    step = TrainingStep(network, x, {size: sharp, size // 2: half_scale(sharp)}) if training else lambda: network(x)
    with torch.set_grad_enabled(training):
        eager = figures(setting, step)
        network.compile(fullgraph=True)
        begin = time.perf_counter()
        step()
        preparation = time.perf_counter() - begin
        compiled = figures(setting, step)
    ratio = compiled['seconds'] / eager['seconds']
    note = f'{ratio:.2f} times eager, after {preparation:.0f} s of compiling'
    return compiled | {'eager_seconds': eager['seconds'], 'compile_seconds': preparation, 'ratio': ratio, 'note': note}


def train_as_quickstart(setting: Setting, **key) -> dict:
    """A step on one thread, as scripts/quickstart.sh trains: more of them wait for each other in so small a network."""
    torch.set_num_threads(1)
    return train(setting, **key)


def train_once(setting: Setting, **key) -> dict:
    """One step after another one to warm up, without a floor: for the memory."""
    return train(setting, **key, once=True)


class TrainingStep:
    """Calling it trains a network for a step.

    Args:
        network: Makes pictures, or nested lists of pictures.
        blurry: Its input.
        sharp: What the pictures are compared with, by their heights.
        bf16: Under autocast to bfloat16.
        fused: AdamW in one pass over all parameters.
    """

    def __init__(
        self, network: nn.Module, blurry: Tensor, sharp: dict[int, Tensor], bf16: bool = False, fused: bool = True
    ):
        self.network, self.blurry, self.sharp = network, blurry, sharp
        self.autocast = torch.autocast(blurry.device.type, torch.bfloat16, enabled=bf16)
        self.optimiser = torch.optim.AdamW(network.parameters(), fused=fused)

    def __call__(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        with self.autocast:
            pictures = flat(self.network(self.blurry))
            loss = sum(F.l1_loss(picture.float(), self.sharp[picture.shape[-2]]) for picture in pictures)
        loss.backward()
        self.optimiser.step()


def flat(pictures) -> list[Tensor]:
    """The tensors in nested lists and tuples."""
    return [pictures] if torch.is_tensor(pictures) else [t for part in pictures for t in flat(part)]


def _measured_step(setting, step, work, once):
    quick = Setting(setting.device, quick=True) if once else setting
    found = figures(quick, step, work)
    if setting.device == 'cuda':
        found['host_synchronisations'] = _host_synchronisations(step)
        found['note'] = f', {found["host_synchronisations"]} host synchronisations'
    return found


def _host_synchronisations(step):
    """How often a step lets the CPU wait for the GPU."""
    import warnings

    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            step()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchroniz' in str(warning.message) for warning in caught)
