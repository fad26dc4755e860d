"""Two processes with half a batch each are equivalent to one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .distributed_worker import NETWORKS, run

ROOT = str(Path(__file__).parents[2])


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    file = tmp_path_factory.mktemp('distributed') / 'rank0.pth'
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    subprocess.run(
        [*torchrun, '-m', 'tests.models.distributed_worker', file],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': ROOT},
        check=True,
        timeout=600,
    )
    return torch.load(file, weights_only=True)


def vector(tensors):
    return torch.cat([tensor.double().flatten() for _, tensor in sorted(tensors.items())])


@pytest.mark.parametrize('network', NETWORKS)
def test_two_processes_match_one_with_the_whole_batch(two_processes, network):
    shared, whole = two_processes[network], run(*NETWORKS[network])
    assert vector(whole['gradients']).norm() == pytest.approx(0.1, rel=1e-4)  # clip_grad_norm
    for part in ('gradients', 'weights', 'average'):
        difference = vector(shared[part]) - vector(whole[part])
        assert difference.norm() <= 1e-5 * vector(whole[part]).norm(), part
    assert shared['log'] == pytest.approx(whole['log'], rel=1e-4)
    assert shared['rates'] == pytest.approx(whole['rates'])
    assert whole['rates'][-1] < whole['rates'][0]


@pytest.mark.parametrize('network', NETWORKS)
def test_gradients_are_views_of_the_communication_buffers(two_processes, network):
    """Gradients share few memory blocks and have the expected strides; otherwise DDP copies them or warns.

    DDP reallocates the buffers after the first step, so the worker checks for warnings in later steps as well.
    """
    shared = two_processes[network]
    assert shared['blocks'] <= 2 < len(shared['gradients'])
    assert shared['warnings'] == []
