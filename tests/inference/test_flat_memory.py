"""Memory does not grow with the number of images."""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import write_checkpoint
from deeprftv2_plugin.inference import load

STATM = Path('/proc/self/statm')
ALLOWED = 24 * 2**20
"""Bytes by which memory may fluctuate, much less than 70 copies of the network."""


def resident():
    """Return the memory of the process, without what the allocator keeps for later."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), 'malloc_trim'):
        libc.malloc_trim(0)
    return int(STATM.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def arrays():
    gc.collect()
    return sum(issubclass(type(each), (torch.Tensor, np.ndarray)) for each in gc.get_objects())


@pytest.mark.skipif(not STATM.exists(), reason='the system has no /proc')
def test_a_hundred_images_with_a_network_loaded_for_each(tmp_path):
    path, image = tmp_path / 'net.pth', np.full((16, 13, 3), 99, np.uint8)
    column = [['NAF', 1]] * 3
    net = DeepRFTv2('T', stages=1, kernel_depths=[1, 0, 0, 0], full_encoder=column, full_decoder=column)
    write_checkpoint({'params': net.state_dict()}, path)
    assert 70 * sum(weight.nbytes for weight in net.state_dict().values()) > 2 * ALLOWED
    for count in range(100):
        load(path, device='cpu', tile=32)(image)
        if count == 29:
            before, held = resident(), arrays()
    assert arrays() == held
    assert resident() - before < ALLOWED
