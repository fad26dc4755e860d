"""A 1x1 convolution as a matrix product."""

from torch import Tensor, nn

from deeprftv2_plugin.layers.parameters import scaled
from deeprftv2_plugin.ops.pointwise import pointwise


class Pointwise(nn.Linear):
    """A linear layer over the channels of each pixel, with an optional scale that is merged into the weights.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        bias: Whether to add a learned bias to every channel.

    Shape:
        (N, in_features, H, W) to (N, out_features, H, W) in channels_last; other layouts are copied first.
    """

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Apply the layer to x, and multiply the result by `scale`, of shape (1, out_features, 1, 1)."""
        return pointwise(x, *scaled(self.weight, self.bias, scale))
