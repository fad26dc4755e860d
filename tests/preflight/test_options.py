"""What is missing or does not fit, told before a run begins."""

import pytest
import torch

import deeprftv2_plugin
from deeprftv2_plugin.preflight import options as preflight
from deeprftv2_plugin.utils.errors import UserError

NETWORK = {'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 1}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    deeprftv2_plugin.register()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(network=None, path=None, **datasets):
    preflight.check({'datasets': datasets, 'path': path or {}, 'network_g': network or NETWORK}, 'mine.yml')


def test_a_missing_data_set_is_told_on_one_screen_with_where_to_get_it():
    roots = {'dataroot_lq': 'datasets/GoPro/train/*/blur', 'dataroot_gt': 'datasets/GoPro/train/*/sharp'}
    with pytest.raises(UserError) as caught:
        check(train={'name': 'x', **roots}, val={'name': 'y', 'dataroot_lq': 'other'})
    message = str(caught.value)
    assert message.startswith('mine.yml: ')
    assert all(root in message for root in (*roots.values(), 'other'))
    assert 'datasets.train.dataroot_gt' in message
    assert 'https://' in message
    assert 'datasets/GoPro/test/GOPR0384_11_00/sharp' in message
    assert '--force_yml datasets:train:dataroot_lq=' in message
    assert len(message.splitlines()) < 24
    assert max(map(len, message.splitlines())) < 120


def test_a_data_set_of_ones_own_comes_without_anothers_address():
    with pytest.raises(UserError) as caught:
        check(val={'name': 'y', 'meta_info_file': 'list.txt'})
    assert 'list.txt' in str(caught.value)
    assert 'GoPro' not in str(caught.value)


def test_folders_patterns_and_absent_roots_are_there(folder):
    (folder / 'a/b/blur').mkdir(parents=True)
    check(
        val={'name': 'x', 'dataroot_lq': 'a/*/blur', 'dataroot_gt': None},
        val_2={'name': 'y', 'dataroot': 'a'},
    )


def test_what_parts_of_a_mixture_miss_is_told(folder):
    (folder / 'there').mkdir()
    inner = {'type': 'MixedDataset', 'parts': [{'dataroot_gt': 'gone'}]}
    with pytest.raises(UserError) as caught:
        check(train={'name': 'x', 'parts': [{'dataroot': 'there'}, {'dataroot': 'lost'}, inner]})
    assert 'datasets.train.parts.1.dataroot ' in str(caught.value) and 'lost' in str(caught.value)
    assert 'datasets.train.parts.2.parts.0.dataroot_gt  gone' in str(caught.value)
    assert 'there\n' not in str(caught.value)


def test_a_missing_state_is_named():
    with pytest.raises(UserError, match='mine.yml: path.resume_state is 1.state, which does not exist'):
        check(path={'resume_state': '1.state'})


def test_a_network_that_cannot_be_built_is_told():
    with pytest.raises(UserError, match='mine.yml: network_g SRVGGNetCompact cannot be built: '):
        check(network={**NETWORK, 'num_feat': 'many'})


def test_a_checkpoint_of_the_network_fits_and_another_does_not(folder):
    from basicsr.utils.registry import ARCH_REGISTRY

    net = ARCH_REGISTRY.get('SRVGGNetCompact')(num_feat=4, num_conv=1, upscale=1)
    torch.save({'params': net.state_dict()}, 'right.pth')
    torch.save({'params': {**net.state_dict(), 'more': torch.ones(1)}}, 'wrong.pth')
    check(path={'pretrain_network_g': 'right.pth'})
    with pytest.raises(UserError, match='wrong.pth: the weights do not match.*more'):
        check(path={'pretrain_network_g': 'wrong.pth'})
    check(path={'pretrain_network_g': 'wrong.pth', 'strict_load_g': False})


def test_a_missing_or_unsafe_checkpoint_is_named():
    torch.save({'params': torch.nn.Conv2d}, 'unsafe.pth')
    with pytest.raises(UserError, match='unsafe.pth: refused'):
        check(path={'pretrain_network_g': 'unsafe.pth'})
    with pytest.raises(UserError, match='path.pretrain_network_g is absent.pth, which does not exist'):
        check(path={'pretrain_network_g': 'absent.pth'})


def test_when_a_run_is_resumed_its_own_weights_count(folder):
    (folder / '1.state').touch()
    check(path={'resume_state': '1.state', 'pretrain_network_g': 'gone.pth'})


@pytest.mark.parametrize('size', [60, [64, 60]])
def test_a_crop_that_the_network_cannot_take_is_told(size):
    with pytest.raises(UserError, match=r'datasets.train.gt_size is .*multiples of 8'):
        check({'type': 'DeepRFTv2', 'variant': 'T'}, train={'name': 'x', 'gt_size': size})
