import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deeprftv2_plugin.basicsr_bridge import patches
from deeprftv2_plugin.data import PairedDeblurDataset
from deeprftv2_plugin.utils.errors import UserError
from tests.data.archives import unpack


@pytest.fixture
def options(tmp_path):
    """Return a function that returns the options of a dataset in tmp_path."""

    def options(phase, lq='lq', gt='gt', **others):
        roots = {'dataroot_lq': f'{tmp_path}/{lq}', 'dataroot_gt': gt and f'{tmp_path}/{gt}'}
        return {'name': 'Toy', 'phase': phase, **roots, **others}

    return options


def pixels(tensor):
    return np.rint(tensor.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize('phase', ['val', 'test'])
def test_validation_uses_whole_images(options, write_image, tmp_path, phase):
    lq, gt = write_image('lq/s/1.png'), write_image('gt/s/1.png')
    sample = PairedDeblurDataset(options(phase))[0]
    assert sample['lq'].dtype == torch.float32 and sample['lq'].shape == (3, 20, 24)
    assert np.array_equal(pixels(sample['lq']), lq) and np.array_equal(pixels(sample['gt']), gt)
    assert (sample['lq_path'], sample['gt_path']) == ('s_1.png', f'{tmp_path}/gt/s/1.png')


def test_sharp_images_are_optional_outside_training(options, write_image):
    write_image('lq/1.png')
    assert sorted(PairedDeblurDataset(options('test', gt=None))[0]) == ['lq', 'lq_path']
    with pytest.raises(UserError, match='dataset Toy: dataroot_gt'):
        PairedDeblurDataset(options('train', gt=None, gt_size=8))


@pytest.mark.parametrize('gt_size', [8, [12, 16], [32, 10], 40])
def test_training_crops_both_images_in_the_same_way(options, write_image, gt_size):
    image = write_image('lq/1.png')
    dataset = PairedDeblurDataset(options('train', gt='lq', gt_size=gt_size))
    height, width = (gt_size, gt_size) if isinstance(gt_size, int) else gt_size
    for _ in range(8):
        sample = dataset[0]
        assert sample['lq'].shape == (3, height, width)
        assert torch.equal(sample['lq'], sample['gt'])
    plain = PairedDeblurDataset(options('train', gt='lq', gt_size=[32, 24], use_flip=False, use_rot=False))[0]
    assert np.array_equal(pixels(plain['lq'])[:20], image) and not plain['gt'][:, 20:].any()


def test_crop_size_can_change_between_samples(options, write_image):
    write_image('lq/1.png')
    dataset = PairedDeblurDataset(options('train', gt='lq'))
    for size in (8, [4, 12]):
        dataset.opt['gt_size'] = size
        assert dataset[0]['gt'].shape == (3, *([size, size] if isinstance(size, int) else size))
    del dataset.opt['gt_size']
    with pytest.raises(UserError, match='gt_size is None'):
        dataset[0]
    with pytest.raises(UserError, match='gt_size is 0'):
        PairedDeblurDataset(options('train', gt='lq', gt_size=0))


def test_unpacked_dataset(tmp_path):
    root = str(unpack('GOPRO_Large', tmp_path / 'GOPRO_Large').parent)
    opt = {'name': 'Toy', 'dataroot': root}
    train, test = (PairedDeblurDataset({**opt, 'phase': phase, 'gt_size': 8}) for phase in ('train', 'test'))
    assert (len(train), len(test)) == (4, 2)
    assert test[1]['lq_path'] == 'GOPR0384_11_00_000048'
    assert test[1]['gt_path'] == f'{root}/GOPRO_Large/test/GOPR0384_11_00/sharp/000048.png'
    assert len(PairedDeblurDataset({**opt, 'phase': 'val', 'split': 'train'})) == 4
    with pytest.raises(UserError, match="GoPro, has no split 'val'. It has train, test"):
        PairedDeblurDataset({**opt, 'phase': 'val'})


def test_every_phase_uses_all_of_an_undivided_dataset(tmp_path, write_image):
    write_image('mine/blur/1.png'), write_image('mine/sharp/1.png')
    opt = {'name': 'Toy', 'dataroot': str(tmp_path / 'mine')}
    assert [len(PairedDeblurDataset({**opt, 'phase': phase})) for phase in ('train', 'val', 'test')] == [1, 1, 1]


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({}, 'dataset Toy: dataroot and dataroot_lq are missing'),
        ({'dataroot': 'x', 'dataroot_lq': 'y'}, 'dataroot cannot be combined with dataroot_lq, .* Set either'),
        ({'dataroot': 'x', 'dataroot_gt': 'y'}, 'dataroot cannot be combined'),
        ({'dataroot': 'x', 'meta_info_file': 'y'}, 'dataroot cannot be combined'),
        ({'dataroot_lq': 'x', 'split': 'test'}, "split is 'test', which needs dataroot"),
    ],
)
def test_conflicting_roots_are_rejected(given, message):
    with pytest.raises(UserError, match=message):
        PairedDeblurDataset({'name': 'Toy', 'phase': 'test', **given})


def test_crops_depend_on_pythons_seed(options, write_image):
    write_image('lq/1.png')
    dataset = PairedDeblurDataset(options('train', gt='lq', gt_size=8))
    samples = []
    for seed in (1, 1, 2):
        random.seed(seed)
        samples.append(dataset[0]['lq'])
    assert torch.equal(samples[0], samples[1]) and not torch.equal(samples[0], samples[2])


def test_16_bit_images_keep_their_precision(options, write_image):
    image = write_image('lq/1.png', dtype=np.uint16)
    sample = PairedDeblurDataset(options('test', gt='lq'))[0]
    np.testing.assert_array_equal(sample['lq'], image.transpose(2, 0, 1).astype(np.float32) / 65535)


def test_error_names_images_of_different_size(options, write_image):
    write_image('lq/1.png', (20, 24, 3))
    write_image('gt/1.png', (20, 25, 3))
    with pytest.raises(UserError, match=r'lq/1\.png has 24x20 pixels, .*gt/1\.png has 25x20'):
        PairedDeblurDataset(options('val'))[0]


def test_error_names_a_truncated_image_in_workers_too(options, write_image, tmp_path):
    write_image('lq/1.png')
    path = tmp_path / 'lq/1.png'
    path.write_bytes(path.read_bytes()[:-20])
    dataset = PairedDeblurDataset(options('val', gt='lq'))
    for workers in (0, 1):
        with pytest.raises(UserError, match=r'the image .*lq/1\.png is damaged: the PNG ends after'):
            next(iter(DataLoader(dataset, num_workers=workers)))


@pytest.fixture
def database(options, write_lmdb):
    images = {name: write_lmdb(f'{name}.lmdb', ['b', 'a', 'c']) for name in ('blur', 'sharp')}
    return options('val', 'blur.lmdb', 'sharp.lmdb', scale=1, io_backend={'type': 'lmdb'}), images


def test_database_samples_match_basicsr(database):
    opt, images = database
    ours = [PairedDeblurDataset(opt)[index] for index in range(3)]
    patches.apply()
    from basicsr.data.paired_image_dataset import PairedImageDataset

    theirs = PairedImageDataset(opt)
    for index, key in enumerate('abc'):
        sample = theirs[index]
        assert ours[index]['lq_path'] == sample['lq_path'] == key
        assert torch.equal(ours[index]['lq'], sample['lq']) and torch.equal(ours[index]['gt'], sample['gt'])
        assert np.array_equal(pixels(ours[index]['lq']), images['blur'][key])
    for environment in theirs.file_client.client._client.values():
        environment.close()


def test_opened_dataset_can_be_pickled(database):
    dataset = PairedDeblurDataset(database[0])
    first = dataset[0]['lq']
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[0]['lq'], first)
    assert torch.equal(PairedDeblurDataset(database[0])[0]['lq'], first)


@pytest.mark.parametrize('start', [pytest.param('fork', marks=pytest.mark.posix), 'spawn'])
def test_opened_dataset_can_be_sent_to_workers(database, start):
    dataset = PairedDeblurDataset(database[0])
    expected = [dataset[index]['lq'] for index in range(3)]
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context=start)
    for batch, image in zip(loader, expected, strict=True):
        assert torch.equal(batch['lq'][0], image)
