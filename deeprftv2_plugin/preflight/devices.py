"""The GPUs that a run would have here."""

import os
from collections.abc import Mapping
from typing import Any

import torch

from deeprftv2_plugin.training.stages import gpus_of


def gpus_here(opt: Mapping[str, Any]) -> int:
    """How many GPUs share a step: the processes that a launcher starts by WORLD_SIZE, or those that `num_gpu` says."""
    processes = os.environ.get('WORLD_SIZE')
    return gpus_of({**opt, 'dist': processes is not None, 'world_size': int(processes or 1)})


def gpu_memory(opt: Mapping[str, Any]) -> int | None:
    """Bytes of the smallest visible GPU; None where the run takes none."""
    if opt['num_gpu'] == 0 or not torch.cuda.is_available():
        return None
    return min(torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count()))
