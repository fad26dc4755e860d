import importlib.util

import cv2
import pytest

from deeprftv2_plugin.data.storage.photographs import HELD_OUT, TRAINING, TRULY_BLURRED, photograph
from deeprftv2_plugin.utils.errors import UserError


@pytest.mark.parametrize('name', [*TRAINING, *HELD_OUT, TRULY_BLURRED])
def test_wheel_has_every_photograph(name):
    assert min(cv2.imread(str(photograph(name))).shape[:2]) >= 300


def test_photograph_lists_are_disjoint():
    names = [*TRAINING, *HELD_OUT, TRULY_BLURRED]
    assert len(set(names)) == len(names)
    assert 'astronaut.png' in HELD_OUT


def test_errors_name_what_is_missing(monkeypatch):
    with pytest.raises(UserError, match=r'nobody\.png is missing'):
        photograph('nobody.png')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install scikit-image'):
        photograph('coffee.png')
