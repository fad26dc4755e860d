"""The images with the worst scores."""

import math

import cv2
import numpy as np
import pytest

from deeprftv2_plugin.evaluation.validation import ImageScore
from deeprftv2_plugin.evaluation.worst_images import COUNT, WorstImages
from tests.evaluation.toys import METRICS, Frames, read, run


@pytest.mark.parametrize('first', METRICS)
def test_the_worst_images_are_saved(tmp_path, first):
    names = [f'{number:02d}' for number in range(12)]
    results = run(tmp_path, Frames(names), {name: METRICS[name] for name in sorted(METRICS, key=lambda n: n != first)})
    rows, summary = read(results)
    expected = sorted(rows, key=lambda row: float(row[first]) * (1 if first == 'psnr' else -1))[:COUNT]
    assert [each['name'] for each in summary['worst']] == [row['name'] for row in expected]
    assert sorted(path.name for path in (results / 'worst/frames').iterdir()) == [
        f'{rank:02d}_{float(row[first]):.4f}_{row["name"]}.png' for rank, row in enumerate(expected, 1)
    ]
    image = cv2.imread(str(next((results / 'worst/frames').glob('01_*'))), cv2.IMREAD_UNCHANGED)
    assert image.shape == (16, 3 * 16, 3)
    sharp = Frames(names)[int(expected[0]['name'])]['gt']
    np.testing.assert_array_equal(image[:, 32:, ::-1], np.rint(sharp.permute(1, 2, 0).numpy() * 255))


@pytest.mark.parametrize('processes', [1, 2, 5])
@pytest.mark.parametrize('better', ['higher', 'lower'])
def test_worst_images_do_not_depend_on_the_number_of_processes(tmp_path, processes, better):
    """The scores include NaN, which is the worst, and equal values, of which the first counts as worse."""
    values = [*np.random.default_rng(0).integers(0, 20, 50).astype(float), math.nan, math.inf]
    found = [ImageScore(f'a/{index}', 8, {'psnr': value}) for index, value in enumerate(values)]
    for rank in range(processes):
        share = WorstImages('psnr', better, count=4)
        for index in range(rank, len(found), processes):
            share.consider(index, found[index], [np.full((2, 2, 3), index, np.uint8)])
        share.write(tmp_path / 'worst', found)
    goodness = np.array(values) * (1 if better == 'higher' else -1)
    order = np.argsort(np.nan_to_num(goodness, nan=-np.inf, posinf=np.inf, neginf=-np.inf), kind='stable')
    expected = {f'{rank:02d}_{values[index]:.4f}_a_{index}.png': index for rank, index in enumerate(order[:4], 1)}
    saved = {path.name: cv2.imread(str(path))[0, 0, 0] for path in (tmp_path / 'worst').iterdir()}
    assert saved == expected


def test_number_of_held_images_is_bounded():
    kept = WorstImages('psnr', count=3)
    for index in range(20):
        kept.consider(index, ImageScore(str(index), 8, {'psnr': -index}), [np.zeros((2, 2, 3), np.uint8)])
        assert len(kept._held) == min(index + 1, 3)
