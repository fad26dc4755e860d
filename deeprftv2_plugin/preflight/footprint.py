"""Estimate the memory of a training step from passes over two small crops, which take seconds on a CPU."""

from collections.abc import Iterable
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from deeprftv2_plugin.inference.restoration import size_multiple

SIDE = 32
"""Height and width in pixels of the smaller crop, before rounding up to the size multiple of the network."""


class LiveBytes(TorchDispatchMode):
    """Record the bytes of all live tensors that are created while the mode is active.

    Args:
        known: Tensors that are not counted even if an operator returns them.
    """

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()
        self.history = [0]
        """Live bytes after each allocation and each release."""
        self._alive = WeakIdKeyDictionary({tensor.untyped_storage(): None for tensor in known})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._alive:
                self._alive[storage] = None
                self._add(storage.nbytes())
                finalize(storage, self._add, -storage.nbytes())
        return out

    def _add(self, size: int) -> None:
        self.history.append(self.history[-1] + size)


class Activations:
    """Estimate the memory of a forward and backward pass, without weights and gradients, from two small crops.

    The live bytes at each moment of the pass are assumed to be linear in the number of pixels. The moments of two
    crops are matched because the peak of a larger crop may be at another moment: in small crops, temporary tensors of
    the size of the weights dominate. If the passes have different numbers of moments, only their peaks are used.

    The passes compute actual values, since passes over such small crops are several times slower under
    `FakeTensorMode`.

    Args:
        net: A network for images (N, 3, H, W). It is left in training mode with gradients.
    """

    def __init__(self, net: nn.Module):
        multiple = size_multiple(net)
        side = -(-SIDE // multiple) * multiple
        self.sides = side, 2 * side
        histories = [history_of(net, side) for side in self.sides]
        if len({len(history) for history in histories}) > 1:
            histories = [[max(history)] for history in histories]
        self._small, self._large = (torch.tensor(history, dtype=torch.float64) for history in histories)

    def peak(self, pixels: int) -> float:
        """Return the peak in bytes for a total number of pixels in a batch."""
        small, large = (side**2 for side in self.sides)
        return torch.lerp(self._small, self._large, (pixels - small) / (large - small)).max().clamp(min=0).item()


def history_of(net: nn.Module, side: int) -> list[int]:
    """Return the live bytes at each moment of a forward and backward pass over a square crop."""
    net.train()
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    gradients = [torch.zeros_like(weight) for weight in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient  # exists before the pass, as in gradient accumulation
    x = torch.rand(1, 3, side, side)
    with LiveBytes([x, *net.parameters(), *net.buffers(), *gradients]) as live:
        output = net(x)
        torch.autograd.backward([part.abs().mean() for part in tree_leaves(output) if isinstance(part, Tensor)])
    return live.history
