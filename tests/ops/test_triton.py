"""The Triton backend: its kernels interpreted, compiled and on a GPU, and its requirements."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from deeprftv2_plugin.ops.backends import triton as backend
from tests.ops import triton_checks
from tests.ops.triton_checks import LARGE, SMALL, backward, draw, forward

ROOT = Path(__file__).parents[2]


def run_as_program(argument, **environment):
    pytest.importorskip('triton')
    done = subprocess.run(
        [sys.executable, triton_checks.__file__, argument],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path]), **environment},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope='module')
def interpreted():
    return run_as_program('interpret', TRITON_INTERPRET='1')


@pytest.mark.parametrize('name', SMALL)
def test_interpreted(name, interpreted):
    assert interpreted[name] is None, interpreted[name]


def test_kernels_compile_for_old_and_new_gpus(tmp_path):
    triton = pytest.importorskip('triton')
    if not list((Path(triton.__file__).parent / 'backends/nvidia/bin').glob('ptxas*')):
        pytest.skip('this build of triton has no assembler for NVIDIA GPUs')
    spilled = run_as_program('compile', TRITON_INTERPRET='0', TRITON_CACHE_DIR=str(tmp_path))
    assert len(spilled) == 3 * 11
    # Spilling a few numbers costs nothing. More mean that a program needs too many registers.
    assert max(spilled.values()) <= 64, spilled


@pytest.mark.gpu
@pytest.mark.parametrize('name', LARGE)
def test_on_a_gpu(name):
    function, arguments = LARGE[name]
    function('cuda', **arguments)


@pytest.mark.gpu
def test_captures_in_a_cuda_graph():
    u, delta, dy = draw(3, 2, 500, 96, device='cuda')
    B, C = draw(2, 2, 500, 8, device='cuda')
    A, (D, bias) = -draw(96, 8, device='cuda').abs(), draw(2, 96, device='cuda')
    inputs = (u, delta, A, B, C, D, bias)
    expected = forward('selective_scan', inputs, None), *backward('selective_scan', dy, inputs)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forward('selective_scan', inputs, None), *backward('selective_scan', dy, inputs)
    graph.replay()
    for ours, theirs in zip(captured, expected, strict=True):
        assert torch.equal(ours, theirs)  # bit for bit, since no sum depends on the order in which programs finish


@pytest.fixture
def why_not(monkeypatch):
    """Return the uncached function, on a machine that has a recent GPU unless a test changes that."""
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *device: (9, 0))
    return backend.why_not.__wrapped__


def test_triton_needs_the_package(why_not, monkeypatch):
    monkeypatch.setattr(backend, 'find_spec', lambda name: None)
    assert why_not() == 'the package triton is not installed'


def test_triton_needs_a_recent_version_of_the_package(why_not, monkeypatch):
    triton = pytest.importorskip('triton')
    monkeypatch.setattr(triton, '__version__', '3.1.0')
    assert why_not() == 'its kernels need triton 3.2 or newer, but 3.1.0 is installed'


def test_triton_needs_a_recent_gpu(why_not, monkeypatch):
    pytest.importorskip('triton')
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *device: (6, 1))
    assert why_not() == 'its kernels need a GPU of compute capability 7.0 or newer, but this one has 6.1'


def test_triton_needs_kernels_that_run(why_not, monkeypatch):
    pytest.importorskip('triton')

    def fail():
        raise RuntimeError('no C compiler\nwas found')

    monkeypatch.setattr(backend, '_try_a_kernel', fail)
    assert why_not() == 'its kernels do not run on this machine (RuntimeError: no C compiler)'


def test_triton_takes_tensors_by_device_and_type():
    with FakeTensorMode():
        assert backend.takes(torch.empty(2, device='cuda'))
        assert backend.takes(torch.empty(2, device='cuda', dtype=torch.float16))
        assert not backend.takes(torch.empty(2, device='cuda', dtype=torch.float64))
        assert not backend.takes(torch.empty(2))
