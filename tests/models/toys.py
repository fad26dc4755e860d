"""Tiny networks, and models with the options that BasicSR's pipelines pass."""

import copy

import torch
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from deeprftv2_plugin.archs import Outputs
from deeprftv2_plugin.ops.pyramid import half_scale

torch.set_num_threads(1)  # more threads slow down networks this small


@ARCH_REGISTRY.register()
class OneScale(nn.Module):
    """A network with a single output and batch normalization."""

    def __init__(self, width=4):
        super().__init__()
        first, last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 1)
        self.body = nn.Sequential(first, nn.BatchNorm2d(width), last)

    def forward(self, x):
        return x + self.body(x)


@ARCH_REGISTRY.register()
class Noisy(OneScale):
    """A network with dropout."""

    def forward(self, x):
        return x + nn.functional.dropout(self.body(x), 0.2, self.training)


@ARCH_REGISTRY.register()
class PartlyUnused(OneScale):
    """A network with parameters on which its output does not depend."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Conv2d(3, 3, 1)


@ARCH_REGISTRY.register()
class TwoScales(nn.Module):
    """A deterministic network with two outputs at each of two scales in training mode."""

    size_multiple = 2
    two_scale = True

    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, half=None):
        half = half_scale(x) if half is None else half
        if not self.training:
            return x + self.second(x)
        full, half = ([each + head(each) for head in (self.first, self.second)] for each in (x, half))
        return Outputs(full, half)


# BasicSR's architectures at minimal size
SWINIR = {
    'type': 'SwinIR', 'img_size': 16, 'window_size': 4, 'depths': [1], 'embed_dim': 8, 'num_heads': [2],
    'mlp_ratio': 2, 'upsampler': None, 'upscale': 1,
}  # fmt: skip
RRDBNET = {
    'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'scale': 1, 'num_feat': 4, 'num_block': 1,
    'num_grow_ch': 2,
}  # fmt: skip


def options(network, **train):
    """Return options as BasicSR parses them; ``train`` updates the section of that name."""
    return {
        'name': 'test', 'model_type': 'DeepRFTv2Model', 'scale': 1, 'num_gpu': 0, 'dist': False, 'rank': 0,
        'world_size': 1, 'is_train': True, 'path': {'models': '.', 'training_states': '.', 'log': '.'}, 'logger': {},
        'network_g': network if isinstance(network, dict) else {'type': network},
        'train': {
            'total_iter': 100, 'optim_g': {'type': 'SGD', 'lr': 0.1}, 'pixel_opt': {'type': 'L1Loss'}, **train
        },
        'val': {'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
    }  # fmt: skip


def batch(count=2, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    gt = torch.rand(count, 3, size, size, generator=generator)
    lq = gt + 0.1 * torch.randn(gt.shape, generator=generator)
    return {'lq': lq, 'gt': gt, 'lq_path': ['a.png'] * count}


def make_model(network='OneScale', opt=None, **train):
    """Build the model of an architecture (name or options) with fixed initial weights."""
    torch.manual_seed(0)
    return build_model(copy.deepcopy(opt or options(network, **train)))


def train(model, iterations, warmup_iter=-1, data=None):
    """Run the part of BasicSR's training loop that uses the model; return the learning rate of every iteration."""
    rates = []
    for current_iter in iterations:
        model.update_learning_rate(current_iter, warmup_iter=warmup_iter)
        model.feed_data(data or batch())
        model.optimize_parameters(current_iter)
        rates.append(model.get_current_learning_rate()[0])
    return rates
