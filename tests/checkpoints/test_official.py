"""The authors' parameter names and options compared with the complete lists in their release."""

import json
import re
from pathlib import Path

import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import from_official_options, from_official_state_dict, to_official_state_dict
from deeprftv2_plugin.utils.errors import UserError

GOLDEN = Path(__file__).parents[1] / 'golden'
OPTIONS = json.loads((GOLDEN / 'authors_options.json').read_text())


def official_shapes(name):
    lines = (GOLDEN / f'checkpoint_keys_{name}.txt').read_text().splitlines()
    return {
        key: tuple(map(int, re.findall(r'\d+', shape))) for key, shape in (line.split('\t') for line in lines if line)
    }


@pytest.mark.parametrize(
    ('options', 'keys', 'variant'),
    [
        ('gopro_train', 'gopro', 'B'),
        ('defocus', 'defocus', 'S'),
        ('reds_train', 'gopro', None),
        ('realblur_train', 'gopro', 'B'),
    ],
)
def test_names_and_shapes_of_whole_networks(options, keys, variant):
    shapes = official_shapes(keys)
    state = {key: torch.empty(shape, device='meta') for key, shape in shapes.items()}
    with torch.device('meta'):
        net = DeepRFTv2(**from_official_options(OPTIONS[options])['network'])
    ours = from_official_state_dict(state)
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in ours.items()}
    theirs = to_official_state_dict(ours)
    assert {k: tuple(v.shape) for k, v in theirs.items()} == shapes
    if variant:
        with torch.device('meta'):
            built = DeepRFTv2(variant)
        assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in ours.items()}


def test_conversion_round_trip():
    state = DeepRFTv2('T').state_dict()
    back = from_official_state_dict(to_official_state_dict(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize(
    'key', ['global_model.fusd_max_3.0.weight', 'body.weight', 'global_model.kernel_estimator.0.intro2.weight']
)
def test_unknown_official_names_are_errors(key):
    with pytest.raises(UserError, match=re.escape(key)):
        from_official_state_dict({key: torch.zeros(1)})


def test_unknown_names_are_errors():
    with pytest.raises(UserError, match='not the parameters of a DeepRFTv2'):
        to_official_state_dict({'body.weight': torch.zeros(1)})


def test_restore_options_and_warning_about_unused_settings():
    with pytest.warns(UserWarning, match='num_ker, .*pad_size'):
        converted = from_official_options(OPTIONS['gopro_test'])
    assert converted['restore'] == {'tile': [512, 512], 'overlap': [128, 128]}
    with pytest.warns(UserWarning):
        assert from_official_options(OPTIONS['realblur_train'])['restore'] == {'tile': None}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'small_scale': True}, 'small_scale is True: only False'),
        ({'ks': [31, 0, 0]}, 'ks is'),
        ({'ks': 31}, 'ks is'),
        ({'enc_max_layers': [3, 3]}, 'three names and three integers'),
        ({'inp_channels': '3'}, 'inp_channels is'),
        ({'baseblock_enc_ker': None}, 'baseblock_enc_ker is'),
        ({'dims': [48, 48, 32]}, 'dims is'),
        ({'dims_ker': [48]}, 'dims_ker is'),
        ({'num_global_unet': 3}, 'baseblock_enc_max_global|entry for each of the 3 stages'),
        ({'norm_type': 'BatchNorm'}, 'norm_type is'),
        ({'drop_path': 0.1}, 'drop_path is 0.1'),
        ({'prior_model': 'resnet'}, 'prior_model is'),
        ({'baseblock_enc_ker': ['EVSS', 'naf', 'EVSS', 'EVSS']}, 'baseblock_enc_ker is'),
        ({'baseblock_enc_max_global': [['naff', 'naf', 'naf']] * 2}, "contains the block 'naff'"),
        ({'surprise': 1}, 'unknown network settings: surprise'),
    ],
)
def test_unsupported_settings_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        from_official_options(OPTIONS['gopro_train'] | change)


def test_missing_settings_are_errors_or_get_defaults():
    options = {key: value for key, value in OPTIONS['gopro_train'].items() if key != 'dims'}
    with pytest.raises(UserError, match='dims is missing from the network options'):
        from_official_options(options)
    options = {
        k: v for k, v in OPTIONS['gopro_train'].items() if k not in ('inp_channels', 'num_global_unet', 'prior_model')
    }
    network = from_official_options(options)['network']
    assert (network['in_channels'], network['stages']) == (3, 1)
