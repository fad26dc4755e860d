"""Networks of spandrel in BasicSR's registry."""

import pytest
import torch

import deeprftv2_plugin
from deeprftv2_plugin.basicsr_bridge import spandrel_archs
from deeprftv2_plugin.inference import spandrel_arch
from deeprftv2_plugin.utils.errors import UserError


def test_the_error_for_missing_packages_says_what_to_install(monkeypatch):
    monkeypatch.setattr(spandrel_archs, 'REGISTRIES', {'no_such_package': 'REGISTRY'})
    spandrel_archs.register_for({'network_g': {'type': 'EDSR'}, 'name': 'NAFNet_spandrel'})
    with pytest.raises(UserError, match='NAFNet_spandrel is a network of spandrel, .* pip install'):
        spandrel_archs.register_for({'network_g': {'type': 'NAFNet_spandrel'}})


def test_networks_of_several_stages_return_one_image_in_evaluation():
    pytest.importorskip('spandrel_extra_arches')
    deeprftv2_plugin.register()
    spandrel_archs.register_for({'network_g': {'type': 'MPRNet_spandrel'}})
    from basicsr.utils.registry import ARCH_REGISTRY

    few = {'n_feat': 8, 'scale_unetfeats': 4, 'scale_orsnetfeats': 4, 'num_cab': 1}
    net, x = ARCH_REGISTRY.get('MPRNet_spandrel')(**few), torch.rand(1, 3, 16, 16)
    assert len(net(x)) == 3
    with torch.no_grad():
        assert net.eval()(x).shape == x.shape
    assert net.size_multiple == 8


def test_arguments_are_checked_like_those_of_other_networks():
    pytest.importorskip('spandrel')
    deeprftv2_plugin.register()
    spandrel_archs.register()
    from basicsr.utils.registry import ARCH_REGISTRY

    from deeprftv2_plugin.config.signatures import arguments

    assert arguments(ARCH_REGISTRY.get('NAFNet_spandrel')).known == {
        'img_channel',
        'width',
        'middle_blk_num',
        'enc_blk_nums',
        'dec_blk_nums',
    }


def test_architectures_of_other_packages_are_left_out():
    pytest.importorskip('spandrel')
    spandrel_arch.install()
    names = {type(each).__name__ for each in spandrel_archs.architectures()}
    assert 'NAFNetArch' in names and 'DeepRFTv2Arch' not in names
    spandrel_archs.register()
