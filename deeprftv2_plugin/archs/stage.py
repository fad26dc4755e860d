"""One stage of DeepRFTv2: a UNet at two scales with a Fourier Kernel Estimator at each."""

from typing import NamedTuple

from torch import Tensor, nn

from deeprftv2_plugin.layers.blocks import Blocks
from deeprftv2_plugin.layers.column import Column, call
from deeprftv2_plugin.layers.fourier_kernel_estimator import Estimate, FourierKernelEstimator
from deeprftv2_plugin.layers.level import Level, Merge
from deeprftv2_plugin.layers.resample import downsample, upsample
from deeprftv2_plugin.utils.errors import UserError

SCALES = (1, 2, 4)
"""Channels of the levels, relative to those of the finest."""


class StageState(NamedTuple):
    """The results of a stage, which are inputs of the next stage."""

    full: list[Tensor]
    """States at full scale: those of the encoder, finest level first, then the last one of the decoder."""
    half: list[Tensor]
    """The same at half scale."""
    full_estimate: Estimate
    half_estimate: Estimate


class Stage(nn.Module):
    """A sub-UNet at full scale and one at half scale, connected to each other and to the previous stage.

    The half-scale encoder takes the full-scale states. The full-scale decoder starts from the coarsest full-scale state
    merged with the feature of the half-scale estimator. See `DeepRFTv2` for the arguments: `levels` and `reversible`
    contain the values of this stage, pairs are (full scale, half scale), and `has_previous` is whether there is a
    previous stage.
    """

    def __init__(
        self,
        has_previous: bool,
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
        kernel_smoothing: bool,
        local_pool_crop,
        scan_window,
    ):
        super().__init__()
        full, half = width
        # The inputs of the full-scale encoder are the image and the previous stage's feature. The half-scale encoder
        # also takes full-scale states.
        full_inputs = [
            _entry(in_channels, full, has_previous),
            *(Merge(downsample(k * full, 2 * k * full)) for k in (1, 2)),
        ]
        half_inputs = [_entry(in_channels, half, has_previous), *(downsample(k * half, 2 * k * half) for k in (1, 2))]
        half_inputs = [
            Merge(first, downsample(k * full, k * half), join=(2 * k * half, k * half))
            for k, first in zip(SCALES, half_inputs, strict=True)
        ]

        def columns(scale, inputs):
            windows = [_LevelWindows(local_pool_crop, scan_window, scale, level) for level in range(3)]
            encoder, decoder = (levels[f'{("full", "half")[scale]}_{part}'] for part in ('encoder', 'decoder'))
            return (
                _encoder(width[scale], encoder, windows, inputs, has_previous, reversible['encoders']),
                _decoder(width[scale], decoder, windows, has_previous, reversible['decoders']),
            )

        self.full_encoder, self.full_decoder = columns(0, full_inputs)
        self.half_encoder, self.half_decoder = columns(1, half_inputs)
        self.latent = Merge(downsample(half, 4 * full), join=(8 * full, 4 * full))
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
                has_previous,
                kernel_norm,
                window,
                overlap,
                reversible['kernels'],
                kernel_smoothing,
            )

        self.full_estimator, self.half_estimator = estimator(0), estimator(1)

    def forward(self, image: Tensor, half_image: Tensor, previous: StageState | None = None) -> StageState:
        """Run the stage on an image (N, in_channels, H, W), its half scale, and the state of the previous stage."""
        full, half, *estimates = ([None] * 4, [None] * 4, None, None) if previous is None else previous
        features = [() if each is None else (each.feature,) for each in estimates]
        states = [None if each is None else each.states for each in estimates]

        e1, e2, e3 = self.full_encoder(image, full[:3], [features[0], (), ()])
        m1, m2, m3 = self.half_encoder(half_image, half[:3], [(*features[1], e1), (e2,), (e3,)])
        m2, m1, n1 = self.half_decoder(m3, [m2, m1, half[3]])
        half_estimate = self.estimate(self.half_estimator, n1, half_image, states[1])
        e3 = call(self.latent, half_estimate.feature, e3, recompute=self.full_decoder.reversible)
        e2, e1, d1 = self.full_decoder(e3, [e2, e1, full[3]])
        full_estimate = self.estimate(self.full_estimator, d1, image, states[0])
        return StageState([e1, e2, e3, d1], [m1, m2, m3, n1], full_estimate, half_estimate)

    def estimate(self, estimator: nn.Module, feature: Tensor, image: Tensor, states: list[Tensor] | None) -> Estimate:
        """Apply an estimator to a feature. The image is restored later, and only if it is an output."""
        return estimator(feature, states=states)

    def images(self, state: StageState, image: Tensor, half_image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the latent sharp image P and the estimator's image R at full scale, then at half scale."""
        return (
            [self.full_head(state.full[3]) + image, self.restored(state, image)],
            [
                self.half_head(state.half[3]) + half_image,
                self.half_estimator.restore(state.half_estimate.feature, half_image),
            ],
        )

    def restored(self, state: StageState, image: Tensor) -> Tensor:
        """Return the estimator's image at full scale, the output of the last stage in evaluation."""
        return self.full_estimator.restore(state.full_estimate.feature, image)


def _entry(in_channels, channels, has_previous):
    """Return a module that embeds the image and merges it with the feature of the previous stage."""
    embed = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    return Merge(embed, join=(2 * channels, channels) if has_previous else None)


def _encoder(channels, blocks, windows, inputs, has_previous, reversible):
    """Return a column from the finest level to the coarsest, with twice the channels at every next level."""
    widths = [k * channels for k in SCALES]
    levels = [
        Level(before, Blocks(name, depth, c, window.pool, window.scan))
        for before, (name, depth), c, window in zip(inputs, blocks, widths, windows, strict=True)
    ]
    return Column(levels, widths, [has_previous] * 3, reversible=reversible)


def _decoder(channels, blocks, windows, has_previous, reversible):
    """Return a column from the coarsest level to the finest, with shortcuts from the encoder in every stage."""
    widths = [k * channels for k in reversed(SCALES)]
    levels = [
        Level(Merge(), Blocks(name, depth, c, window.pool, window.scan), upsample(c, c // 2) if c > channels else None)
        for (name, depth), c, window in zip(blocks, widths, reversed(windows), strict=True)
    ]
    return Column(levels, [2 * channels, channels, channels], [True, True, has_previous], reversible=reversible)


class _LevelWindows:
    """The windows of local means and scans at one level of one scale, derived from those at full scale.

    Raises:
        UserError: A window of a local mean would be smaller than a pixel.
    """

    def __init__(self, local_pool_crop, scan_window, scale, level):
        def at_level(size):
            for _ in range(level + scale):
                size = _halved(size)
            return size

        self.pool = local_pool_crop and tuple(int(1.5 * n) for n in at_level(local_pool_crop))
        if self.pool and not all(self.pool):
            raise UserError(
                f'local_pool_crop is {local_pool_crop}, which is less than a pixel at the coarsest level: increase it'
            )
        self.scan = scan_window and at_level(scan_window)


def _halved(pair):
    return pair[0] // 2, pair[1] // 2
