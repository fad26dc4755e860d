"""DeepRFTv2, a reversible Fourier network with kernel estimation for image deblurring, as a BasicSR plugin."""

import os

from deeprftv2_plugin.version import __version__

TYPE_CHECKING = False  # not imported, since `python -m` would find a typing.py in the working directory at this point
if TYPE_CHECKING:
    import torch

    from deeprftv2_plugin.inference import Restorer

__all__ = ['__version__', 'load', 'register']


def load(
    weights: str | os.PathLike = 'deblur',
    *,
    device: 'str | torch.device | None' = None,
    tile: int | None = None,
    ensemble: bool = False,
    bf16: bool = False,
) -> 'Restorer':
    """Load a network and return a function that deblurs NumPy arrays, Pillow images and tensors.

    See :func:`deeprftv2_plugin.inference.load` for the arguments.
    """
    from deeprftv2_plugin import inference

    return inference.load(weights, device=device, tile=tile, ensemble=ensemble, bf16=bf16)


def register() -> None:
    """Add this package's classes to BasicSR's registries, so that option files can use them.

    Repeated calls have no effect.
    """
    from deeprftv2_plugin.basicsr_bridge import registration

    registration.register()
