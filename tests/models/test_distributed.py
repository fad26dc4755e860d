"""Two processes that share a batch do what one process does with the whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .distributed_worker import NETWORKS, run


@pytest.fixture(scope='module')
def of_two_processes(tmp_path_factory):
    file = tmp_path_factory.mktemp('distributed') / 'rank0.pth'
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    subprocess.run(
        [*torchrun, '-m', 'tests.models.distributed_worker', file],
        cwd=Path(__file__).parents[2],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        check=True,
        timeout=120,
    )
    return torch.load(file, weights_only=True)


def vector(tensors):
    return torch.cat([tensor.double().flatten() for _, tensor in sorted(tensors.items())])


@pytest.mark.parametrize('network', NETWORKS)
def test_two_processes_equal_one_with_the_joined_batch(of_two_processes, network):
    shared, whole = of_two_processes[network], run(*NETWORKS[network])
    assert vector(whole['gradients']).norm() == pytest.approx(0.1, rel=1e-4)  # what it was clipped to
    for part in ('gradients', 'weights', 'average'):
        difference = vector(shared[part]) - vector(whole[part])
        assert difference.norm() <= 1e-5 * vector(whole[part]).norm(), part
    assert shared['log'] == pytest.approx(whole['log'], rel=1e-4)
    assert shared['rates'] == pytest.approx(whole['rates'])
    assert whole['rates'][-1] < whole['rates'][0]


@pytest.mark.parametrize('network', NETWORKS)
def test_gradients_lie_in_memory_as_they_are_exchanged(of_two_processes, network):
    """In few pieces of memory and in the layout that is expected; DistributedDataParallel copies or warns otherwise.

    The pieces are allocated anew after the first step, so warnings can come in it and after it.
    """
    shared = of_two_processes[network]
    assert shared['pieces'] <= 2 < len(shared['gradients'])
    assert shared['warnings'] == []
