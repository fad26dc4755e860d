"""Test reports: tables, pages, and the same reports from several processes."""

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
from torch.utils.data import DataLoader

import deeprftv2_plugin
from deeprftv2_plugin import cli
from deeprftv2_plugin.data import PairedDeblurDataset
from deeprftv2_plugin.evaluation import protocol
from deeprftv2_plugin.evaluation.report import LOGGED_SEQUENCES, csv_text, sequences_of, table
from deeprftv2_plugin.evaluation.validation import ImageScore
from deeprftv2_plugin.evaluation.worst_images import COUNT
from deeprftv2_plugin.utils.errors import UserError
from tests.data.archives import unpack
from tests.evaluation.test_page import content as page_content
from tests.evaluation.toys import METRICS, NAMES, Frames, make_test_model, read, run
from tests.models.toys import options


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


def test_large_errors_are_the_worst(tmp_path):
    """Lower values of the MAE are better, which the options do not have to say."""
    model = make_test_model(tmp_path, {'mae': {'type': 'mae'}})
    model.opt['path']['page'] = str(tmp_path / 'page')
    model.validation(DataLoader(Frames(NAMES)), 'test', None)
    worst = [each['mae'] for each in read(tmp_path / 'results')[1]['worst']]
    assert worst == sorted(worst, reverse=True) and worst[0] > worst[-1]
    assert page_content(tmp_path / 'page/frames.html')['metrics'] == [{'name': 'mae', 'better': 'lower'}]


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
        capture_output=True, text=True, timeout=600,
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
