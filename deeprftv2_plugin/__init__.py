"""DeepRFTv2, a reversible Fourier network with kernel estimation for image deblurring, as a BasicSR plugin."""

from deeprftv2_plugin.version import __version__

__all__ = ['__version__', 'register']


def register() -> None:
    """Add this package's classes to BasicSR's registries, so that option files can name them.

    Can be called repeatedly.
    """
    from deeprftv2_plugin.basicsr_bridge import registration

    registration.register()
