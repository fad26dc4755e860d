import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deeprftv2_plugin.data import SyntheticBlurDataset
from deeprftv2_plugin.data.storage.photographs import HELD_OUT, TRAINING
from deeprftv2_plugin.utils.errors import UserError


@pytest.fixture
def options(tmp_path, write_image):
    """Options of a dataset with one smooth 40x50 image."""
    image = cv2.GaussianBlur(np.ascontiguousarray(write_image('sharp/a.png', (40, 50, 3))), (0, 0), 2)
    cv2.imwrite(str(tmp_path / 'sharp/a.png'), image)
    blurs = [{'type': 'CameraShake', 'length': [4, 8]}]
    return {'phase': 'train', 'dataroot_gt': f'{tmp_path}/sharp', 'gt_size': 16, 'blurs': blurs}


def equal(sample, other):
    return all(torch.equal(sample[key], other[key]) for key in ('lq', 'gt', 'kernel'))


def test_sample_has_a_blurry_crop_and_its_kernel(options, tmp_path):
    dataset = SyntheticBlurDataset(options)
    sample = dataset[3]
    assert len(dataset) == 100
    assert sample['lq'].shape == sample['gt'].shape == (3, 16, 16)
    assert sample['kernel'].shape == (1, 9, 9) and sample['kernel'].sum() == pytest.approx(1)
    assert (sample['lq_path'], sample['gt_path']) == ('a_003.png', f'{tmp_path}/sharp/a.png')
    assert 0 < (sample['lq'] - sample['gt']).abs().mean() < 0.1


KINDS = [
    {'type': 'CameraShake', 'length': [4, 8]},
    {'type': 'CameraShake', 'length': [4, 8], 'roll': [5, 10]},
    {'type': 'Motion', 'length': [4, 8]},
    {'type': 'Defocus', 'radius': [2, 4]},
    {'type': 'Gaussian'},
]
NOISELESS = {'shot_noise': [0, 0], 'read_noise': [0, 0]}


@pytest.mark.parametrize('kind', KINDS)
def test_kernel_reproduces_the_blur(kind, options):
    noiseless = {**NOISELESS, 'saturation': [1, 2]}
    sample = SyntheticBlurDataset({**options, 'phase': 'test', 'blurs': [kind], **noiseless})[0]
    linear = ((sample['gt'] + 0.055) / 1.055) ** 2.4
    weight = sample['kernel'].flip(1, 2)[None].repeat(3, 1, 1, 1)
    blurry = 1.055 * torch.conv2d(linear, weight, groups=3) ** (1 / 2.4) - 0.055
    margin = weight.shape[-1] // 2
    assert sample['lq'].shape == (3, 40, 50)
    inner = sample['lq'][:, margin:-margin, margin:-margin]
    if 'roll' in kind:  # the kernel is the one at the center
        center = (slice(None), inner.shape[1] // 2, inner.shape[2] // 2)
        inner, blurry = inner[center], blurry[center]
    torch.testing.assert_close(inner, blurry, atol=0.004, rtol=0)


def test_kernels_of_a_mixture_can_be_batched(options):
    dataset = SyntheticBlurDataset({**options, 'blurs': KINDS, 'samples_per_image': 12})
    (batch,) = DataLoader(dataset, batch_size=12)
    assert batch['kernel'].shape == (12, 1, 19, 19)
    torch.testing.assert_close(batch['kernel'].sum(dim=(1, 2, 3)), torch.ones(12))
    assert batch['lq'].shape == batch['gt'].shape == (12, 3, 16, 16)


def test_kernels_from_files(options, tmp_path):
    np.save(tmp_path / 'shift.npy', [[0, 0, 0.5], [0, 0, 0], [0.5, 0, 0]])
    sample = SyntheticBlurDataset({**options, 'blurs': [{'type': 'KernelFiles', 'path': f'{tmp_path}/shift.npy'}]})[0]
    assert sample['kernel'].tolist() == [[[0, 0, 0.5], [0, 0, 0], [0.5, 0, 0]]]


def test_16_bit_images_keep_their_depth(options, tmp_path, write_image):
    image = write_image('deep/a.png', (20, 30, 3), np.uint16)
    sample = SyntheticBlurDataset({**options, 'dataroot_gt': f'{tmp_path}/deep', 'phase': 'test'})[0]
    expected = torch.from_numpy(image.astype(np.float32) / 65535).permute(2, 0, 1)
    assert torch.equal(sample['gt'], expected)
    levels = sample['lq'].double() * 65535
    torch.testing.assert_close(levels, levels.round(), atol=0.01, rtol=0)
    assert (levels.round() % 257 != 0).any()


def test_highlights_are_overexposed(options, tmp_path):
    night = np.full((40, 50, 3), 20, np.uint8)
    night[20, 10:40:10] = 255
    cv2.imwrite(str(tmp_path / 'sharp/a.png'), night)
    noiseless = {**options, 'phase': 'test', 'read_noise': [0, 0], 'blurs': [{'type': 'Defocus', 'radius': [1.5, 1.5]}]}
    dim, bright = (SyntheticBlurDataset({**noiseless, 'saturation': [gain, gain]})[0] for gain in (1, 20))
    assert dim['lq'].max() < 0.7
    assert bright['lq'].max() == 1
    assert torch.equal(bright['gt'], dim['gt'])


@pytest.mark.parametrize('absent', [{}, {'gt_size': None, 'samples_per_image': None}])
def test_crop_size_can_change_between_samples(options, absent):
    late = {key: value for key, value in options.items() if key != 'gt_size'}
    dataset = SyntheticBlurDataset({**late, **absent})
    with pytest.raises(UserError, match='gt_size is None'):
        dataset[0]
    for size in (16, 24):
        dataset.opt['gt_size'] = size
        assert dataset[0]['lq'].shape == (3, size, size)
        assert equal(dataset[0], SyntheticBlurDataset({**options, 'gt_size': size})[0])


def test_samples_depend_only_on_seed_and_index(options):
    ranges = {'saturation': [1, 3], 'shot_noise': [0, 1e-3], 'read_noise': [0, 1e-2], 'jpeg_quality': [60, 98]}
    options |= {'blurs': KINDS, 'jpeg_share': 0.5, **ranges}
    dataset, same = SyntheticBlurDataset(options), SyntheticBlurDataset(options)
    assert equal(dataset[5], same[5])
    assert not equal(dataset[5], dataset[6])
    assert not equal(dataset[5], SyntheticBlurDataset({**options, 'seed': 1})[5])
    loader = DataLoader(dataset, num_workers=2, batch_size=1)
    for index, batch in zip(range(4), loader, strict=False):
        assert torch.equal(batch['lq'][0], dataset[index]['lq'])


def test_rectangular_crop_of_a_small_image(options):
    sample = SyntheticBlurDataset({**options, 'gt_size': [48, 24]})[0]
    assert sample['lq'].shape == (3, 48, 24)
    assert sample['gt'][:, :40].all() and not sample['gt'][:, 40:].any() and not sample['lq'][:, 40:].any()


def test_default_photographs_are_split_for_training_and_test():
    train = SyntheticBlurDataset({'phase': 'train', 'gt_size': 8})
    test = SyntheticBlurDataset({'phase': 'test'})
    assert [name for name, _ in train.images] == list(TRAINING)
    assert [name for name, _ in test.images] == list(HELD_OUT)
    assert len(test) == len(HELD_OUT)
    assert train[0]['lq'].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'blurs': [{'type': 'CameraShake', 'length': 9}]}, r'blurs\[0\]: CameraShake .*length is 9, expected'),
        ({'saturation': [0.5, 2]}, 'saturation is .* at least 1'),
        ({'saturation': 2}, 'saturation is 2'),
        ({'shot_noise': [-1, 0]}, r'shot_noise is .* from 0 to 1'),
        ({'read_noise': 5e-4}, 'read_noise is 0.0005'),
        ({'jpeg_quality': [60, 101]}, r'jpeg_quality is .* from 1 to 100'),
        ({'jpeg_share': 2}, 'jpeg_share is 2'),
        ({'gt_size': 0}, 'gt_size is 0'),
        ({'dataroot_gt': 'gone'}, 'gone does not exist'),
    ],
)
def test_errors_name_invalid_options(options, change, message):
    with pytest.raises(UserError, match=message):
        SyntheticBlurDataset({**options, **change})


def test_iteration_ends(options):
    dataset = SyntheticBlurDataset({**options, 'samples_per_image': 2})
    assert len(list(dataset)) == 2


STILL = {'blurs': [{'type': 'Motion', 'length': [0, 0]}], **NOISELESS}


def test_length_zero_without_noise_is_the_sharp_image(options):
    sample = SyntheticBlurDataset({**options, **STILL})[0]
    assert torch.equal(sample['lq'], sample['gt'])


def test_noise_varies_between_samples(options):
    dataset = SyntheticBlurDataset({**options, **STILL, 'shot_noise': [0, 0.02]})
    deviations = [(sample['lq'] - sample['gt']).std() for sample in dataset]
    assert min(deviations) < 0.02 and max(deviations) > 0.04


def test_blurry_image_is_compressed_and_sharp_one_is_not(options):
    plain, coarse = ({**options, 'phase': 'test', **change} for change in ({}, {'jpeg_quality': [60, 60]}))
    before, after = (SyntheticBlurDataset(each)[0] for each in (plain, coarse))
    assert torch.equal(before['gt'], after['gt'])
    pixels = (before['lq'].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    _, code = cv2.imencode('.jpg', pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])
    assert np.array_equal((after['lq'].permute(1, 2, 0) * 255).round(), cv2.imdecode(code, 1)[..., ::-1])


def test_share_of_the_samples_is_compressed(options):
    dataset = SyntheticBlurDataset({**options, **STILL, 'jpeg_quality': [60, 98], 'jpeg_share': 0.7})
    compressed = sum(not torch.equal(sample['lq'], sample['gt']) for sample in dataset)
    assert compressed == pytest.approx(70, abs=12)
