"""The benchmarks of Levin, Köhler and Lai: pairs with kernels and trajectories, and samples with them."""

import cv2
import numpy as np
import pytest
from scipy.io import savemat
from scipy.signal import convolve2d, correlate2d

from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
from deeprftv2_plugin.data.layouts.known import recognize
from deeprftv2_plugin.data.storage.images import StoredImage
from deeprftv2_plugin.utils.errors import UserError
from tests.data.archives import unpack


def levin(folder, names=('im05_flit01', 'im06_flit03'), size=(40, 48)):
    """Write files like Levin's: the blurry image is the correlation of the sharp one with the kernel."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        x, f = rng.random(size), rng.random((5, 7))
        f /= f.sum()
        savemat(folder / f'{name}.mat', {'x': x, 'y': correlate2d(x, f, 'same'), 'f': f})
    savemat(folder / 'sizeL.mat', {'sizeL': np.ones((1, 8))})
    return folder


def dataset(root, **options):
    return PairedDeblurDataset({'phase': 'test', 'name': 'set', 'dataroot': str(root), **options})


@pytest.mark.parametrize('names', [('im05_flit01', 'im06_flit03'), ('im01_ker01', 'im04_ker08')])
def test_levin(tmp_path, names):
    found = recognize(levin(tmp_path / 'set', names))
    assert (found.layout, found.splits, found.default_split('test')) == ('Levin', ('all',), 'all')
    assert [pair.name for pair in found.pairs('all')] == list(names)


def test_samples_of_levin_have_the_kernel_of_a_convolution(tmp_path):
    sample = dataset(levin(tmp_path))[0]
    blurry, sharp = (sample[key].numpy() for key in ('lq', 'gt'))
    assert sample['depth'] == 16 and sharp.shape == (3, 40, 48) and (sharp == sharp[:1]).all()
    kernel = sample['kernel'].numpy()
    assert kernel.sum() == pytest.approx(1)
    made = convolve2d(sharp[0], kernel, 'same')  # by whole pixels, the kernel may be centered differently
    errors = {
        (row, column): np.abs(np.roll(made, (row, column), (0, 1)) - blurry[0])[8:-8, 8:-8].max()
        for row in (-1, 0, 1)
        for column in (-1, 0, 1)
    }
    assert min(errors.values()) < 1e-4 and sorted(errors.values())[1] > 0.05


def test_training_samples_are_crops_without_the_kernel(tmp_path):
    training = PairedDeblurDataset({'phase': 'train', 'dataroot': str(levin(tmp_path)), 'split': 'all', 'gt_size': 16})
    assert training[0].keys() == {'lq', 'gt', 'lq_path', 'gt_path'}


def test_variables_of_matlab_files_are_images_of_16_bit(tmp_path):
    values = np.linspace(0, 1, 30).reshape(5, 6)
    savemat(tmp_path / 'a.mat', {'x': values, 'big': 2 * values, 'cube': np.zeros((2, 2, 2)), 'n': np.arange(3)})
    image = StoredImage(str(tmp_path / 'a.mat'), variable='x')
    assert image.read().dtype == np.uint16 and str(image) == f'x in {tmp_path}/a.mat'
    np.testing.assert_array_equal(image.read()[..., 2], np.rint(values * 65535))
    assert cv2.imdecode(np.frombuffer(image.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED).shape == (5, 6)
    for variable, reason in (
        ('big', 'values from 0 to 2, expected 0 to 1'),
        ('cube', r'shape \(2, 2, 2\)'),
        ('n', 'int64'),
        ('y', 'has no variable y. It has x, big, cube, n'),
    ):
        with pytest.raises(UserError, match=reason):
            image._replace(variable=variable).read()


def test_samples_of_kohler_have_the_trajectory(tmp_path):
    sample = dataset(unpack('Koehler', tmp_path))[0]
    folder = tmp_path / 'Image2/Kernel1'
    assert sample['lq_path'] == 'Blurry2_01' and 'kernel' not in sample
    assert sample['trajectory'] == [str(folder / f'GroundTruth2_1_{number}.png') for number in (1, 2, 10)]


def test_archives_of_kohler_may_be_unpacked_into_separate_folders(tmp_path):
    inner = unpack('Koehler', tmp_path / 'set')
    (inner / 'BlurryImages').mkdir()
    for path in inner.glob('Blurry2*'):
        path.rename(inner / 'BlurryImages' / path.name)
    (inner / 'GroundTruth_pngs_Image2').mkdir()
    (inner / 'Image2').rename(inner / 'GroundTruth_pngs_Image2/Image2')
    pairs = recognize(inner).pairs('all')
    assert [pair.name for pair in pairs] == ['Blurry2_01', 'Blurry2_12'] and len(pairs[1].trajectory) == 3


def test_kohler_without_sharp_images_is_an_error(tmp_path):
    unpack('Koehler', tmp_path)
    for path in (tmp_path / 'Image2/Kernel12').iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r'Blurry2_12\.png has no sharp images.*GroundTruth_pngs_Image2\.zip'):
        recognize(tmp_path).pairs('all')


def test_samples_of_lai(tmp_path):
    root = unpack('Lai', tmp_path)
    kernel = np.zeros((9, 9), np.uint8)
    kernel[2:5, 4] = 40, 80, 40
    assert cv2.imwrite(str(root / 'synthetic_dataset/kernel/kernel_01.png'), kernel)
    assert recognize(root).splits == ('uniform', 'nonuniform', 'real')
    sample = dataset(root, split='uniform')[0]
    np.testing.assert_array_equal(sample['kernel'], [[0, 0.25, 0], [0, 0.5, 0], [0, 0.25, 0]])
    assert 'kernel' not in dataset(root, split='nonuniform')[0]
    assert dataset(root, split='real')[0].keys() == {'lq', 'lq_path'}
    with pytest.raises(UserError, match=r"has no split 'test'\. It has uniform, nonuniform, real"):
        dataset(root)


def test_lai_without_a_sharp_image_is_an_error(tmp_path):
    (unpack('Lai', tmp_path) / 'synthetic_dataset/ground_truth/text_01.png').unlink()
    with pytest.raises(UserError, match='text_01_kernel_01.png has no sharp image text_01'):
        recognize(tmp_path).pairs('uniform')
