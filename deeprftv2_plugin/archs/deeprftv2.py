"""DeepRFTv2: a decoupled multi-scale UNet around Fourier Kernel Estimators."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deeprftv2_plugin.archs.stage import Stage
from deeprftv2_plugin.archs.variants import VARIANTS
from deeprftv2_plugin.ops.fourier import as_complex
from deeprftv2_plugin.ops.otf import psf_from_otf
from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.ops.tiles import pair
from deeprftv2_plugin.ops.windows import window_of
from deeprftv2_plugin.utils.errors import UserError

Levels = Sequence[tuple[str, int]]


class Outputs(NamedTuple):
    """Restored images in training: for each stage the latent sharp image P, then the estimator's image R."""

    full: list[Tensor]
    """P0, R0, P1, R1, ... at the scale of the input, each (N, out_channels, H, W)."""
    half: list[Tensor]
    """The same at half scale, (N, out_channels, H / 2, W / 2)."""


class KernelEstimate(NamedTuple):
    """The kernels that one estimator applies to its feature channels."""

    otf: Tensor
    """Complex transfer functions (N, channels, h, w // 2 + 1). With kernel windows, N counts the windows."""
    psf: Tensor
    """Point spread functions (N, channels, h, w), with their origin at pixel (h // 2, w // 2)."""


class StageKernels(NamedTuple):
    """The kernels of one stage at both scales."""

    full: KernelEstimate
    """The kernels of the estimator at full scale."""
    half: KernelEstimate
    """The kernels of the estimator at half scale."""


class DeepRFTv2(nn.Module):
    """A network that restores blurry images by learning at the level of the blur kernel.

    Each stage encodes and decodes the image at full and half scale. At each scale a Fourier Kernel Estimator
    multiplies features by predicted transfer functions. Reversible shortcuts pass the states to the next stage. All
    keyword arguments except `variant` override values of the variant.

    Args:
        variant: 'B' (30.1 M parameters), 'S' (21.2 M, without scans in the UNets), 'E' (1.7 M, for the budget of
            challenges) or 'T' (0.7 M, for a CPU).
        in_channels: Channels of the blurry image.
        out_channels: Channels of the restored image. Equal to in_channels, since a residual is added, unless that
            is 1.
        width: Channels at the finest level, one number or (full scale, half scale).
        kernel_width: Channels of the kernel columns, one number or (full scale, half scale).
        stages: Number of stages.
        full_encoder: Blocks of the encoder at full scale: three pairs (block name, number of blocks), from the finest
            level to the coarsest, or such a triple for each stage. Names are those in `layers.BLOCKS`.
        full_decoder: Blocks of the decoder at full scale, from the coarsest level to the finest.
        half_encoder: Like `full_encoder`, at half scale.
        half_decoder: Like `full_decoder`, at half scale.
        kernel_depths: Scan blocks in each of the four levels of a kernel column.
        kernel_norm: Whether to normalize the output of a kernel column before the projection to transfer functions.
        kernel_window: Height and width of the kernels at full scale, at least 16. Larger maps are split. None for no
            limit.
        kernel_overlap: Pixels by which these windows overlap in evaluation, one number or (height, width), at most half
            of kernel_window.
        kernel_smoothing: In evaluation, average the kernels of each window with those of its neighbors. The windows
            are assumed to have similar blur.
        local_pool_crop: Height and width of the training crops, for blocks named 'Local...', which average over 1.5
            times that size.
        scan_window: Height and width of the windows of blocks named '...Window', at least 16.
        reversible: Recompute the activations of columns in the backward pass instead of storing them: a bool, or any
            of the keys 'encoders', 'decoders' and 'kernels' with a bool or a bool for each stage (True by default).
            This does not change the results.
        train_size: Deprecated name of `local_pool_crop`.

    Raises:
        UserError: The variant or a block name is unknown, or lists do not match the number of stages.

    References:
        DeepRFTv2: Kernel-level Learning for Image Deblurring, arXiv 2511.21132.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.archs import DeepRFTv2
        >>> net = DeepRFTv2('T')
        >>> blurry = torch.rand(1, 3, 32, 48)
        >>> outputs = net(blurry)  # training: P0, R0, P1, R1 at both scales
        >>> len(outputs.full), outputs.half[-1].shape
        (4, torch.Size([1, 3, 16, 24]))
        >>> with torch.no_grad():
        ...     net.eval()(blurry).shape
        torch.Size([1, 3, 32, 48])
    """

    size_multiple = 8
    """Height and width of the input must be multiples of this. `inference.restore` accepts any size."""
    two_scale = True
    """Whether `forward` takes the half-scale image as a second argument."""
    stage_type: type[Stage] = Stage
    """Class of the stages."""

    def __init__(
        self,
        variant: str = 'B',
        in_channels: int = 3,
        out_channels: int = 3,
        width: int | Sequence[int] | None = None,
        kernel_width: int | Sequence[int] | None = None,
        stages: int = 2,
        full_encoder: Levels | Sequence[Levels] | None = None,
        full_decoder: Levels | Sequence[Levels] | None = None,
        half_encoder: Levels | Sequence[Levels] | None = None,
        half_decoder: Levels | Sequence[Levels] | None = None,
        kernel_depths: Sequence[int] = (1, 1, 1, 1),
        kernel_norm: bool = True,
        kernel_window: Sequence[int] | None = None,
        kernel_overlap: int | Sequence[int] = 0,
        kernel_smoothing: bool = False,
        local_pool_crop: Sequence[int] | None = None,
        scan_window: Sequence[int] | None = None,
        reversible: bool | Mapping[str, bool | Sequence[bool]] = True,
        train_size: Sequence[int] | None = None,
    ):
        super().__init__()
        if train_size is not None:
            if local_pool_crop is not None:
                raise UserError('train_size is the deprecated name of local_pool_crop, but both are given: remove it')
            warnings.warn(
                'train_size of DeepRFTv2 is now called local_pool_crop: rename it. The old name will be removed in '
                'the next version',
                FutureWarning,
                stacklevel=2,
            )
            local_pool_crop = train_size
        if variant not in VARIANTS:
            raise UserError(f'unknown variant {variant!r}, expected one of {", ".join(VARIANTS)}')
        if stages < 1:
            raise UserError(f'stages is {stages}, expected at least 1')
        if in_channels not in (out_channels, 1):
            raise UserError(
                f'in_channels is {in_channels}, out_channels is {out_channels}: the network adds a residual to the '
                'blurry image, so they must be equal unless in_channels is 1'
            )
        if len(kernel_depths) != 4:
            raise UserError(f'kernel_depths is {list(kernel_depths)}, expected four numbers, one for each level')
        given = {
            'width': width,
            'kernel_width': kernel_width,
            'full_encoder': full_encoder,
            'full_decoder': full_decoder,
            'half_encoder': half_encoder,
            'half_decoder': half_decoder,
        }
        chosen = VARIANTS[variant] | {name: value for name, value in given.items() if value is not None}
        levels = {name: _levels_by_stage(name, chosen[name], stages) for name in given if name.endswith('coder')}
        recomputed = _reversible_by_stage(reversible, stages)
        common: dict[str, Any] = {
            'in_channels': in_channels,
            'out_channels': out_channels,
            'width': pair(chosen['width'], 'width'),
            'kernel_width': pair(chosen['kernel_width'], 'kernel_width'),
            'kernel_depths': kernel_depths,
            'kernel_norm': kernel_norm,
            'kernel_window': window_of('kernel_window', kernel_window, kernel_overlap),
            'kernel_overlap': pair(kernel_overlap, 'kernel_overlap'),
            'kernel_smoothing': kernel_smoothing,
            'local_pool_crop': None if local_pool_crop is None else pair(local_pool_crop, 'local_pool_crop'),
            'scan_window': window_of('scan_window', scan_window),
        }
        self.stages = nn.ModuleList(
            self.stage_type(
                has_previous=j > 0,
                levels={name: values[j] for name, values in levels.items()},
                reversible={name: values[j] for name, values in recomputed.items()},
                **common,
            )
            for j in range(stages)
        )

    def forward(self, x: Tensor, half: Tensor | None = None) -> Outputs | Tensor:
        """Restore a batch of images.

        Args:
            x: Blurry images (N, in_channels, H, W) in [0, 1], H and W multiples of `size_multiple`.
            half: The images at half scale (N, in_channels, H / 2, W / 2); computed from x by default. For a tile of an
                image, pass the tile of the half-scale image, which is not affected by the border of the tile.

        Returns:
            In training mode, the images of all stages at both scales. In evaluation mode, the last image at full scale,
            a tensor (N, out_channels, H, W), not clamped.

        Raises:
            UserError: The sizes do not match.
        """
        x, half = self._check(x, half)
        outputs = Outputs([], [])
        state = None
        stage: Any  # nn.ModuleList has no type parameter
        for stage in self.stages:
            state = stage(x, half, state)
            if self.training:
                for images, found in zip(outputs, stage.images(state, x, half), strict=True):
                    images.extend(found)
        return outputs if self.training else stage.restored(state, x)

    @torch.no_grad()
    def kernels(self, x: Tensor, half: Tensor | None = None) -> list[StageKernels]:
        """Return the transfer functions that the network applies to an image, and their point spread functions.

        These are kernels in feature space, one per channel, learned without kernel labels. They need not resemble the
        blur of the image.

        Args:
            x: As in `forward`.
            half: As in `forward`.

        Returns:
            The kernels of each stage at full and half scale.
        """
        x, half = self._check(x, half)
        found, state = [], None
        for stage in self.stages:
            state = stage(x, half, state)
            found.append(
                StageKernels(
                    _kernels(stage.full_estimator, state.full_estimate, x.shape[-2:]),
                    _kernels(stage.half_estimator, state.half_estimate, half.shape[-2:]),
                )
            )
        return found

    def _check(self, x, half):
        """Check the sizes, and return the images at both scales in channels_last."""
        height, width = x.shape[-2:]
        if x.ndim != 4 or height % self.size_multiple or width % self.size_multiple or not height or not width:
            raise UserError(
                f'DeepRFTv2 takes (N, C, H, W) with H and W multiples of {self.size_multiple}, found '
                f'{tuple(x.shape)}; inference.restore takes images of any size'
            )
        half = half_scale(x) if half is None else half
        if half.shape[-2:] != (height // 2, width // 2):
            raise UserError(
                f'the half-scale image of {height}x{width} must be {height // 2}x{width // 2}, found '
                f'{half.shape[-2]}x{half.shape[-1]}'
            )
        return tuple(t.contiguous(memory_format=torch.channels_last) for t in (x, half))


def _kernels(estimator, estimate, size):
    """Return the kernels of a map of `size`. With windows, each kernel has the size of a window."""
    otf = as_complex(estimator.transfer(estimate.states[-1]))
    if estimator.window is not None:
        size = tuple(map(min, size, estimator.window))
    return KernelEstimate(otf, psf_from_otf(otf, size))


def _levels_by_stage(name, value, stages):
    """Return triples of (block, depth) for every stage, given one triple for all or a list of triples."""
    value = list(value)
    by_stage = [value] * stages if value and isinstance(value[0][0], str) else value
    if len(by_stage) != stages:
        raise UserError(f'{name} lists {len(by_stage)} stages, but there are {stages}')
    for levels in by_stage:
        if len(levels) != 3 or any(len(level) != 2 or not isinstance(level[1], int) for level in levels):
            raise UserError(f'{name} takes three pairs [block name, number of blocks], found {levels!r}')
    return by_stage


def _reversible_by_stage(value, stages):
    """Return for encoders, decoders and kernel columns a list with the value of `reversible` of each stage."""
    parts = ('encoders', 'decoders', 'kernels')
    value = dict(value) if isinstance(value, Mapping) else dict.fromkeys(parts, value)
    if unknown := set(value) - set(parts):
        raise UserError(f'reversible takes a bool or the keys {", ".join(parts)}, found {sorted(unknown)}')
    by_stage = {part: value.get(part, True) for part in parts}
    by_stage = {part: [v] * stages if isinstance(v, bool) else list(v) for part, v in by_stage.items()}
    for part, values in by_stage.items():
        if len(values) != stages:
            raise UserError(f'reversible: {part} lists {len(values)} stages, but there are {stages}')
    return by_stage
