"""Small networks."""

import torch

from deeprftv2_plugin.archs import DeepRFTv2


def network(**settings):
    """Return variant T with few channels, in which every weight affects the output."""
    torch.manual_seed(0)
    net = DeepRFTv2('T', **{'width': 4, 'kernel_width': 4} | settings)
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return net
