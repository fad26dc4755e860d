"""Restore images of any size with a trained network."""

import operator
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, reduce
from itertools import product, starmap

import torch
from torch import Tensor, nn

from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.ops.tiles import TileGrid, blend_tiles, pair
from deeprftv2_plugin.utils.errors import UserError

MIN_SIZE = 8  # minimum height and width in pixels
OVERLAP = 48


@torch.no_grad()
def restore(
    net: nn.Module | str | os.PathLike,
    x: Tensor,
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] = OVERLAP,
    ensemble: bool = False,
    workers: int = 1,
) -> Tensor:
    """Restore a batch of images with a height and width of at least 8 pixels.

    Images are padded by reflection at the right and at the bottom to the size multiple of the network, and the result
    is cropped. With `tile`, images are processed in overlapping tiles, which are blended linearly; the same tile of all
    images is processed at once. For two-scale networks, the half-scale image is computed once from the whole image and
    tiled in the same way.

    Args:
        net: Network whose output has the size of its input, on the device of `x`, or the path of a checkpoint (see
            `checkpoints.load_network` for what cannot be rebuilt, e.g. the window sizes of the authors' REDS and
            defocus networks). The attributes `size_multiple` (default 1) and `two_scale` (default False, no argument
            `half`) are respected. The network runs in evaluation mode; its mode is restored afterwards.
        x: Images (N, C, H, W), floating-point, in [0, 1].
        tile: Tile size, one number or (height, width), a multiple of `net.size_multiple`. None processes the whole
            image at once.
        overlap: Minimum number of pixels that neighboring tiles share, one number or (height, width). Must be even for
            two-scale networks.
        ensemble: Average over the eight flips and rotations of the image, which takes eight times as long.
        workers: On a CPU, number of tiles restored at the same time, each by its share of PyTorch's threads. This is
            faster than one tile by all threads and takes the memory of that many tiles.

    Returns:
        Images of the shape and dtype of `x`, not clamped to [0, 1].

    Raises:
        UserError: The images, the tile, the overlap or the network are not suitable.

    Example:
        >>> import torch
        >>> from deeprftv2_plugin.archs import DeepRFTv2
        >>> from deeprftv2_plugin.inference import restore
        >>> restore(DeepRFTv2('T'), torch.rand(1, 3, 45, 70), tile=32, overlap=8).shape
        torch.Size([1, 3, 45, 70])
    """
    _check_image(x)
    if isinstance(net, (str, os.PathLike)):
        # imported here, since a network passed as a module needs neither archs nor checkpoint readers
        from deeprftv2_plugin.checkpoints import load_network

        net = load_network(net).to(x.device)
    check_tiles(net, tile, overlap)
    multiple = size_multiple(net)
    with keep_modes(net):
        net.eval()
        if not ensemble:
            return _restore(net, x, multiple, tile, overlap, workers)

        def rotated(quarters: int, flip: bool) -> Tensor:
            sides = tile, overlap
            if tile is not None and quarters % 2:  # the tiles are rotated with the image
                sides = pair(tile, 'tile')[::-1], pair(overlap, 'overlap')[::-1]
            return _unrotate(_restore(net, _rotate(x, quarters, flip), multiple, *sides, workers), quarters, flip)

        return reduce(operator.add, starmap(rotated, product(range(4), (False, True)))) / 8


def size_multiple(net: nn.Module) -> int:
    """Return the number of which the height and width of a network's input must be multiples."""
    return getattr(net, 'size_multiple', 1)


def check_tiles(
    net: nn.Module, tile: int | Sequence[int] | None = None, overlap: int | Sequence[int] = OVERLAP
) -> None:
    """Check that the tiles suit the network. The arguments are those of `restore`.

    Raises:
        UserError: The tile size or the overlap is not suitable.
    """
    if tile is None:
        return
    tile, multiple = pair(tile, 'tile'), size_multiple(net)
    if any(side % multiple for side in tile):
        raise UserError(f'tile is {tile}: both sides must be multiples of {multiple} for this network')
    grid = TileGrid(tile, tile, overlap)
    if getattr(net, 'two_scale', False):
        grid.half()


def _restore(
    net: nn.Module,
    x: Tensor,
    multiple: int,
    tile: int | Sequence[int] | None,
    overlap: int | Sequence[int],
    workers: int,
) -> Tensor:
    height, width = x.shape[-2:]
    x = _reflect(_reflect(x, multiple, -2), multiple, -1)
    size = tuple(x.shape[-2:])
    grid = TileGrid(size, size) if tile is None else TileGrid(size, tile, overlap)
    if getattr(net, 'two_scale', False):
        half = half_scale(x)
        boxes = zip(grid.boxes, grid.half().boxes, strict=True)
        tasks = (partial(_run, net, x[box], half=half[half_box]) for box, half_box in boxes)
    else:
        tasks = (partial(_run, net, x[box]) for box in grid.boxes)
    if x.device.type != 'cpu':
        workers = 1  # one tile occupies a GPU
    tiles = _results(tasks, min(workers, len(grid)))
    return blend_tiles(tiles, grid)[..., :height, :width].to(x.dtype)


def _results(tasks: Iterable[Callable[[], Tensor]], workers: int) -> Iterator[Tensor]:
    """Yield the results of functions in order, running up to `workers` of them at the same time."""
    if workers <= 1:
        yield from (task() for task in tasks)
        return
    threads = torch.get_num_threads()
    # these settings are thread-local
    autocast = torch.is_autocast_enabled('cpu'), torch.get_autocast_dtype('cpu')

    @torch.no_grad()
    def run(task: Callable[[], Tensor]) -> Tensor:
        with torch.autocast('cpu', autocast[1], enabled=autocast[0]):
            return task()

    pending: deque[Future[Tensor]] = deque()
    try:
        with ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)
        ) as pool:
            for task in tasks:
                pending.append(pool.submit(run, task))
                if len(pending) > workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(threads)  # the workers also change the default of other threads


def _run(net: nn.Module, x: Tensor, **half: Tensor) -> Tensor:
    out = net(x, **half)
    if not torch.is_tensor(out) or out.shape[-2:] != x.shape[-2:]:
        found = f'shape {tuple(out.shape)}' if torch.is_tensor(out) else f'a {type(out).__name__}'
        raise UserError(
            f'{type(net).__name__} returns {found} for an input of shape {tuple(x.shape)}: restore requires a '
            'network whose output is a tensor of the same height and width'
        )
    return out


def _reflect(x: Tensor, multiple: int, dim: int) -> Tensor:
    """Pad the end of a dimension to a multiple by reflection, repeatedly if it is shorter than the padding."""
    length = x.shape[dim]
    missing = -length % multiple
    if not missing:
        return x
    steps = torch.arange(length + missing, device=x.device) % (2 * length - 2)
    return x.index_select(dim, torch.minimum(steps, 2 * length - 2 - steps))


def _rotate(x: Tensor, quarters: int, flip: bool) -> Tensor:
    return torch.rot90(x.flip(-1) if flip else x, quarters, (-2, -1))


def _unrotate(x: Tensor, quarters: int, flip: bool) -> Tensor:
    x = torch.rot90(x, -quarters, (-2, -1))
    return x.flip(-1) if flip else x


def _check_image(x: Tensor) -> None:
    if x.ndim != 4:
        raise UserError(
            f'the input has shape {tuple(x.shape)}, expected a batch (N, C, H, W). Pass a single image as x[None]'
        )
    if not x.is_floating_point():
        raise UserError(
            f'the input has dtype {x.dtype}, expected floating-point values in [0, 1]. Divide 8-bit values by 255'
        )
    if min(x.shape[-2:]) < MIN_SIZE:
        raise UserError(f'the input is {x.shape[-2]}x{x.shape[-1]} pixels, expected at least {MIN_SIZE}x{MIN_SIZE}')


@contextmanager
def keep_modes(net: nn.Module) -> Iterator[None]:
    """Restore the training or evaluation mode of every module at the end of the block."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
