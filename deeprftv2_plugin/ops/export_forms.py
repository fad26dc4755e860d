"""Forms of operators for exported programs: few nodes, and any size.

`library.decompositions` has a reference for every operator. The one of the scan is a loop over doublings, which a trace
unrolls for a fixed length. The time of an export is proportional to the number of nodes, which are traced several
times.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan_op
from torch.overrides import TorchFunctionMode

from deeprftv2_plugin.ops import library
from deeprftv2_plugin.ops.fourier import as_complex
from deeprftv2_plugin.ops.precision import at_least_float32

CHUNK = 64
"""Number of positions in a chunk of the scan."""


class Exportable(TorchFunctionMode):
    """Replace the operators of this package by PyTorch's operators, without gradients."""

    def __init__(self) -> None:
        super().__init__()
        operators = torch.ops.deeprftv2
        self.forms: Mapping[Any, Callable] = library.decompositions() | {
            operators.selective_scan.default: selective_scan,
            operators.half_spectrum.default: half_spectrum,
            operators.spectral_filter.default: spectral_filter,
        }

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function is torch.Tensor.to and not kwargs and args[1:] == (args[0].dtype,):
            return args[0]  # avoids hundreds of pairs of nodes without effect
        form = self.forms.get(function)
        if form is None:
            return function(*args, **(kwargs or {}))
        with self:  # forms call other operators of this package
            return form(*args)


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor, keep: bool = False
) -> tuple[Tensor, Tensor]:
    """Compute `ops.selective_scan` with two loops that the trace keeps: within all chunks, then from chunk to chunk.

    As in the backend `pytorch`, every chunk starts from zero, and the contribution of its true initial state is added
    afterwards. All exponents are at most 0, so nothing overflows for any decay.
    """
    u, delta, B, C = map(at_least_float32, (u, delta, B, C))
    batch, length, channels = u.shape
    count = length // CHUNK + 2  # never 1, for which compilers would make an exception

    def split(x: Tensor) -> Tensor:
        """Return (batch, length, rows) as (CHUNK, batch, count, rows), filled with zeros at the end."""
        return F.pad(x, (0, 0, 0, count * CHUNK - length)).reshape(batch, count, CHUNK, -1).permute(2, 0, 1, 3)

    step = F.softplus(delta + delta_bias)
    inputs = split(step * u)[..., None] * split(B)[..., None, :]
    step = split(step)
    decay = torch.exp(step[..., None] * A)
    last, states = scan_op(_run, [torch.zeros_like(inputs[0])], [decay, inputs], ())

    elapsed = torch.exp(step.cumsum(0)[..., None] * A)
    whole, last = (x.transpose(0, 1) for x in (elapsed[-1], last))  # (count, batch, channels, N)
    _, ends = scan_op(_run, [torch.zeros_like(last[0])], [whole, last], ())
    entries = F.pad(ends, (0, 0, 0, 0, 0, 0, 1, 0))[:-1].transpose(0, 1)
    y = ((states + elapsed * entries) * split(C)[..., None, :]).sum(-1)
    y = y.permute(1, 2, 0, 3).reshape(batch, count * CHUNK, channels)
    y = y[:, :length] + D * u
    return y, y.new_empty(0)


def _run(state: Tensor, decay: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    state = decay * state + inputs
    return state, state.clone()


def half_spectrum(x: Tensor) -> Tensor:
    """Compute `ops.fourier.half_spectrum` without a copy."""
    # A trace takes a size from the first tensor that has it, which must be real, since ONNX has no complex tensors.
    x[..., : x.shape[3] // 2 + 1]  # noqa: B018
    return torch.view_as_real(torch.fft.rfft2(x)).permute(0, 2, 3, 4, 1).flatten(3).permute(0, 3, 1, 2)


def spectral_filter(x: Tensor, transfer: Tensor) -> Tensor:
    """Compute `ops.fourier.spectral_filter` with transforms along one axis.

    The last transform yields real values, so it ignores the imaginary parts of columns 0 and w / 2.
    """
    product = torch.fft.rfft2(x) * as_complex(transfer)
    return torch.fft.irfft(torch.fft.ifft(product, dim=-2), n=x.shape[3], dim=-1)
