"""The log file, TensorBoard and wandb of a run. If one of them fails, the run continues with a warning."""

import contextlib
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from basicsr.utils import get_root_logger, init_wandb_logger
from basicsr.utils.dist_util import get_dist_info

from deeprftv2_plugin.basicsr_bridge.replacement import replace
from deeprftv2_plugin.utils.regular_files import open_to_append


@contextlib.contextmanager
def tolerated_failures(pipeline: ModuleType) -> Iterator[None]:
    """Prevent failing loggers from stopping a pipeline of BasicSR within the block.

    Args:
        pipeline: ``basicsr.train`` or ``basicsr.test``.
    """
    reason = 'a full disk or a missing connection does not end the run'
    with contextlib.ExitStack() as stack:
        stack.enter_context(replace(pipeline, 'get_root_logger', open_log, reason))
        if hasattr(pipeline, 'init_wandb_logger'):
            stack.enter_context(replace(pipeline, 'init_wandb_logger', start_wandb, reason))
        hook = _hide_errors_of_board(threading.excepthook)
        stack.enter_context(replace(threading, 'excepthook', hook, "Board reports errors of TensorBoard's thread"))
        yield


def open_log(
    logger_name: str = 'basicsr', log_level: int = logging.INFO, log_file: str | None = None
) -> logging.Logger:
    """Return BasicSR's logger. In the first process it also writes to a file."""
    logger = get_root_logger(logger_name)
    if log_file is not None and get_dist_info()[0] == 0:
        logger.setLevel(log_level)
        try:
            handler = LogFile(log_file, encoding='utf-8', errors='backslashreplace')
        except OSError as error:
            logger.warning(
                f'The log file {log_file} cannot be created: {error.strerror}. The run continues without it.'
            )
        else:
            handler.setFormatter(logger.handlers[0].formatter)
            logger.addHandler(handler)
    return logger


class LogFile(logging.FileHandler):
    """A log file. Lines that cannot be written, for example because the disk is full, are written later."""

    failed = False

    def _open(self) -> io.TextIOWrapper:
        """Open the file unless it is a link, which could point to any file of the user."""
        return io.TextIOWrapper(open_to_append(self.baseFilename), self.encoding, self.errors)

    def handleError(self, record: logging.LogRecord) -> None:
        """Warn once on the screen."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            get_root_logger().warning(
                f'The log file {self.baseFilename} cannot be written: {error.strerror}. The run continues.'
            )

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            super().close()


def start_wandb(opt: dict) -> None:
    """Start wandb, which records what is logged to TensorBoard."""
    try:
        init_wandb_logger(opt)
    except Exception as error:
        get_root_logger().warning(f'wandb failed: {type(error).__name__}: {error}. The run continues without it.')


class Board:
    """TensorBoard's writer, which is disabled after an error.

    It has the methods of ``torch.utils.tensorboard.SummaryWriter``.

    Args:
        open_writer: Opens the writer.
    """

    def __init__(self, open_writer: Callable[[], Any]):
        self._writer: Any = None
        with self._off_after_error():
            self._writer = open_writer()

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*args: Any, **settings: Any) -> None:
            with self._off_after_error():
                if self._writer is not None:
                    getattr(self._writer, name)(*args, **settings)

        return call

    @contextlib.contextmanager
    def _off_after_error(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # TensorBoard, wandb and their file systems can raise any exception
            self._writer = None
            get_root_logger().warning(
                f'TensorBoard failed: {type(error).__name__}: {error}. The run continues without it. '
                'metrics.jsonl has all losses and metrics.'
            )


def _hide_errors_of_board(original: Callable[[Any], object]) -> Callable[[Any], None]:
    def hook(fault: Any) -> None:
        if not type(fault.thread).__module__.startswith('tensorboard.'):
            original(fault)

    return hook
