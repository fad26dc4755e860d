"""Content of checkpoints, and its comparison."""

import os

import torch


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ('harm',)


def quantized():
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
