"""The memory that a training step takes, from passes over crops so small that they cost seconds on a CPU."""

from collections.abc import Iterable, Sequence
from functools import partial
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SIDE = 32
"""Height and width in pixels of the smaller of the two crops, rounded up to what the network takes."""


class LiveBytes(TorchDispatchMode):
    """Follows the bytes of all tensors that are alive, while it is entered.

    Args:
        known: Tensors that do not count.
    """

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()
        self.history = [0]
        """Bytes alive after every tensor that comes or goes."""
        self._alive = {tensor.untyped_storage().data_ptr(): None for tensor in known}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage):
        address, size = storage.data_ptr(), storage.nbytes()
        if size and address not in self._alive:
            self._alive[address] = ref(storage, partial(self._forget, address, size))
            self.history.append(self.history[-1] + size)

    def _forget(self, address, size, _):
        del self._alive[address]
        self.history.append(self.history[-1] - size)


class Activations:
    """What a forward and backward pass of a network keeps in memory, besides weights and gradients.

    The bytes alive at a moment of the pass are taken to be linear in the number of pixels. They are followed through
    a pass over each of two small crops, moment by moment, since the peak of a larger crop may lie elsewhere than
    theirs: with them tensors of the weights' sizes, such as gradients on their way, count for more. A network that
    does otherwise on larger crops, so that the moments do not correspond, is estimated by the two peaks.

    Args:
        net: The network, which takes pictures (N, 3, H, W). It is left in training mode with gradients.
    """

    def __init__(self, net: nn.Module):
        multiple = getattr(net, 'size_multiple', 1)
        side = -(-SIDE // multiple) * multiple
        self.sides = side, 2 * side
        histories = [history_of(net, side) for side in self.sides]
        if len({len(history) for history in histories}) > 1:
            histories = [[max(history)] for history in histories]
        self._small, self._large = (np.array(history, dtype=np.float64) for history in histories)

    def peak(self, pixels: int) -> float:
        """Bytes at the peak of a pass over so many pixels in all pictures of the batch."""
        small, large = (side**2 for side in self.sides)
        return max(0.0, (self._small + (self._large - self._small) * (pixels - small) / (large - small)).max())


def history_of(net: nn.Module, side: int) -> Sequence[int]:
    """The bytes alive all through a pass over one square crop."""
    net.train()
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)  # there from the beginning, as when gradients are accumulated
    x = torch.rand(1, 3, side, side)
    with LiveBytes([x, *net.parameters(), *net.buffers(), *(weight.grad for weight in weights)]) as live:
        output = net(x)
        sum(part.abs().mean() for part in tree_leaves(output) if isinstance(part, Tensor)).backward()
    return live.history
