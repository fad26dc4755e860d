"""Metadata that only JPEG files have."""

import struct
from typing import Any

PHOTOSHOP, IPTC = b'Photoshop 3.0\0', 0x0404
"""The start of a segment with resources of Photoshop, and the number of the resource that contains IPTC data."""


def kept_segments(info: dict[Any, Any]) -> bytes:
    """Return the comment and the IPTC data of a JPEG file, encoded as segments.

    Args:
        info: The information that Pillow has read from the file.
    """
    iptc = info.get('photoshop', {}).get(IPTC, b'')
    if iptc:
        iptc = b''.join([PHOTOSHOP, b'8BIM', struct.pack('>HHI', IPTC, 0, len(iptc)), iptc, bytes(len(iptc) % 2)])
    found = {0xFE: info.get('comment', b''), 0xED: iptc}
    return b''.join(struct.pack('>BBH', 0xFF, kind, 2 + len(part)) + part for kind, part in found.items() if part)
