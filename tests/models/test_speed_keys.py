"""The options bf16, channels_last, compile and accumulation have their intended effect and no other."""

import pytest
import torch

from .toys import batch, make_model, options, train

FOURIER = {'type': 'FourierLoss', 'loss_weight': 0.01}


def weights(model):
    return torch.cat([weight.detach().flatten().clone() for weight in model.net_g.parameters()])


def record_first_layer(model):
    """Record the inputs and outputs of the network's first layer."""
    seen = []
    model.net_g.first.register_forward_hook(lambda module, args, output: seen.append((*args, output)))
    return seen


def test_bf16_runs_the_network_in_bfloat16_and_the_losses_in_float32():
    model, plain = (make_model('TwoScales', frequency_opt=FOURIER, bf16=bf16) for bf16 in (True, False))
    seen = record_first_layer(model)
    for each in (model, plain):
        train(each, [1, 2])
    assert seen[0][-1].dtype == torch.bfloat16
    assert {value.dtype for value in model.terms.values()} == {torch.float32}
    assert model.terms['l_total'].item() == pytest.approx(plain.terms['l_total'].item(), rel=0.02)
    assert {weight.dtype for weight in model.net_g.parameters()} == {torch.float32}


def test_channels_last_only_changes_the_layout():
    model, plain = (make_model('TwoScales', channels_last=value) for value in (True, False))
    seen = record_first_layer(model)
    for each in (model, plain):
        train(each, [1, 2])
    assert seen[0][0].is_contiguous(memory_format=torch.channels_last)
    assert model.net_g.first.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weights(model), weights(plain))


def test_compile_keeps_steps_and_parameter_names():
    torch._dynamo.reset()
    frames = torch._dynamo.utils.counters['frames']
    frames.clear()
    model, plain = (make_model('TwoScales', compile=value) for value in (True, None))
    for each in (plain, model):
        assert not frames['ok']
        train(each, [1, 2])
    assert frames['ok'] == frames['total'] > 0
    torch.testing.assert_close(weights(model), weights(plain))
    assert list(model.net_g.state_dict()) == list(plain.net_g.state_dict())


@pytest.mark.parametrize('settings', [{'fused': False}, {'foreach': True}])
def test_optimizer_implementations_take_the_same_steps(settings):
    model, plain = (make_model('TwoScales', optim_g={'type': 'AdamW', 'lr': 0.01, **more}) for more in (settings, {}))
    for each in (model, plain):
        train(each, [1, 2, 3])
    torch.testing.assert_close(weights(model), weights(plain))


@pytest.mark.parametrize('accumulation', [2, 3, 6])
def test_accumulated_gradients_match_the_whole_batch(accumulation):
    data = batch(6)
    model, plain = (make_model('TwoScales', frequency_opt=FOURIER, accumulation=n) for n in (accumulation, None))
    for each in (model, plain):
        train(each, [1, 2], data=data)
    torch.testing.assert_close(weights(model), weights(plain))
    assert model.get_current_log() == pytest.approx(plain.get_current_log(), rel=1e-5)


def test_model_accumulates_for_missing_gpus():
    opt = options('TwoScales', recipe_gpus=8)
    assert make_model(opt=opt).accumulation == 8
    assert make_model(opt={**opt, 'num_gpu': 0}).accumulation == 8


def test_random_numbers_depend_only_on_seed_and_iteration():
    first, second = make_model('Noisy'), make_model('Noisy')
    train(first, [1, 2])
    train(second, [1])
    torch.rand(100)
    train(second, [2])
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)
