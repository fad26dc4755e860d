"""The figures of a network: size, operations, time and memory. Each phase runs in a new process."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deeprftv2_plugin.comparison.candidates import Candidate, known_networks
from deeprftv2_plugin.comparison.measurement import PeakMemory, time_of, training_step
from deeprftv2_plugin.comparison.operations import Operations, count_in_pass, count_operations
from deeprftv2_plugin.comparison.processes import in_new_process
from deeprftv2_plugin.inference.restoration import size_multiple

BUDGET = {'parameters': 5e6, 'multiply_adds': 200e9}
"""Limits of the AIM 2025 and NTIRE 2026 challenges on efficient deblurring, for images of `BUDGET_SIZE` (arXiv
2510.12788)."""
BUDGET_SIZE = (1200, 1920)
"""Height and width in pixels."""
PHASES = ('evaluation', 'training', 'test')
LONGEST = 60
"""Maximum number of characters of a network's name in a file name."""
SECONDS = 1
"""Minimum time for which an evaluation or a training step is repeated, in seconds. At least four runs are timed."""


@dataclass(frozen=True)
class Setting:
    """How networks are measured."""

    size: int
    """Height and width of the image in pixels."""
    device: str
    """'cpu' or 'cuda'."""
    batch: int = 1
    """Number of images in a training step."""


def compare(
    candidates: Sequence[Candidate], setting: Setting, test: Callable[[Candidate, str], dict] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a table row for each network, running each phase in a new process.

    If a phase fails, its figures are missing from the row, `remark` has the name of the phase and the reason, and
    `failed` is true.

    Args:
        candidates: The networks.
        setting: How they are measured.
        test: Picklable function that takes a network and a name for files, and returns scores. Not called for networks
            with random weights.
    """
    for number, candidate in enumerate(candidates, 1):
        row: dict[str, Any] = {'name': candidate.name, 'network': candidate.network, 'weights': candidate.weights}
        phases: list[tuple[Callable[..., dict], Any]] = [(evaluation, setting), (training, setting)]
        if test is not None and candidate.weights is not None:
            phases.append((test, f'{number:02d}_{re.sub("[^0-9A-Za-z.-]+", "_", candidate.name)[-LONGEST:]}'))
        remarks = ['no scores: the weights are random'] if test is not None and candidate.weights is None else []
        failures = []
        for name, (measure, argument) in zip(PHASES, phases, strict=False):
            found = in_new_process(measure, candidate, argument, output=os.devnull)
            if 'error' not in found:
                row |= found
                continue
            failures.append(f'{name}: {found["error"]}')
            if measure is evaluation:  # the other phases would fail too
                break
        yield row | {'remark': '; '.join(failures + remarks), 'failed': bool(failures)}


def evaluation(candidate: Candidate, setting: Setting) -> dict[str, Any]:
    """Measure a pass without gradients, and count parameters and operations."""
    torch.manual_seed(0)
    known_networks(candidate.imports)  # import first: this memory does not belong to the network
    memory = PeakMemory(setting.device)
    net = candidate.build().to(setting.device).eval()
    x = image(net, setting)
    with torch.no_grad():
        found = time_of(lambda: net(x), SECONDS)
    used = memory.used()
    counted = count_in_pass(net, x)
    net.cpu()
    budget = at_budget_size(net, counted, x[0, 0].numel())
    parameters = sum(parameter.numel() for parameter in net.parameters())
    fits = parameters <= BUDGET['parameters'] and budget <= BUDGET['multiply_adds']
    return {
        'parameters': parameters,
        'multiply_adds': counted.products,
        'attention_multiply_adds': counted.attention,
        'fourier_multiply_adds': counted.fourier,
        'scan_multiply_adds': counted.scans,
        'uncounted': list(counted.uncounted),
        'budget_multiply_adds': budget,
        'fits_budget': fits and not counted.uncounted,
        'size': list(x.shape[-2:]),
        'evaluation_seconds': found['seconds'],
        'evaluation_fastest': found['fastest'],
        'evaluation_seconds_per_megapixel': found['seconds'] / x[0, 0].numel() * 1e6,
        'evaluation_bytes': used['increase_bytes'],
        'evaluation_process_bytes': used['peak_bytes'],
    }


def training(candidate: Candidate, setting: Setting) -> dict[str, Any]:
    """Measure a training step: the passes, an L1 loss of all outputs, and AdamW."""
    torch.manual_seed(0)
    known_networks(candidate.imports)
    memory = PeakMemory(setting.device)
    net = candidate.build().to(setting.device)
    found = time_of(training_step(net, image(net, setting).repeat(setting.batch, 1, 1, 1)), SECONDS)
    used = memory.used()
    return {
        'training_seconds': found['seconds'],
        'training_fastest': found['fastest'],
        'training_bytes': used['increase_bytes'],
        'training_process_bytes': used['peak_bytes'],
    }


def image(net: nn.Module, setting: Setting) -> torch.Tensor:
    """Return a random RGB image (1, 3, h, h) of a size that the network accepts."""
    side = padded(net, setting.size)
    return torch.rand(1, 3, side, side, device=setting.device)


def padded(net: nn.Module, length: int) -> int:
    """Round a length up to the size multiple of a network."""
    return -(-length // size_multiple(net)) * size_multiple(net)


def at_budget_size(net: nn.Module, counted: Operations, pixels: int) -> float:
    """Return the total multiply-adds at `BUDGET_SIZE`.

    Args:
        net: The network.
        counted: Operations counted for another image.
        pixels: Number of pixels of that image. Its count is scaled by the pixels if the network cannot run on a fake
            tensor of this size.
    """
    height, width = BUDGET_SIZE
    try:
        return count_operations(net, padded(net, height), padded(net, width)).total
    except Exception:  # networks of other packages can raise any exception
        return counted.total * height * width / pixels
