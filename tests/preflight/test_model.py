"""The model of a run on the CPU, and passes through it."""

import pytest
import torch
from basicsr.archs import build_network
from basicsr.data import build_dataset
from torch import optim

from deeprftv2_plugin.preflight import model
from deeprftv2_plugin.utils.errors import UserError
from tests.preflight.findings import errors


@pytest.mark.parametrize(
    ('optimizer', 'copies'), [(optim.SGD, 0), (lambda w: optim.SGD(w, momentum=0.9), 1), (optim.AdamW, 2)]
)
def test_optimizer_stores_copies_of_the_weights(optimizer, copies):
    weights = [torch.ones(50, 50, requires_grad=True), torch.ones(30, requires_grad=True)]
    assert model.optimizer_bytes([optimizer(weights)]) == pytest.approx(copies * 2530 * 4, abs=20)


def test_options_are_not_changed(opt):
    before = repr(opt)
    model.build(opt)
    assert repr(opt) == before


def test_network_is_built_once(opt, monkeypatch):
    built = []
    import basicsr.models.sr_model as module

    monkeypatch.setattr(module, 'build_network', lambda settings: built.append(settings) or build_network(settings))
    opt['train']['ema_decay'] = 0.9
    networks = model.networks_of(opt, model.build(opt))
    assert len(built) == 1 and list(networks) == ['g']


def test_network_that_cannot_be_built_is_named(opt):
    opt['network_g']['num_feat'] = 'many'
    with pytest.raises(UserError, match='network_g SRVGGNetCompact cannot be built: '):
        model.build(opt)


def test_model_that_cannot_be_built_is_named(opt):
    opt['train']['optim_g'].update(fused=True, foreach=True)
    with pytest.raises(UserError, match='SRModel cannot be built: RuntimeError'):
        model.build(opt)


@pytest.fixture(params=['SRModel', 'DeepRFTv2Model'])
def each(request, opt):
    """The options with either model."""
    opt['model_type'] = request.param
    return opt


def check(opt):
    datasets = {phase: build_dataset(settings) for phase, settings in opt['datasets'].items()}
    return list(model.check_passes(opt, model.build(opt), datasets))


def test_a_training_batch_and_a_validation_image_pass(each):
    each['datasets']['train'].update(gt_size=20, batch_size_per_gpu=3)
    train, val = check(each)
    assert train.text.startswith('training batch: 3x3x20x20, l_pix ')
    assert val.text.startswith('more-noise (val): 1x3x24x28 restored, psnr ')


def test_large_crops_are_cut(each):
    each['datasets']['train']['gt_size'] = [1000, 40]
    assert f'1x3x{model.SIDE}x40' in check(each)[0].text


def test_output_of_a_test_is_scored(test_opt):
    (finding,) = check(test_opt)
    assert finding.text.startswith('more-noise (test): 1x3x24x28 restored, psnr ')


def test_network_of_another_number_of_channels_is_an_error(each):
    each['network_g']['num_in_ch'] = 1
    found = errors(check(each))
    assert [text.partition(':')[0] for text in found] == ['training batch', 'more-noise (val)']


def test_metric_that_fails_is_an_error(each):
    each['val']['metrics']['psnr']['crop_border'] = 'four'
    (text,) = errors(check(each))
    assert text.startswith('more-noise (val): ')


def test_loss_that_fails_is_an_error(each, monkeypatch):
    each['train']['pixel_opt'] = {'type': 'GANLoss', 'gan_type': 'vanilla'}
    assert errors(check(each))[0].startswith('training batch: ')


def test_batch_that_is_too_large_for_the_memory_is_skipped(each, monkeypatch):
    monkeypatch.setattr(model, 'available_memory', lambda: 1000)
    assert 'skipped, since a batch of 1 may need ' in check(each)[0].text


def test_empty_data_set_is_skipped(opt):
    (finding,) = model.check_passes({**opt, 'is_train': False}, model.build(opt), {'val': []})
    assert 'skipped, since it is empty' in finding.text
