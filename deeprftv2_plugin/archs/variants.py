"""The published sizes of the network, as keyword arguments of `DeepRFTv2`."""

from typing import Any

_SCAN_ENCODER = (('NAF', 1), ('NAFScan', 4), ('NAFScan', 8))
_NAF_ENCODER = (('NAF', 1), ('NAF', 4), ('NAF', 8))
_TINY_ENCODER = (('NAF', 1), ('NAFScan', 1), ('NAFScan', 1))
_TINY_NAF_ENCODER = (('NAF', 1), ('NAF', 1), ('NAF', 1))

VARIANTS: dict[str, dict[str, Any]] = {
    'B': {
        'width': 48,
        'kernel_width': 48,
        'full_encoder': _SCAN_ENCODER,
        'full_decoder': _SCAN_ENCODER[::-1],
        'half_encoder': _NAF_ENCODER,
        'half_decoder': _NAF_ENCODER[::-1],
    },
    'S': {
        'width': 48,
        'kernel_width': 48,
        'full_encoder': _NAF_ENCODER,
        'full_decoder': _NAF_ENCODER[::-1],
        'half_encoder': _NAF_ENCODER,
        'half_decoder': _NAF_ENCODER[::-1],
    },
    'T': {
        'width': 16,
        'kernel_width': 8,
        'full_encoder': _TINY_ENCODER,
        'full_decoder': _TINY_ENCODER[::-1],
        'half_encoder': _TINY_NAF_ENCODER,
        'half_decoder': _TINY_NAF_ENCODER[::-1],
    },
    'E': {
        'width': 16,
        'kernel_width': 8,
        'full_encoder': _TINY_ENCODER,
        'full_decoder': _TINY_ENCODER[::-1],
        'half_encoder': _NAF_ENCODER,
        'half_decoder': _NAF_ENCODER[::-1],
    },
}
"""'B' (30.1 M parameters) is the authors' network for GoPro. 'S' (21.2 M) has the size of their network for defocus,
which also averages over windows: to build it, set the block names to LocalNAF and set local_pool_crop. 'T' (0.7 M) is
small enough for a CPU. 'E' (1.7 M) fits the budget of the challenges on efficient deblurring, 5 M parameters and 200 G
multiply-adds at 1920x1200 (AIM 2025, arXiv 2510.12788). The operations are the limiting factor: 'T' takes 158 G,
including Fourier transforms and scans. A block at half scale costs a quarter of one at full scale, so 'E' is 'T' with
the depths of 'S' at half scale, 196 G. One more block at full scale would exceed the budget."""
