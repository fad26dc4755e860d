import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
from torch.utils.data import DataLoader, Dataset

from deeprftv2_plugin.checkpoints import files
from deeprftv2_plugin.losses import FourierLoss, MultiScaleLoss
from deeprftv2_plugin.ops.pyramid import half_scale
from deeprftv2_plugin.training.ema import WeightAverage
from deeprftv2_plugin.utils.errors import UserError

from .toys import RRDBNET, SWINIR, batch, make_model, options, train

FOURIER = {'type': 'FourierLoss', 'loss_weight': 0.01}
RECIPE = {'type': 'MultiScaleLoss', 'losses': [{'type': 'L1Loss'}, FOURIER]}


class Images(Dataset):
    """Two images of odd sizes, in the form of a BasicSR validation dataset."""

    def __init__(self, name='images', with_gt=True):
        self.opt = {'name': name}
        self.names = ['lq', 'gt'] if with_gt else ['lq']

    def __len__(self):
        return 2

    def __getitem__(self, index):
        data = batch(1, 19 + index, seed=index)
        return {'lq_path': f'{index}.png', **{name: data[name][0] for name in self.names}}


def test_losses_of_both_scales_are_in_the_log():
    model = make_model('TwoScales', frequency_opt=FOURIER, clip_grad_norm=0.01)
    train(model, [1])
    log = model.get_current_log()
    names = ['l_pix_full', 'l_pix_half', 'l_frequency_full', 'l_frequency_half']
    assert list(log) == [*names, 'l_total', 'grad_norm']
    assert log['l_total'] == pytest.approx(sum(log[name] for name in names))
    assert log['grad_norm'] > 0.01


def test_total_is_the_sum_over_scales_of_the_mean_over_outputs():
    model = make_model('TwoScales', frequency_opt=FOURIER)
    data = batch()
    with torch.no_grad():
        output = model.net_g(data['lq'])
    expected = sum(
        (nn.L1Loss()(image, target) + FourierLoss(0.01)(image, target)).item() / 2
        for images, target in ((output.full, data['gt']), (output.half, half_scale(data['gt'])))
        for image in images
    )
    train(model, [1], data=data)
    assert model.get_current_log()['l_total'] == pytest.approx(expected)


def test_single_scale_network_logs_names_without_scale():
    model = make_model(frequency_opt=FOURIER)
    train(model, [1])
    assert list(model.get_current_log()) == ['l_pix', 'l_frequency', 'l_total', 'grad_norm']


def test_explicit_multi_scale_loss_is_equivalent():
    model = make_model('TwoScales', frequency_opt=FOURIER)
    explicit = make_model('TwoScales', pixel_opt=RECIPE)
    assert isinstance(explicit.cri_pix, MultiScaleLoss) and len(explicit.cri_pix.losses) == 2
    for each in (model, explicit):
        train(each, [1, 2])
    torch.testing.assert_close(model.net_g.state_dict(), explicit.net_g.state_dict())


@pytest.mark.parametrize('network', ['TwoScales', {'type': 'DeepRFTv2', 'variant': 'T'}])
def test_sr_model_trains_with_the_multi_scale_loss(network):
    opt = options(network, pixel_opt=RECIPE, optim_g={'type': 'Adam', 'lr': 0.002},
                  scheduler={'type': 'MultiStepLR', 'milestones': [5]})  # fmt: skip
    model = make_model(opt={**opt, 'model_type': 'SRModel'})
    losses = []
    for _ in range(4):
        train(model, [1])
        losses.append(model.get_current_log()['l_pix'])
    assert losses[-1] < losses[0]


def test_perceptual_loss_uses_the_last_full_output():
    model = make_model('TwoScales')
    model.cri_perceptual = lambda image, target: ((image - target).square().mean(), None)
    train(model, [1])
    with torch.no_grad():
        model.feed_data(batch())
        output = model.net_g(model.lq)
        terms = model.compute_losses(output, model.gt)
    assert list(terms) == ['l_pix_full', 'l_pix_half', 'l_percep']
    assert terms['l_percep'] == (output.full[-1] - model.gt).square().mean()


def test_training_without_a_loss_is_an_error():
    with pytest.raises(UserError, match='found neither pixel_opt nor perceptual_opt'):
        make_model(pixel_opt=None)


def total_losses(model, iterations):
    """Train and return the loss of every iteration."""
    losses = []
    for current_iter in range(1, iterations + 1):
        train(model, [current_iter])
        losses.append(model.get_current_log()['l_total'])
    return losses


def test_deeprftv2_trains_and_validates_with_tiles_and_average():
    model = make_model({'type': 'DeepRFTv2', 'variant': 'T'}, frequency_opt=FOURIER, ema_decay=0.5,
                       optim_g={'type': 'AdamW', 'lr': 0.002})  # fmt: skip
    losses = total_losses(model, 4)
    assert losses[-1] < losses[0]
    model.opt['val'].update(tile=16, overlap=8)
    model.validation(DataLoader(Images()), 4, None, False)
    assert model.metric_results['psnr'] > 15


def test_gradient_is_clipped():
    """The norm of a step of plain SGD is then the learning rate times the maximum norm."""
    model = make_model(clip_grad_norm=0.01)
    before = nn.utils.parameters_to_vector(model.net_g.parameters()).clone()
    train(model, [1])
    step = nn.utils.parameters_to_vector(model.net_g.parameters()) - before
    assert step.norm().item() == pytest.approx(0.1 * 0.01, rel=1e-3)


@pytest.mark.parametrize('optimizer', [{'type': 'SGD', 'momentum': 0.9}, {'type': 'SGD'}, {'type': 'AdamW'}])
def test_skipped_first_step_has_no_effect(optimizer):
    """The optimizer state starts with the first step that is taken."""
    model, reference = (make_model('TwoScales', optim_g={'lr': 0.1, **optimizer}) for _ in range(2))
    nan_batch = batch()
    nan_batch['lq'][0, 0, 0, 0] = torch.nan
    train(model, [1], data=nan_batch)
    assert model.skipped == 1
    for each in (model, reference):
        train(each, [2, 3])
    torch.testing.assert_close(model.net_g.state_dict(), reference.net_g.state_dict(), rtol=0, atol=0)


def test_lbfgs_reduces_the_loss():
    model = make_model('TwoScales', optim_g={'type': 'LBFGS', 'lr': 0.5, 'max_iter': 3})
    losses = []
    for current_iter in range(1, 4):
        train(model, [current_iter])
        losses.append(model.get_current_log()['l_total'])
    assert losses[2] < losses[0]


def test_average_includes_parameters_and_buffers():
    model = make_model(ema_decay=0.75)
    expected = {name: value.clone() for name, value in model.net_g_ema.state_dict().items()}
    for current_iter in range(1, 4):
        train(model, [current_iter])
        for name, value in model.net_g.state_dict().items():
            old = expected[name]
            expected[name] = 0.75 * old + 0.25 * value if value.is_floating_point() else value.clone()
    assert 'body.1.running_var' in expected and expected['body.1.num_batches_tracked'] == 3
    torch.testing.assert_close(dict(model.net_g_ema.state_dict()), expected)
    assert not model.net_g_ema.training


def test_average_with_decay_zero_is_a_copy():
    average, net = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    net(torch.randn(2, 3, 4, 4))
    WeightAverage(average, net).update(decay=0)
    torch.testing.assert_close(average.state_dict(), net.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize('ema_decay', [0, 0.9])
def test_validation_with_tiles_agrees_with_whole_images(ema_decay):
    model = make_model('TwoScales', ema_decay=ema_decay)
    train(model, [1])
    results = []
    for tile in (None, 12):
        model.opt['val'].update(tile=tile, overlap=8, ensemble=True)
        model.validation(DataLoader(Images()), 1, None, False)
        results.append(model.metric_results['psnr'])
    assert results[0] > 10
    assert results[1] == pytest.approx(results[0], abs=0.3)
    assert model.net_g.training


def test_validation_uses_the_average():
    model = make_model('TwoScales', ema_decay=0.9)
    model.opt['val'] = {}
    nn.init.zeros_(model.net_g_ema.second.weight)
    nn.init.constant_(model.net_g_ema.second.bias, 0.5)
    model.feed_data(batch())
    model.test()
    torch.testing.assert_close(model.output, model.lq + 0.5)


def test_images_without_ground_truth_are_restored_but_not_scored(log, tmp_path):
    model = make_model()
    train(model, [1])
    model.opt['path']['visualization'] = tmp_path
    model.validation(DataLoader(Images('own', with_gt=False)), 1, None, True)
    assert sorted(path.name for path in tmp_path.rglob('*.png')) == ['0_1.png', '1_1.png']
    assert 'own has no ground truth. Omitted metrics: psnr.' in log.text
    model.validation(DataLoader(Images()), 1, None, False)
    assert list(model.metric_results) == ['psnr']
    assert model.opt['val']['metrics'].keys() == {'psnr'}


def test_checkpoint_round_trip_includes_the_average(tmp_path, log):
    model = make_model(ema_decay=0.5)
    model.opt['path']['models'] = tmp_path
    train(model, [1, 2])
    model.save_network([model.net_g, model.net_g_ema], 'net_g', 2, param_key=['params', 'params_ema'])
    opt = options('OneScale', ema_decay=0.5)
    opt['path'].update(pretrain_network_g=str(tmp_path / 'net_g_2.pth'), strict_load_g=True, param_key_g='params')
    loaded = make_model(opt=opt)
    for part in ('net_g', 'net_g_ema'):
        torch.testing.assert_close(getattr(loaded, part).state_dict(), getattr(model, part).state_dict())
    for param_key, part, name in (
        (None, model.net_g_ema, 'params_ema, the moving average'),
        ('params_ema', model.net_g_ema, 'params_ema, the moving average'),
        ('params', model.net_g, 'params'),
    ):
        opt['path']['param_key_g'] = param_key
        loaded = make_model(opt=opt)
        torch.testing.assert_close(loaded.net_g.state_dict(), part.state_dict())
        assert loaded.loaded == name and f'net_g_2.pth: weights {name}.' in log.text
        log.clear()


def test_a_test_with_random_weights_causes_a_warning(log):
    opt = options('OneScale')
    assert make_model(opt={**opt, 'is_train': False}).loaded is None
    assert 'path.pretrain_network_g is not set: network_g has random weights' in log.text


def test_outputs_that_are_not_finite_are_named(log):
    model = make_model('TwoScales')
    nn.init.constant_(model.net_g.second.weight, torch.nan)
    with pytest.raises(UserError, match='net_g_best .* not finite'):  # not saved
        model.validation(DataLoader(Images()), 1, None, False)
    for name in ('0.png', '1.png'):
        assert f'{name}: the restored image has values that are not finite.' in log.text


def test_the_first_dataset_with_metrics_determines_the_best_weights(log):
    """Not the first one that has been validated: the validation of another one may have failed."""
    model, saved = make_model(), []
    names = {'val': 'without', 'val_2': 'first', 'val_3': 'second'}
    model.opt['datasets'] = {'train': {'name': 'train'}, **{phase: {'name': name} for phase, name in names.items()}}
    model.save_best = saved.append
    for iteration, validated in enumerate((['without', 'second'], ['without', 'first', 'second']), 1):
        for name in validated:
            model.validation(DataLoader(Images(name, with_gt=name != 'without')), iteration, None, False)
    assert saved == [2]


def test_records_of_a_resumed_training_apply_to_the_metrics_of_the_options(log):
    model, saved = make_model(), []
    model.save_best = saved.append
    same, flipped = ({'better': better, 'val': 100.0, 'iter': 5} for better in ('higher', 'lower'))
    others = {'psnr': flipped}, {'psnr': {'val': 100.0, 'iter': 5}}, {'ssim': same}
    for iteration, former in enumerate([{'psnr': same}, *others]):
        model.best_metric_results = {'former name': {'psnr': same}, 'images': former}
        model.validation(DataLoader(Images()), iteration, None, False)
    assert saved == [1, 2, 3]
    assert model.best_metric_results['images'].keys() == {'psnr'}


class Tied(nn.Module):
    """Two convolutions with the same weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.second.weight = self.first.weight

    def forward(self, x):
        return x + self.second(self.first(x))


@pytest.mark.parametrize('broken', [False, True])
def test_checkpoint_of_tied_weights(tmp_path, monkeypatch, log, broken):
    """A .safetensors file that cannot be written does not end the training."""
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Tied', Tied)
    if broken:
        monkeypatch.setattr(files, 'save', lambda *args: 1 / 0)
    model = make_model('Tied', ema_decay=0.5)
    model.opt['path'].update(models=str(tmp_path), training_states=str(tmp_path))
    train(model, [1])
    model.save(0, 1)
    for name in ('net_g_1.pth', *(() if broken else ('net_g_1.safetensors',))):
        opt = options('Tied')
        opt['path'].update(pretrain_network_g=str(tmp_path / name), param_key_g=None)
        torch.testing.assert_close(make_model(opt=opt).net_g.state_dict(), model.net_g_ema.state_dict())
    assert ('net_g_1.safetensors could not be written' in log.text) == broken
    assert (tmp_path / '1.state').exists() and (tmp_path / 'net_g_1.safetensors').exists() != broken


def test_average_is_initialized_from_a_checkpoint_without_average(tmp_path):
    model = make_model()
    model.opt['path']['models'] = tmp_path
    train(model, [1])
    model.save_network(model.net_g, 'net_g', 1)
    opt = options('OneScale', ema_decay=0.5)
    opt['path'].update(pretrain_network_g=str(tmp_path / 'net_g_1.pth'))
    torch.testing.assert_close(make_model(opt=opt).net_g_ema.state_dict(), model.net_g.state_dict())


def test_checkpoint_of_another_network(tmp_path):
    """It is an error with strict loading, or if hardly any weight matches. Otherwise the matching ones are loaded."""
    model = make_model({'type': 'OneScale', 'width': 6})
    model.opt['path']['models'] = tmp_path
    model.save_network(model.net_g, 'net_g', 0)
    opt = options('OneScale')
    opt['path'].update(pretrain_network_g=str(tmp_path / 'net_g_0.pth'))
    with pytest.raises(UserError, match='net_g_0.pth'):
        make_model(opt=opt)
    opt['path']['strict_load_g'] = False
    with pytest.raises(UserError, match='net_g_0.pth: only 2 of the 9 weights of this OneScale match'):
        make_model(opt=opt)
    weights = torch.load(tmp_path / 'net_g_0.pth')['params']
    fitting = make_model().net_g.state_dict()
    fitting.update({key: weights[key] for key in ('body.0.weight', 'body.2.bias')})
    torch.save({'params': fitting}, tmp_path / 'net_g_0.pth')
    loaded = make_model(opt=opt).net_g
    torch.testing.assert_close(loaded.body[2].bias, model.net_g.body[2].bias, rtol=0, atol=0)


def test_tiles_with_super_resolution_are_an_error():
    opt = options('OneScale')
    opt.update(scale=2, val={'tile': 64})
    with pytest.raises(UserError, match='scale 2'):
        make_model(opt=opt)


@pytest.mark.parametrize('val, message', [({'tile': 33}, 'multiples of 2'), ({'tile': 16, 'overlap': 16}, 'overlap')])
def test_unsuitable_tiles_are_detected_before_training(val, message):
    opt = options('TwoScales')
    opt['val'].update(val)
    with pytest.raises(UserError, match=message):
        make_model(opt=opt)


def test_super_resolution_network_trains_and_validates():
    network = {'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 2}
    opt = options(network)
    opt['scale'] = 2
    model = make_model(opt=opt)
    data = batch()
    train(model, [1, 2], data={**data, 'gt': nn.functional.interpolate(data['gt'], scale_factor=2)})
    model.feed_data({'lq': data['lq']})
    model.test()
    assert model.output.shape == (2, 3, 32, 32)
    assert model.net_g.training


@pytest.mark.parametrize('network', [SWINIR, RRDBNET], ids=lambda network: network['type'])
def test_basicsr_networks_train_and_validate_with_the_same_recipe(network):
    cosine = {'type': 'CosineAnnealingLR', 'T_max': 20, 'eta_min': 1e-7}
    model = make_model(
        network, frequency_opt=FOURIER, clip_grad_norm=1, ema_decay=0.5, scheduler=cosine,
        optim_g={'type': 'AdamW', 'lr': 1e-2, 'weight_decay': 1e-3, 'betas': [0.9, 0.9]},
    )  # fmt: skip
    losses = total_losses(model, 10)
    assert losses[-1] < losses[0]
    model.opt['val'].update(tile=16, overlap=4)
    model.feed_data(batch(1, 24))
    model.test()
    assert model.output.shape == (1, 3, 24, 24) and model.output.isfinite().all()
