import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deeprftv2_plugin.data import SyntheticBlurDataset
from deeprftv2_plugin.data.photographs import HELD_OUT, TRAINING
from deeprftv2_plugin.errors import UserError


@pytest.fixture
def options(tmp_path, write_image):
    """Options of a data set of one smooth picture, 40 rows and 50 columns."""
    image = cv2.GaussianBlur(np.ascontiguousarray(write_image('sharp/a.png', (40, 50, 3))), (0, 0), 2)
    cv2.imwrite(str(tmp_path / 'sharp/a.png'), image)
    return {'phase': 'train', 'dataroot_gt': f'{tmp_path}/sharp', 'gt_size': 16, 'kernel_length': [4, 8]}


def equal(sample, other):
    return all(torch.equal(sample[key], other[key]) for key in ('lq', 'gt', 'kernel'))


def test_sample_is_a_blurry_crop_and_its_kernel(options, tmp_path):
    dataset = SyntheticBlurDataset(options)
    sample = dataset[3]
    assert len(dataset) == 100
    assert sample['lq'].shape == sample['gt'].shape == (3, 16, 16)
    assert sample['kernel'].shape == (1, 9, 9) and sample['kernel'].sum() == pytest.approx(1)
    assert (sample['lq_path'], sample['gt_path']) == ('a_003.png', f'{tmp_path}/sharp/a.png')
    assert 0 < (sample['lq'] - sample['gt']).abs().mean() < 0.1


def test_kernel_explains_the_blur(options):
    dataset = SyntheticBlurDataset({**options, 'phase': 'test', 'shot_noise': 0, 'read_noise': 0})
    sample = dataset[0]
    linear = ((sample['gt'] + 0.055) / 1.055) ** 2.4
    weight = sample['kernel'].flip(1, 2)[None].repeat(3, 1, 1, 1)
    blurry = 1.055 * torch.conv2d(linear, weight, groups=3) ** (1 / 2.4) - 0.055
    assert sample['lq'].shape == (3, 40, 50)
    torch.testing.assert_close(sample['lq'][:, 4:-4, 4:-4], blurry, atol=0.003, rtol=0)


def test_seed_and_index_decide_everything(options):
    dataset, same = SyntheticBlurDataset(options), SyntheticBlurDataset(options)
    assert equal(dataset[5], same[5])
    assert not equal(dataset[5], dataset[6])
    assert not equal(dataset[5], SyntheticBlurDataset({**options, 'seed': 1})[5])
    loader = DataLoader(dataset, num_workers=2, batch_size=1)
    for index, batch in zip(range(4), loader, strict=False):
        assert torch.equal(batch['lq'][0], dataset[index]['lq'])


def test_rectangular_crops_and_small_pictures(options):
    sample = SyntheticBlurDataset({**options, 'gt_size': [48, 24]})[0]
    assert sample['lq'].shape == (3, 48, 24)
    assert sample['gt'][:, :40].all() and not sample['gt'][:, 40:].any() and not sample['lq'][:, 40:].any()


def test_photographs_are_the_default_and_the_held_out_ones_stay_out():
    train = SyntheticBlurDataset({'phase': 'train', 'gt_size': 8})
    test = SyntheticBlurDataset({'phase': 'test'})
    assert [name for name, _ in train.images] == list(TRAINING)
    assert [name for name, _ in test.images] == list(HELD_OUT)
    assert len(test) == len(HELD_OUT)
    assert train[0]['lq'].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'kernel_length': 9}, 'kernel_length is 9: give'),
        ({'kernel_length': [9, 4]}, 'kernel_length is'),
        ({'kernel_length': [0, 4]}, 'from 1 up'),
        ({'kernel_anxiety': [0, 'much']}, 'kernel_anxiety is'),
        ({'gt_size': None}, 'gt_size is None'),
        ({'dataroot_gt': 'gone'}, 'gone does not exist'),
    ],
)
def test_wrong_options_are_named(options, change, message):
    with pytest.raises(UserError, match=message):
        SyntheticBlurDataset({**options, **change})


def test_there_is_an_end(options):
    dataset = SyntheticBlurDataset({**options, 'samples_per_image': 2})
    assert len(list(dataset)) == 2
