"""The types that operators compute in and return."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return x as float32, or as float64 where it is that: half precision is too coarse for sums over a map."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def result_type(x: Tensor) -> torch.dtype:
    """Return autocast's type if it is enabled for x's device, else the type of x."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
