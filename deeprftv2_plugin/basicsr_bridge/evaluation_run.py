"""A run of BasicSR's test pipeline: the functions that build the model and create the folder."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from basicsr import test
from basicsr.models import build_model
from basicsr.models.base_model import BaseModel

from deeprftv2_plugin.basicsr_bridge.distributed import errors_reported_once, in_first_process
from deeprftv2_plugin.basicsr_bridge.replacement import replace
from deeprftv2_plugin.basicsr_bridge.start import HeldBackLog, checked_model
from deeprftv2_plugin.training import run_folder


class EvaluationRun:
    """A test run. The results of an earlier test are renamed only after all checks have passed.

    Args:
        path: The option file, for error messages.
        page: Folder for a page with all images; '' for the folder of the results; None for no page.

    Attributes:
        model: BasicSR's model.
    """

    model: BaseModel

    def __init__(self, path: str, page: str | None = None):
        self.path, self.page = path, page

    @contextmanager
    def in_basicsr(self) -> Iterator[None]:
        """Let `basicsr.test.test_pipeline` run this test within the block."""
        reason = 'the model is built and checked once, before the results of an earlier test are renamed'
        with ExitStack() as self._stack:
            for name, new in (('make_exp_dirs', self.make_folders), ('build_model', self.hand_over_model)):
                self._stack.enter_context(replace(test, name, new, reason))
            yield

    def make_folders(self, opt: dict[str, Any]) -> None:
        """Build and check the model, then create the folders.

        Raises:
            UserError: The test would fail, or its folder cannot be used.
        """
        if self.page is not None:
            opt['path']['page'] = os.path.expanduser(self.page) or opt['path']['results_root']
        with errors_reported_once():
            with HeldBackLog() as self._log:
                self.model = checked_model(opt, self.path, build_model)
            lock = in_first_process(lambda: run_folder.take(opt['path']['results_root'], ['visualization']), opt)
        if lock is not None:
            self._stack.callback(lock.release)

    def hand_over_model(self, opt: dict[str, Any]) -> BaseModel:
        """Return the model that was built before the folders."""
        self._log.release()
        return self.model
