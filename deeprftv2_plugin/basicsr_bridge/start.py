"""Check a training or a test and build its model, before a folder is created or renamed."""

import copy
import functools
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from logging.handlers import MemoryHandler
from typing import Any

from basicsr.data import build_dataset
from basicsr.models.base_model import BaseModel
from basicsr.utils import logger as basicsr_logger
from basicsr.utils import set_random_seed
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from deeprftv2_plugin.basicsr_bridge.agreement import require_same_data
from deeprftv2_plugin.basicsr_bridge.distributed import any_process, is_first_of_node
from deeprftv2_plugin.basicsr_bridge.replacement import replace
from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.preflight.report import Parts, require

NAME = 'basicsr'
"""Name of BasicSR's logger."""


def checked_model(
    opt: dict[str, Any],
    path: str,
    make: Callable[[dict[str, Any]], BaseModel],
    further: Callable[[SizedDataset], None] | None = None,
) -> BaseModel:
    """Run the preflight checks, then build the model of a run from the networks that the checks have built.

    The first process of each node runs the checks. All processes must find the same data. They return together.

    Args:
        opt: Options of the run.
        path: The option file, for error messages.
        make: Function that builds the model.
        further: An additional check, called with the training data.

    Raises:
        UserError: The run would fail.
    """
    parts = Parts()
    if is_first_of_node():
        parts = require({**opt, 'dist': False, 'rank': 0, 'world_size': 1}, path)  # only in this process
        if further is not None:
            further(parts.datasets['train'])
        datasets = parts.datasets
    else:
        datasets = {phase: build_dataset(settings) for phase, settings in opt['datasets'].items()}
    require_same_data(datasets)
    set_random_seed(opt['manual_seed'] + opt['rank'])
    with HandedOver(opt, parts.networks):
        model = make(opt)
    any_process(False, opt)
    return model


class HandedOver(ExitStack):
    """Let BasicSR copy existing networks within the block instead of building them again.

    Args:
        opt: The options of the networks.
        networks: The networks by label, such as 'g' for `network_g`.
    """

    def __init__(self, opt: dict[str, Any], networks: Mapping[str, nn.Module]):
        super().__init__()
        for label, net in networks.items():
            settings = dict(opt[f'network_{label}'])
            name = settings.pop('type')
            known = ARCH_REGISTRY._obj_map
            name = name if name in known else f'{name}_basicsr'  # as in BasicSR
            build = functools.partial(_copy_or_build, net, settings, known[name])
            self.enter_context(replace(known, name, build, 'a network is built once, by the preflight checks'))


def _copy_or_build(net: nn.Module, settings: dict[str, Any], build: Callable, **arguments: Any) -> nn.Module:
    return copy.deepcopy(net) if arguments == settings else build(**arguments)


class HeldBackLog:
    """Buffer the lines of BasicSR's log until it has a file.

    BasicSR opens the file only when its logger is requested for the first time.
    """

    def __init__(self) -> None:
        forget_logger()
        self._logger = logging.getLogger(NAME)
        self._lines = MemoryHandler(capacity=0)

    def __enter__(self) -> 'HeldBackLog':
        self._logger.propagate = False
        self._logger.setLevel(logging.ERROR if get_dist_info()[0] else logging.INFO)  # as in BasicSR
        self._logger.addHandler(self._lines)
        basicsr_logger.initialized_logger[NAME] = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._logger.removeHandler(self._lines)
        forget_logger()

    def release(self) -> None:
        """Write the buffered lines to the log."""
        for record in self._lines.buffer:
            self._logger.handle(record)
        self._lines.close()


def forget_logger() -> None:
    """Let BasicSR initialize its logger again, with a new log file."""
    basicsr_logger.initialized_logger.pop(NAME, None)
    handlers = logging.getLogger(NAME).handlers
    while handlers:
        handlers.pop().close()
