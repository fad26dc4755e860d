"""Exported networks agree with the network, in a process without this package."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deeprftv2_plugin.archs import DeepRFTv2
from deeprftv2_plugin.inference import export, restore
from deeprftv2_plugin.utils.errors import UserError
from tests.archs.toys import network

LEVELS = [['NAF', 0], ['NAF', 0], ['NAFScan', 1]]
SMALLEST = {
    'width': 4,
    'kernel_width': 4,
    'stages': 1,
    'kernel_depths': [1, 0, 0, 0],
    'full_encoder': LEVELS,
    'full_decoder': [['NAF', 0]] * 3,
    'half_encoder': [['NAF', 0]] * 3,
    'half_decoder': [['NAF', 0]] * 3,
}
LOCAL_SCANS = [['LocalNAFScanWindow', 1], ['NAF', 0], ['NAF', 0]]
WINDOWS = {
    'kernel_window': (16, 16),
    'kernel_overlap': 4,
    'kernel_smoothing': True,
    'local_pool_crop': (16, 16),
    'scan_window': (16, 16),
    'full_decoder': LOCAL_SCANS,
}
RUN = """
import sys, numpy as np
path, folder = sys.argv[1:]
if path.endswith('.onnx'):
    import onnxruntime
    session = onnxruntime.InferenceSession(path)
    run = lambda x: session.run(None, {'blurry': x})[0]
else:
    import torch
    net = torch.export.load(path).module()
    run = lambda x: net(torch.from_numpy(x)).detach().numpy()
for name, x in np.load(f'{folder}/in.npz').items():
    np.save(f'{folder}/{name}.npy', run(x))
assert not [name for name in sys.modules if name.startswith('deeprftv2_plugin')]
"""


def smallest(**windows):
    """Return the smallest network, with windows."""
    return network(**{**SMALLEST, **windows}).eval().requires_grad_(False)


@pytest.fixture(scope='module')
def net():
    return smallest()


def run_elsewhere(path, images):
    """Return the results of an exported network in a process that cannot import this package."""
    folder = path.parent
    np.savez(folder / 'in.npz', **{f'out{i}': image for i, image in enumerate(images)})
    blocked = 'import sys; sys.modules["deeprftv2_plugin"] = None; del sys.modules["deeprftv2_plugin"]\n'
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    command = [sys.executable, '-I', '-W', 'ignore', '-c', blocked + RUN, str(path), str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    return [np.load(folder / f'out{i}.npy') for i in range(len(images))]


def assert_agrees(net, path, sizes):
    images = [torch.rand(1, 3, *size) for size in sizes]
    for image, found in zip(images, run_elsewhere(path, [each.numpy() for each in images]), strict=True):
        expected = restore(net, image).clamp(0, 1).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=export.TOLERANCE)
        assert np.abs(expected - image.numpy()).max() > 0.01  # the network does something


def test_a_program_for_any_size_has_any_number_of_windows(tmp_path):
    net = smallest(**WINDOWS)
    path = tmp_path / 'net.pt2'
    lines = export.export_network(net, path)
    assert str(path) in lines[0] and any('multiples of 8, at least 40x40' in line for line in lines)
    assert_agrees(net, path, [(40, 40), (56, 72), (64, 40)])
    found = {'metadata.json': ''}
    torch.export.load(path, extra_files=found)
    assert json.loads(found['metadata.json'])['size_multiple'] == '8'
    assert str(Path(export.__file__).parent).encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ('windows', 'expected'),
    [
        ({}, 16),
        ({'kernel_window': (16, 32)}, 48),
        ({'local_pool_crop': (16, 16), 'half_encoder': [['LocalNAF', 1]] * 3}, 40),  # averages over 24x24
        ({'local_pool_crop': (8, 8), 'scan_window': (16, 16), 'full_decoder': LOCAL_SCANS}, 32),
    ],
)
def test_the_smallest_image_is_larger_than_all_windows(windows, expected):
    assert export.least_size(smallest(**windows)) == expected


def test_a_program_for_a_fixed_size_pads_the_image(net, tmp_path):
    path = tmp_path / 'net.pt2'
    assert '21x30' in export.export_network(net, path, (21, 30))[0]
    assert_agrees(net, path, [(21, 30)])


def test_onnx_for_any_size_pads_the_image(net, tmp_path):
    for name in ('onnx', 'onnxruntime', 'onnxscript'):
        pytest.importorskip(name)
    path = tmp_path / 'net.onnx'
    export.export_network(net, path)
    assert_agrees(net, path, [(16, 16), (33, 47), (64, 40)])
    import onnxruntime

    known = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert known == export.describe(net, '.onnx')
    assert b'deeprftv2_plugin/' not in path.read_bytes()


def test_a_file_that_differs_is_not_accepted(net):
    class Other(torch.nn.Module):
        def forward(self, image):
            return image

    buffer = io.BytesIO()
    torch.export.save(torch.export.export(Other(), (torch.rand(1, 3, 24, 24),)), buffer)
    with pytest.raises(UserError, match='x.pt2: not written, since the exported network differs'):
        export.check_file(net, buffer.getvalue(), Path('x.pt2'), (24, 24))


@pytest.mark.parametrize(
    ('size', 'sizes'), [(None, 'any size; try a fixed size with --size HxW'), ((32, 32), 'this size')]
)
def test_an_error_of_an_exporter_is_reported(tmp_path, monkeypatch, size, sizes):
    def fail(*_):
        raise RuntimeError('cannot trace this\nand much more')

    monkeypatch.setattr(export, 'trace', fail)
    message = rf'net.pt2: the network cannot be exported for {sizes} \(.*cannot trace this\)$'
    with pytest.raises(UserError, match=message):
        export.export_network(DeepRFTv2('T', **SMALLEST).eval(), tmp_path / 'net.pt2', size)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_errors(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(UserError, match=r"onnx is not installed.*pip install 'deeprftv2-plugin\[export\]'"):
        export.check_target(Path('x.onnx'))
