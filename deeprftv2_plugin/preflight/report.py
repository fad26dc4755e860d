"""Run all checks. `basicsr check` prints what they find; `basicsr train` and `basicsr test` do not start on errors."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from basicsr.models.base_model import BaseModel
from torch import nn

from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.preflight import model, resources
from deeprftv2_plugin.preflight.checkpoints import check_checkpoints
from deeprftv2_plugin.preflight.data import check_data
from deeprftv2_plugin.preflight.files import check_logging, check_roots
from deeprftv2_plugin.preflight.findings import Finding, Mark, error, ok, warning
from deeprftv2_plugin.preflight.schedule import check_batch, check_schedule
from deeprftv2_plugin.utils.errors import UserError

Entries = Iterator[tuple[str, Finding]]
"""Pairs of subject and finding."""


def require(opt: Mapping[str, Any], path: str) -> None:
    """Run the checks before a training or a test.

    Args:
        opt: Valid options, with what BasicSR's parser adds to them.
        path: The option file, for the error.

    Raises:
        UserError: There are errors; the message has all of them.
    """
    with quiet():
        found = [finding.text for _, finding in report(opt) if finding.mark is Mark.ERROR]
    if found:
        raise UserError('\n'.join(f'{path}: {text}' for text in found))


def report(opt: Mapping[str, Any], thorough: bool = False) -> Entries:
    """Yield subject and finding of all checks, one after the other.

    Args:
        opt: Valid options, with what BasicSR's parser adds to them.
        thorough: Also estimate the memory of a training if there is no GPU to compare it with.
    """
    datasets: dict[str, SizedDataset] = {}
    missing = list(check_roots(opt))
    yield from about('data', missing or check_data(opt, datasets))
    try:
        built = model.build(opt)
    except UserError as fault:
        built = None
        yield 'model', error(str(fault))
    else:
        yield 'model', ok(f'{opt["model_type"]} can be built')
    networks = {} if built is None else model.networks_of(opt, built)
    yield from about('checkpoint', check_checkpoints(opt, networks))
    if opt['is_train']:
        yield from about('schedule', check_schedule(opt))
        yield from about('batch', check_batch(opt, networks.get('g')))
        yield from about('log', check_logging(opt))
    if built is None:
        return
    yield from about('passes', model.check_passes(opt, built, datasets))
    if opt['is_train']:
        yield from needs(opt, networks, built, thorough)


def about(subject: str, findings: Iterable[Finding]) -> Entries:
    """Yield the findings with their subject; a UserError becomes the last of them."""
    try:
        for finding in findings:
            yield subject, finding
    except UserError as fault:
        yield subject, error(str(fault))


def needs(opt: Mapping[str, Any], networks: Mapping[str, nn.Module], built: BaseModel, thorough: bool) -> Entries:
    """Check what a training needs of memory and disk."""
    try:
        optimizers = model.optimizer_bytes(built.optimizers)
    except Exception as fault:  # some need gradients of a special kind
        yield 'memory', warning(f'the memory of the optimizer is unknown: {type(fault).__name__}: {fault}')
        optimizers = 0
    if 'g' in networks and (thorough or resources.gpu_memory(opt) is not None):
        yield from about('memory', resources.check_memory(opt, networks['g'], optimizers))
    yield from about('disk', resources.check_disk(opt, networks, optimizers))


@contextlib.contextmanager
def quiet() -> Iterator[TextIO]:
    """Within the block, silence BasicSR's log and what networks and data sets print.

    Yields:
        The screen, for output that is not silenced.
    """
    screen, before = sys.stdout, logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield screen
    finally:
        logging.disable(before)
