"""Networks that use BasicSR's registry."""

from basicsr.archs import build_network

from deeprftv2_plugin import archs


class KernelHead(archs.KernelHead):
    """:class:`deeprftv2_plugin.archs.KernelHead` for option files: its backbone is a registered network.

    For example, RIDNet followed by an estimator::

        network_g:
          type: KernelHead
          backbone: {type: RIDNet, num_in_ch: 3, num_feat: 32, num_out_ch: 3}

    Arguments are those of the parent class.
    """

    build = staticmethod(build_network)
