"""Restore pictures of any size with a trained network."""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import product

import torch
from torch import Tensor, nn

from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.ops.tiles import TileGrid, blend_tiles, pair
from deeprftv2_plugin.utils.errors import UserError

SMALLEST = 8  # pixels a side
OVERLAP = 48


@torch.no_grad()
def restore(
    net: nn.Module | str | os.PathLike,
    x: Tensor,
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] = OVERLAP,
    ensemble: bool = False,
) -> Tensor:
    """Restore a batch of pictures of any height and width from 8 pixels up.

    The pictures are reflected at the right and at the bottom up to the multiple that the network needs, and
    the result is cropped back. Pictures too large for the memory go through in overlapping tiles, one at a
    time (the same one of every picture in the batch), which are blended with linear cross-fades. The
    half-scale image of a network that works at two scales is made once, of the whole picture, and cut along
    with each tile.

    Args:
        net: Network from pictures to pictures of the same size, on the device of `x`; or the path of a
            checkpoint to load one from (`checkpoints.load_network` says what a checkpoint cannot tell: windows, as the
            authors' REDS and defocus networks have them). Its attributes `size_multiple` (default 1) and `two_scale`
            (default False: it takes no `half=`) are honoured. It runs in evaluation mode and gets its mode back.
        x: Pictures of shape (N, C, H, W), floating-point, in [0, 1].
        tile: Height and width of the tiles, or one number for both; multiples of `net.size_multiple`. None:
            the whole picture at once.
        overlap: Number of pixels that neighbouring tiles share at least, one number or height and width; even
            for a network that works at two scales.
        ensemble: Average over the eight flips and quarter turns of the picture; takes eight times as long.

    Returns:
        Pictures of the height, width and type of `x`, not clamped to [0, 1].

    Raises:
        UserError: Unsuitable picture, tile, overlap or network; the message says what to do.
    """
    _check_picture(x)
    if isinstance(net, (str, os.PathLike)):
        # here, since only a path needs the networks and the readers of checkpoint files
        from deeprftv2_plugin.checkpoints import load_network

        net = load_network(net).to(x.device)
    check_tiles(net, tile, overlap)
    multiple = size_multiple(net)
    with _evaluation_mode(net):
        if not ensemble:
            return _restore(net, x, multiple, tile, overlap)
        turned = (
            _unturn(_restore(net, _turn(x, *how), multiple, tile, overlap), *how)
            for how in product(range(4), (False, True))
        )
        return sum(turned) / 8


def size_multiple(net: nn.Module) -> int:
    """Return the number of which height and width of a network's input must be multiples."""
    return getattr(net, 'size_multiple', 1)


def check_tiles(
    net: nn.Module, tile: int | Sequence[int] | None = None, overlap: int | Sequence[int] = OVERLAP
) -> None:
    """See whether a network can work on such tiles; arguments as for `restore`.

    Raises:
        UserError: It cannot; the message says what to do.
    """
    if tile is None:
        return
    tile, multiple = pair(tile, 'tile'), size_multiple(net)
    if any(side % multiple for side in tile):
        raise UserError(f'tile is {tile}: for this network both sides must be multiples of {multiple}')
    grid = TileGrid(tile, tile, overlap)
    if getattr(net, 'two_scale', False):
        grid.half()


def _restore(net, x, multiple, tile, overlap):
    height, width = x.shape[-2:]
    x = _reflect(_reflect(x, multiple, -2), multiple, -1)
    size = tuple(x.shape[-2:])
    grid = TileGrid(size, size) if tile is None else TileGrid(size, tile, overlap)
    if getattr(net, 'two_scale', False):
        half = half_scale(x)
        boxes = zip(grid.boxes, grid.half().boxes, strict=True)
        tiles = (_run(net, x[box], half=half[half_box]) for box, half_box in boxes)
    else:
        tiles = (_run(net, x[box]) for box in grid.boxes)
    return blend_tiles(tiles, grid)[..., :height, :width].to(x.dtype)


def _run(net, x, **half):
    out = net(x, **half)
    if not torch.is_tensor(out) or out.shape[-2:] != x.shape[-2:]:
        found = f'shape {tuple(out.shape)}' if torch.is_tensor(out) else f'a {type(out).__name__}'
        raise UserError(
            f'{type(net).__name__} makes {found} of a picture of shape {tuple(x.shape)}: restore '
            'is for networks whose output is a picture of the same height and width'
        )
    return out


def _reflect(x, multiple, dim):
    """Lengthen an axis to a multiple by reflection about its last pixel, to and fro where it is short."""
    length = x.shape[dim]
    missing = -length % multiple
    if not missing:
        return x
    steps = torch.arange(length + missing, device=x.device) % (2 * length - 2)
    return x.index_select(dim, torch.minimum(steps, 2 * length - 2 - steps))


def _turn(x, quarters, flip):
    return torch.rot90(x.flip(-1) if flip else x, quarters, (-2, -1))


def _unturn(x, quarters, flip):
    x = torch.rot90(x, -quarters, (-2, -1))
    return x.flip(-1) if flip else x


def _check_picture(x):
    if x.ndim != 4:
        raise UserError(
            f'the picture has shape {tuple(x.shape)}: give a batch (N, C, H, W), a single picture as x[None]'
        )
    if not x.is_floating_point():
        raise UserError(
            f'the picture is of type {x.dtype}: give floating-point values in [0, 1], of 8-bit ones x / 255'
        )
    if min(x.shape[-2:]) < SMALLEST:
        raise UserError(f'the picture is {x.shape[-2]}x{x.shape[-1]} pixels: each side must have at least {SMALLEST}')


@contextmanager
def _evaluation_mode(net: nn.Module):
    """Put a network, with frozen parts or not, into evaluation mode and every module back into its own."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
