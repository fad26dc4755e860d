"""One level of a column: merged inputs, blocks, and a change of resolution."""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.pointwise import Pointwise


class Merge(nn.Module):
    """Merge inputs into one map: `join(cat[first(x, ...), second(last)])`, or `first(x)` for a single input.

    Args:
        first: Applied to all inputs but the last, for example another Merge. Identity by default.
        second: Applied to the last input. Identity by default.
        join: Input and output channels of the 1x1 convolution that merges them; None for a single input.
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
        *rest, last = others
        return self.join(torch.cat([self.first(x, *rest), self.second(last)], 1))


class Level(nn.Module):
    """A Merge, blocks, and an optional change of resolution.

    Args:
        before: Merges the inputs.
        blocks: Maps a tensor to one of its shape.
        after: Applied last, for example an upsampling. Identity by default.
    """

    def __init__(self, before: Merge, blocks: nn.Module, after: nn.Module | None = None):
        super().__init__()
        self.before = before
        self.blocks = blocks
        self.after = after or nn.Identity()

    def forward(self, x: Tensor, *sides: Tensor) -> Tensor:
        return self.after(self.blocks(self.before(x, *sides)))
