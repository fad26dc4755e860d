"""Chains of blocks by name, and the directions in which the blocks scan."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.naf import NAFBlock, NAFScanBlock
from deeprftv2_plugin.utils.errors import UserError, nearest


@dataclass(frozen=True)
class BlockKind:
    """The class of a block, the windows that it uses, and whether the map is rotated before it."""

    build: Callable[..., nn.Module]
    pool: bool = False
    window: bool = False
    rotates: bool = False


BLOCKS = {
    'NAF': BlockKind(NAFBlock),
    'LocalNAF': BlockKind(NAFBlock, pool=True),
    'NAFScan': BlockKind(NAFScanBlock, rotates=True),
    'LocalNAFScan': BlockKind(NAFScanBlock, pool=True, rotates=True),
    'LocalNAFScanWindow': BlockKind(NAFScanBlock, pool=True, window=True, rotates=True),
    'LocalNAFScanUpright': BlockKind(NAFScanBlock, pool=True),
    'LocalNAFScanWindowUpright': BlockKind(NAFScanBlock, pool=True, window=True),
}


class Blocks(nn.ModuleList):
    """A chain of blocks of one kind. Blocks that scan cycle through four directions.

    The chain transposes the map before even blocks, rotates it by 180 degrees before odd ones, and restores the
    original orientation at the end. Four blocks therefore scan columns downward, columns upward, rows backward and
    rows forward.

    Args:
        name: One of the names in `BLOCKS`.
        depth: Number of blocks.
        channels: Channels of the map.
        pool_window: Height and width of the local mean, for names that begin with 'Local'.
        scan_window: Height and width of the scanned windows, for names with 'Window'.

    Raises:
        UserError: The name is unknown, or a window that it needs is missing.
    """

    def __init__(
        self,
        name: str,
        depth: int,
        channels: int,
        pool_window: tuple[int, int] | None = None,
        scan_window: tuple[int, int] | None = None,
    ):
        if name not in BLOCKS:
            raise UserError(f'unknown block {name!r}. {nearest(name, BLOCKS)}')
        kind = BLOCKS[name]
        if kind.pool and pool_window is None:
            raise UserError(f'block {name!r} averages over windows; set local_pool_crop of the network')
        if kind.window and scan_window is None:
            raise UserError(f'block {name!r} scans windows; set scan_window of the network')

        def build(index):
            transposed = kind.rotates and index % 4 in (0, 1)
            windows = {'pool_window': pool_window if kind.pool else None}
            if kind.window:
                windows['scan_window'] = scan_window
            return kind.build(channels, **{k: v[::-1] if v and transposed else v for k, v in windows.items()})

        super().__init__(build(index) for index in range(depth))
        self.rotates = kind.rotates

    def forward(self, x: Tensor) -> Tensor:
        if not self.rotates:
            for block in self:
                x = block(x)
            return x
        for index, block in enumerate(self):
            x = x.flip(-2, -1) if index % 2 else x.transpose(-2, -1)
            x = block(x.contiguous(memory_format=torch.channels_last))
        if len(self) % 4 in (2, 3):
            x = x.flip(-2, -1)
        if len(self) % 4 in (1, 2):
            x = x.transpose(-2, -1)
        return x.contiguous(memory_format=torch.channels_last)
