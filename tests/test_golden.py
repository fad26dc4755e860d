"""Compare the network with reference outputs of the authors' release, using their options and checkpoint names."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import from_official_options, from_official_state_dict, to_official_state_dict
from deeprftv2_plugin.inference.restoration import restore
from deeprftv2_plugin.losses import FourierLoss, MultiScaleLoss
from tests.golden.reference_weights import reference_images, reference_state_dict

FOLDER = Path(__file__).parent / 'golden'
CASES = ('tiny_naf', 'tiny_evs', 'tiny_widths', 'tiny_tiles', 'tiny_kernel_windows', 'tiny_local', 'tiny_small_alphas')
"""All references come from the authors' network except for the last, with alphas of -0.001 to 0.002, which comes from
this package in float64."""


@dataclass
class Case:
    arrays: dict
    meta: dict
    options: dict
    official_state: dict

    def network(self, dtype=torch.float32, **overrides):
        net = DeepRFTv2(**self.options['network'] | overrides)
        net.load_state_dict(from_official_state_dict(self.official_state))
        return net.to(dtype)

    def images(self, run):
        shape = (run['batch'], 3, *run['size'])
        return [torch.from_numpy(image) for image in reference_images(run['image_seed'], shape)]

    def training_run(self, index, **overrides):
        """Run a backward pass; return the network, outputs, the four losses and the gradient of the blurry image."""
        net = self.network(**overrides)
        blurry, sharp = (image.to(next(net.parameters()).dtype) for image in self.images(self.meta['train'][index]))
        blurry.requires_grad_()
        outputs = net(blurry)
        l1 = MultiScaleLoss([torch.nn.L1Loss()]).per_scale(outputs, sharp)
        fourier = MultiScaleLoss([FourierLoss(loss_weight=0.01)]).per_scale(outputs, sharp)
        losses = [l1['full'], fourier['full'], l1['half'] + fourier['half']]
        losses.append(sum(losses))
        losses[-1].backward()
        return net, outputs, losses, blurry.grad


@cache
def load(name):
    arrays = dict(np.load(FOLDER / f'{name}.npz'))
    meta = json.loads(bytes(arrays['meta']))
    state = reference_state_dict(meta['keys'], meta['seed'])
    factor, shift = meta.get('alphas', (1, 0))
    state |= {key: value * factor + shift for key, value in state.items() if re.search(r'\.alpha\d$', key)}
    return Case(
        arrays,
        meta,
        from_official_options(meta['network_g']),
        {key: torch.from_numpy(value) for key, value in state.items()},
    )


def runs(kind):
    return [
        pytest.param(name, index, id=f'{name}-{index}') for name in CASES for index in range(len(load(name).meta[kind]))
    ]


def largest_difference(ours, reference):
    return (ours.detach() - torch.from_numpy(reference)).abs().max().item()


@pytest.mark.parametrize(('name', 'index'), runs('train'))
def test_training_outputs_losses_and_gradients(name, index):
    case = load(name)
    net, outputs, losses, grad = case.training_run(index)
    for scale, images in outputs._asdict().items():
        for number, image in enumerate(images):
            assert largest_difference(image, case.arrays[f'train{index}.{scale}{number}']) < 2e-5

    torch.testing.assert_close(
        torch.stack(losses).detach(), torch.from_numpy(case.arrays[f'train{index}.losses']), rtol=1e-5, atol=0
    )
    reference = torch.from_numpy(case.arrays[f'train{index}.grad_lq'])
    assert (grad - reference).norm() < 1e-4 * reference.norm()

    norms = dict(zip(sorted(case.meta['keys']), case.arrays[f'train{index}.grad_norms'], strict=True))
    ours = to_official_state_dict({key: p.grad for key, p in net.named_parameters()})
    assert ours.keys() == norms.keys()
    for key, norm in norms.items():
        if norm:  # zero for unused shortcut factors, which this network does not have
            assert ours[key].norm().item() == pytest.approx(norm, rel=1e-3), key


@pytest.mark.parametrize(('name', 'index'), runs('eval'))
def test_evaluation_outputs(name, index):
    case = load(name)
    net = case.network().eval()
    blurry, _ = case.images(case.meta['eval'][index])
    assert largest_difference(restore(net, blurry, **case.options['restore']), case.arrays[f'eval{index}']) < 2e-5


@pytest.mark.parametrize(('name', 'index'), [(name, i) for name in ('tiny_naf', 'tiny_evs') for i in (0, 1)])
def test_transfer_functions(name, index):
    case = load(name)
    blurry, _ = case.images(case.meta['train'][index])
    for number, stage in enumerate(case.network().kernels(blurry)):
        for estimate, scale in ((stage.full, 'max'), (stage.half, 'mid')):
            reference = case.arrays[f'train{index}.stage{number}.otf_{scale}']
            assert largest_difference(torch.view_as_real(estimate.otf), reference) < 2e-4
            spectrum = torch.fft.rfft2(torch.fft.ifftshift(estimate.psf, dim=(-2, -1)))
            inner = slice(1, estimate.psf.shape[-1] // 2)  # irfft2 only uses the Hermitian part of the outer columns
            torch.testing.assert_close(spectrum[..., inner], estimate.otf[..., inner], rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', [name for name in CASES if load(name).meta['train']])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_reversible_columns_do_not_change_results(name, dtype, tolerance):
    case = load(name)
    plain, reversible = (case.training_run(0, dtype=dtype, reversible=value) for value in (False, True))
    for ours, theirs in zip(plain[1].full + plain[1].half, reversible[1].full + reversible[1].half, strict=True):
        assert torch.equal(ours, theirs)
    gradients = [dict(net.named_parameters()) for net in (plain[0], reversible[0])]
    for key in gradients[0]:
        expected, found = (parameters[key].grad for parameters in gradients)
        assert (found - expected).norm() <= tolerance * expected.norm(), key
    assert (plain[3] - reversible[3]).norm() <= tolerance * plain[3].norm()
