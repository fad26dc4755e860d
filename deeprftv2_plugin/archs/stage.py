"""One stage of DeepRFTv2: a UNet at two scales with a Fourier Kernel Estimator at each."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from deeprftv2_plugin.errors import UserError
from deeprftv2_plugin.layers.blocks import Blocks
from deeprftv2_plugin.layers.fourier_kernel_estimator import Estimate, FourierKernelEstimator
from deeprftv2_plugin.layers.level import Level
from deeprftv2_plugin.layers.pointwise import Pointwise
from deeprftv2_plugin.layers.resample import downsample, upsample
from deeprftv2_plugin.layers.reversible import Column


class Carry(NamedTuple):
    """What a stage leaves to the next."""

    full: list[Tensor]
    """States at full scale, finest level first, then the decoder's last."""
    half: list[Tensor]
    """The same at half scale."""
    full_estimate: Estimate
    half_estimate: Estimate


class StageResult(NamedTuple):
    """What a stage makes of a picture: at both scales the latent sharp picture and the estimator's result."""

    full_latent: Tensor
    half_latent: Tensor
    full: Estimate
    half: Estimate
    carry: Carry


class Stage(nn.Module):
    """A sub-UNet at full scale and one at half scale, tied to each other and to the stage before.

    The half-scale encoder takes the full-scale states; the full-scale decoder starts from the coarsest full-scale state
    joined with the half-scale estimator's feature. See `DeepRFTv2` for the arguments; `levels` and `reversible` hold
    this stage's values, pairs are (full scale, half scale), and `follows` tells that there is a stage before.
    """

    def __init__(
        self,
        follows: bool,
        levels: dict,
        reversible: dict,
        in_channels: int,
        out_channels: int,
        width: tuple[int, int],
        kernel_width: tuple[int, int],
        kernel_depths,
        kernel_norm: bool,
        kernel_window,
        kernel_overlap,
        train_size,
        scan_window,
    ):
        super().__init__()
        full, half = width
        self.full_embed, self.half_embed = (nn.Conv2d(in_channels, c, 3, padding=1, bias=False) for c in width)
        self.full_join, self.half_join = (Pointwise(2 * c, c) if follows else None for c in width)

        def columns(channels, scale, **merge):
            windows = [_LevelWindows(train_size, scan_window, scale, level) for level in range(3)]
            return (
                _encoder(channels, levels[f'{scale}_encoder'], windows, follows, reversible['encoders'], **merge),
                _decoder(channels, levels[f'{scale}_decoder'], windows[::-1], follows, reversible['decoders']),
            )

        self.full_encoder, self.full_decoder = columns(full, 'full')
        self.half_encoder, self.half_decoder = columns(half, 'half', merges=True)
        self.full_to_half = nn.ModuleList(downsample(k * full, k * half) for k in (1, 2, 4))
        self.half_to_latent = downsample(half, 4 * full)
        self.latent_join = Pointwise(8 * full, 4 * full)
        self.full_head, self.half_head = (nn.Conv2d(c, out_channels, 3, padding=1) for c in width)

        def estimator(scale):
            window, overlap = kernel_window, kernel_overlap
            if scale:
                window, overlap = window and _halved(window), _halved(overlap)
            return FourierKernelEstimator(
                width[scale],
                kernel_width[scale],
                out_channels,
                kernel_depths,
                follows,
                kernel_norm,
                window,
                overlap,
                reversible['kernels'],
            )

        self.full_estimator, self.half_estimator = estimator(0), estimator(1)

    def forward(self, image: Tensor, half_image: Tensor, carry: Carry | None = None) -> StageResult:
        """Run the stage on a picture (N, in_channels, H, W) and its half scale, after what the stage before left."""
        first = carry is None
        x, y = self.full_embed(image), self.half_embed(half_image)
        if not first:
            x = self.full_join(torch.cat([x, carry.full_estimate.feature], 1))
            y = self.half_join(torch.cat([y, carry.half_estimate.feature], 1))
        *encoded, decoded = [None] * 4 if first else carry.full
        *half_encoded, half_decoded = [None] * 4 if first else carry.half

        encoded = self.full_encoder(x, encoded)
        sides = [down(state) for down, state in zip(self.full_to_half, encoded, strict=True)]
        half_encoded = self.half_encoder(y, half_encoded, sides)
        m1, m2, m3 = half_encoded
        m2, m1, n1 = self.half_decoder(m3, [m2, m1, half_decoded])
        half_latent = self.half_head(n1) + half_image
        half = self.half_estimator(n1, half_image, None if first else carry.half_estimate.states)

        e1, e2, e3 = encoded
        e3 = self.latent_join(torch.cat([self.half_to_latent(half.feature), e3], 1))
        e2, e1, d1 = self.full_decoder(e3, [e2, e1, decoded])
        latent = self.full_head(d1) + image
        full = self.full_estimator(d1, image, None if first else carry.full_estimate.states)
        return StageResult(latent, half_latent, full, half, Carry([e1, e2, e3, d1], [m1, m2, m3, n1], full, half))


def _encoder(channels, levels, windows, follows, reversible, merges=False):
    """A column from the finest level to the coarsest, doubling the channels at every step down."""
    widths = [channels, 2 * channels, 4 * channels]
    chain = [
        Level(
            Blocks(name, depth, c, window.pool, window.scan),
            c,
            merges=merges,
            before=downsample(c // 2, c) if index else None,
        )
        for index, ((name, depth), c, window) in enumerate(zip(levels, widths, windows, strict=True))
    ]
    return Column(chain, widths, [follows] * 3, reversible=reversible)


def _decoder(channels, levels, windows, follows, reversible):
    """A column from the coarsest level to the finest; its shortcuts from the encoder exist in every stage."""
    widths = [4 * channels, 2 * channels, channels]
    chain = [
        Level(Blocks(name, depth, c, window.pool, window.scan), c, after=upsample(c, c // 2) if index < 2 else None)
        for index, ((name, depth), c, window) in enumerate(zip(levels, widths, windows, strict=True))
    ]
    return Column(chain, [2 * channels, channels, channels], [True, True, follows], reversible=reversible)


class _LevelWindows:
    """The windows of local means and of scans, given at full scale, as they are at a level of a scale."""

    def __init__(self, train_size, scan_window, scale, level):
        def at_level(size):
            for _ in range(level + (scale == 'half')):
                size = _halved(size)
            return size

        self.pool = train_size and tuple(int(1.5 * n) for n in at_level(train_size))
        if self.pool and not all(self.pool):
            raise UserError(f'train_size is {train_size}: nothing is left of it at the coarsest level')
        self.scan = scan_window and at_level(scan_window)


def _halved(pair):
    return pair[0] // 2, pair[1] // 2
