"""The model of a run as the run would build it, on the CPU."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves


def build(opt: Mapping[str, Any]) -> BaseModel:
    """The model with its networks, losses, optimisers and schedules; raises what its class does."""
    return build_model(copy.deepcopy({**opt, 'num_gpu': 0}))  # BasicSR's models take entries out of the options


def optimiser_bytes(optimisers: Iterable[Optimizer]) -> int:
    """The bytes that optimisers keep beside the weights: what is there after a first step. The weights change."""
    total = 0
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            for weight in group['params']:
                weight.grad = torch.zeros_like(weight)
        optimiser.step(lambda: 0.0)
        total += bytes_of(part for part in tree_leaves(list(optimiser.state.values())) if isinstance(part, Tensor))
    return total


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of all elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
