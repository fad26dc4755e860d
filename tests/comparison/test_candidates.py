"""Networks that are named on the command line."""

import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints.files import write_checkpoint
from deeprftv2_plugin.comparison.candidates import candidate_of, candidates_of, parse_architecture
from deeprftv2_plugin.utils.errors import UserError


def test_variants_and_arguments():
    for text in ('S', 'DeepRFTv2:S', 'DeepRFTv2:variant=S'):
        assert candidate_of(text).network == {'type': 'DeepRFTv2', 'variant': 'S'}
        assert candidate_of(text).name == 'DeepRFTv2-S'
    found = candidate_of('T:width=8,stages=1')
    assert found.network == {'type': 'DeepRFTv2', 'variant': 'T', 'width': 8, 'stages': 1}
    assert len(found.build().stages) == 1


@pytest.mark.parametrize('name', ['SwinIR', 'RRDBNet', 'EDSR', 'RIDNet', 'RCAN'])
def test_networks_of_basicsr_keep_the_size(name):
    few = {'SwinIR': 'depths=[1],num_heads=[6]', 'RIDNet': 'num_block=1', 'RCAN': 'num_group=1,num_block=1'}
    net = candidate_of(f'{name}:{few.get(name, "num_block=1")}').build().eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_networks_of_spandrel(tmp_path):
    pytest.importorskip('spandrel_extra_arches')
    nafnet = candidate_of('NAFNet:width=4,enc_blk_nums=[1],dec_blk_nums=[1]')
    assert nafnet.network['type'] == 'NAFNet_spandrel' and nafnet.network['middle_blk_num'] == 1
    assert candidate_of('SwinIR_spandrel').network == {'type': 'SwinIR_spandrel'}
    restormer = candidate_of('Restormer:dim=8,num_blocks=[1,1,1,1],num_refinement_blocks=1').build().eval()
    assert restormer.size_multiple == 8
    net, path = nafnet.build(), tmp_path / 'nafnet.pth'
    write_checkpoint({'params': net.state_dict()}, path)
    found = candidate_of(str(path))
    assert found.weights == str(path) and found.build().state_dict().keys() == net.state_dict().keys()
    assert {key: found.network[key] for key in nafnet.network} == nafnet.network


def test_weights_with_other_names_in_spandrel_are_not_recognized(tmp_path):
    pytest.importorskip('spandrel')
    for number, size in enumerate(('num_feat=64,num_grow_ch=32', 'num_feat=8,num_grow_ch=4')):
        path = tmp_path / f'{number}.pth'
        write_checkpoint({'params': candidate_of(f'RRDBNet:num_block=1,{size}').build().state_dict()}, path)
        with pytest.raises(UserError, match='Pass an option file'):
            candidate_of(str(path))


def test_option_files_and_checkpoints(tmp_path):
    file = tmp_path / 'mine.yml'
    file.write_text('name: mine\nnetwork_g: {type: EDSR, num_in_ch: 3}\npath: {pretrain_network_g: there.pth}\n')
    found = candidate_of(str(file))
    assert (found.name, found.weights, found.network) == ('mine', 'there.pth', {'type': 'EDSR', 'num_in_ch': 3})
    assert found.loading == {}
    file.write_text('network_g: {type: EDSR}\npath: {param_key_g: params, strict_load_g: false, resume_state: ~}\n')
    assert candidate_of(str(file)).loading == {'param_key_g': 'params', 'strict_load_g': False}
    file.write_text('network_g: {type: EDSR}\npath: there.pth\n')
    with pytest.raises(UserError, match="path is 'there.pth', expected a section"):
        candidate_of(str(file))
    net, path = DeepRFTv2('T', width=8), tmp_path / 'net.pth'
    write_checkpoint({'params': net.state_dict()}, path)
    found = candidate_of(str(path)).build()
    assert {key: value.shape for key, value in found.state_dict().items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }
    folder = tmp_path / 'EDSR'
    write_checkpoint({'params': net.state_dict()}, folder / 'model.safetensors')
    assert candidate_of(str(folder)).weights == str(folder / 'model.safetensors')
    assert candidate_of('EDSR').weights is None
    assert candidate_of('deblur').weights.endswith('.safetensors')


def test_networks_of_imported_modules(tmp_path, monkeypatch):
    (tmp_path / 'archs_of_a_user.py').write_text(
        'from basicsr.utils.registry import ARCH_REGISTRY\nfrom torch import nn\n\n'
        '@ARCH_REGISTRY.register()\nclass NetOfAUser(nn.Conv2d):\n'
        '    def __init__(self, size=3):\n        super().__init__(3, 3, size, padding=size // 2)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = candidate_of('NetOfAUser:size=5', ['archs_of_a_user'])
    assert found.imports == ('archs_of_a_user',) and found.build().kernel_size == (5, 5)


def test_unknown_and_ambiguous_names_are_errors(tmp_path):
    with pytest.raises(UserError, match="no network, option file or checkpoint 'SwinUR'. Did you mean SwinIR"):
        candidate_of('SwinUR')
    with pytest.raises(UserError, match='two networks are named DeepRFTv2-T'):
        candidates_of(['T', 'DeepRFTv2:T'])
    with pytest.raises(UserError, match='does not accept the settings'):
        candidate_of('EDSR:depth=3').build()
    file, weights = tmp_path / 'none.yml', tmp_path / 'other.pth'
    file.write_text('name: none\n')
    write_checkpoint({'params': {'weight': torch.ones(3)}}, weights)
    with pytest.raises(UserError, match='none.yml has no network_g'):
        candidate_of(str(file))
    with pytest.raises(UserError, match='not the weights of a DeepRFTv2'):
        candidate_of(str(weights))


def test_arguments_in_a_name():
    assert parse_architecture('EDSR') == ('EDSR', {})
    assert parse_architecture('A:width=64,depths=[1,2],up=,f=false') == (
        'A',
        {'width': 64, 'depths': [1, 2], 'up': None, 'f': False},
    )
    with pytest.raises(UserError, match="found '64'"):
        parse_architecture('NAFNet:64')
    with pytest.raises(UserError, match='expected key=value'):
        parse_architecture('T:width=2020-99-99')  # not a date
