"""Estimate the memory of a training step from passes over small crops on the CPU."""

from collections.abc import Iterable, Sequence
from functools import partial
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deeprftv2_plugin.inference.restoration import size_multiple

SIDE = 32
"""Height and width in pixels of the smaller of the two crops, rounded up to what the network takes."""


class LiveBytes(TorchDispatchMode):
    """Track the bytes of all live tensors within the context.

    Args:
        known: Tensors that are not counted.
    """

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()
        self.history = [0]
        """Live bytes after every allocation and release."""
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
    """The memory of a forward and backward pass of a network, besides weights and gradients.

    The live bytes at each moment of the pass are assumed to be linear in the number of pixels. They are tracked
    through a pass over each of two small crops, moment by moment, since the peak of a larger crop may occur at another
    moment: on small crops, tensors of the size of weights, such as gradients, have a larger share. If the two passes do
    not have the same number of moments, the estimate uses their peaks only.

    Args:
        net: The network, whose input are images (N, 3, H, W). It is left in training mode with gradients.
    """

    def __init__(self, net: nn.Module):
        multiple = size_multiple(net)
        side = -(-SIDE // multiple) * multiple
        self.sides = side, 2 * side
        histories = [history_of(net, side) for side in self.sides]
        if len({len(history) for history in histories}) > 1:
            histories = [[max(history)] for history in histories]
        self._small, self._large = (np.array(history, dtype=np.float64) for history in histories)

    def peak(self, pixels: int) -> float:
        """Return the peak in bytes of a pass over a number of pixels, summed over the images of the batch."""
        small, large = (side**2 for side in self.sides)
        return max(0.0, (self._small + (self._large - self._small) * (pixels - small) / (large - small)).max())


def history_of(net: nn.Module, side: int) -> Sequence[int]:
    """Return the live bytes at each moment of a pass over one square crop."""
    net.train()
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)  # present from the beginning, as when gradients are accumulated
    x = torch.rand(1, 3, side, side)
    with LiveBytes([x, *net.parameters(), *net.buffers(), *(weight.grad for weight in weights)]) as live:
        output = net(x)
        sum(part.abs().mean() for part in tree_leaves(output) if isinstance(part, Tensor)).backward()
    return live.history
