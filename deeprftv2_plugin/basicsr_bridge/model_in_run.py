"""Extensions of BasicSR's model and logger for a training run."""

from collections.abc import Callable
from typing import Any

import torch
from basicsr.utils import MessageLogger
from torch import distributed
from torch.utils.data import DataLoader

from deeprftv2_plugin.basicsr_bridge.sample_stream import position
from deeprftv2_plugin.basicsr_bridge.tolerant_model import TolerantModel
from deeprftv2_plugin.data.loading.plan import Plan
from deeprftv2_plugin.evaluation.metrics_log import MetricsLog
from deeprftv2_plugin.models.deeprftv2_model import DeepRFTv2Model
from deeprftv2_plugin.training import signals
from deeprftv2_plugin.training.saving import leave, save_or_log


class ModelInRun(TolerantModel):
    """Mixin for the model of a run: states contain the position in the data, and saving errors are logged.

    Attributes:
        current_plan: Returns the plan of the run, which is made after the model.
        recorded_options: The options to store with the weights.
    """

    current_plan: Callable[[], Plan]
    recorded_options: dict
    device: torch.device
    _validated: int | None = None
    """The iteration that is being validated."""

    @property
    def plan(self) -> Plan:
        """The plan of the run."""
        return self.current_plan()

    def stream_at(self, iteration: int) -> dict:
        """Return the position in the sample stream after an iteration, for the state."""
        return position(self.plan, iteration)

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the learning rate of an iteration. BasicSR's models save and stop here after a request to stop.

        Raises:
            Interrupted: A signal or a fault requested a stop. The state of the previous iteration is saved.
            UserError: The state could not be saved.
        """
        if not isinstance(self, DeepRFTv2Model) and current_iter > 1 and self.asked_to_leave():
            leave(self, self.plan.epoch_of(current_iter - 1), current_iter - 1)
        super().update_learning_rate(current_iter, warmup_iter)

    def validation(self, dataloader: DataLoader, current_iter: int, tb_logger: Any, save_img: bool = False) -> None:
        """Validate. Models of BasicSR, too, save and stop between two images if this process was asked to.

        Raises:
            Interrupted: A signal asked to stop; the state is saved.
            UserError: The state could not be saved, or the validation of a dataset has failed too many times.
        """
        self._validated = current_iter
        try:
            super().validation(dataloader, current_iter, tb_logger, save_img)
        finally:
            self._validated = None

    def feed_data(self, data: dict[str, Any]) -> None:
        """Copy a batch or, in a validation, an image to the device."""
        if self._validated is not None and self.opt['rank'] == 0 and signals.requested() is not None:
            leave(self, self.plan.epoch_of(self._validated), self._validated)
        super().feed_data(data)  # type: ignore[misc]  # defined by the model

    def asked_to_leave(self) -> bool:
        """Return whether any process was requested to stop. Waits for the GPU, as these models do in every step."""
        asked = signals.requested() is not None
        if not self.opt['dist']:
            return asked
        shared = torch.full((), float(asked), device=self.device)
        distributed.all_reduce(shared)
        return bool(shared)

    def save(self, epoch: int, current_iter: int) -> bool:
        """Save weights and state. Return whether all files were written."""
        return save_or_log(self, super().save, epoch, current_iter)  # type: ignore[misc]  # defined by the model


class RunLogger(MessageLogger):
    """BasicSR's logger, which also writes metrics.jsonl."""

    def __init__(self, opt: dict, start_iter: int, tb_logger: Any):
        super().__init__(opt, start_iter, tb_logger)
        self._journal = MetricsLog(opt['path']['log']) if opt['rank'] == 0 else None

    def __call__(self, log_vars: dict) -> None:
        if self._journal is not None:
            iteration, (rate, *_) = log_vars['iter'], log_vars['lrs']
            values = {key: value for key, value in log_vars.items() if key not in ('iter', 'lrs')}
            self._journal.append(iteration, lr=rate, **values)
        super().__call__(log_vars)
