"""`basicsr compare`."""

import json

import cv2
import numpy as np
import pytest

from deeprftv2_plugin import cli
from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.checkpoints.files import write_checkpoint


def test_networks_are_measured_and_scored(tmp_path, capsys):
    pytest.importorskip('matplotlib')
    for name in ('blur', 'sharp'):
        (tmp_path / 'pairs' / name).mkdir(parents=True)
        image = np.full((24, 32, 3), 90 if name == 'blur' else 100, np.uint8)
        cv2.imwrite(str(tmp_path / 'pairs' / name / 'gray.png'), image)
    weights, output = tmp_path / 'net.pth', tmp_path / 'out'
    net = DeepRFTv2('T', width=8, kernel_width=8)
    write_checkpoint({'params': net.state_dict()}, weights)
    arguments = ['compare', str(weights), 'EDSR:depth=2', '--size', '16', '--data', str(tmp_path / 'pairs')]
    assert cli.main([*arguments, '--metrics', 'psnr', 'mae', '-o', str(output)]) == 1
    shown = capsys.readouterr()
    assert 'error: 1 of 2 networks failed: EDSR:depth=2' in shown.err
    assert 'EDSR does not take the settings' in shown.out
    first, second = json.loads((output / 'compare.json').read_text())['networks']
    assert first['parameters'] == sum(each.numel() for each in net.parameters())
    assert first['multiply_adds'] > 0 and first['fourier_multiply_adds'] > 0 and first['scan_multiply_adds'] > 0
    assert first['fits_budget'] and first['size'] == [16, 16] and not first['failed']
    assert first['evaluation_seconds'] > 0 and first['training_seconds'] > 0
    # the blocks of a new network add nothing, its heads little
    assert set(first['metrics']) == {'psnr', 'mae'} and 10 < first['metrics']['psnr'] < 60
    assert second['failed'] and 'parameters' not in second
    assert {path.name for path in output.glob('*.png')} == {'psnr_time.png', 'psnr_multiply_adds.png'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['T', '--size', '0'], '--size is 0'),
        (['T', '--metrics', 'psnr'], '--metrics needs --data'),
        (['T', '--data', 'anywhere'], 'all networks have random weights'),
        (['nothing'], 'there is no network'),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    assert cli.main(['compare', *arguments]) == 1
    assert message in capsys.readouterr().err
