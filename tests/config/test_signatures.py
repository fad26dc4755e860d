"""The options that a class or function takes according to its signature."""

import pytest
from torch import nn, optim

from deeprftv2_plugin.basicsr_bridge import patches
from deeprftv2_plugin.config.kinds import Range
from deeprftv2_plugin.config.signatures import arguments


@pytest.fixture
def basicsr():
    """Return BasicSR's registries by the kind of their entries."""
    patches.apply()
    from basicsr.utils import registry

    return {'network': registry.ARCH_REGISTRY, 'metric': registry.METRIC_REGISTRY, 'loss': registry.LOSS_REGISTRY}


class Parent:
    def __init__(self, width, depth=1):
        pass


class Child(Parent):
    def __init__(self, name, **kwargs):
        super().__init__(**kwargs)


class Passing(nn.Module):
    def __init__(self, name, **kwargs):
        super().__init__()
        self.inner = Parent(**kwargs)


@pytest.mark.parametrize(
    ('target', 'known', 'required', 'open_'),
    [
        (Parent, {'width', 'depth'}, {'width'}, False),
        (Child, {'name', 'width', 'depth'}, {'name'}, True),
        (Passing, {'name'}, {'name'}, True),
        (lambda a, *, b=1: None, {'a', 'b'}, {'a'}, False),
    ],
)
def test_arguments(target, known, required, open_):
    found = arguments(target)
    assert (found.known, found.required, found.open) == (known, required, open_)


def test_given_arguments_are_omitted():
    assert 'params' not in arguments(optim.AdamW, given=['params']).known
    assert {'lr', 'betas', 'weight_decay'} <= arguments(optim.AdamW).known


def test_bounds_replace_annotations():
    options = arguments(optim.AdamW, bounds={'weight_decay': int}).options
    assert options['weight_decay'].kind is int
    assert options['lr'].accepts(0.1) and not options['lr'].accepts('0.1')


def test_unknown_names_are_errors_for_basicsrs_networks_and_metrics(basicsr):
    assert not arguments(basicsr['network'].get('SwinIR')).open
    psnr = arguments(basicsr['metric'].get('calculate_psnr'))
    assert psnr.known == {'img', 'img2', 'crop_border', 'input_order', 'test_y_channel'}


@pytest.mark.parametrize('kind', ['network', 'metric', 'loss'])
def test_defaults_of_everything_in_basicsrs_registries_are_accepted(basicsr, kind):
    for name, target in basicsr[kind]:
        if target.__module__.startswith('tests.'):
            continue  # registered by another test
        found = arguments(target)
        assert not found.open, name
        for key, option in found.options.items():
            plain = option.default is None or isinstance(option.default, bool | int | float | str | list | tuple)
            assert option.required or not plain or option.accepts(option.default), (name, key)


def test_range_as_text():
    assert str(Range(1)) == '>= 1'
    assert str(Range(0, 1)) == 'in [0, 1]'
    assert str(Range(above=0)) == '> 0'
    assert str(Range(0, below=1)) == 'in [0, 1)'
