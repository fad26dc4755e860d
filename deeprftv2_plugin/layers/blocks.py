"""The blocks of one level of a column, by name, and the directions in which they scan."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.naf import NAFBlock, NAFScanBlock
from deeprftv2_plugin.utils.errors import UserError, nearest


@dataclass(frozen=True)
class BlockKind:
    """What a block name stands for: its class, which windows it takes, and whether the map is turned before it."""

    build: Callable[..., nn.Module]
    pool: bool = False
    window: bool = False
    turns: bool = False


BLOCKS = {
    'NAF': BlockKind(NAFBlock),
    'LocalNAF': BlockKind(NAFBlock, pool=True),
    'NAFScan': BlockKind(NAFScanBlock, turns=True),
    'LocalNAFScan': BlockKind(NAFScanBlock, pool=True, turns=True),
    'LocalNAFScanWindow': BlockKind(NAFScanBlock, pool=True, window=True, turns=True),
    'LocalNAFScanUpright': BlockKind(NAFScanBlock, pool=True),
    'LocalNAFScanWindowUpright': BlockKind(NAFScanBlock, pool=True, window=True),
}


class Blocks(nn.ModuleList):
    """A chain of equal blocks; those that scan take four directions in turn.

    Before its even blocks the chain transposes the map, before its odd ones it turns the map by 180 degrees, and at the
    end it puts the map upright again. Four blocks therefore scan columns downwards, columns upwards, rows backwards and
    rows forwards.

    Args:
        name: One of the names in `BLOCKS`.
        depth: Number of blocks.
        channels: Channels of the map.
        pool_window: Height and width of the local mean, for the names that begin with 'Local'.
        scan_window: Height and width of the scanned windows, for the names with 'Window'.

    Raises:
        UserError: The name is unknown, or the window that it needs is missing.
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
            raise UserError(f'block {name!r} takes means over windows: give the network train_size')
        if kind.window and scan_window is None:
            raise UserError(f'block {name!r} scans windows: give the network scan_window')

        def build(index):
            transposed = kind.turns and index % 4 in (0, 1)
            windows = {'pool_window': pool_window if kind.pool else None}
            if kind.window:
                windows['scan_window'] = scan_window
            return kind.build(channels, **{k: v[::-1] if v and transposed else v for k, v in windows.items()})

        super().__init__(build(index) for index in range(depth))
        self.turns = kind.turns

    def forward(self, x: Tensor) -> Tensor:
        if not self.turns:
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
