"""Samples of datasets."""

import os

import cv2
import numpy as np
import pytest

from deeprftv2_plugin.data.layouts.pairs import find_pairs
from deeprftv2_plugin.preflight.data import SAMPLED, check_data, check_epoch, check_pairs
from tests.preflight.findings import errors, warnings


def damage(path):
    path.write_bytes(path.read_bytes()[:-20])
    return str(path)


def check(folder, **settings):
    return list(check_pairs('noise', find_pairs(str(folder / 'lq'), str(folder / 'gt')), **settings))


def test_valid_dataset_is_counted_and_measured(folder):
    (finding,) = check(folder, crops=[16, [24, 28]])
    assert 'noise: 4 pairs; 4 decoded in ' in finding.text
    assert finding.text.endswith('; 28x24; all crops fit')


def test_ground_truth_may_be_absent(folder):
    (finding,) = check_pairs('photos', find_pairs(str(folder / 'lq')))
    assert '4 images without ground truth' in finding.text


def test_range_of_sizes_is_reported(folder):
    for part in ('lq', 'gt'):
        cv2.imwrite(str(folder / part / '9.png'), np.zeros((40, 30, 3), np.uint8))
    (finding,) = check(folder)
    assert '28 to 30 wide, 24 to 40 high' in finding.text


def test_sample_includes_the_first_and_the_last_image(folder):
    for part in ('lq', 'gt'):
        for number in range(10, 40):
            cv2.imwrite(str(folder / part / f'{number}.png'), np.zeros((8, 8, 3), np.uint8))
    first, last = damage(folder / 'lq/0.png'), damage(folder / 'gt/39.png')
    found = check(folder)
    assert [first in errors(found)[0], last in errors(found)[1]] == [True, True]
    assert f'{SAMPLED - 2} decoded' in found[-1].text


@pytest.mark.parametrize(('max_damaged', 'mark'), [(0, errors), (1, warnings)])
def test_damaged_image_is_an_error_unless_training_skips_it(folder, max_damaged, mark):
    path = damage(folder / 'lq/2.png')
    found = check(folder, max_damaged=max_damaged)
    (text,) = mark(found)
    assert path in text and 'damaged' in text


def test_pair_of_different_sizes_is_reported(folder):
    cv2.imwrite(str(folder / 'gt/1.png'), np.zeros((24, 30, 3), np.uint8))
    (text,) = errors(check(folder))
    assert 'lq/1.png has 28x24 pixels' in text and 'gt/1.png has 30x24 pixels' in text


def test_crops_larger_than_images_are_a_warning(folder):
    (text,) = warnings(check(folder, crops=[16, [24, 32]]))
    assert 'crops of 24x32' in text and '4 of 4' in text


def test_every_dataset_is_read_through_its_class(opt):
    opt['datasets']['val']['type'] = 'PairedDeblurDataset'
    train, val = check_data(opt)
    assert train.text.startswith('noise (train): 4 samples; one loaded in') and 'lq 3x16x16' in train.text
    assert val.text.startswith('more-noise (val): 4 pairs;')


def test_every_crop_of_the_stages_is_loaded(opt):
    opt['train']['stages'] = [{'iterations': 1}, {'iterations': 1, 'gt_size': 20}, {'gt_size': 32}]
    found = list(check_data(opt))
    assert 'lq 3x16x16' in found[0].text and 'lq 3x20x20' in found[1].text
    assert 'noise (train): ' in errors(found)[0] and 'smaller than patch size (32, 32)' in errors(found)[0]


def test_dataset_that_cannot_be_built_does_not_hide_the_others(opt):
    opt['datasets']['train']['dataroot_gt'] = 'nowhere'
    found = list(check_data(opt))
    assert len(errors(found)) == 1 and 'noise (train): ' in errors(found)[0]
    assert 'more-noise (val): 4 samples' in found[-1].text


def test_empty_dataset_is_an_error(folder, opt):
    for path in [*folder.glob('lq/*'), *folder.glob('gt/*')]:
        path.unlink()
    found = errors(list(check_data(opt)))
    assert found and all('it is empty' in text for text in found)


def test_wrong_template_of_file_names_is_an_error(opt):
    opt['datasets']['train']['filename_tmpl'] = '{}x4'
    (text,) = errors(list(check_data(opt)))
    assert 'noise (train): PairedImageDataset fails: AssertionError: ' in text and 'x4.png is not in lq_paths' in text


def test_option_missing_for_basicsrs_dataset_is_named(opt):
    del opt['datasets']['train']['dataroot_gt']
    (text,) = errors(list(check_data(opt)))
    assert text == "noise (train): PairedImageDataset fails: the key 'dataroot_gt' is missing or unknown"


def test_order_of_an_epoch_that_exceeds_the_memory_is_an_error():
    assert not list(check_epoch('noise', 1000, 100))
    assert 'lower the ratio' in errors(list(check_epoch('noise', 10**9, 100_000)))[0]


def test_skipped_files_and_transparency_are_warnings(folder, opt):
    opt['datasets'] = {'val': {**opt['datasets']['val'], 'type': 'PairedDeblurDataset'}}
    (folder / 'lq/photo.HEIC').touch()
    for name in (0, 2):
        cv2.imwrite(str(folder / f'gt/{name}.png'), np.random.default_rng(0).integers(0, 256, (24, 28, 4), np.uint8))
    skipped, transparent = warnings(check_data(opt))
    assert skipped.startswith('more-noise (val): lq: skipped images in other formats than ') and 'photo.HEIC' in skipped
    assert (
        transparent
        == 'more-noise (val): the transparency of images such as gt/0.png is ignored; only their colors are used'
    )


@pytest.mark.parametrize('with_gt', [True, False])
def test_only_a_test_without_ground_truth_tolerates_damaged_images(folder, test_opt, with_gt):
    path = damage(folder / 'lq/2.png')
    settings = test_opt['datasets']['test']
    settings['type'] = 'PairedDeblurDataset'
    if not with_gt:
        del settings['dataroot_gt']
    (text,) = (errors if with_gt else warnings)(check_data(test_opt))
    assert path.endswith('lq/2.png') and 'lq/2.png is damaged' in text


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes on this system')
@pytest.mark.parametrize('kind', ['PairedImageDataset', 'SingleImageDataset', 'VideoTestVimeo90KDataset'])
def test_pipes_are_not_opened_by_datasets_of_basicsr(folder, opt, kind):
    """They take the names in a list as they are."""
    path = 'lq/0.png'
    if kind.startswith('Video'):
        path = 'lq/clip/im1.png'
        (folder / 'lq/clip').mkdir()
    (folder / path).unlink(missing_ok=True)
    os.mkfifo(folder / path)
    (folder / 'list.txt').write_text('clip 7 (24,28,3)' if kind.startswith('Video') else '0.png (24,28,3)')
    settings = {'meta_info_file': 'list.txt', 'cache_data': False, 'num_frame': 7, 'name': 'Vimeo90K'}
    opt['datasets'] = {'val': {**opt['datasets']['val'], 'type': kind, **settings}}
    (text,) = errors(list(check_data(opt)))
    assert text == f'Vimeo90K (val): {path} is a named pipe, expected a regular file'


def test_missing_image_of_a_list_is_named(folder, opt):
    (folder / 'list.txt').write_text('9.png (24,28,3)')
    opt['datasets'] = {'val': {**opt['datasets']['val'], 'meta_info_file': 'list.txt'}}
    (text,) = errors(list(check_data(opt)))
    assert text == 'more-noise (val): cannot read the image gt/9.png: No such file or directory'


@pytest.mark.parametrize('model', ['DeepRFTv2Model', 'SRModel'])
@pytest.mark.parametrize('save', [False, True])
def test_images_that_would_be_saved_under_the_same_name_are_reported(folder, test_opt, model, save):
    cv2.imwrite(str(folder / 'lq/0.jpg'), np.zeros((24, 28, 3), np.uint8))
    (folder / 'lq/0.png').rename(folder / 'lq/0.bmp')
    del test_opt['datasets']['test']['dataroot_gt']
    test_opt['datasets']['test']['type'] = 'SingleImageDataset'
    test_opt['model_type'], test_opt['val']['save_img'] = model, save
    found = errors(list(check_data(test_opt)))
    assert len(found) == (save or model == 'DeepRFTv2Model')
    assert all(' would both be saved as 0: rename one' in text for text in found)
