"""DeepRFTv2, a reversible Fourier network with kernel estimation for image deblurring, as a BasicSR plugin."""

from typing import TYPE_CHECKING

from deeprftv2_plugin.version import __version__

if TYPE_CHECKING:
    from deeprftv2_plugin.inference.restorer import load

__all__ = ['__version__', 'load', 'register']


def __getattr__(name: str) -> object:
    """Import `load` when it is needed, since it imports PyTorch."""
    if name == 'load':
        from deeprftv2_plugin.inference import restorer

        return restorer.load
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def register() -> None:
    """Add this package's classes to BasicSR's registries, so that option files can name them.

    Can be called repeatedly.
    """
    from deeprftv2_plugin.basicsr_bridge import registration

    registration.register()
