"""Memory layout of weights, gradients and optimizer states."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def to_channels_last(net: nn.Module) -> None:
    """Convert the 4-dimensional weights and buffers of a network to channels_last in place.

    1x1 and depthwise weights have the same memory order in both formats and keep their strides. ``Module.to`` would
    change their strides without changing the memory order.
    """
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def match_gradients(net: nn.Module) -> None:
    """Give gradients the strides of their weights, as DistributedDataParallel expects.

    The stride of a dimension of size 1 is arbitrary. For example, the gradient of a depthwise weight (C, 1, 3, 3) can
    have strides (9, 1, 3, 1) where the weight has (9, 9, 3, 1). DDP compares all strides and warns. Autograd already
    copies gradients whose memory order differs.

    The hook of a weight is removed if its first gradient matches.
    """
    for weight in net.parameters():
        if weight.requires_grad and weight.ndim > 1 and 1 in weight.shape:
            _match_gradient(weight)


def match_state(optimizer: Optimizer) -> None:
    """Convert the optimizer state of each weight to the memory layout of the weight, as fused optimizers require.

    Without this, a state saved with another layout raises an error on a GPU and silently permutes values on a CPU.
    """
    for weight, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _match_gradient(weight: Tensor) -> None:
    def restride(gradient: Tensor) -> Tensor | None:
        if gradient.stride() == weight.stride():
            handle.remove()
        elif _same_order(gradient, weight):
            return gradient.as_strided(weight.shape, weight.stride())
        return None

    handle = weight.register_hook(restride)


def _same_order(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of the same shape differ only in the strides of dimensions of size 1."""
    strides = zip(one.shape, one.stride(), other.stride(), strict=True)
    return all(size == 1 or first == second for size, first, second in strides)
