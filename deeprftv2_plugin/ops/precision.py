"""The dtypes in which operators compute and that they return."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return x as float32, or unchanged if it is float64. Half precision is too coarse for sums over a map."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def result_type(x: Tensor) -> torch.dtype:
    """Return autocast's dtype if autocast is enabled for x's device, otherwise the dtype of x."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
