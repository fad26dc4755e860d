"""All parts of the report in their order."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from basicsr.archs import build_network
from basicsr.models.base_model import BaseModel
from torch import nn

from deeprftv2_plugin.preflight import model
from deeprftv2_plugin.preflight.batch import check_batch
from deeprftv2_plugin.preflight.checkpoints import check_checkpoints
from deeprftv2_plugin.preflight.data import check_data
from deeprftv2_plugin.preflight.disk import check_disk
from deeprftv2_plugin.preflight.findings import Finding, error, ok, warning
from deeprftv2_plugin.preflight.logs import check_logs
from deeprftv2_plugin.preflight.memory import check_memory
from deeprftv2_plugin.preflight.schedule import check_schedule
from deeprftv2_plugin.utils.errors import UserError


def report(opt: Mapping[str, Any]) -> Iterator[tuple[str, Finding]]:
    """Subject and finding, one after the other, of options for training or (without `train`) for a test.

    Args:
        opt: Valid options, whose data and checkpoints exist, as BasicSR's parser gives them.
    """
    networks = {key.removeprefix('network_'): build_network(opt[key]) for key in opt if key.startswith('network_')}
    yield from about('data', check_data(opt))
    yield from about('checkpoint', check_checkpoints(opt, networks))
    if 'train' in opt:
        yield from about('schedule', check_schedule(opt))
        yield from about('batch', check_batch(opt, getattr(networks.get('g'), 'size_multiple', 1)))
        yield from about('log', check_logs(opt))
    try:
        built = model.build(opt)
    except Exception as fault:  # models of other packages raise what they like
        yield 'model', error(f'{opt["model_type"]} cannot be built: {type(fault).__name__}: {fault}')
        return
    yield 'model', ok(f'{opt["model_type"]} can be built')
    if 'train' in opt:
        yield from needs(opt, networks, built)


def about(subject: str, findings: Iterable[Finding]) -> Iterator[tuple[str, Finding]]:
    """The findings with their subject; an error that ends them is the last of them."""
    try:
        for finding in findings:
            yield subject, finding
    except UserError as fault:
        yield subject, error(str(fault))


def needs(opt: Mapping[str, Any], networks: Mapping[str, nn.Module], built: BaseModel) -> Iterator[tuple[str, Finding]]:
    """What a training takes of memory and disk."""
    try:
        optimisers = model.optimiser_bytes(built.optimizers)
    except Exception as fault:  # some want gradients of their own kind
        yield 'memory', warning(f'what the optimiser keeps cannot be told: {type(fault).__name__}: {fault}')
        optimisers = 0
    if 'g' in networks:
        yield from about('memory', check_memory(opt, networks['g'], optimisers))
    yield from about('disk', check_disk(opt, networks, optimisers))
