"""MixedDataset: the sample of each index, and the options of the parts."""

from collections import Counter
from fractions import Fraction

import pytest
import torch
from torch.utils.data import Dataset

import deeprftv2_plugin
from deeprftv2_plugin.data.datasets.mixed import MixedDataset, shares
from deeprftv2_plugin.utils.errors import UserError


class Numbers(Dataset):
    """A given number of samples, each filled with its index."""

    def __init__(self, opt):
        self.opt, self.length = opt, opt.get('length', 3)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        sample = {key: torch.full((3, 2, 2), index) for key in ('lq', 'gt')}
        return {**sample, 'lq_path': f'{index}', 'gt_path': f'{index}', 'kernel': 0, 'crop': self.opt.get('gt_size')}


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    deeprftv2_plugin.register()
    from basicsr.utils.registry import DATASET_REGISTRY

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, 'Numbers', Numbers)


def mixture(*parts, **others):
    options = {'name': 'Mix', 'phase': 'train', 'parts': [{'type': 'Numbers', **part} for part in parts]}
    return MixedDataset({**options, **others})


@pytest.mark.parametrize(
    ('parts', 'length'),
    [
        ([{}], 3),
        ([{}, {}], 6),
        ([{'length': 5}, {'length': 20}], 40),
        ([{'length': 5, 'weight': 1}, {'length': 20, 'weight': 4}], 25),
        ([{'length': 5, 'weight': 0.1}, {'length': 2, 'weight': 0.2}], 15),
        ([{'length': 7, 'weight': 3}, {'length': 7, 'weight': 2}, {'length': 4, 'weight': 1.5}], 23),
        ([{'length': 100, 'weight': 1e-3}, {'length': 1}], 100100),
    ],
)
def test_parts_have_their_share_and_include_every_sample(parts, length):
    mixed = mixture(*parts)
    assert len(mixed) == length
    places = Counter(map(mixed.locate, range(length)))
    weights = [part.get('weight', 1) for part in parts]
    for number, part in enumerate(parts):
        times = [places[number, index] for index in range(part.get('length', 3))]
        assert abs(sum(times) - length * weights[number] / sum(weights)) < 1
        assert min(times) >= 1 and max(times) - min(times) <= 1
    assert sum(places.values()) == length


def test_shares_of_fractional_weights_add_up():
    weights = [Fraction(text) for text in ('0.3', '0.7', '1.1', '1e-2')]
    counts = shares([11, 13, 17, 1], weights)
    length = sum(counts)
    assert all(abs(count - length * weight / sum(weights)) < 1 for count, weight in zip(counts, weights, strict=True))
    assert all(count >= size for count, size in zip(counts, [11, 13, 17, 1], strict=True))


def test_index_determines_the_sample():
    mixed = mixture({'length': 2}, {'length': 3})
    assert [mixed.locate(index) for index in range(6)] == [(0, 0), (0, 1), (0, 0), (1, 0), (1, 1), (1, 2)]
    assert [mixed[index]['lq_path'] for index in range(6)] == ['0', '1', '0', '0', '1', '2']
    for index in (-1, 6):
        with pytest.raises(IndexError, match=f'index {index} is out of range for 6 samples'):
            mixed[index]


def test_samples_have_only_common_keys():
    assert set(mixture({})[0]) == {'lq', 'gt', 'lq_path', 'gt_path'}


def test_parts_use_the_current_crop_of_the_mixture(monkeypatch):
    monkeypatch.setattr('deeprftv2_plugin.data.datasets.mixed.SAMPLE', ('crop',))
    mixed = mixture({}, {}, gt_size=8)
    assert [mixed[index]['crop'] for index in (0, 5)] == [8, 8]
    mixed.opt['gt_size'] = [4, 6]
    assert [mixed[index]['crop'] for index in (0, 5)] == [[4, 6], [4, 6]]


def test_parts_inherit_common_options_and_expand_the_home_folder(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    mixed = mixture({'dataroot_gt': '~/a', 'weight': 2}, {'name': 'Other', 'length': 1}, scale=1)
    assert [part.opt['name'] for part in mixed.parts] == ['Mix, part 0', 'Other']
    first = mixed.parts[0].opt
    assert (first['phase'], first['scale'], first['dataroot_gt']) == ('train', 1, '/home/me/a')
    assert 'weight' not in first and 'gt_size' not in first


def test_mixtures_can_be_nested():
    inner = {'type': 'MixedDataset', 'parts': [{'type': 'Numbers', 'length': 1}, {'type': 'Numbers', 'length': 1}]}
    mixed = mixture(inner, {'length': 4}, gt_size=8)
    mixed.opt['gt_size'] = 16
    assert len(mixed) == 8
    mixed[0]
    assert mixed.parts[0].parts[0].opt['gt_size'] == 16


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'parts': None}, 'dataset Mix: parts is None, expected a list of dataset options'),
        ({'parts': []}, r'parts is \[\], expected a list'),
        ({'parts': {'a': {'type': 'Numbers'}}}, 'parts is .*, expected a list'),
        ({'parts': ['Numbers']}, 'parts is .*, expected a list'),
        ({'parts': [{}]}, 'parts.0.type is None, which is unknown'),
        ({'parts': [{'type': 'PairedDeblurDatset'}]}, 'parts.0.type is .* Did you mean PairedDeblurDataset'),
        ({'parts': [{'type': 'Numbers', 'weight': 0}]}, 'parts.0.weight is 0, expected a number greater than 0'),
        ({'parts': [{'type': 'Numbers', 'weight': 'much'}]}, "parts.0.weight is 'much', expected"),
        ({'parts': [{'type': 'Numbers', 'weight': float('nan')}]}, 'parts.0.weight is nan, expected'),
        ({'parts': [{'type': 'Numbers'}, {'type': 'Numbers', 'length': 0}]}, 'parts.1 has no samples'),
        ({'parts': [{'type': 'Numbers', 'gt_size': 8}]}, 'parts.0.gt_size is set, but gt_size applies to all parts'),
        ({'parts': [{'type': 'PairedDeblurDataset'}]}, 'dataset Mix, part 0: dataroot'),
        ({'phase': 'val', 'parts': [{'type': 'Numbers'}]}, 'mixed datasets are for training only.*val_2'),
    ],
)
def test_errors_name_invalid_options(options, message):
    with pytest.raises(UserError, match=message):
        mixture(**options)


def test_samples_of_all_dataset_types_can_be_batched(tmp_path, write_image, write_lmdb):
    write_image('a/blur/1.png'), write_image('a/sharp/1.png')
    write_lmdb('lq.lmdb', ['a', 'b']), write_lmdb('gt.lmdb', ['a', 'b'])
    roots = {'dataroot_lq': f'{tmp_path}/lq.lmdb', 'dataroot_gt': f'{tmp_path}/gt.lmdb'}
    basicsr = {'type': 'PairedImageDataset', 'dataroot_lq': f'{tmp_path}/a/blur', 'dataroot_gt': f'{tmp_path}/a/sharp'}
    parts = [
        {'type': 'PairedDeblurDataset', 'dataroot': f'{tmp_path}/a'},
        {'type': 'PairedDeblurDataset', **roots},
        {'type': 'SyntheticBlurDataset', 'dataroot_gt': f'{tmp_path}/gt.lmdb', 'samples_per_image': 1},
        {**basicsr, 'io_backend': {'type': 'disk'}, 'use_hflip': True, 'use_rot': True},
    ]
    mixed = MixedDataset({'name': 'Mix', 'phase': 'train', 'scale': 1, 'gt_size': 8, 'parts': parts})
    assert len(mixed) == 8
    batch = torch.utils.data.default_collate([mixed[index] for index in range(8)])
    assert batch['lq'].shape == batch['gt'].shape == (8, 3, 8, 8)
