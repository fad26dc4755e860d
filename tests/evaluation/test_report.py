"""Test reports: tables, the worst images, the protocol."""

import csv
import errno
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY
from torch.utils.data import DataLoader, Dataset

import deeprftv2_plugin
from deeprftv2_plugin import cli
from deeprftv2_plugin.data import PairedDeblurDataset
from deeprftv2_plugin.evaluation import protocol
from deeprftv2_plugin.evaluation.report import LOGGED_SEQUENCES, csv_text, sequences_of, table
from deeprftv2_plugin.evaluation.validation import ImageScore
from deeprftv2_plugin.evaluation.worst_images import COUNT, WorstImages
from deeprftv2_plugin.utils.errors import UserError
from tests.data.archives import unpack
from tests.evaluation.test_page import content as page_content
from tests.models.toys import make_model, options

METRICS = {'psnr': {'type': 'psnr', 'better': 'higher'}, 'mae': {'type': 'mae', 'better': 'lower'}}


class Frames(Dataset):
    """Frames whose noise increases with the index."""

    def __init__(self, names, with_gt=True, size=16):
        self.opt, self.names, self.with_gt, self.size = {'name': 'frames'}, names, with_gt, size

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        gt = torch.rand(3, self.size, self.size, generator=generator)
        lq = gt + 0.01 * (1 + index) * torch.randn(gt.shape, generator=generator)
        return {'lq': lq, 'lq_path': self.names[index], **({'gt': gt} if self.with_gt else {})}


@pytest.fixture
def log(caplog, monkeypatch):
    """Capture BasicSR's log."""
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    caplog.set_level(logging.INFO, 'basicsr')
    return caplog


def make_test_model(folder, metrics=METRICS, **val):
    opt = options('TwoScales')
    opt['path'].update(results_root=str(folder / 'results'), visualization=str(folder / 'results/visualization'))
    del opt['train']
    opt.update(is_train=False, val={'metrics': metrics, 'pbar': False, **val})
    return make_model(opt=opt)


def run(folder, dataset, metrics=METRICS, **val):
    """Test on a dataset and return the folder of the reports."""
    make_test_model(folder, metrics, **val).validation(DataLoader(dataset), 'test', None, val.get('save_img', False))
    return folder / 'results'


def read(results, name='frames'):
    with open(results / f'{name}.csv', newline='') as file:
        return list(csv.DictReader(file)), json.loads((results / f'{name}.json').read_text())


NAMES = ['A_0001', 'A_0002', 'B_0001', 'B_0002', 'B_0003']


def test_csv_json_and_log_agree(tmp_path, log):
    results = run(tmp_path, Frames(NAMES))
    rows, summary = read(results)
    assert [(row['name'], row['sequence']) for row in rows] == [(name, name[0]) for name in NAMES]
    psnr = [float(row['psnr']) for row in rows]
    assert (summary['dataset'], summary['images']) == ('frames', 5)
    assert summary['overall']['psnr'] == pytest.approx(np.mean(psnr))
    assert {name: part['images'] for name, part in summary['sequences'].items()} == {'A': 2, 'B': 3}
    assert summary['sequences']['B']['psnr'] == pytest.approx(np.mean(psnr[2:]))
    assert {'deeprftv2_plugin', 'basicsr', 'torch', 'python'} <= summary['versions'].keys()
    text = log.records[-1].getMessage()
    table_lines = text.splitlines()[1:5]
    assert [line.split()[:2] for line in table_lines] == [
        ['sequence', 'images'], ['A', '2'], ['B', '3'], ['overall', '5'],
    ]  # fmt: skip
    assert f'{np.mean(psnr):.4f}' in table_lines[-1]
    assert protocol.to_text(summary['protocol']) in text


def test_many_sequences_are_not_logged(tmp_path, log):
    names = [f'{sequence:03d}_{frame}' for sequence in range(LOGGED_SEQUENCES + 1) for frame in range(2)]
    _, summary = read(run(tmp_path, Frames(names, size=8)))
    assert len(summary['sequences']) == LOGGED_SEQUENCES + 1
    text = log.records[-1].getMessage()
    assert (
        '\n000 ' not in text and '\noverall ' in text and f'{LOGGED_SEQUENCES + 1} sequences, see frames.json' in text
    )


@pytest.mark.parametrize('first', METRICS)
def test_the_worst_images_are_saved(tmp_path, first):
    names = [f'{number:02d}' for number in range(12)]
    results = run(tmp_path, Frames(names), {name: METRICS[name] for name in sorted(METRICS, key=lambda n: n != first)})
    rows, summary = read(results)
    expected = sorted(rows, key=lambda row: float(row[first]) * (1 if first == 'psnr' else -1))[:COUNT]
    assert [each['name'] for each in summary['worst']] == [row['name'] for row in expected]
    assert sorted(path.name for path in (results / 'worst/frames').iterdir()) == [
        f'{rank:02d}_{float(row[first]):.4f}_{row["name"]}.png' for rank, row in enumerate(expected, 1)
    ]
    image = cv2.imread(str(next((results / 'worst/frames').glob('01_*'))), cv2.IMREAD_UNCHANGED)
    assert image.shape == (16, 3 * 16, 3)
    sharp = Frames(names)[int(expected[0]['name'])]['gt']
    np.testing.assert_array_equal(image[:, 32:, ::-1], np.rint(sharp.permute(1, 2, 0).numpy() * 255))


@pytest.mark.parametrize('processes', [1, 2, 5])
@pytest.mark.parametrize('better', ['higher', 'lower'])
def test_worst_images_do_not_depend_on_the_number_of_processes(tmp_path, processes, better):
    """The scores include NaN, which is the worst, and equal values, of which the first counts as worse."""
    values = [*np.random.default_rng(0).integers(0, 20, 50).astype(float), math.nan, math.inf]
    found = [ImageScore(f'a/{index}', 8, {'psnr': value}) for index, value in enumerate(values)]
    for rank in range(processes):
        share = WorstImages('psnr', better, count=4)
        for index in range(rank, len(found), processes):
            share.consider(index, found[index], [np.full((2, 2, 3), index, np.uint8)])
        share.write(tmp_path / 'worst', found)
    goodness = np.array(values) * (1 if better == 'higher' else -1)
    order = np.argsort(np.nan_to_num(goodness, nan=-np.inf, posinf=np.inf, neginf=-np.inf), kind='stable')
    expected = {f'{rank:02d}_{values[index]:.4f}_a_{index}.png': index for rank, index in enumerate(order[:4], 1)}
    saved = {path.name: cv2.imread(str(path))[0, 0, 0] for path in (tmp_path / 'worst').iterdir()}
    assert saved == expected


def test_number_of_held_images_is_bounded():
    kept = WorstImages('psnr', count=3)
    for index in range(20):
        kept.consider(index, ImageScore(str(index), 8, {'psnr': -index}), [np.zeros((2, 2, 3), np.uint8)])
        assert len(kept._held) == min(index + 1, 3)


def test_images_without_ground_truth_are_restored_and_listed(tmp_path, log):
    results = run(tmp_path, Frames(NAMES, with_gt=False))
    assert len(list((results / 'visualization/frames').glob('*.png'))) == len(NAMES)
    assert 'frames has no ground truth. Omitted metrics: psnr, mae.' in log.text
    assert 'frames: 5 images restored\nNo scores.\nProtocol: ' in log.text
    rows, summary = read(results)
    assert rows[0] == {'name': 'A_0001', 'sequence': 'A'}
    assert (summary['overall'], summary['worst'], summary['protocol']['metrics']) == ({}, [], {})
    assert not (results / 'worst').exists()


def test_the_page_has_the_images_and_their_scores(tmp_path, log):
    dataset = Frames(NAMES)
    model = make_test_model(tmp_path)
    model.opt['path']['page'] = str(tmp_path / 'page')
    model.validation(DataLoader(dataset), 'test', None)
    rows, summary = read(tmp_path / 'results')
    found = page_content(tmp_path / 'page/frames.html')
    assert [image['name'] for image in found['images']] == NAMES
    assert [image['scores'] for image in found['images']] == [[[float(row['psnr']), float(row['mae'])]] for row in rows]
    assert found['metrics'] == [{'name': 'psnr', 'better': 'higher'}, {'name': 'mae', 'better': 'lower'}]
    assert found['table']['columns'] == ['sequence', 'images', 'psnr', 'mae']
    assert [row[0][0] for row in found['table']['rows']] == ['A', 'B', 'overall']
    assert found['table']['rows'][-1][2] == [f'{summary["overall"]["psnr"]:.4f}', summary['overall']['psnr']]
    for image, sample in zip(found['images'], dataset, strict=False):
        blurry, restored, sharp = (cv2.imread(str(tmp_path / 'page' / url)) for url in image['versions'])
        for array, tensor in ((blurry, sample['lq']), (sharp, sample['gt'])):
            np.testing.assert_array_equal(array[..., ::-1], np.rint(tensor.clamp(0, 1).permute(1, 2, 0).numpy() * 255))
        assert image['scores'][0][0] == pytest.approx(cv2.PSNR(restored, sharp))
    assert f'The images are in {tmp_path / "page/frames.html"}' in log.text


def test_a_page_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / 'page').write_text('no folder')
    model = make_test_model(tmp_path)
    model.opt['path']['page'] = str(tmp_path / 'page')
    with pytest.raises(UserError, match='the report .*page.* could not be written: Not a directory. Check the path'):
        model.validation(DataLoader(Frames(NAMES)), 'test', None)


def test_16_bit_images_are_scored_and_saved_in_16_bit(tmp_path):
    root = unpack('dd_dp_dataset_canon', tmp_path / 'DPDD', (16, 16, 3))
    dataset = PairedDeblurDataset({'name': 'frames', 'phase': 'test', 'dataroot': str(root)})
    foreign = {'old': {'type': 'calculate_psnr', 'crop_border': 0}}
    results = run(tmp_path, dataset, {**METRICS, **foreign}, save_img=True)
    saved = sorted((results / 'visualization').rglob('*.png'))
    assert len(saved) == len(dataset)
    restored = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in saved]
    assert all(image.dtype == np.uint16 for image in restored)
    rows, summary = read(results)
    for row, pair, image in zip(rows, dataset.pairs, restored, strict=True):
        difference = image[..., ::-1].astype(float) - pair.gt.read()
        assert float(row['mae']) == pytest.approx(np.abs(difference).mean() / 65535)
    assert summary['protocol']['rounding'] == 'clamped to [0, 1] and rounded to 16 bit (8 bit for old)'


def test_errors_of_metrics_name_the_image(tmp_path):
    with pytest.raises(UserError, match='A_0001 of frames: SSIM needs at least'):
        run(tmp_path, Frames(NAMES, size=8), {'ssim': {'type': 'ssim'}})


def test_non_finite_numbers_are_null(tmp_path):
    class Perfect(Frames):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return {**sample, 'lq': sample['gt']}

    model = make_test_model(tmp_path)
    torch.nn.init.zeros_(model.net_g.second.weight), torch.nn.init.zeros_(model.net_g.second.bias)
    model.validation(DataLoader(Perfect(NAMES)), 'test', None)
    rows, summary = read(tmp_path / 'results')
    assert rows[0]['psnr'] == 'inf' and summary['overall'] == {'psnr': None, 'mae': 0}


@pytest.mark.posix
@pytest.mark.parametrize('with_gt', [True, False])
def test_names_do_not_have_to_be_utf_8(tmp_path, log, with_gt):
    length = 240 if with_gt else 10  # restored images have longer names than the input images
    names = [os.fsdecode(name) for name in (b's\xe9q_1', b's\xe9q_2', b'caf\xe9/' + b'x' * length)]
    results = run(tmp_path, Frames(names, with_gt), save_img=not with_gt)
    rows, summary = read(results)
    assert [row['name'] for row in rows] == ['s\\udce9q_1', 's\\udce9q_2', 'caf\\udce9/' + 'x' * length]
    assert ('s\\udce9q ' in log.text) == with_gt
    if with_gt:
        assert {each['name'] for each in summary['worst']} == set(names)  # JSON has the same escapes
        assert sum(os.path.isfile(path) for path in (results / 'worst/frames').iterdir()) == 3
    else:
        saved = (results / 'visualization/frames').rglob('*.png')
        assert sorted(path.name[:4] for path in saved) == [*[os.fsdecode(b's\xe9q_')] * 2, 'xxxx']


def test_restored_image_that_cannot_be_saved_does_not_end_a_test(tmp_path, log):
    """The name of a restored image is longer than that of its source, and too long here for the second one."""
    names = ['A_0001', 252 * 'x', 'A_0003']
    model = make_test_model(tmp_path, save_img=True)
    with pytest.raises(
        UserError, match='^1 images were not restored or saved:\n.*xxx.*File name too long. The name is'
    ):
        model.validation(DataLoader(Frames(names)), 'test', None, save_img=True)
    assert 'The test continues with the other images' in log.text
    rows, summary = read(tmp_path / 'results')
    assert [row['name'] for row in rows] == names and summary['images'] == 3
    saved = (tmp_path / 'results/visualization').rglob('*.png')
    assert sorted(path.name for path in saved) == ['A_0001_test.png', 'A_0003_test.png']


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EFBIG])
def test_full_disk_ends_a_test(tmp_path, monkeypatch, code):
    def write(path, image):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr('deeprftv2_plugin.models.restoration_model.write_png', write)
    with pytest.raises(UserError, match='the restored image .*A_0001_test.png could not be written.*Free disk space'):
        run(tmp_path, Frames(NAMES), save_img=True)


def test_report_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / 'results').write_text('no folder')
    with pytest.raises(UserError, match='the report .*results.* could not be written: Not a directory. Check the path'):
        run(tmp_path, Frames(NAMES))


@pytest.mark.parametrize(
    ('names', 'sequences'),
    [
        (['GOPR0384_11_00_000047', 'GOPR0384_11_00_000048'], ['GOPR0384_11_00'] * 2),
        (['GOPR0384_11_00-000047', 'GOPR0384_11_00-000048'], ['GOPR0384_11_00'] * 2),
        (['000_00000009', '000_00000019', '001_00000009'], ['000', '000', '001']),
        (['RealBlur-J_scene050_1', 'RealBlur-J_scene050_2'], ['RealBlur-J_scene050'] * 2),
        (['test-close-ups_100fromGOPR1087', 'test-close-ups_2fromGOPR1087'], ['test-close-ups'] * 2),
        (['s_1/a_1', 's_1/a_2', 's_2/a_1'], ['s_1', 's_1', 's_2']),
        (['1P0A0917', '1P0A0918'], ['', '']),
        (['motorcycle_left', 'coffee_cup', 'astronaut'], ['', '', '']),
    ],
)
def test_sequences_are_parsed_from_names(names, sequences):
    assert sequences_of(names) == sequences


def test_columns_are_aligned():
    first, *others = table({'GOPR0384_11_00': {'images': 100, 'psnr': 31.5}, 'all': {'images': 1111, 'psnr': 9.25}})
    assert first == 'sequence        images     psnr'
    assert others == ['GOPR0384_11_00     100  31.5000', 'all               1111   9.2500']


def test_csv_has_full_precision():
    third = 1 / 3
    text = csv_text([ImageScore('a, b', 8, {'psnr': third})], ['a'])
    assert text == f'name,sequence,psnr\n"a, b",a,{third!r}\n'
    assert csv_text([], []) == 'name,sequence\n'


@pytest.mark.parametrize(
    ('val', 'words'),
    [
        ({}, 'whole images, no tiles, no padding, no ensemble'),
        ({'tile': 512, 'overlap': 128}, 'whole images in tiles of 512x512 with overlap 128, no padding, no ensemble'),
        ({'tile': [256, 512]}, 'whole images in tiles of 256x512 with overlap 48, no padding, no ensemble'),
        (
            {'pad': [776, 680], 'ensemble': True},
            'whole images, no tiles, zero-padded to at least 776x680 pixels (height x width), '
            'mean over the eight flips and rotations',
        ),
    ],
)
def test_protocol_describes_the_restoration(val, words):
    described = protocol.describe({'val': val}, [], {8})
    assert described == {
        'metrics': {},
        'restoration': words,
        'rounding': 'clamped to [0, 1] and rounded to 8 bit',
    }


def test_protocol_defines_each_metric():
    metrics = {
        'psnr': {'type': 'aligned_psnr', 'better': 'higher'},
        'luma': {'type': 'psnr', 'better': 'higher', 'test_y_channel': True},
    }
    described = protocol.describe({'val': {'metrics': metrics}}, metrics, {8, 16})
    assert described['metrics']['psnr'].startswith('PSNR in dB after alignment')
    assert described['metrics']['luma'].endswith(', test_y_channel: True')
    assert described['alignment'] == 'aligned first: psnr'
    assert described['rounding'].endswith('8 and 16 bit')
    words = protocol.to_text(described)
    assert words.startswith('psnr: PSNR in dB after alignment') and words.endswith(
        '; '.join(list(described.values())[1:])
    )
    plain = protocol.describe({'val': {'metrics': METRICS}}, METRICS, {8})
    assert plain['alignment'] == 'results are not aligned'


@METRIC_REGISTRY.register()
def brightness(img, **options):
    """Return the mean of an image."""
    return img.mean()


def test_image_that_cannot_be_read_or_restored_does_not_end_a_test(tmp_path, log):
    """This only applies without ground truth, so that means always include all images."""

    class Damaged(Frames):
        def __getitem__(self, index):
            if self.names[index] == 'A_0001':
                raise UserError('the image A_0001 is damaged')
            if self.names[index] == 'B_0001':
                raise AttributeError('None has no shape')  # as datasets of BasicSR
            return super().__getitem__(index)

    def restore(net, x):
        if torch.equal(x[0], Frames(NAMES)[4]['lq']):
            raise UserError('it is too small')
        return x

    model = make_test_model(tmp_path, {'brightness': {'type': 'brightness', 'better': 'lower'}})
    model.restore = restore
    model.opt['datasets'] = {'test': {'name': 'frames'}, 'test_2': {'name': 'more'}}
    model.validation(DataLoader(Damaged(NAMES, with_gt=False)), 'test', None)
    assert 'the image A_0001 is damaged. The test continues' in log.text
    rows, summary = read(tmp_path / 'results')
    assert [row['name'] for row in rows] == ['A_0002', 'B_0002']
    for path, worst in zip(sorted((tmp_path / 'results/worst/frames').iterdir()), summary['worst'], strict=True):
        assert path.stem.endswith(worst['name'])
        assert cv2.imread(str(path))[:, 16:].mean() == pytest.approx(worst['brightness'])
    more = Frames(['C'], with_gt=False)
    more.opt['name'] = 'more'
    reasons = (
        r'.*A_0001 is damaged\nimage 3 cannot be read: AttributeError: None has .*\nB_0003 of frames: it is too small'
    )
    with pytest.raises(UserError, match=f'3 images were not restored or saved:\n{reasons}$'):
        model.validation(DataLoader(more), 'test', None)
    assert len(list((tmp_path / 'results/visualization').rglob('*.png'))) == 3

    damaged = Damaged(NAMES)
    damaged.opt['dataroot_gt'] = 'sharp'
    with pytest.raises(UserError, match=r'^the image A_0001 is damaged$'):
        model.validation(DataLoader(damaged), 'test', None)


def test_two_processes_write_the_same_reports_as_one(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    for number in range(13):
        image = random.integers(0, 256, (16, 20, 3), np.uint8)
        for part in ('blur', 'sharp'):
            (tmp_path / part / f's{number % 3}').mkdir(parents=True, exist_ok=True)
            path = tmp_path / part / f's{number % 3}/{number:03d}.png'
            cv2.imwrite(str(path), cv2.blur(image, (1 + number % 4, 1)) if part == 'blur' else image)
    opt = options('TwoScales')
    for key in ('dist', 'rank', 'world_size', 'is_train', 'train', 'logger'):
        del opt[key]
    images = {'type': 'PairedDeblurDataset', 'dataroot_lq': 'blur', 'dataroot_gt': 'sharp'}
    photographs = {'name': 'photographs', 'type': 'PairedDeblurDataset', 'dataroot_lq': 'photographs'}
    shutil.copytree(tmp_path / 'blur/s0', tmp_path / 'photographs')
    (tmp_path / 'photographs/003.png').write_bytes(b'damaged')
    opt.update(
        datasets={'test': photographs, 'test_2': {'name': 'frames', **images}},
        custom_imports=['tests.models.toys'],
        path={},
    )
    opt.update(manual_seed=0, val={'save_img': False, 'suffix': 'restored', 'pbar': False, 'metrics': METRICS})
    monkeypatch.chdir(tmp_path)
    for name in ('one', 'two'):
        (tmp_path / f'{name}.yml').write_text(yaml.safe_dump({**opt, 'name': name}))
    error = 'error: 1 images were not restored or saved:\nOpenCV cannot decode the image photographs/003.png'
    assert cli.main(['test', '-opt', 'one.yml', '--html']) == 1
    assert error in capsys.readouterr().err
    package = str(Path(deeprftv2_plugin.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m', 'deeprftv2_plugin',
         'test', '-opt', 'two.yml', '--html'],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': package},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 1 and error in result.stderr, result.stderr
    one, two = (
        {path.relative_to(tmp_path / 'results' / name): path.read_bytes()
         for path in (tmp_path / 'results' / name).rglob('*') if path.suffix in ('.csv', '.json', '.png', '.html')}
        for name in ('one', 'two')
    )  # fmt: skip
    pages = [Path(f'{name}.html') for name in ('photographs', 'frames')]
    for page in pages:
        assert one[page].replace(b', one</', b', two</') == two.pop(page)
        del one[page]
    in_pages = 4 * 2 + 13 * 3
    assert len(one) == 4 + COUNT + 4 + in_pages and one == two


class Greedy(torch.nn.Module):
    """A network that runs out of memory above a number of pixels."""

    def __init__(self, pixels):
        super().__init__()
        self.pixels = pixels

    def forward(self, x):
        if x.shape[-2] * x.shape[-1] > self.pixels:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.\nMore about it')
        return x


def test_images_restored_in_smaller_tiles_are_named_in_log_and_protocol(tmp_path, log):
    model = make_test_model(tmp_path, overlap=16)
    for pixels, size in ((100 * 100, 160), (10**9, 24)):
        model.net_g = Greedy(pixels)
        model.validation(DataLoader(Frames(NAMES[:2], size=size)), 'test', None)
        restoration = read(tmp_path / 'results')[1]['protocol']['restoration']
        assert ('but 2 images in smaller tiles down to 80x80 for lack of memory' in restoration) == (size == 160)
    assert log.text.count('pixels (height x width) are restored in tiles of 80x80') == 2
    assert 'A_0002 of frames: 160x160 pixels (height x width) are restored in tiles of 80x80' in log.text


def test_image_that_does_not_fit_into_memory_is_named(tmp_path):
    model = make_test_model(tmp_path, overlap=16)
    model.net_g = Greedy(10)
    words = r'A_0001 of frames: 160x160 pixels .* in tiles of 80x80: CUDA out of memory. Tried to allocate 2.00 GiB\. '
    with pytest.raises(UserError, match=words):
        model.validation(DataLoader(Frames(NAMES[:1], size=160)), 'test', None)
