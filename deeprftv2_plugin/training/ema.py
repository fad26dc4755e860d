"""Exponential moving average of the weights of a network."""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    r"""Update :math:`\bar\theta \leftarrow d \bar\theta + (1 - d) \theta` in a second network with one fused operation.

    The average includes everything that a checkpoint stores, including buffers such as the running statistics of batch
    normalization. Integer tensors (counters, index tables) are copied.

    Args:
        average: Network that holds the average, of the same architecture as ``net``.
        net: Network being trained.
    """

    def __init__(self, average: nn.Module, net: nn.Module):
        pairs = list(zip(average.state_dict().values(), net.state_dict().values(), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point() or pair[0].is_complex()]
        self._copied = [pair for pair in pairs if not (pair[0].is_floating_point() or pair[0].is_complex())]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Update the average with the current weights.

        Args:
            decay: The factor :math:`d` in [0, 1]; 0 copies the weights.
        """
        averaged, current = (list(part) for part in zip(*self._averaged, strict=True))
        get_ema_multi_avg_fn(decay)(averaged, current, None)
        for mean, value in self._copied:
            mean.copy_(value)
