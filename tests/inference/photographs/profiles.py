"""An ICC profile for CMYK, which neither Pillow nor the operating system provides."""

import struct
from itertools import product

from PIL import ImageCms


def cmyk_profile():
    """Return a profile for an imaginary printer whose inks reduce lightness, and which prints yellow as blue."""
    clut = bytearray()
    for c, m, y, k in product((0, 1), repeat=4):
        lightness = max(0, 255 - 60 * (c + m + y) - 75 * k)
        clut += bytes([lightness, 128, 128 - 60 * y])
    identity = [round(65535 * (i == j)) for i in range(3) for j in range(3)]
    matrix = struct.pack('>9i', *(65536 if each else 0 for each in identity))
    curve = bytes(range(256))
    table = b'mft1' + bytes(4) + bytes([4, 3, 2, 0]) + matrix + 4 * curve + bytes(clut) + 3 * curve
    text = b'desc' + bytes(4) + struct.pack('>I', 5) + b'test\0' + bytes(78)
    white = b'XYZ ' + bytes(4) + struct.pack('>3i', 0xF6D6, 0x10000, 0xD32D)
    tags = [(b'desc', text), (b'wtpt', white), (b'A2B0', table)]
    offset, entries, body = 128 + 4 + 12 * len(tags), b'', b''
    for name, data in tags:
        data += bytes(-len(data) % 4)
        entries += name + struct.pack('>II', offset + len(body), len(data))
        body += data
    size = offset + len(body)
    header = struct.pack('>I4sI4s4s4s', size, b'test', 0x02400000, b'prtr', b'CMYK', b'Lab ') + bytes(12) + b'acsp'
    header = header.ljust(68, b'\0') + struct.pack('>3i', 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b'\0') + struct.pack('>I', len(tags)) + entries + body


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
