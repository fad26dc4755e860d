"""`basicsr kernels` on the command line."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeprftv2_plugin import cli
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints import load_network, write_checkpoint
from deeprftv2_plugin.data.blur.kernel_files import normalize
from deeprftv2_plugin.inference import kernels

OUTPUT = ['-o', 'out.png', '--device', 'cpu', '--weights', 'net.pth']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with a network, images of several kinds, and kernels."""
    folder = tmp_path_factory.mktemp('kernels')
    torch.manual_seed(0)
    write_checkpoint({'params': DeepRFTv2('T', width=8, kernel_width=4).state_dict()}, folder / 'net.pth')
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 35, 3), dtype=np.uint8)).save(folder / 'color.png')
    Image.fromarray(rng.integers(0, 256, (33, 50), dtype=np.uint8)).save(folder / 'gray.png')
    Image.fromarray(rng.integers(0, 256, (15, 50), dtype=np.uint8)).save(folder / 'low.png')
    Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16)).save(folder / 'deep.png')
    np.savez(folder / 'two.npz', a=rng.random((5, 5)), b=rng.random((7, 3)))
    np.save(folder / 'one.npy', rng.random((5, 5)))
    return folder


@pytest.fixture(autouse=True)
def directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    yield
    for name in ('out.png', 'out.npz'):
        Path(name).unlink(missing_ok=True)


def run(*arguments):
    return cli.main(['kernels', *arguments])


def test_the_figure_and_the_numbers(capsys):
    pytest.importorskip('matplotlib')
    images = ['color.png', 'gray.png', 'deep.png']
    assert run(*images[:2], *OUTPUT, '--kernel', 'two.npz', '--npz', 'out.npz') == 0
    with Image.open('out.png') as figure:
        assert figure.width > 800 and np.asarray(figure.convert('L')).std() > 10
    told = capsys.readouterr().out
    assert 'the central 32x32 pixels' in told and '2 images' in told

    color = np.asarray(Image.open('color.png'))[4:36, 1:33] / np.float32(255)
    gray = np.asarray(Image.open('gray.png'))[:32, 9:41, None].repeat(3, 2) / np.float32(255)
    x = torch.from_numpy(np.stack([color, gray])).permute(0, 3, 1, 2)
    psf = load_network('net.pth').kernels(x)[1].full.psf
    with np.load('out.npz') as found:
        np.testing.assert_allclose(found['stage2_full_psf'], psf, atol=1e-5)
        assert list(found['images']) == images[:2]
        assert found['stage2_full_varying'] == pytest.approx(kernels.varying_share(psf), rel=1e-3)
        truth = torch.from_numpy(normalize(np.load('two.npz')['b'], 'b'))
        np.testing.assert_array_equal(found['stage2_full_true_1'], truth)
        np.testing.assert_array_equal(found['stage1_half_true_1'], kernels.half_scale_kernel(truth))
        correlations = [float(found[f'stage1_full_correlation_{name}']) for name in kernels.Likeness._fields]
    assert all(0 < each <= 1 for each in correlations)
    assert ' '.join(f'{each:.2f}' for each in correlations[:1]) in told


def test_one_image_with_one_kernel_and_a_crop(capsys):
    pytest.importorskip('matplotlib')
    assert run('deep.png', *OUTPUT, '--kernel', 'one.npy', '--crop', '24') == 0
    told = capsys.readouterr().out
    assert '24x24' in told and 'changes' not in told and 'impulse' in told
    assert run('deep.png', *OUTPUT, '--crop', '16', '--overwrite') == 0
    assert 'impulse' not in capsys.readouterr().out


def test_kernel_windows_limit_the_crop():
    net = DeepRFTv2('T', width=8, kernel_width=4, kernel_window=(24, 16)).eval()
    from deeprftv2_plugin.cli.kernels import _read_images

    assert _read_images(['color.png'], net, None)[0].shape == (3, 24, 16)


@pytest.mark.parametrize(
    'arguments, reason',
    [
        (['color.png', *OUTPUT, '-o', 'out.jpg'], 'ends in .png'),
        (['color.png', *OUTPUT, '-o', 'color.png'], 'color.png exists'),
        (['color.png', *OUTPUT, '--npz', 'out.txt'], 'ends in .npz'),
        (['color.png', *OUTPUT, '--variable', 'f'], 'also set --kernel'),
        (['color.png', 'gray.png', 'deep.png', *OUTPUT, '--kernel', 'two.npz'], '2 kernels, expected one, or one for'),
        (['color.png', *OUTPUT, '--crop', '20'], 'multiple of 8'),
        (['color.png', *OUTPUT, '--crop', '48'], 'has only 32x40'),
        (['low.png', *OUTPUT], '48x8 pixels'),
        (['absent.png', *OUTPUT], 'absent.png'),
    ],
)
def test_wrong_arguments(arguments, reason, capsys):
    before = {path.name for path in Path().iterdir()}
    assert run(*arguments) == 1
    assert reason in capsys.readouterr().err
    assert {path.name for path in Path().iterdir()} == before


def test_without_matplotlib_nothing_is_computed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    assert run('absent.png', *OUTPUT) == 1
    assert "pip install 'deeprftv2-plugin[demo]'" in capsys.readouterr().err
