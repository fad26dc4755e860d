"""The selective scan alone, forward and backward, of our backends and of others."""

import os

import torch
import torch.nn.functional as F

from benchmarks.counting import TRAINING, forced, scan_work
from benchmarks.measure import Memory, figures, size_of
from benchmarks.plan import Case, Setting, Skip
from deeprftv2_plugin.ops import backends, selective_scan

STATES = 8
GOAL = {'channels': 96, 'states': STATES, 'length': 16384}
LENGTHS = {'cpu': (1024, 4096, 16384), 'cuda': (1024, 4096, 16384, 65536, 131072)}
NETWORK = ((96, 33024), (192, 16384), (384, 4096))
"""Channels and lengths in DeepRFTv2-B at 256x256: the kernel columns at full scale, and the encoder's two levels."""
MEMORY_LENGTH = 65536  # so long that what an allocator keeps or rounds is little beside it
LOOP_LENGTH = 4096  # a loop in Python takes minutes for longer ones


def cases(setting: Setting) -> list[Case]:
    ours = our_backends(setting.device)
    found = []
    for channels, length in _shapes(setting):
        key = {'channels': channels, 'states': STATES, 'length': length}
        names = [*ours, 'mambapy', *(['sequential'] if length <= LOOP_LENGTH else [])]
        default = {name: key == GOAL or (setting.device == 'cuda' and name in ours) for name in names}
        found += [Case('scan', time, {'implementation': name} | key, default[name]) for name in names]
    length = 256 if setting.quick else MEMORY_LENGTH
    for index, name in enumerate(ours):
        key = {'implementation': name, 'channels': GOAL['channels'], 'states': STATES, 'length': length, 'memory': True}
        found.append(Case('scan', extra_memory, key, default=index == 0))
    return found


def our_backends(device: str) -> list[str]:
    """The usable backends with a scan that takes float32 on a device, in the order of preference."""
    probe = torch.zeros(1, device=device)
    usable = backends.usable(os.environ.get(backends.VARIABLE))
    return [
        module.__name__.rpartition('.')[2]
        for module in usable
        if hasattr(module, 'selective_scan') and module.takes(probe)
    ]


def time(setting: Setting, implementation: str, channels: int, states: int, length: int) -> dict:
    """Time of the scan and all its gradients for a batch of one."""
    flop, size = scan_work(1, channels, states, length)
    if implementation in backends.NAMES:
        run = _run(selective_scan, _arguments(setting.device, channels, states, length))
        with forced(implementation):
            found = figures(setting, run, [(TRAINING * flop, TRAINING * size)])
        return found | {'moved_bytes': 4 * length * (8 * channels + 6 * states)}
    scan, arguments = _other(implementation), _arguments(setting.device, channels, states, length)
    return figures(setting, _run(scan, arguments), [(TRAINING * flop, TRAINING * size)])


def extra_memory(
    setting: Setting, implementation: str, channels: int, states: int, length: int, memory: bool = True
) -> dict:
    """Memory that the scan, its result and all gradients take beside the inputs and the gradient that comes in."""
    with forced(implementation):
        _run(selective_scan, _arguments(setting.device, channels, states, 100))()  # libraries come into memory
        arguments = _arguments(setting.device, channels, states, length)
        run = _run(selective_scan, arguments)
        memory = Memory(setting.device)
        run()
    used = memory.used()
    if used['increase_bytes'] is None:
        raise Skip('the memory of a process before the scan is only known on Linux')
    ratio = used['increase_bytes'] / size_of(arguments)
    return used | {'extra_ratio': ratio, 'note': f'extra memory {ratio:.2f} times the inputs'}


def _shapes(setting):
    if setting.quick:
        return [(GOAL['channels'], 64)]
    return [*((GOAL['channels'], length) for length in LENGTHS[setting.device]), *NETWORK]


def _arguments(device, channels, states, length):
    def draw(*shape):
        return torch.randn(*shape, device=device)

    decay = -torch.arange(1.0, states + 1, device=device).repeat(channels, 1)
    sequences = [draw(1, length, channels), draw(1, length, channels), decay, *(draw(1, length, states) for _ in 'BC')]
    return [t.requires_grad_() for t in (*sequences, draw(channels), draw(channels) - 4)]


def _run(scan, arguments):
    weight = torch.randn_like(arguments[0])

    def run():
        y = scan(*arguments)
        return y, torch.autograd.grad(y, arguments, weight)

    return run


def _other(name):
    if name == 'sequential':
        return _sequential
    try:
        from mambapy.pscan import pscan
    except ImportError:
        raise Skip('mambapy is not installed: pip install mambapy') from None
    return lambda *arguments: _mambapy(pscan, *arguments)


def _mambapy(pscan, u, delta, A, B, C, D, delta_bias):
    """What mambapy's Mamba block does around its parallel scan, for sequences (1, length, channels)."""
    step = F.softplus(delta + delta_bias)[..., None]
    states = pscan(torch.exp(step * A), step * B.unsqueeze(2) * u[..., None])
    return (states @ C[..., None]).squeeze(3) + D * u


def _sequential(u, delta, A, B, C, D, delta_bias):
    """The recurrence as it is written in `ops.selective_scan`."""
    step = F.softplus(delta + delta_bias)
    decay, gain = torch.exp(step[..., None] * A), (step * u)[..., None] * B.unsqueeze(2)
    state, outputs = torch.zeros_like(gain[:, 0]), []
    for position in range(u.shape[1]):
        state = decay[:, position] * state + gain[:, position]
        outputs.append((state * C[:, position, None]).sum(-1))
    return torch.stack(outputs, 1) + D * u
