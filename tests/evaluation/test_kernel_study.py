"""The kernel study: interventions, matching and references."""

import json
import xml.etree.ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from deeprftv2_plugin import cli
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints.files import write_checkpoint
from deeprftv2_plugin.data.blur.kernels import gaussian
from deeprftv2_plugin.evaluation import kernel_evidence, kernel_study
from deeprftv2_plugin.evaluation.classical_deconvolution import blind_richardson_lucy, richardson_lucy, wiener
from deeprftv2_plugin.evaluation.kernel_matching import (
    blur_specific,
    correlations,
    identified,
    log_power,
    matching,
    power_shares,
    read_out,
    windows_of,
)
from deeprftv2_plugin.evaluation.kernel_study import (
    CONDITIONS,
    Grid,
    dependence,
    draw_kernels,
    intervene,
    make_grid,
    padded_kernels,
    restore_with,
    score,
)
from deeprftv2_plugin.evaluation.kernel_study_figure import draw_study
from deeprftv2_plugin.inference.kernels import best_match
from deeprftv2_plugin.layers import FourierKernelEstimator
from deeprftv2_plugin.ops.fourier import as_parts
from deeprftv2_plugin.ops.otf import otf_from_psf

SIDE = 64
KERNELS = {'shake': draw_kernels(1, {})['shake 0'], 'wide': gaussian(2.5), 'narrow': gaussian(1.2)}


@pytest.fixture(scope='module')
def grid():
    rng = np.random.default_rng(0)
    patterns = {name: rng.integers(0, 255, (54, 54, 3), np.uint8) for name in ('a', 'b')}
    large = {name: each.repeat(3, 0).repeat(3, 1) for name, each in patterns.items()}  # edges in both directions
    return make_grid(large, KERNELS, SIDE, 1)


class Inverse(nn.Module):
    """A network whose transfer functions invert the true blur, which it gets from an oracle."""

    def __init__(self, grid: Grid):
        super().__init__()
        self.estimator = FourierKernelEstimator(3)
        self.grid, self.found = grid, None
        with torch.no_grad():
            self.estimator.feature_proj.weight.copy_(torch.eye(3))
            self.estimator.fuse.weight.copy_(torch.cat([torch.eye(3), torch.zeros(3, 3)], 1))
        self.estimator.to_otf = self.oracle = _Oracle(self)

    def forward(self, x):
        self.found = x
        return self.estimator(x).feature


class _Oracle(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = [net]

    def forward(self, state):
        (net,) = self.net
        kernel = next(
            kernel
            for row in net.grid.blurry
            for kernel, image in zip(net.grid.kernels, row, strict=True)
            if torch.equal(image, net.found[0])
        )
        reach = SIDE // 2 - kernel.shape[0] // 2
        padded = torch.from_numpy(np.pad(kernel, (reach, reach - 1))).double()
        otf = otf_from_psf(padded)
        inverse = otf.conj() / (otf.abs().square() + 0.01)
        return as_parts(inverse[None, None].expand(1, 3, -1, -1)).float()


def test_transfer_functions_of_another_blur_harm_a_network_that_uses_the_blur(grid):
    scores = intervene(Inverse(grid).eval(), grid, 0)
    assert scores.keys() == set(CONDITIONS) and scores['intact'].shape == (4, 3)
    assert scores['intact'].mean() > scores['blurry'].mean() + 1
    np.testing.assert_allclose(scores['other_image'], scores['intact'], atol=1e-3)  # the same blur, so the same filter
    np.testing.assert_allclose(scores['blur_mean'], scores['intact'], atol=1e-3)
    assert (scores['other_blur'] < scores['intact']).all() and (scores['zero'] < scores['other_blur']).all()
    summary = dependence([scores, scores], grid.photographs, [grid.blurs] * 2)
    assert summary['excess']['cost'] == pytest.approx(summary['other_blur']['cost'], abs=1e-3)
    assert summary['excess']['interval'][0] > 0 and summary['excess']['spread'] == 0
    assert summary['intact']['cost'] == 0


def test_seeds_with_the_same_kernels_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    photographs, blurs = ['a', 'a', 'b', 'c'], [f'blur {number}' for number in range(9)]
    scores = {name: rng.normal(size=(4, 9)) for name in CONDITIONS}
    interval = dependence([scores], photographs, [blurs])['other_blur']['interval']
    same = dependence([scores] * 3, photographs, [blurs] * 3)['other_blur']['interval']
    assert same == pytest.approx(interval)
    others = [[f'{seed} {each}' for each in blurs] for seed in range(3)]
    low, high = dependence([scores] * 3, photographs, others)['other_blur']['interval']
    assert high - low < interval[1] - interval[0]


def test_a_static_filter_has_no_cost(grid):
    net = DeepRFTv2('T', width=4, kernel_width=4, stages=1).eval()
    for module in net.modules():
        if isinstance(module, FourierKernelEstimator):
            nn.init.zeros_(module.to_otf.weight)
    scores = intervene(net, grid, 0)
    for name in ('mean', 'other_image', 'other_blur', 'other_both'):
        np.testing.assert_allclose(scores[name], scores['intact'], atol=1e-3)
    assert abs(scores['zero'] - scores['intact']).max() > 1e-3


def test_replacing_a_transfer_function_by_itself_changes_nothing(grid):
    net = DeepRFTv2('T', width=4, kernel_width=4).eval()
    restored, own = restore_with(net, grid.blurry[0][0])
    again, seen = restore_with(net, grid.blurry[0][0], own)
    assert torch.equal(again, restored) and seen == {} and len(own) == 4
    other, _ = restore_with(net, grid.blurry[0][0], {name: 2 * each for name, each in own.items()})
    assert not torch.equal(other, restored)
    assert torch.equal(restore_with(net, grid.blurry[0][0])[0], restored)  # the hooks are gone


def test_seeds_draw_other_shakes_and_the_same_discs():
    one, other = draw_kernels(1, {'mine': gaussian(1)}), draw_kernels(2, {})
    assert set(one) - set(other) == {'mine'}
    assert (one['shake 0'] != other['shake 0']).any() and (one['disc 1.5'] == other['disc 1.5']).all()


def test_the_border_is_not_scored():
    sharp = torch.rand(3, SIDE, SIDE)
    image = sharp.clone()
    image[:, :16] = image[:, :, -16:] = 0
    assert score(image, sharp) == float('inf')


def test_correlations_are_those_of_the_best_match():
    estimates, truths = torch.randn(2, 3, 17, 17), torch.rand(2, 9, 9)
    found = correlations(estimates, truths)
    for index in np.ndindex(2, 3, 2):
        assert found[index] == pytest.approx(abs(best_match(estimates[index[:2]], truths[index[2]]).correlation))
    assert correlations(torch.zeros(5, 5), truths).tolist() == [0, 0]


def test_the_window_of_a_transfer_function_is_its_kernel():
    kernel = torch.rand(3, 16, 24)
    window = windows_of(as_parts(otf_from_psf(kernel)[None]), 24)
    torch.testing.assert_close(window, kernel[:, 1:, 5:20], rtol=0, atol=1e-5)


def test_kernels_that_contain_the_true_ones_match():
    torch.manual_seed(0)
    truths = torch.randn(6, 9, 9)
    found = correlations(truths.roll(2, -1) + 0.1 * torch.randn(6, 9, 9), truths)
    assert matching(found)['auc'] > 0.95 and matching(found)['own'] > matching(found)['other']
    assert matching(torch.ones(4, 4)) == {'auc': 0.5, 'own': 1, 'other': 1}
    noise = correlations(torch.randn(50, 6, 9, 9), truths)
    assert matching(noise)['auc'] == pytest.approx(0.5, abs=0.06)


def test_power_is_divided_among_image_blur_and_both():
    torch.manual_seed(0)
    image, blur, both = torch.randn(20, 1, 1000), 2 * torch.randn(1, 30, 1000), 3 * torch.randn(20, 30, 1000)
    shares = power_shares(image + blur + both + 4)
    total = 1 + 4 + 9 + 16
    expected = {'static': 16 / total, 'image': 1 / total, 'blur': 4 / total, 'both': 9 / total}
    assert shares == pytest.approx(expected, abs=0.02)
    psf = image + blur
    torch.testing.assert_close(blur_specific(psf), (blur - blur.mean(1))[0], rtol=0, atol=1e-5)


def test_blurs_are_identified_where_kernels_depend_on_them():
    torch.manual_seed(0)
    blur, noise, photographs = torch.randn(1, 5, 50), torch.randn(6, 5, 50), list('aabbcc')
    assert identified(blur + 0.1 * noise, photographs) == 1
    assert identified(noise, photographs) < 0.5


def test_the_log_power_spectrum_is_that_of_the_gray_values_and_identifies_blurs(grid):
    image = torch.rand(3, 20, 24)
    gray = image.double().mean(0).numpy()
    power = abs(np.fft.rfft2((gray - gray.mean()) * np.outer(np.hanning(21)[:20], np.hanning(25)[:24]))) ** 2
    torch.testing.assert_close(log_power(image), torch.from_numpy(np.log(power + 1e-3 * power.mean())))
    powers = torch.stack([torch.stack([log_power(each) for each in row]) for row in grid.blurry])
    assert identified(powers, grid.photographs) > 0.9  # by chance 1 in 3


def test_spectral_division_finds_the_kernel_from_the_sharp_image(grid):
    truths = padded_kernels(grid.kernels, 17)
    assert read_out(grid.blurry, lambda i, b: grid.sharp[i], truths)['auc'] > 0.8


def test_classical_deconvolution_restores_and_estimates(grid):
    blurry, sharp, kernel = grid.blurry[0][1], grid.sharp[0], grid.kernels[1]
    for restored in (wiener(blurry, kernel, 0.01), richardson_lucy(blurry, kernel, 20)):
        assert score(restored, sharp) > score(blurry, sharp) + 0.5
    found = blind_richardson_lucy(blurry, 15)
    assert found.sum() == pytest.approx(1) and found.min() >= 0
    disc = np.ones_like(found) / found.size
    truth = torch.from_numpy(kernel)
    own, start = (best_match(torch.from_numpy(each), truth).correlation for each in (found, disc))
    assert own > start  # than the disc that it begins with


def test_the_command_writes_all_numbers_and_the_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kernel_study, 'SHAKES', 1)
    monkeypatch.setattr(kernel_study, 'DISCS', ())
    monkeypatch.setattr(kernel_study, 'GAUSSIANS', (1,))
    monkeypatch.setattr(kernel_evidence, 'ITERATIONS', (2,))
    write_checkpoint({'params': DeepRFTv2('T', width=4, kernel_width=4, stages=1).state_dict()}, tmp_path / 'net.pth')
    weights = ['--weights', str(tmp_path / 'net.pth')]
    arguments = ['study', '-o', str(tmp_path / 'out'), *weights, '--size', '64', '--seeds', '1', '2']
    assert cli.main(arguments) == 0
    result = json.loads((tmp_path / 'out/study.json').read_text())
    assert [each['seed'] for each in result['seeds']] == [1, 2]
    assert np.shape(result['seeds'][0]['psnr']['other_blur']) == (4, 2)
    assert result['photographs'] == ['astronaut', 'camera'] and len(result['sha256']) == 64
    assert 0 <= result['seeds'][0]['identified_by_log_power'] <= 1
    text = (tmp_path / 'out/study.md').read_text()
    assert '| zero | ' in text and text in capsys.readouterr().out
    assert cli.main(arguments) == 1
    assert 'study.json exists: use --overwrite to replace it' in capsys.readouterr().err
    monkeypatch.setattr(kernel_evidence, 'study_kernels', lambda *_: {**result, 'seeds': result['seeds'][:1]})
    assert cli.main([*arguments, '--overwrite']) == 0
    assert len(json.loads((tmp_path / 'out/study.json').read_text())['seeds']) == 1


def test_the_figure_has_a_row_for_each_of_the_first_blurs(grid):
    pytest.importorskip('matplotlib')
    net = DeepRFTv2('T', width=4, kernel_width=4, stages=1).eval()
    svg = draw_study(net, grid, 'svg')
    drawing = xml.etree.ElementTree.fromstring(svg)
    images = [each for each in drawing.iter() if each.tag.endswith('}image')]
    assert len(images) == 3 * (1 + 1 + 5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size', '60'], '--size is 60, expected a multiple of 8'),
        (['--size', '136'], '--size is 136, but the kernel windows of the network have only 128 pixels'),
        (['--size', '320', '--weights', 'net.pth'], 'has a side of less than 640 pixels'),
        (['--seeds', '1', '-1'], '--seeds: -1 is negative'),
        (['--seeds', '1', '2', '1'], '--seeds: two are equal'),
        (['--images', 'one', 'two'], '--images: two files are named a: rename one of them'),
        (['--kernels', 'one/a.png', 'two/a.png'], '--kernels: two files are named a 0: rename one of them'),
        (['--kernels', 'missing.npy'], 'missing.npy do not exist'),
        (['--weights', 'missing.pth'], 'missing.pth'),
    ],
)
def test_wrong_arguments(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ('one', 'two'):
        Path(folder).mkdir()
        cv2.imwrite(f'{folder}/a.png', np.full((257, 257), 128, np.uint8))
    write_checkpoint({'params': DeepRFTv2('T', width=4, kernel_width=4, stages=1).state_dict()}, 'net.pth')
    assert cli.main(['study', '-o', 'out', *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not Path('out').exists()
