"""The option files for the benchmarks of Levin, Köhler, Lai and RSBlur, on small data with their layouts."""

import json
from pathlib import Path

import cv2
import pytest

from deeprftv2_plugin import cli
from deeprftv2_plugin.data.blur.kernel_files import read_kernels
from deeprftv2_plugin.data.storage.images import ImageSequence, StoredImage
from deeprftv2_plugin.metrics import error_ratio, shifted_psnr, trajectory_mssim, trajectory_psnr
from tests.data.archives import unpack
from tests.data.layouts.test_kernel_benchmarks import levin

ROOT = Path(__file__).parents[1]
WEIGHTS = f'path:pretrain_network_g={ROOT}/deeprftv2_plugin/weights/deblur.safetensors'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name, *overrides, command='test'):
    arguments = [command, '-opt', str(ROOT / f'options/test_{name}.yml'), '--force_yml', WEIGHTS, *overrides]
    assert cli.main(arguments) == 0


def report(name, dataset):
    return json.loads(Path(f'results/test_{name}/{dataset}.json').read_text())


def bgr(image):
    return cv2.cvtColor(image.read(), cv2.COLOR_RGB2BGR)


def test_levin(folder):
    root = levin(folder / 'datasets/Levin', ['im05_flit01'], (64, 60))
    run('levin', command='check')
    run('levin', 'val:save_img=true')
    found = report('levin', 'Levin')['overall']
    blurry, sharp = (bgr(StoredImage(str(root / 'im05_flit01.mat'), variable=name)) for name in 'yx')
    kernel = read_kernels(str(root / 'im05_flit01.mat'), 'f')[0][::-1, ::-1].copy()
    restored = cv2.imread(str(next(folder.rglob('visualization/**/*.png'))), cv2.IMREAD_UNCHANGED)
    assert found['psnr'] == pytest.approx(shifted_psnr(restored, sharp))
    assert found['blurry_psnr'] == pytest.approx(shifted_psnr(blurry, sharp))
    for of in ('wiener', 'sparse'):
        assert found[f'{of}_psnr'] == pytest.approx(shifted_psnr(restored, sharp, blurry, kernel, of=of))
    assert found['sparse_psnr'] > found['blurry_psnr'] + 1
    assert found['error_ratio'] == pytest.approx(error_ratio(restored, sharp, blurry, kernel))


def test_kohler(folder):
    unpack('Koehler', folder / 'datasets/Koehler', (180, 184, 3))
    run('kohler', command='check')
    run('kohler', 'val:save_img=true')
    rows = (folder / 'results/test_kohler/Koehler.csv').read_text().splitlines()[1:]
    assert len(rows) == 2
    for shake, row in zip((1, 12), rows, strict=True):
        restored = cv2.imread(str(next(folder.rglob(f'visualization/**/Blurry2_{shake:02d}*.png'))))
        frames = folder / f'datasets/Koehler/Image2/Kernel{shake}'
        trajectory = ImageSequence(tuple(sorted(map(str, frames.iterdir()))))
        expected = trajectory_psnr(restored, trajectory), trajectory_mssim(restored, trajectory)
        assert [float(value) for value in row.split(',')[2:]] == pytest.approx(expected)


def test_lai(folder):
    unpack('Lai', folder / 'datasets/Lai', (48, 56, 3))
    metrics = 'val:metrics={psnr: {type: shifted_psnr, reach: 10, test_y_channel: true}}'
    run('lai', metrics)
    assert report('lai', 'Lai-uniform')['images'] == 4 and report('lai', 'Lai-uniform')['overall'].keys() == {'psnr'}
    real = report('lai', 'Lai-real')
    assert real['images'] == 2 and real['overall'] == {}
    assert len(list(folder.rglob('visualization/Lai-real/*.png'))) == 2
    assert not list(folder.rglob('visualization/Lai-uniform/*.png'))


def test_an_image_without_ground_truth_that_fails_does_not_end_the_test(folder, capsys):
    root = unpack('Lai', folder / 'datasets/Lai', (48, 56, 3))
    (root / 'real_dataset/text2.jpg').write_bytes(b'no image')
    arguments = ['val:metrics={psnr: {type: shifted_psnr}}']
    assert cli.main(['test', '-opt', str(ROOT / 'options/test_lai.yml'), '--force_yml', WEIGHTS, *arguments]) == 1
    assert '1 images were not restored' in capsys.readouterr().err
    assert len(list(folder.rglob('visualization/Lai-real/*.png'))) == 1


def test_rsblur(folder):
    root = folder / 'datasets/RSBlur'
    for scene in ('000006', '000007'):
        for name in ('gt/gt_sharp.png', 'real_blur/real_blur.png'):
            path = root / '0001' / scene / name
            path.parent.mkdir(parents=True)
            assert cv2.imwrite(str(path), cv2.resize(cv2.imread(str(_photograph())), (64, 48)))
    for split, scene in (('train', '000006'), ('val', '000006'), ('test', '000007')):
        line = f'RSBlur/0001/{scene}/gt/gt_sharp.png RSBlur/0001/{scene}/real_blur/real_blur.png\n'
        (root / f'RSBlur_real_{split}.txt').write_text(line)
    small = ['network_g:variant=T', 'val:tile=32', 'val:overlap=8']
    training = ['train:stages=~', 'train:accumulation=1', 'train:total_iter=1', 'datasets:train:gt_size=16']
    training += ['datasets:train:batch_size_per_gpu=1', 'datasets:train:num_worker_per_gpu=0']
    options = str(ROOT / 'options/train_rsblur.yml')
    assert cli.main(['train', '-opt', options, '--force_yml', *small, *training, 'logger:use_tb_logger=false']) == 0
    assert cli.main(['test', '-opt', str(ROOT / 'options/test_rsblur.yml'), '--force_yml', *small]) == 0
    assert report('rsblur', 'RSBlur-test')['overall'].keys() == {'psnr', 'ssim'}


def _photograph():
    from deeprftv2_plugin.data.storage.photographs import photograph

    return photograph('camera.png')
