"""Whether the disk can hold the checkpoints."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from deeprftv2_plugin.preflight.findings import Finding, amount, error, ok, warning
from deeprftv2_plugin.preflight.model import bytes_of


def check_disk(opt: Mapping[str, Any], networks: Mapping[str, nn.Module], optimiser: int) -> Iterator[Finding]:
    """Compares what a training writes with what is free where it writes.

    Args:
        opt: The options.
        networks: All networks.
        optimiser: Bytes that the optimisers keep.
    """
    weights = bytes_of(tensor for net in networks.values() for tensor in net.state_dict().values())
    sets = 2 if opt['train'].get('ema_decay') else 1
    files = (sets + 1) * weights  # .pth, and .safetensors with one set
    each = files + optimiser
    saved = opt['train']['total_iter'] // opt['logger']['save_checkpoint_freq']
    keep = opt['logger'].get('keep_checkpoints')
    count = min(saved, keep + 1) if keep else saved  # the oldest goes when the newest is there
    named = files * (2 if (opt.get('val') or {}).get('metrics') else 1)
    folder = Path(opt['path']['experiments_root'])
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.is_dir())).free
    text = (
        f'{amount(free)} free; {count} checkpoints of {amount(each)} and the latest and best weights take '
        f'{amount(count * each + named)}'
    )
    if free < min(count, 2) * each + named:
        yield error(f'{text}: there is no room for two checkpoints in {folder.parent}')
    elif free < count * each + named:
        yield warning(f'{text}: set logger.keep_checkpoints to less, or make room in {folder.parent}')
    else:
        yield ok(text)
