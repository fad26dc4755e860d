"""Missing data, and packages for logging."""

import os

import numpy as np
import pytest

from deeprftv2_plugin.data.storage.lmdb_writer import LmdbWriter
from deeprftv2_plugin.preflight import files
from tests.preflight.findings import errors, warnings


def missing(opt, **datasets):
    opt['datasets'] = datasets
    found = errors(list(files.check_roots(opt)))
    return found[0] if found else ''


def test_missing_dataset_is_reported_on_one_screen_with_download_hints(opt):
    roots = {'dataroot_lq': 'datasets/GoPro/train/*/blur', 'dataroot_gt': 'datasets/GoPro/train/*/sharp'}
    message = missing(opt, train={'name': 'x', **roots}, val={'name': 'y', 'dataroot_lq': 'other'})
    assert all(root in message for root in (*roots.values(), 'other'))
    assert 'datasets.train.dataroot_gt' in message
    assert 'https://' in message
    assert 'datasets/GoPro/test/GOPR0384_11_00/sharp' in message
    assert '--force_yml datasets:train:dataroot_lq=' in message
    assert len(message.splitlines()) < 24
    assert max(map(len, message.splitlines())) < 120


def test_a_folder_that_cannot_be_accessed_is_not_reported_as_missing(folder, opt):
    """Such as a folder without permission. Another download would not help."""
    (folder / 'loop').symlink_to('loop')
    message = missing(opt, val={'name': 'y', 'dataroot_lq': 'loop/GoPro'})
    assert (
        message
        == 'datasets.val.dataroot_lq is loop/GoPro, which cannot be accessed (Too many levels of symbolic links)'
    )


def test_own_dataset_is_reported_without_download_hints(opt):
    message = missing(opt, val={'name': 'y', 'meta_info_file': 'list.txt'})
    assert 'list.txt' in message
    assert 'GoPro' not in message


def test_folders_patterns_and_absent_roots_are_accepted(folder, opt):
    (folder / 'a/b/blur').mkdir(parents=True)
    val = {'name': 'x', 'dataroot_lq': 'a/*/blur', 'dataroot_gt': None}
    assert missing(opt, val=val, val_2={'name': 'y', 'dataroot': 'a'}) == ''


def test_missing_parts_of_a_mixture_are_reported(folder, opt):
    (folder / 'there').mkdir()
    inner = {'type': 'MixedDataset', 'parts': [{'dataroot_gt': 'gone'}]}
    message = missing(opt, train={'name': 'x', 'parts': [{'dataroot': 'there'}, {'dataroot': 'lost'}, inner]})
    assert 'datasets.train.parts.1.dataroot ' in message and 'lost' in message
    assert 'datasets.train.parts.2.parts.0.dataroot_gt  gone' in message
    assert 'there\n' not in message


def logging(opt, monkeypatch, installed, **settings):
    monkeypatch.setattr(files, 'find_spec', lambda name: name if name in installed else None)
    opt['logger'].update(settings)
    return list(files.check_logging(opt))


@pytest.mark.parametrize(
    ('settings', 'package'),
    [({'use_tb_logger': True}, 'tensorboard'), ({'use_tb_logger': True, 'wandb': {'project': 'x'}}, 'wandb')],
)
def test_missing_package_is_reported_with_the_command_to_install_it(opt, monkeypatch, settings, package):
    installed = {'tensorboard', 'wandb'}
    assert not errors(logging(opt, monkeypatch, installed, **settings))
    (text,) = errors(logging(opt, monkeypatch, installed - {package}, **settings))
    assert f'pip install {package}' in text


def test_wandb_needs_tensorboard(opt, monkeypatch):
    (text,) = errors(logging(opt, monkeypatch, {'wandb'}, wandb={'project': 'x'}))
    assert 'logger.use_tb_logger: true' in text


def test_packages_that_are_not_used_may_be_missing(opt, monkeypatch):
    assert not logging(opt, monkeypatch, set(), wandb={'project': None})
    opt['name'] = 'debug_small'
    assert not logging(opt, monkeypatch, set(), use_tb_logger=True)


@pytest.mark.parametrize('kind', ['PairedImageDataset', 'PairedDeblurDataset'])
def test_sharp_images_as_blurry_ones_are_reported(folder, opt, kind):
    (folder / 'same').symlink_to('lq')
    opt['datasets']['train'].update(type=kind, dataroot_gt='same')
    opt['datasets']['val'].update(type=kind, dataroot_gt='./lq')
    found = list(files.check_sources(opt))
    assert 'noise (train): dataroot_lq and dataroot_gt are both lq' in errors(found)[0]
    assert 'more-noise (val): dataroot_lq and dataroot_gt are both lq' in warnings(found)[0]
    opt['datasets']['train'] = {'name': 'mix', 'parts': [opt['datasets']['train']]}
    assert 'mix (train)' in errors(list(files.check_sources(opt)))[0]


def test_pairs_in_one_folder_with_a_template_are_ok(opt):
    opt['datasets']['train'].update(dataroot_gt='lq', filename_tmpl='{}_blurry')
    del opt['datasets']['val']['dataroot_gt']
    assert list(files.check_sources(opt)) == []


@pytest.mark.parametrize('type', ['PairedImageDataset', 'PairedDeblurDataset'])
def test_incomplete_database_is_reported_before_a_dataset_reads_it(folder, opt, type):
    with LmdbWriter(folder / 'a.lmdb') as writer:
        writer.add('a', np.zeros((99, 99, 3), np.uint8))
    assert missing(opt, train={'name': 'x', 'type': type, 'dataroot_lq': 'a.lmdb'}) == ''
    os.truncate(folder / 'a.lmdb/data.mdb', 9000)
    message = missing(opt, train={'name': 'x', 'type': type, 'dataroot_lq': 'a.lmdb'})
    assert message.startswith('a.lmdb/data.mdb has 9000 of ')


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes on this system')
@pytest.mark.parametrize('place', ['list.txt', 'a.lmdb/meta_info.txt', 'a.lmdb/data.mdb'])
def test_lists_and_databases_that_are_pipes_are_reported(folder, opt, place):
    with LmdbWriter(folder / 'a.lmdb') as writer:
        writer.add('a', np.zeros((99, 99, 3), np.uint8))
    (folder / place).unlink(missing_ok=True)
    os.mkfifo(folder / place)
    settings = {'name': 'x', 'type': 'RealESRGANDataset', 'dataroot_gt': 'a.lmdb', 'meta_info': 'list.txt'}
    (folder / 'list.txt').exists() or (folder / 'list.txt').write_text('0.png')
    assert missing(opt, train=settings) == f'{place} is a named pipe, expected a regular file'


def test_list_in_another_encoding_is_reported(folder, opt):
    (folder / 'list.txt').write_text('0.png', 'utf-16')
    settings = {'name': 'x', 'type': 'PairedImageDataset', 'dataroot_lq': 'lq', 'meta_info_file': 'list.txt'}
    assert missing(opt, train=settings).startswith('the list of images list.txt is encoded in UTF-16')
