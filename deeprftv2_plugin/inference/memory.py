"""Restore images in smaller tiles if there is not enough memory."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deeprftv2_plugin.inference.restoration import OVERLAP, restore, size_multiple
from deeprftv2_plugin.ops.tiles import pair
from deeprftv2_plugin.utils.errors import UserError, first_line

SMALLEST = 64
"""Height and width in pixels below which tiles are not halved."""
ALLOCATORS = (
    'DefaultCPUAllocator',
    'out of memory',
    'bad_alloc',
    'CUDNN_STATUS_ALLOC_FAILED',
    'CUBLAS_STATUS_ALLOC_FAILED',
)
"""Parts of the messages with which PyTorch reports in a RuntimeError that memory could not be allocated."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that GPU or CPU memory could not be allocated."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ALLOCATORS)


def reason_of(error: Exception) -> str:
    """Return the first line of an allocator's message, without its period."""
    return first_line(error).rstrip('.')


def restore_in_memory(
    net: nn.Module,
    x: Tensor,
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] = OVERLAP,
    ensemble: bool = False,
    workers: int = 1,
) -> tuple[Tensor, tuple[int, int] | None]:
    """Restore images like `restore`, halving the tile until there is enough memory.

    Args:
        net: The network.
        x: Images (N, C, H, W).
        tile: Initial tile size; None for the whole image.
        overlap: Minimum number of pixels that neighboring tiles share.
        ensemble: Average over the eight flips and rotations.
        workers: Number of tiles restored at the same time on a CPU.

    Returns:
        The restored images; and the height and width of the tile if it is smaller than `tile`, otherwise None.

    Raises:
        UserError: There is not enough memory even for the smallest tile, or the arguments are not suitable.
    """
    smaller = None
    while True:
        try:
            return restore(net, x, smaller or tile, overlap, ensemble, workers), smaller
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = reason_of(error)
        # not in the except block, where the traceback still references the tensors of the failed attempt
        torch.cuda.empty_cache()
        used = smaller or (None if tile is None else pair(tile, 'tile'))
        smaller = halved(used or x.shape[-2:], pair(overlap, 'overlap'), math.lcm(size_multiple(net), 2))
        if smaller is None:
            parts = 'whole' if used is None else 'in tiles of {}x{}'.format(*used)
            raise UserError(
                '{}x{} pixels (height x width) do not fit into memory {}: {}. '.format(*x.shape[-2:], parts, reason)
                + 'Free memory, set a smaller tile with a smaller overlap, or restore on another device'
            )


def halved(tile: Sequence[int], overlap: Sequence[int], multiple: int) -> tuple[int, int] | None:
    """Return the tile size with both sides halved, or None if both sides are too small.

    Args:
        tile: Height and width.
        overlap: Minimum number of pixels that neighboring tiles share. A side is at least twice as long.
        multiple: The sides of the new tile are multiples of this number.
    """
    sides = []
    for side, shared in zip(tile, overlap, strict=True):
        half = math.ceil(side / 2 / multiple) * multiple
        kept = math.ceil(side / multiple) * multiple
        sides.append(half if half >= max(SMALLEST, 2 * shared) else kept)
    height, width = sides
    return (height, width) if height < tile[0] or width < tile[1] else None
