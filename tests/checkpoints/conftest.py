"""A small network whose weights the tests write and read."""

import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return DeepRFTv2('T', width=4, kernel_width=(4, 6), stages=2).eval()
