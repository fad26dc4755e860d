"""Initialize and destroy torch.distributed.

BasicSR's ``init_dist`` selects the GPU by ``rank % number of GPUs``, which is wrong on several nodes with different
numbers of GPUs, and always requests NCCL, which needs a GPU.
"""

import contextlib
import datetime
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed

from deeprftv2_plugin.utils.errors import UserError, first_line

TIMEOUT = datetime.timedelta(hours=1)
"""Timeout for communication. It is long because the processes may validate images of very different sizes."""


def init_dist(launcher: str, backend: str = 'nccl', port: int | None = None, use_gpu: bool = True) -> None:
    """Initialize torch.distributed in one of several processes.

    Args:
        launcher: 'pytorch' (torchrun sets the environment) or 'slurm' (srun, as in BasicSR).
        backend: Backend on GPUs. Without a GPU, gloo is used.
        port: Port of the first node if the launcher does not set one. BasicSR's default is 29500.
        use_gpu: Whether to use the GPUs of the machine.

    Raises:
        ValueError: The launcher is unknown.
        UserError: The launcher's environment variables are missing, or a node has more processes than GPUs.
    """
    if launcher == 'slurm':
        _set_environment_from_slurm(port)
    elif launcher != 'pytorch':
        raise ValueError(f'launcher: found {launcher!r}, expected pytorch or slurm')
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR') if name not in os.environ]
    if missing:
        raise UserError(
            f'--launcher {launcher}: {", ".join(missing)} not set in the environment. Start with '
            'torchrun --nproc_per_node=N -m deeprftv2_plugin train -opt FILE, or omit --launcher.'
        )
    os.environ.setdefault('MASTER_PORT', str(port or 29500))
    local_rank = int(os.environ.get('LOCAL_RANK', 0))
    count = torch.cuda.device_count() if use_gpu else 0
    if launcher == 'slurm' and count:
        local_rank %= count  # with srun, each process may see a single GPU
    if count == 0:
        distributed.init_process_group('gloo', timeout=TIMEOUT, **_store_of_attempt())
        return
    if local_rank >= count:
        raise UserError(
            f'process {local_rank} of this node has no GPU: {count} visible. Start at most {count} processes '
            'per node, or set num_gpu: 0 to train on the CPU.'
        )
    torch.cuda.set_device(local_rank)
    device = torch.device('cuda', local_rank)
    distributed.init_process_group(backend, timeout=TIMEOUT, device_id=device, **_store_of_attempt())


def end_processes() -> None:
    """Destroy the process group, if there is one."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def is_first_of_node() -> bool:
    """Return whether this is the first process of its node. Works before torch.distributed is initialized."""
    return os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) == '0'


@contextlib.contextmanager
def errors_reported_once() -> Iterator[None]:
    """Let only the first process of a node report an error that all of its processes raise in the block."""
    try:
        yield
    except Exception:
        if not is_first_of_node():
            time.sleep(60)  # the first process exits with the message, and the launcher stops this one
        raise


def in_first_process(action: Callable[[], Any], opt: dict) -> Any:
    """Call a function in the first process only, and return its value there.

    Raises:
        UserError: The function raises a UserError in the first process. Raised in all processes.
    """
    value, problem = None, None
    if opt['rank'] == 0:
        try:
            value = action()
        except UserError as error:
            problem = str(error)
    problem = from_first_process(problem, opt)
    if problem is not None:
        raise UserError(problem)
    return value


def any_process(value: bool, opt: dict) -> bool:
    """Return whether the value is true in any process."""
    if not opt['dist']:
        return value
    values: list[Any] = [None] * opt['world_size']
    distributed.all_gather_object(values, value)
    return any(values)


def from_first_process(value: Any, opt: dict) -> Any:
    """Return the first process's value in all processes."""
    box = [value]
    if opt['dist']:
        distributed.broadcast_object_list(box)
    return box[0]


def this_process() -> str:
    """Return the rank and the host of this process, for messages."""
    return f'process {os.environ.get("RANK", "0")} on {platform.node()}'


@contextlib.contextmanager
def lost_connections_explained() -> Iterator[None]:
    """Within the block, explain errors of communication.

    Raises:
        UserError: Another process has ended, or cannot be reached.
    """
    try:
        yield
    except Exception as error:
        if not is_lost_connection(error):
            raise
        raise UserError(
            f'{this_process()}: another process has ended, and its messages have the reason ({first_line(error)})'
        ) from error


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error means that another process has ended, or cannot be reached."""
    errors = getattr(distributed, 'DistError', ())  # absent from builds of PyTorch without torch.distributed
    return isinstance(error, errors) or (isinstance(error, RuntimeError) and 'gloo/' in str(error))


def _store_of_attempt() -> dict[str, Any]:
    """Return arguments for a store without the entries of earlier attempts after a restart by torchrun.

    torchrun keeps one store for all attempts, in which a process may find the address of a dead process. Each node
    counts its own attempts, so this works for one node only. On several nodes, set
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1: torchrun then creates a store per attempt.
    """
    attempt = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if attempt == '0' or os.environ.get('GROUP_WORLD_SIZE') != '1':
        return {}
    store, rank, size = next(distributed.rendezvous('env://', timeout=TIMEOUT))
    return {'store': distributed.PrefixStore(f'attempt {attempt}', store), 'rank': rank, 'world_size': size}


def _set_environment_from_slurm(port: int | None) -> None:
    """Set torchrun's environment variables from those of srun."""
    try:
        rank, size, nodes = (os.environ[name] for name in ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'))
    except KeyError as error:
        raise UserError(f'--launcher slurm: {error.args[0]} is not set in the environment. Start with srun.') from None
    if 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = _first_host(nodes)
    if port is not None:
        os.environ['MASTER_PORT'] = str(port)
    os.environ.update(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=os.environ.get('SLURM_LOCALID', rank))


def _first_host(nodes: str) -> str:
    """Return the first host of a list of SLURM, such as 'node[3-5]'."""
    command = ['scontrol', 'show', 'hostname', nodes]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()[0]
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, 'stderr', None) or str(error)
        raise UserError(
            f'--launcher slurm: {" ".join(command)} failed ({reason.strip()}). Set MASTER_ADDR to the first host'
        ) from error
