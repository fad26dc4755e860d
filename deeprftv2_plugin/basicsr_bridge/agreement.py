"""Check that all processes of a run have the same options, versions and data."""

import hashlib
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import basicsr
import torch
from torch import distributed

from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.version import __version__

LISTED = 5
"""Maximum number of differences in an error."""
PLACES = ('dataroot', 'meta_info_file')
"""Prefixes of the options that may differ between nodes, since the data is compared instead."""


def require_same_options(options: Mapping[str, Any], **flags: object) -> None:
    """Compare the options and the versions of this package, BasicSR and PyTorch.

    Args:
        options: The resolved options of the file.
        flags: Flags of the command line.

    Raises:
        UserError: A process differs from the first one.
    """
    versions = {'deeprftv2_plugin': __version__, 'basicsr': basicsr.__version__, 'torch': torch.__version__}
    require_same({**dict(_flat(options)), **flags, **{f'version of {key}': each for key, each in versions.items()}})


def require_same_data(datasets: Mapping[str, SizedDataset]) -> None:
    """Compare the lengths of datasets and the names of their samples.

    Args:
        datasets: The datasets by phase.

    Raises:
        UserError: A process differs from the first one.
    """
    found: dict[str, object] = {}
    for phase, dataset in datasets.items():
        names = '\n'.join(_sample_names(dataset)).encode(errors='surrogateescape')
        found[f'datasets.{phase}, number of samples'] = len(dataset)
        found[f'datasets.{phase}, digest of the sample names'] = hashlib.sha256(names).hexdigest()[:8]
    require_same(found)


def require_same(found: Mapping[str, object]) -> None:
    """Compare values over all processes. Does nothing in a single process.

    Args:
        found: Values by the names to use in an error.

    Raises:
        UserError: A process differs from the first one. Raised in all processes.
    """
    if _processes() == 1:
        return
    collected: list[Any] = [None] * _processes()
    distributed.all_gather_object(collected, (platform.node(), {key: repr(value) for key, value in found.items()}))
    host, first = collected[0]
    for rank, (node, other) in enumerate(collected):
        differing = [
            f'{key}: {other.get(key, "not set")}, in process 0 {first.get(key, "not set")}'
            for key in {**first, **other}
            if first.get(key) != other.get(key)
        ]
        if differing:
            more = [f'and {len(differing) - LISTED} more'] if len(differing) > LISTED else []
            raise UserError(
                f'process {rank} on {node} differs from process 0 on {host}: '
                f'{"; ".join([*differing[:LISTED], *more])}. Start all processes of a run with the same options, data '
                'and versions'
            )


def _processes() -> int:
    initialized = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if initialized else 1


def _flat(options: Mapping[str, Any], place: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the options with their dotted keys."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f'{place}{key}.')
        elif not str(key).startswith(PLACES):
            yield f'{place}{key}', value


def _sample_names(dataset: Any) -> list[str]:
    """Return the sample names of this package's datasets. Other datasets have paths, which depend on the node."""
    names = []
    for part in getattr(dataset, 'parts', [dataset]):  # MixedDataset has parts
        names += [pair.name for pair in getattr(part, 'pairs', [])]
        names += [name for name, _ in getattr(part, 'images', [])]  # SyntheticBlurDataset has images
    return names
