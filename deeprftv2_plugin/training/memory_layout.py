"""The memory layout of weights, of their gradients, and of what an optimizer keeps for them."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def to_channels_last(net: nn.Module) -> None:
    """Store the 4-dimensional weights and buffers of a network in channels_last.

    A 1x1 or a depthwise weight lies in memory the same way in both formats and keeps its strides. ``Module.to``
    would rewrite them to no effect.
    """
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def match_gradients(net: nn.Module) -> None:
    """Give gradients the strides of their weights, which DistributedDataParallel expects.

    The stride along a dimension of size 1 has no meaning, and operators set it as they like: the gradient of a
    depthwise weight (C, 1, 3, 3) can come with strides (9, 1, 3, 1) where the weight has (9, 9, 3, 1). DDP compares
    all strides and warns. A gradient whose memory really has another order is copied by autograd before DDP sees it.

    A weight whose gradient matches in the first backward pass is not looked at again.
    """
    for weight in net.parameters():
        if weight.requires_grad and weight.ndim > 1 and 1 in weight.shape:
            _match_gradient(weight)


def match_state(optimizer: Optimizer) -> None:
    """Store what an optimizer keeps for each weight in the layout of the weight, as fused optimizers require.

    A state saved with another layout would otherwise be an error on a GPU, and mix up the values on a CPU.
    """
    for weight, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _match_gradient(weight):
    def matched(gradient):
        if gradient.stride() == weight.stride():
            handle.remove()
        elif _same_order(gradient, weight):
            return gradient.as_strided(weight.shape, weight.stride())
        return None

    handle = weight.register_hook(matched)


def _same_order(one, other):
    """Whether two tensors of one shape differ in strides that have no meaning only."""
    strides = zip(one.shape, one.stride(), other.stride(), strict=True)
    return all(size == 1 or first == second for size, first, second in strides)
