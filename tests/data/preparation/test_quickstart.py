import hashlib

import numpy as np
import pytest

from deeprftv2_plugin.data import PairedDeblurDataset
from deeprftv2_plugin.data.blur.camera import blur
from deeprftv2_plugin.data.preparation import quickstart
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.temporary import MARK


@pytest.fixture
def few(monkeypatch):
    """Make the dataset small: two photographs for training, one for testing."""
    monkeypatch.setattr(quickstart, 'TRAINING', ('coins.png', 'chelsea.png'))
    monkeypatch.setattr(quickstart, 'HELD_OUT', ('astronaut.png',))


def pairs(folder, split):
    roots = {'dataroot_lq': f'{folder}/{split}_blur.lmdb', 'dataroot_gt': f'{folder}/{split}_sharp.lmdb'}
    return PairedDeblurDataset({'phase': 'test', **roots})


def test_kernels_belong_to_the_pairs(few, tmp_path):
    folder = quickstart.prepare_photographs(tmp_path / 'a/quickstart', progress=False)
    assert folder == tmp_path / 'a/quickstart'
    assert [path.name for path in (tmp_path / 'a').iterdir()] == ['quickstart']
    for split, count in (('train', 48), ('test', 4)):
        kernels, samples = np.load(folder / f'{split}_kernels.npz'), pairs(folder, split)
        assert len(samples) == count
        assert sorted(kernels) == [sample['lq_path'] for sample in samples]

    sharp, blurry = (samples[1][key].mul(255).round().byte().permute(1, 2, 0).numpy() for key in ('gt', 'lq'))
    kernel = kernels['astronaut_01']
    noiseless = blur(sharp, kernel, np.random.default_rng(0), shot=0, read=0)
    margin = kernel.shape[0] // 2
    inner = slice(margin, -margin), slice(margin, -margin)
    assert distance(noiseless, blurry[inner]) < 2 < 0.5 * distance(sharp[inner], blurry[inner])


def distance(image, other):
    return np.abs(image.astype(float) - other).mean()


def test_dataset_depends_on_the_seed(few, tmp_path):
    def digest(name, seed):
        data = quickstart.prepare_photographs(tmp_path / name, seed, progress=False) / 'train_blur.lmdb/data.mdb'
        return hashlib.sha256(data.read_bytes()).hexdigest()

    assert digest('a', 0) == digest('b', 0) != digest('c', 1)


def test_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / 'mine').mkdir()
    with pytest.raises(UserError, match='mine exists and is not overwritten'):
        quickstart.prepare_photographs(tmp_path / 'mine')


def test_failure_leaves_nothing_behind(few, tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, 'blur_window', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        quickstart.prepare_photographs(tmp_path / 'a', progress=False)
    assert not list(tmp_path.iterdir())


def test_windows_have_detail(rng):
    night = np.zeros((60, 60, 3), np.uint8)
    night[:30, :30] = rng.integers(0, 256, (30, 30, 3))
    windows = [night[window] for window in quickstart.detailed_windows(night, rng, count=20, size=20)]
    assert {window.shape for window in windows} == {(20, 20, 3)}
    assert sum(window.any() for window in windows) > 15
    assert list(quickstart.detailed_windows(night, rng, count=1, size=100)) == [(slice(0, 60), slice(0, 60))]


def test_quarters_tile_the_image():
    image = np.zeros((8, 6, 3), np.uint8)
    for quarter in quickstart.quarters(image):
        image[quarter] += 1
    assert (image == 1).all()


@pytest.mark.posix
def test_the_folder_of_a_killed_run_is_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(quickstart, '_write_split', lambda folder, *_: (folder / 'file').touch())
    (tmp_path / f'.quickstart.{MARK}x').mkdir()
    (tmp_path / '.quickstart.mine').mkdir()
    quickstart.prepare_photographs(tmp_path / 'quickstart', progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.quickstart.mine', 'quickstart']
    assert [path.name for path in (tmp_path / 'quickstart').iterdir()] == ['file']


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'cannot write .*file/below: (File exists|Not a directory)\. Check the path'):
        quickstart.prepare_photographs(tmp_path / 'file/below', progress=False)
