"""What a training and a test do before they create or rename a folder: build the model, and check everything."""

import logging
from collections.abc import Callable
from logging.handlers import MemoryHandler
from typing import Any

from basicsr.models.base_model import BaseModel
from basicsr.utils import logger as basicsr_logger
from basicsr.utils import set_random_seed
from basicsr.utils.dist_util import get_dist_info

from deeprftv2_plugin.basicsr_bridge.distributed import any_process, is_first_of_node
from deeprftv2_plugin.data.datasets import SizedDataset
from deeprftv2_plugin.preflight.report import require

NAME = 'basicsr'
"""Of BasicSR's logger."""


def checked_model(
    opt: dict[str, Any],
    path: str,
    make: Callable[[dict[str, Any]], BaseModel],
    further: Callable[[SizedDataset], None] | None = None,
) -> BaseModel:
    """Build the model of a run and run the preflight checks on it.

    The first process of each node runs the checks. All processes wait until all nodes are checked.

    Args:
        opt: Options of the run.
        path: The option file, for error messages.
        make: Builds the model.
        further: A check that gets the data set of the phase train.

    Raises:
        UserError: The run would fail.
    """

    def seeded(opt: dict[str, Any]) -> BaseModel:
        set_random_seed(opt['manual_seed'] + opt['rank'])  # reading samples for the checks has changed the generators
        return make(opt)

    if not is_first_of_node():
        model = seeded(opt)
    else:
        datasets, model = require(opt, path, seeded)
        if further is not None:
            further(datasets['train'])
    any_process(False, opt)
    return model


class HeldBackLog:
    """BasicSR's log while it has no file yet. Its lines are written once the log has one.

    BasicSR opens the file only if nothing has requested its logger before.
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
        """Write the lines to the log."""
        self._lines.setTarget(self._logger)
        self._lines.close()


def forget_logger() -> None:
    """Let BasicSR open a new log file. It does so only if its logger was not requested before."""
    basicsr_logger.initialized_logger.pop(NAME, None)
    handlers = logging.getLogger(NAME).handlers
    while handlers:
        handlers.pop().close()
