"""The precision that transforms, scans and column states need."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """x as float32, or as float64 where it is that: half precision is too coarse for sums over a whole map."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
