"""The exponential moving average of a network."""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    r"""Keeps :math:`\bar\theta \leftarrow d \bar\theta + (1 - d) \theta` in a second network, in one pass over all.

    All that a checkpoint holds is averaged, so also buffers, as the running statistics of a batch
    normalisation. Whole numbers (counters, index tables) have no average and are copied.

    Args:
        average: The network that holds the average, of the same architecture as ``net``.
        net: The network that is being trained.
    """

    def __init__(self, average: nn.Module, net: nn.Module):
        pairs = list(zip(average.state_dict().values(), net.state_dict().values(), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point() or pair[0].is_complex()]
        self._copied = [pair for pair in pairs if not (pair[0].is_floating_point() or pair[0].is_complex())]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Take in the network as it is now, with the factor :math:`d` in [0, 1]; 0 copies."""
        averaged, current = (list(part) for part in zip(*self._averaged, strict=True))
        get_ema_multi_avg_fn(decay)(averaged, current, None)
        for mean, value in self._copied:
            mean.copy_(value)
