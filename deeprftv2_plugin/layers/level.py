"""One level of a column: its inputs brought together, blocks, and a change of resolution."""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.pointwise import Pointwise


class Merge(nn.Module):
    """Several inputs as one map: `join(cat[first(x, ...), second(last)])`, or `first(x)` where there is one input.

    Args:
        first: What the inputs but the last go through, perhaps another Merge; nothing by default.
        second: What the last input goes through; nothing by default.
        join: Channels before and after the convolution of 1x1 that joins them; None for one input.
    """

    def __init__(
        self, first: nn.Module | None = None, second: nn.Module | None = None, join: tuple[int, int] | None = None
    ):
        super().__init__()
        self.first = first or nn.Identity()
        self.second = second or nn.Identity()
        self.join = Pointwise(*join) if join else None

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        if self.join is None:
            return self.first(x)
        *others, last = others
        return self.join(torch.cat([self.first(x, *others), self.second(last)], 1))


class Level(nn.Module):
    """Blocks behind a Merge and in front of an optional change of resolution.

    Args:
        before: Brings the inputs together.
        blocks: Maps a tensor to one of its shape.
        after: What comes last, such as an upsampling.
    """

    def __init__(self, before: Merge, blocks: nn.Module, after: nn.Module | None = None):
        super().__init__()
        self.before = before
        self.blocks = blocks
        self.after = after or nn.Identity()

    def forward(self, x: Tensor, *sides: Tensor) -> Tensor:
        return self.after(self.blocks(self.before(x, *sides)))
