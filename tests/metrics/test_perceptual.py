"""Metrics of pyiqa, with a fake package."""

import sys
import types

import numpy as np
import pytest
import torch

from deeprftv2_plugin.metrics import pyiqa_full_reference, pyiqa_no_reference
from deeprftv2_plugin.metrics.direction import better_of
from deeprftv2_plugin.utils.errors import UserError

from .photographs import load, restored, sixteen_bit

MODES = {'distance': 'FR', 'redness': 'NR', 'broken': 'NR'}


class Network(torch.nn.Module):
    """A fake of the object that `pyiqa.create_metric` returns, without weights."""

    def __init__(self, name, device):
        super().__init__()
        if name == 'broken':
            raise OSError('no route to host')
        self.name, self.device = name, device

    def forward(self, target, ref=None):
        assert not torch.is_grad_enabled()
        for image in (target,) if self.name == 'redness' else (target, ref):
            assert image.shape[:2] == (1, 3) and image.dtype == torch.float32 and image.is_contiguous()
            assert image.min() >= 0 and image.max() <= 1
            assert image.device == self.device
        value = target[:, 0].mean() if self.name == 'redness' else (target - ref).abs().mean()
        return value[None, None]


@pytest.fixture(autouse=True)
def created(monkeypatch):
    """Replace pyiqa by the fake package, and return the list of the metrics that it creates."""
    created = []

    def create_metric(name, device=None):
        created.append(name)
        return Network(name, device)

    def list_models(metric_mode):
        return sorted(name for name, mode in MODES.items() if mode == metric_mode)

    package, configs = types.ModuleType('pyiqa'), types.ModuleType('pyiqa.default_model_configs')
    vars(package).update(create_metric=create_metric, list_models=list_models)
    configs.DEFAULT_CONFIGS = {'distance': {'lower_better': True}, 'redness': {}}
    monkeypatch.setitem(sys.modules, 'pyiqa', package)
    monkeypatch.setitem(sys.modules, 'pyiqa.default_model_configs', configs)
    return created


@pytest.mark.parametrize(('name', 'better'), [('distance', 'lower'), ('redness', 'higher'), ('distanse', 'higher')])
def test_pyiqa_knows_which_values_are_better(name, better):
    assert better_of({'type': 'pyiqa_full_reference', 'name': name}) == better
    assert better_of({'type': 'pyiqa_full_reference', 'name': name, 'better': 'lower'}) == 'lower'


def images():
    sharp = load('coffee.png')[:40, :50]
    return restored(sharp), sharp


@pytest.mark.parametrize('convert', [np.asarray, sixteen_bit, lambda image: image[..., 1]])
@pytest.mark.parametrize('device', [None, 'cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
def test_pyiqa_gets_rgb_in_unit_range(convert, device):
    img, img2 = map(convert, images())
    peak = np.iinfo(img.dtype).max
    difference = np.abs(img / peak - img2 / peak).mean()
    assert pyiqa_full_reference(img, img2, name='distance', device=device) == pytest.approx(difference, abs=1e-6)
    red = img[..., 2] if img.ndim == 3 else img
    assert pyiqa_no_reference(img, name='redness', device=device) == pytest.approx(red.mean() / peak, abs=1e-6)


def test_network_is_created_once(created):
    for _ in range(3):
        pyiqa_full_reference(*images(), name='distance')
    pyiqa_no_reference(images()[0], name='redness')
    assert created == ['distance', 'redness']


@pytest.mark.parametrize(
    ('metric', 'name', 'message'),
    [
        (
            pyiqa_full_reference,
            'distanse',
            "no metric 'distanse' for type: pyiqa_full_reference. Did you mean distance",
        ),
        (pyiqa_full_reference, 'redness', 'redness .* Use type: pyiqa_no_reference'),
        (pyiqa_no_reference, 'distance', 'distance .* Use type: pyiqa_full_reference'),
        (pyiqa_no_reference, 'broken', 'broken of pyiqa failed on .* 40x50x3 uint8: OSError: no route to host'),
    ],
)
def test_errors_name_the_metric(metric, name, message):
    img, img2 = images()
    with pytest.raises(UserError, match=message):
        metric(img, img2=img2, name=name)


def test_error_explains_that_pyiqa_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyiqa', None)
    with pytest.raises(UserError, match='distance needs pyiqa.*pip install pyiqa'):
        pyiqa_full_reference(*images(), name='distance')
    assert better_of({'type': 'pyiqa_full_reference', 'name': 'distance'}) == 'higher'
