"""Networks in spandrel and in programs that load networks with it."""

import sys

import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import shipped_weights, to_official_state_dict, write_checkpoint
from deeprftv2_plugin.inference import restore
from deeprftv2_plugin.inference.spandrel_arch import ID, install, is_deeprftv2
from deeprftv2_plugin.utils.errors import UserError


@pytest.fixture(scope='module')
def spandrel():
    import deeprftv2_plugin

    deeprftv2_plugin.register()  # patches torchvision, which spandrel imports
    module = pytest.importorskip('spandrel')
    install()
    install()  # has no effect
    return module


def network(seed=0, **settings):
    torch.manual_seed(seed)
    return DeepRFTv2('T', **{'width': 8, 'kernel_width': 4} | settings).eval()


def assert_same(model, net, size=(21, 30)):
    image = torch.rand(1, 3, *size)
    assert torch.equal(model(image), restore(net, image).clamp(0, 1))


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
@pytest.mark.parametrize('names', ['ours', 'the authors'])
def test_the_image_is_that_of_restore(spandrel, tmp_path, names, suffix):
    net = network(full_encoder=[['NAF', 2], ['NAF', 1], ['NAFScan', 1]], kernel_norm=False)
    state = net.state_dict() if names == 'ours' else to_official_state_dict(net.state_dict())
    path = tmp_path / f'net.{suffix}'
    write_checkpoint({'params': state}, path)
    model = spandrel.ModelLoader().load_from_file(path)
    assert model.architecture.id == ID and model.purpose == 'Restoration' and model.scale == 1
    assert (model.size_requirements.multiple_of, model.size_requirements.minimum) == (8, 8)
    assert not model.supports_half and not model.supports_bfloat16
    for size in ((21, 30), (8, 8), (32, 16)):
        assert_same(model, net, size)


def test_the_average_is_loaded(spandrel, tmp_path):
    average = network(1)
    sets = {'params': network().state_dict(), 'params_ema': average.state_dict()}
    write_checkpoint(sets, tmp_path / 'net.pth')
    assert_same(spandrel.ModelLoader().load_from_file(tmp_path / 'net.pth'), average)


def test_the_shipped_weights_are_detected(spandrel):
    assert spandrel.ModelLoader().load_from_file(shipped_weights()).architecture.id == ID


@pytest.mark.parametrize('names', ['ours', 'the authors'])
def test_no_other_architecture_detects_the_weights(spandrel, names):
    state = network().state_dict()
    state = state if names == 'ours' else to_official_state_dict(state)
    assert [each.architecture.id for each in spandrel.MAIN_REGISTRY if each.detect(state)] == [ID]


def test_other_networks_are_detected_as_before(spandrel):
    from spandrel.architectures.NAFNet import NAFNet
    from spandrel.architectures.SPAN import SPAN

    for net in (
        NAFNet(img_channel=3, width=8, enc_blk_nums=[1], dec_blk_nums=[1]),
        SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8),
    ):
        state = net.state_dict()
        assert not is_deeprftv2(state)
        assert spandrel.ModelLoader().load_from_state_dict(state).architecture.id == type(net).__name__


def test_networks_with_similar_names_are_not_detected():
    state = network().state_dict()
    assert is_deeprftv2(state)
    assert not is_deeprftv2({key: value for key, value in state.items() if 'half_' not in key})
    assert not is_deeprftv2({'global_model.conv.weight': torch.zeros(1)})
    assert not is_deeprftv2({})


def test_a_missing_package_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    with pytest.raises(UserError, match=r"pip install 'deeprftv2-plugin\[spandrel\]'"):
        install()
