"""Memory layout of weights, gradients and optimizer states."""

import pytest
import torch
from torch import nn

from deeprftv2_plugin.training import memory_layout
from tests.models.toys import batch, make_model, options, train

FUSED = {'type': 'AdamW', 'lr': 0.01, 'fused': True}


def convolutions():
    """A full, a depthwise and a pointwise convolution."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 5, 1))


def strides(net):
    return [tuple(weight.stride()) for weight in net.parameters()]


def gradients(net, memory_format):
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=memory_format)
    net(x).square().sum().backward()
    return [weight.grad for weight in net.parameters()]


def test_only_weights_with_another_memory_order_change_their_strides():
    net = convolutions()
    before = strides(net)
    memory_layout.to_channels_last(net)
    assert net[0].weight.stride() == (27, 1, 9, 3)
    assert strides(net)[1:] == before[1:]


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_gradients_get_the_strides_of_their_weights(memory_format):
    torch.manual_seed(0)
    net, plain = convolutions(), convolutions()
    plain.load_state_dict(net.state_dict())
    memory_layout.match_gradients(net)
    for _ in range(2):  # in the second pass, the hooks of matching weights are removed
        found, expected = gradients(net, memory_format), gradients(plain, memory_format)
        assert [tuple(each.stride()) for each in found] == strides(net)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        net.zero_grad()
        plain.zero_grad()


def test_hooks_of_matching_weights_are_removed():
    net = convolutions()
    memory_layout.match_gradients(net)
    assert sum(bool(weight._backward_hooks) for weight in net.parameters()) == 2
    gradients(net, torch.contiguous_format)
    assert not any(weight._backward_hooks for weight in net.parameters())


def resume(path, **settings):
    opt = options('TwoScales', optim_g=FUSED, **settings)
    opt['path'].update(pretrain_network_g=str(path / 'net_g_2.pth'))
    model = make_model(opt=opt)
    model.resume_training(torch.load(path / '2.state', weights_only=True))
    return model


@pytest.mark.parametrize('resumed_channels_last', [False, True])
def test_training_resumes_in_another_layout(tmp_path, resumed_channels_last):
    """The fused optimizer reads its state in the memory order of the weights."""
    model = make_model('TwoScales', optim_g=FUSED, channels_last=not resumed_channels_last)
    model.opt['path'].update(models=tmp_path, training_states=tmp_path)
    train(model, [1, 2])
    model.save(0, 2)
    other = resume(tmp_path, channels_last=resumed_channels_last)
    for each in (model, other):
        train(each, [3, 4])
    weight = other.net_g.first.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == resumed_channels_last
    torch.testing.assert_close(dict(other.net_g.state_dict()), dict(model.net_g.state_dict()))


def test_average_has_the_layout_of_the_weights():
    model = make_model(channels_last=True, ema_decay=0.5)
    train(model, [1], data=batch())
    assert strides(model.net_g_ema) == strides(model.net_g)
    assert model.net_g.body[0].weight.is_contiguous(memory_format=torch.channels_last)
