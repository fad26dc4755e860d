import numpy as np
import pytest

from deeprftv2_plugin.data.layouts.pairs import Pair
from deeprftv2_plugin.data.preparation.crops import CropGrid, encode_pair
from deeprftv2_plugin.data.storage.images import StoredImage


@pytest.mark.parametrize('shape', [(720, 1280), (512, 512), (513, 700), (100, 1280), (100, 90)])
@pytest.mark.parametrize('step', [100, 256, 512])
def test_windows_cover_the_image_at_multiples_of_the_step_or_the_border(shape, step):
    windows = CropGrid(512, step).windows(*shape)
    covered = np.zeros(shape, bool)
    for window in windows:
        covered[window] = True
        for part, length in zip(window, shape, strict=True):
            assert part.stop - part.start == min(512, length)
            assert part.start % step == 0 or part.stop == length
    assert covered.all() and len(set(map(str, windows))) == len(windows)


def test_windows_of_a_gopro_frame():
    lefts, tops = (0, 256, 512, 768), (0, 208)
    assert [(rows.start, columns.start) for rows, columns in CropGrid(512, 256).windows(720, 1280)] == [
        (top, left) for top in tops for left in lefts
    ]


def test_image_that_fits_into_a_window_keeps_its_bytes(tmp_path, write_image):
    for name in ('a.bmp', 'b.bmp'):
        write_image(name, (16, 12, 3))
    (encoded,) = encode_pair(
        Pair('a', *(StoredImage(str(tmp_path / name)) for name in ('a.bmp', 'b.bmp'))), CropGrid(16, 8)
    )
    assert encoded.entry == ('a_s001', '.bmp', (16, 12, 3))
    assert (encoded.lq, encoded.gt) == tuple((tmp_path / name).read_bytes() for name in ('a.bmp', 'b.bmp'))
