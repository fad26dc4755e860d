"""The software and hardware on which the last bits of a result depend."""

import os
from collections.abc import Mapping

import torch

from deeprftv2_plugin.ops import backends
from deeprftv2_plugin.version import __version__


def describe(device: torch.device) -> dict[str, str | int]:
    """Return the versions, device, number of threads and backends to store in a training state.

    Args:
        device: Device of the networks.
    """
    usable = backends.usable(os.environ.get(backends.VARIABLE))
    return {
        'version of torch': str(torch.__version__),
        'version of deeprftv2_plugin': __version__,
        'device': torch.cuda.get_device_name(device) if device.type == 'cuda' else device.type,
        'number of threads': torch.get_num_threads(),
        'backends': ', '.join(backend.__name__.rpartition('.')[2] for backend in usable),
    }


def changes(before: Mapping[str, str | int], device: torch.device) -> list[str]:
    """Return a message for each difference from the environment in which a state was saved."""
    return [
        f'Resumed with another {key}: {value}, it was {before[key]}. The results can differ in the last bits.'
        for key, value in describe(device).items()
        if key in before and before[key] != value
    ]
