"""The protocol of a test."""

import pytest
from torch.utils.data import DataLoader

from deeprftv2_plugin.evaluation import protocol
from tests.evaluation.toys import METRICS, NAMES, Frames, Greedy, make_test_model, read


@pytest.mark.parametrize(
    ('val', 'words'),
    [
        ({}, 'whole images, no tiles, no padding, no ensemble'),
        ({'tile': 512, 'overlap': 128}, 'whole images in tiles of 512x512 with overlap 128, no padding, no ensemble'),
        ({'tile': [256, 512]}, 'whole images in tiles of 256x512 with overlap 48, no padding, no ensemble'),
        (
            {'pad': [776, 680], 'ensemble': True},
            'whole images, no tiles, zero-padded to at least 776x680 pixels (height x width), '
            'mean over the eight flips and rotations',
        ),
    ],
)
def test_protocol_describes_the_restoration(val, words):
    described = protocol.describe({'val': val}, [], {8})
    assert described == {
        'metrics': {},
        'restoration': words,
        'rounding': 'clamped to [0, 1] and rounded to 8 bit',
    }


def test_protocol_defines_each_metric():
    metrics = {
        'psnr': {'type': 'aligned_psnr', 'better': 'higher'},
        'luma': {'type': 'psnr', 'better': 'higher', 'test_y_channel': True},
    }
    described = protocol.describe({'val': {'metrics': metrics}}, metrics, {8, 16})
    assert described['metrics']['psnr'].startswith('PSNR in dB after alignment')
    assert described['metrics']['luma'].endswith(', test_y_channel: True')
    assert described['alignment'] == 'aligned first: psnr'
    assert described['rounding'].endswith('8 and 16 bit')
    words = protocol.to_text(described)
    assert words.startswith('psnr: PSNR in dB after alignment') and words.endswith(
        '; '.join(list(described.values())[1:])
    )
    plain = protocol.describe({'val': {'metrics': METRICS}}, METRICS, {8})
    assert plain['alignment'] == 'results are not aligned'


def test_images_restored_in_smaller_tiles_are_named_in_log_and_protocol(tmp_path, log):
    model = make_test_model(tmp_path, overlap=16)
    for pixels, size in ((100 * 100, 160), (10**9, 24)):
        model.net_g = Greedy(pixels)
        model.validation(DataLoader(Frames(NAMES[:2], size=size)), 'test', None)
        restoration = read(tmp_path / 'results')[1]['protocol']['restoration']
        assert ('but 2 images in smaller tiles down to 80x80 for lack of memory' in restoration) == (size == 160)
    assert log.text.count('pixels (height x width) are restored in tiles of 80x80') == 2
    assert 'A_0002 of frames: 160x160 pixels (height x width) are restored in tiles of 80x80' in log.text
