"""The options with which a comparison tests networks."""

from pathlib import Path

import pytest

from deeprftv2_plugin.comparison.pages import write_pages
from deeprftv2_plugin.comparison.scoring import test_options as options_of
from deeprftv2_plugin.utils.errors import UserError
from tests.evaluation.test_page import content

FILE = """
name: mine
scale: 1
datasets:
  train: {name: pairs, gt_size: 16}
  val: {name: held-out, type: PairedDeblurDataset, dataroot: somewhere}
train: {total_iter: 5}
val: {val_freq: 5, tile: 64, metrics: {mae: {type: mae, better: lower}}}
"""


def test_an_option_file_determines_images_tiles_and_metrics():
    Path('mine.yml').write_text(FILE)
    found = options_of('mine.yml', None, 'cpu')
    assert found['datasets'].keys() == {'val'} and found['num_gpu'] == 0 and 'train' not in found
    assert found['val'] == {
        'tile': 64,
        'metrics': {'mae': {'type': 'mae', 'better': 'lower'}},
        'save_img': False,
        'pbar': False,
    }
    assert options_of('mine.yml', ['psnr', 'ssim'], 'cuda')['val']['metrics'].keys() == {'psnr', 'ssim'}


@pytest.mark.parametrize('text', ['datasets: 3', 'datasets: {test: {name: x}}\nval: 5'])
def test_wrong_sections_are_errors(text):
    Path('mine.yml').write_text(text)
    with pytest.raises(UserError, match=r'--data mine.yml: (datasets|val) is (3|5), expected a section'):
        options_of('mine.yml', None, 'cpu')


def test_a_folder_is_a_dataset_as_downloaded_or_prepared():
    (data,) = options_of('data/GoPro', None, 'cpu')['datasets'].values()
    assert data == {'name': 'GoPro', 'type': 'PairedDeblurDataset', 'dataroot': 'data/GoPro'}
    for name in ('test_blur.lmdb', 'test_sharp.lmdb'):
        Path('prepared', name).mkdir(parents=True)
    (data,) = options_of('prepared', None, 'cpu')['datasets'].values()
    assert data['dataroot_lq'] == 'prepared/test_blur.lmdb' and data['dataroot_gt'] == 'prepared/test_sharp.lmdb'


def test_the_page_of_a_comparison_knows_which_values_are_better():
    (page,) = write_pages(Path(), [], [], options_of('data/GoPro', ['mae', 'psnr'], 'cpu'))
    assert content(page)['metrics'] == [{'name': 'mae', 'better': 'lower'}, {'name': 'psnr', 'better': 'higher'}]
