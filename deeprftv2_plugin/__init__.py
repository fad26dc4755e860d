"""DeepRFTv2, reversible Fourier deblurring with kernel estimators, as a plugin of BasicSR."""

__version__ = '0.1.0'


def register():
    """Adds everything here to BasicSR's registries, so that option files can name it; does so once."""
    from deeprftv2_plugin.basicsr_bridge import registration

    registration.register()
