"""The published sizes of the network, as keyword arguments of `DeepRFTv2`."""

from typing import Any

_SCAN_ENCODER = (('NAF', 1), ('NAFScan', 4), ('NAFScan', 8))
_NAF_ENCODER = (('NAF', 1), ('NAF', 4), ('NAF', 8))
_TINY_ENCODER = (('NAF', 1), ('NAFScan', 1), ('NAFScan', 1))
_TINY_NAF_ENCODER = (('NAF', 1), ('NAF', 1), ('NAF', 1))


def _sizes(width: int, kernel_width: int, full: tuple, half: tuple) -> dict[str, Any]:
    """Return the arguments of a network whose decoders mirror its encoders at full and at half scale."""
    return {
        'width': width,
        'kernel_width': kernel_width,
        'full_encoder': full,
        'full_decoder': full[::-1],
        'half_encoder': half,
        'half_decoder': half[::-1],
    }


VARIANTS = {
    'B': _sizes(48, 48, _SCAN_ENCODER, _NAF_ENCODER),
    'S': _sizes(48, 48, _NAF_ENCODER, _NAF_ENCODER),
    'T': _sizes(16, 8, _TINY_ENCODER, _TINY_NAF_ENCODER),
    'E': _sizes(16, 8, _TINY_ENCODER, _NAF_ENCODER),
}
"""'B' (30.1 M parameters) is the authors' network for GoPro. 'S' (21.2 M) has the size of their network for defocus,
which also averages over windows: to build it, set the block names to LocalNAF and set local_pool_crop. 'T' (0.7 M) is
small enough for a CPU. 'E' (1.7 M) fits the budget of the challenges on efficient deblurring, 5 M parameters and 200 G
multiply-adds at 1920x1200 (AIM 2025, arXiv 2510.12788). The operations are the limiting factor: 'T' takes 158 G,
including Fourier transforms and scans. A block at half scale costs a quarter of one at full scale, so 'E' is 'T' with
the depths of 'S' at half scale, 196 G. One more block at full scale would exceed the budget."""
