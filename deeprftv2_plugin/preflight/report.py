"""Run all checks. `basicsr check` prints the findings; `basicsr train` and `basicsr test` do not start on errors."""

import contextlib
import copy
import io
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from basicsr.models.base_model import BaseModel
from torch import nn

from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.preflight import model, resources
from deeprftv2_plugin.preflight.checkpoints import check_checkpoints
from deeprftv2_plugin.preflight.data import check_data
from deeprftv2_plugin.preflight.files import check_folders, check_logging, check_roots, check_sources
from deeprftv2_plugin.preflight.findings import Finding, Mark, error, ok, warning
from deeprftv2_plugin.preflight.schedule import check_batch, check_schedule
from deeprftv2_plugin.utils.errors import UserError, describe_error

Entries = Iterator[tuple[str, Finding]]
"""Pairs of subject and finding."""


@dataclass
class Parts:
    """Objects built by the checks that a run can reuse."""

    datasets: dict[str, SizedDataset] = field(default_factory=dict)
    """The datasets by phase, as far as they can be built. Samples have already been loaded from them."""
    networks: dict[str, nn.Module] = field(default_factory=dict)
    """The networks by label, with their initial random weights, as far as they can be copied."""


def require(opt: Mapping[str, Any], path: str) -> Parts:
    """Run the checks that precede a training or a test.

    Args:
        opt: Valid options, completed as by BasicSR's parser.
        path: The option file, for the error.

    Returns:
        Objects built by the checks.

    Raises:
        UserError: At least one check failed. The message lists all errors.
    """
    parts = Parts()
    with quiet():
        found = [finding.text for _, finding in report(opt, parts=parts) if finding.mark is Mark.ERROR]
    if found:
        raise UserError('\n'.join(f'{path}: {text}' for text in found))
    return parts


def report(opt: Mapping[str, Any], thorough: bool = False, parts: Parts | None = None) -> Entries:
    """Yield subject and finding of each check.

    Args:
        opt: Valid options, completed as by BasicSR's parser.
        thorough: Run network, losses and metrics on larger images, and estimate the memory of a training even if there
            is no GPU to compare it with.
        parts: Filled with the objects built by the checks, for use by a run.
    """
    datasets: dict[str, SizedDataset] = {} if parts is None else parts.datasets
    yield from about('folder', check_folders(opt))
    missing = list(check_roots(opt))
    yield from about('data', missing or check_data(opt, datasets))
    if not missing:
        yield from about('data', check_sources(opt))
    try:
        built = model.build(opt)
    except UserError as fault:
        built = None
        yield 'model', error(str(fault))
    else:
        yield 'model', ok(f'{opt["model_type"]} can be built')
    networks = {} if built is None else model.networks_of(opt, built)
    if parts is not None:
        with contextlib.suppress(
            RuntimeError
        ):  # some networks cannot be copied, such as those with the old weight_norm
            parts.networks = copy.deepcopy(networks)
    yield from about('memory', resources.check_images(opt))
    yield from about('checkpoint', check_checkpoints(opt, networks, built))
    if opt['is_train']:
        yield from about('schedule', check_schedule(opt))
        yield from about('batch', check_batch(opt, networks.get('g')))
        yield from about('log', check_logging(opt))
    if built is None:
        return
    yield from about('passes', model.check_passes(opt, built, datasets, thorough))
    if opt['is_train']:
        yield from needs(opt, networks, built, thorough)


def about(subject: str, findings: Iterable[Finding]) -> Entries:
    """Yield the findings with their subject. A UserError becomes the last finding."""
    try:
        for finding in findings:
            yield subject, finding
    except UserError as fault:
        yield subject, error(str(fault))


def needs(opt: Mapping[str, Any], networks: Mapping[str, nn.Module], built: BaseModel, thorough: bool) -> Entries:
    """Check a step of the optimizers, the learning rates, and the memory and disk space that a training needs."""
    optimizers = 0
    try:
        optimizers = model.optimizer_bytes(built.optimizers)
    except UserError as fault:
        yield 'model', error(str(fault))
    except Exception as fault:  # some optimizers require a GPU, or gradients of a special kind
        found = error if opt['num_gpu'] == 0 else warning
        yield 'model', found(f'a step of the optimizer fails: {describe_error(fault)}')
    yield from about('schedule', model.check_rates(opt, built))
    if 'g' in networks and (thorough or resources.gpu_memory(opt) is not None):
        yield from about('memory', resources.check_memory(opt, networks['g'], optimizers))
    yield from about('disk', resources.check_disk(opt, networks, optimizers))


@contextlib.contextmanager
def quiet() -> Iterator[TextIO]:
    """Silence BasicSR's log and the output of networks and datasets within the block.

    Yields:
        The original standard output.
    """
    screen, before = sys.stdout, logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield screen
    finally:
        logging.disable(before)
