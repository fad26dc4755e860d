"""One level of a column: a change of resolution, a second input, and blocks."""

import torch
from torch import Tensor, nn

from deeprftv2_plugin.layers.pointwise import Pointwise


class Level(nn.Module):
    """Blocks between two optional changes of resolution, with an optional second input.

    Args:
        blocks: Maps a tensor to one of its shape.
        channels: Channels of the blocks.
        before: What comes first, such as a downsampling.
        after: What comes last, such as an upsampling.
        merges: Concatenate a second input with the first and return to `channels` by a convolution of 1x1.
    """

    def __init__(
        self,
        blocks: nn.Module,
        channels: int,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
        merges: bool = False,
    ):
        super().__init__()
        self.before = before or nn.Identity()
        self.merge = Pointwise(2 * channels, channels) if merges else None
        self.blocks = blocks
        self.after = after or nn.Identity()

    def forward(self, x: Tensor, side: Tensor | None = None) -> Tensor:
        x = self.before(x)
        if self.merge is not None:
            x = self.merge(torch.cat([x, side], 1))
        return self.after(self.blocks(x))
