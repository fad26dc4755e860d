"""The model of a run on the CPU, and passes through it."""

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.data import build_dataset
from torch import optim

from deeprftv2_plugin.preflight import model
from deeprftv2_plugin.utils.errors import UserError
from tests.preflight.findings import errors, warnings


@pytest.mark.parametrize(
    ('optimizer', 'copies'), [(optim.SGD, 0), (lambda w: optim.SGD(w, momentum=0.9), 1), (optim.AdamW, 2)]
)
def test_optimizer_stores_copies_of_the_weights(optimizer, copies):
    weights = [torch.ones(50, 50, requires_grad=True), torch.ones(30, requires_grad=True)]
    assert model.optimizer_bytes([optimizer(weights)]) == pytest.approx(copies * 2530 * 4, abs=20)


@pytest.mark.parametrize(
    ('optimizer', 'words'),
    [
        (
            lambda weights: optim.Adamax(weights, eps=0),
            'Adamax changes the largest weight from 1 to nan in a step with gradients of 0',
        ),
        (lambda weights: optim.ASGD(weights, lambd=1e30), 'ASGD changes the largest weight from 1 to 1e\\+28'),
        (lambda weights: optim.RMSprop(weights, alpha=16), 'RMSprop changes .* to nan in a step with gradients of 1'),
        (lambda weights: optim.SGD(weights, lr=1000, weight_decay=100), 'SGD changes .* from 1 to 1e\\+05'),
    ],
)
def test_optimizer_that_explodes_is_named(optimizer, words):
    with pytest.raises(UserError, match=words):
        model.optimizer_bytes([optimizer([torch.ones(2, requires_grad=True)])])


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


def test_network_that_does_not_fit_into_the_memory_is_not_built(opt):
    opt['network_g']['num_feat'] = 1_000_000
    with pytest.raises(UserError, match='network_g: the weights take .* TB, but .* is available'):
        model.build(opt)


@pytest.mark.filterwarnings('ignore:Detected call of `lr_scheduler.step')
@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'type': 'StepLR', 'step_size': 0}, 'train.scheduler StepLR fails at iteration 2: ZeroDivisionError: '),
        ({'type': 'ExponentialLR', 'gamma': 1e300}, 'the learning rate of iteration 2 is 1e+297, expected'),
        ({'type': 'MultiStepLR', 'milestones': [2], 'gamma': -1}, 'the learning rate of iteration 3 is -0.001'),
    ],
)
def test_schedule_that_fails_or_leaves_the_range_is_an_error(opt, settings, words):
    opt['model_type'] = 'DeepRFTv2Model'
    opt['train']['scheduler'] = settings
    (text,) = errors(list(model.check_rates(opt, model.build(opt))))
    assert words in text


@pytest.mark.filterwarnings('ignore:Detected call of `lr_scheduler.step')
def test_learning_rates_are_computed_for_a_part_of_a_long_training(opt):
    opt['train']['total_iter'] = 10**15
    assert list(model.check_rates(opt, model.build(opt))) == []


def test_model_that_cannot_be_built_is_named(opt):
    opt['train']['optim_g'].update(fused=True, foreach=True)
    with pytest.raises(UserError, match='SRModel cannot be built: RuntimeError'):
        model.build(opt)


@pytest.fixture(params=['SRModel', 'DeepRFTv2Model'])
def each(request, opt):
    """Return the options with BasicSR's model or with that of this package."""
    opt['model_type'] = request.param
    return opt


def check(opt, thorough=True):
    datasets = {phase: build_dataset(settings) for phase, settings in opt['datasets'].items()}
    return list(model.check_passes(opt, model.build(opt), datasets, thorough))


def test_a_training_batch_and_a_validation_image_pass(each):
    each['datasets']['train'].update(gt_size=20, batch_size_per_gpu=3)
    train, val = check(each)
    assert train.text.startswith('training batch: 3x3x20x20, l_pix ')
    assert val.text.startswith('more-noise (val): 1x3x24x28 restored, psnr ')


def test_large_crops_are_reduced(each):
    each['datasets']['train']['gt_size'] = [1000, 40]
    assert f'1x3x{model.SIDE}x40' in check(each)[0].text


def test_output_of_a_test_is_scored(test_opt):
    (finding,) = check(test_opt)
    assert finding.text.startswith('more-noise (test): 1x3x24x28 restored, psnr ')


def test_network_of_another_number_of_channels_is_an_error(each):
    each['network_g']['num_in_ch'] = 1
    found = errors(check(each))
    assert [text.partition(':')[0] for text in found] == ['training batch', 'more-noise (val)']


def test_gray_network_on_color_images_is_named(each):
    each['network_g'].update(num_in_ch=1, num_out_ch=1)
    for thorough in (True, False):
        found = errors(check(each, thorough))
        assert found and all('network_g SRVGGNetCompact fails on images 1x3x' in text for text in found)
        assert all('channels' in text for text in found)


def test_number_of_channels_is_that_of_the_data(opt):
    opt['network_g'].update(num_in_ch=1, num_out_ch=1)
    for settings in opt['datasets'].values():
        settings['color'] = 'y'
    train, val = check(opt)
    assert train.text.startswith('training batch: 1x1x16x16, l_pix ')


def test_output_that_a_loss_would_broadcast_is_an_error(each, monkeypatch):
    built = model.build(each)
    built.net_g = torch.nn.Conv2d(3, 1, 1)
    finding = next(model.check_passes(each, built, {}))
    assert '1x1x16x16, but the sharp images are 1x3x16x16' in finding.text


def test_network_of_another_package_that_fails_may_need_larger_images(opt):
    class Picky(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError('no kernel image for this device')

    Picky.__module__ = 'picky'
    built = model.build(opt)
    built.net_g = Picky()
    (text,) = warnings(list(model.check_passes(opt, built, {})))
    assert 'Picky fails on images 1x3x16x16: RuntimeError: no kernel image' in text


def test_loss_that_is_not_finite_is_an_error(each, monkeypatch):
    built = model.build(each)
    built.net_g = torch.nn.Conv2d(3, 3, 1)
    torch.nn.init.constant_(built.net_g.bias, float('nan'))
    assert 'is nan for random images' in next(model.check_passes(each, built, {})).text


@pytest.mark.filterwarnings('ignore:Mean of empty slice')
@pytest.mark.parametrize(
    ('metric', 'words'),
    [
        ({'type': 'psnr', 'crop_border': 12}, 'val.metrics.psnr fails: crop_border of a metric is 12'),
        ({'type': 'calculate_psnr', 'crop_border': 12}, 'val.metrics.psnr is nan for an image of 24x28x3'),
        ({'type': 'ssim', 'crop_border': 10}, 'val.metrics.psnr fails: '),
    ],
)
def test_metric_that_fails_is_an_error(each, metric, words):
    each['val']['metrics']['psnr'] = metric
    (text,) = errors(check(each, thorough=False))
    assert text.startswith(f'more-noise (val): {words}')


def test_cropped_border_does_not_count_for_the_size_of_the_part(folder, each):
    for path in folder.glob('*/*.png'):
        cv2.imwrite(str(path), np.full((90, 300, 3), 100, np.uint8))
    each['val']['metrics'] = {'ssim': {'type': 'ssim', 'crop_border': 35}}
    assert '1x3x90x102 restored, ssim' in check(each, thorough=False)[1].text


def test_loss_that_fails_is_an_error(each, monkeypatch):
    each['train']['pixel_opt'] = {'type': 'GANLoss', 'gan_type': 'vanilla'}
    assert errors(check(each))[0].startswith('training batch: a loss of train fails on images 1x3x16x16: ')


def test_batch_that_is_too_large_for_the_memory_is_skipped(each, monkeypatch):
    monkeypatch.setattr(model, 'available_memory', lambda: 100_000)
    assert 'skipped, since a batch of 1 may need ' in check(each)[0].text


def test_empty_dataset_is_skipped(opt):
    (finding,) = model.check_passes({**opt, 'is_train': False}, model.build(opt), {'val': []})
    assert 'skipped, since it is empty' in finding.text
