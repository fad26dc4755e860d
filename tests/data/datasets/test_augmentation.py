import random
from collections import Counter

import numpy as np
import pytest

from deeprftv2_plugin.data.datasets.augmentation import FlipAndRotate, crop_size, pad_to, random_window
from deeprftv2_plugin.utils.errors import UserError


def test_crop_size_of_a_number_or_a_pair():
    assert crop_size(48) == (48, 48)
    assert crop_size([776, 680]) == (776, 680)


@pytest.mark.parametrize('wrong', [None, 0, -3, 4.5, '48', True, [48], [48, 0], [1, 2, 3]])
def test_invalid_crop_sizes_are_rejected(wrong):
    with pytest.raises(UserError, match='gt_size is'):
        crop_size(wrong)


def test_windows_are_uniformly_distributed(rng):
    starts = Counter(random_window((5, 9), (3, 9), rng)[0].start for _ in range(600))
    assert sorted(starts) == [0, 1, 2]
    assert min(starts.values()) > 150


def test_small_images_are_padded_to_the_crop_size(rng):
    image = rng.integers(1, 256, (5, 20, 3), np.uint8)
    cropped = image[random_window(image.shape, (8, 12))]
    assert cropped.shape == (5, 12, 3)
    padded = pad_to(cropped, (8, 12))
    assert padded.shape == (8, 12, 3)
    assert np.array_equal(padded[:5], cropped) and not padded[5:].any()


def orientations(shape, count, **options):
    image = np.arange(np.prod(shape)).reshape(*shape, 1)
    rng = random.Random(0)
    turned = [FlipAndRotate(shape[0] == shape[1], rng=rng, **options)(image) for _ in range(count)]
    return Counter((orientation.shape, orientation.tobytes()) for orientation in turned)


@pytest.mark.parametrize(
    ('shape', 'flip', 'rot', 'expected'),
    [
        ((3, 3), True, True, 8),
        ((3, 3), False, True, 4),
        ((3, 3), True, False, 2),
        ((3, 3), False, False, 1),
        ((2, 3), True, True, 4),
        ((2, 3), False, True, 2),
        ((2, 3), True, False, 2),
    ],
)
def test_all_orientations_are_equally_frequent(shape, flip, rot, expected):
    found = orientations(shape, 400 * expected, use_flip=flip, use_rot=rot)
    assert len(found) == expected
    assert all(orientation_shape[:2] == shape for orientation_shape, _ in found)
    assert min(found.values()) > 300


def test_augmentation_is_the_same_for_all_images(rng):
    image = rng.random((4, 4, 3))
    for _ in range(10):
        augment = FlipAndRotate(True, True, True)
        assert np.array_equal(augment(2 * image), 2 * augment(image))
