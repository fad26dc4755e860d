"""The model of a run, and what its optimisers keep."""

import pytest
import torch
from torch import optim

from deeprftv2_plugin.preflight import model
from tests.models.toys import options


@pytest.mark.parametrize(
    ('optimiser', 'copies'), [(optim.SGD, 0), (lambda w: optim.SGD(w, momentum=0.9), 1), (optim.AdamW, 2)]
)
def test_an_optimiser_keeps_so_many_copies_of_the_weights(optimiser, copies):
    weights = [torch.ones(50, 50, requires_grad=True), torch.ones(30, requires_grad=True)]
    assert model.optimiser_bytes([optimiser(weights)]) == pytest.approx(copies * 2530 * 4, abs=20)


def test_the_options_stay_as_they_are():
    opt = options('OneScale')
    before = repr(opt)
    model.build(opt)
    assert repr(opt) == before
