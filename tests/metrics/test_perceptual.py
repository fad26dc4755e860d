"""pyiqa's metrics, with a stand-in for the package."""

import sys
import types

import numpy as np
import pytest
import torch

from deeprftv2_plugin.metrics import pyiqa_full_reference, pyiqa_no_reference
from deeprftv2_plugin.utils.errors import UserError

from .pictures import load, restored, sixteen_bit

MODES = {'distance': 'FR', 'redness': 'NR', 'broken': 'NR'}


class Network(torch.nn.Module):
    """What `pyiqa.create_metric` returns, with metrics that need no weights."""

    def __init__(self, name, device):
        super().__init__()
        if name == 'broken':
            raise OSError('no route to host')
        self.name, self.device = name, device

    def forward(self, target, ref=None):
        assert not torch.is_grad_enabled()
        for picture in (target,) if self.name == 'redness' else (target, ref):
            assert picture.shape[:2] == (1, 3) and picture.dtype == torch.float32 and picture.is_contiguous()
            assert picture.min() >= 0 and picture.max() <= 1
            assert picture.device == self.device
        value = target[:, 0].mean() if self.name == 'redness' else (target - ref).abs().mean()
        return value[None, None]


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Puts the stand-in where pyiqa would be; returns the list of what it was asked to make."""
    made = []

    def create_metric(name, device=None):
        made.append(name)
        return Network(name, device)

    def list_models(metric_mode):
        return sorted(name for name, mode in MODES.items() if mode == metric_mode)

    package = types.ModuleType('pyiqa')
    vars(package).update(create_metric=create_metric, list_models=list_models)
    monkeypatch.setitem(sys.modules, 'pyiqa', package)
    return made


def pictures():
    sharp = load('coffee.png')[:40, :50]
    return restored(sharp), sharp


@pytest.mark.parametrize('convert', [np.asarray, sixteen_bit, lambda picture: picture[..., 1]])
@pytest.mark.parametrize('device', [None, 'cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def test_pictures_arrive_as_rgb_in_unit_range(convert, device):
    img, img2 = map(convert, pictures())
    peak = np.iinfo(img.dtype).max
    difference = np.abs(img / peak - img2 / peak).mean()
    assert pyiqa_full_reference(img, img2, name='distance', device=device) == pytest.approx(difference, abs=1e-6)
    red = img[..., 2] if img.ndim == 3 else img
    assert pyiqa_no_reference(img, name='redness', device=device) == pytest.approx(red.mean() / peak, abs=1e-6)


def test_a_network_is_made_once(made):
    for _ in range(3):
        pyiqa_full_reference(*pictures(), name='distance')
    pyiqa_no_reference(pictures()[0], name='redness')
    assert made == ['distance', 'redness']


@pytest.mark.parametrize(
    ('metric', 'name', 'message'),
    [
        (
            pyiqa_full_reference,
            'distanse',
            "no metric 'distanse' for type: pyiqa_full_reference. Did you mean distance",
        ),
        (pyiqa_full_reference, 'redness', 'redness .* Write type: pyiqa_no_reference'),
        (pyiqa_no_reference, 'distance', 'distance .* Write type: pyiqa_full_reference'),
        (pyiqa_no_reference, 'broken', 'broken of pyiqa failed on .* 40x50x3 uint8: OSError: no route to host'),
    ],
)
def test_names_that_do_not_work(metric, name, message):
    img, img2 = pictures()
    with pytest.raises(UserError, match=message):
        metric(img, img2=img2, name=name)


def test_without_pyiqa(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyiqa', None)
    with pytest.raises(UserError, match='distance is computed by pyiqa.*pip install pyiqa'):
        pyiqa_full_reference(*pictures(), name='distance')
