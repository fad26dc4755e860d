"""Tests with images that cannot be read, restored, scored or saved."""

import errno
import os

import cv2
import pytest
import torch
from basicsr.utils.registry import METRIC_REGISTRY
from torch.utils.data import DataLoader

from deeprftv2_plugin.utils.errors import UserError
from tests.evaluation.toys import NAMES, Frames, Greedy, make_test_model, read, run


def test_errors_of_metrics_name_the_image(tmp_path):
    with pytest.raises(UserError, match='A_0001 of frames: SSIM needs at least'):
        run(tmp_path, Frames(NAMES, size=8), {'ssim': {'type': 'ssim'}})


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


def test_image_that_does_not_fit_into_memory_is_named(tmp_path):
    model = make_test_model(tmp_path, overlap=16)
    model.net_g = Greedy(10)
    words = r'A_0001 of frames: 160x160 pixels .* in tiles of 80x80: CUDA out of memory. Tried to allocate 2.00 GiB\. '
    with pytest.raises(UserError, match=words):
        model.validation(DataLoader(Frames(NAMES[:1], size=160)), 'test', None)
