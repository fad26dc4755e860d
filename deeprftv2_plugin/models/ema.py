"""The exponential moving average of a network."""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    r"""Replace :math:`\bar\theta` by :math:`d \bar\theta + (1 - d) \theta`, in one pass over all tensors.

    All that a checkpoint holds is averaged, so also buffers, as the running statistics of a batch
    normalisation. Whole numbers (counters, index tables) have no average and are copied.

    Args:
        average: The network that holds the average, of the same architecture as ``net``.
        net: The network that is being trained.
        decay: The factor :math:`d` in [0, 1]; 0 copies.
    """
    averaged, current = [], []
    for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point() or mean.is_complex():
            averaged.append(mean)
            current.append(value)
        else:
            mean.copy_(value)
    get_ema_multi_avg_fn(decay)(averaged, current, None)
