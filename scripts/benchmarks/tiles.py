"""A whole frame in tiles against one tile: what memory and time depend on."""

import torch

from benchmarks.measure import Memory, figures, seconds_of
from benchmarks.plan import Case, Setting
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.ops import TileGrid


def cases(setting: Setting) -> list[Case]:
    width, height, tile, overlap = (96, 64, 32, 8) if setting.quick else (1280, 720, 256, 48)
    key = {'width': width, 'height': height, 'tile': tile, 'overlap': overlap}
    return [Case('tiles', compare, {'variant': v} | key, default=v == 'T') for v in setting.variants_or('T')]


def compare(setting: Setting, variant: str, width: int, height: int, tile: int, overlap: int) -> dict:
    """Restore a frame in tiles; its time over that of as many single tiles, and its peak memory over one tile's."""
    network = DeepRFTv2(variant).to(setting.device)
    frame, count = torch.rand(1, 3, height, width, device=setting.device), len(TileGrid((height, width), tile, overlap))
    single = frame[..., :tile, :tile].contiguous()
    found = figures(setting, lambda: restore(network, single))
    memory = Memory(setting.device)
    seconds = seconds_of(lambda: restore(network, frame, tile, overlap), setting.device)
    used = memory.used()
    time_ratio = seconds / (count * found['seconds'])
    memory_ratio = used['peak_bytes'] / found['peak_bytes']
    whole = {'seconds': seconds, 'fastest': seconds, 'runs': 1, 'tile_seconds': found['seconds'], 'tiles': count}
    if 'yard_seconds' in found:
        whole['yards'] = seconds / found['yard_seconds']
    note = f'{count} tiles: {time_ratio:.2f} times the time of {count} alone, {memory_ratio:.2f} times the peak of one'
    return found | used | whole | {'time_ratio': time_ratio, 'memory_ratio': memory_ratio, 'note': note}
