"""A mixin for models that continues training after failures, or stops it with a clear message."""

import re
import traceback
from contextlib import ExitStack
from typing import Any

from basicsr.utils import get_root_logger
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from deeprftv2_plugin.basicsr_bridge.distributed import is_lost_connection, this_process
from deeprftv2_plugin.inference.memory import is_out_of_memory, reason_of
from deeprftv2_plugin.inference.restoration import keep_modes
from deeprftv2_plugin.training.rollback import Rollback, networks_of
from deeprftv2_plugin.utils.errors import Interrupted, UserError, describe_error

MAX_FAILED_IN_A_ROW = 3
"""Number of consecutive validations of a dataset that may fail before the training stops."""


class TolerantModel:
    """Mixin for models that continues after a failed validation, and explains errors of a training step.

    Attributes:
        done: The last completed iteration, that of the weights; None while they change and before the first one.
        failed_validations: Number of consecutive failures, iteration and last error, by the name of the dataset.
    """

    opt: dict[str, Any]
    plan: Any
    save: Any
    optimizers: list[Optimizer]
    done: int | None = None
    _before: Rollback | None = None

    def __init__(self, opt: dict):
        self.failed_validations: dict[str, tuple[int, int, str]] = {}
        super().__init__(opt)  # type: ignore[call-arg]  # defined by the model
        for optimizer in self.optimizers:
            optimizer.register_step_pre_hook(self._begin_change)

    def _begin_change(self, *step: object) -> None:
        self.done = None

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the learning rate of an iteration."""
        self._before = Rollback(self)
        super().update_learning_rate(current_iter, warmup_iter=warmup_iter)  # type: ignore[misc]

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one training step.

        Raises:
            UserError: There is not enough memory, or some parameters are not used.
        """
        try:
            super().optimize_parameters(current_iter)  # type: ignore[misc]
        except Exception as error:
            text = explain_step_error(error, getattr(self, 'net_g', None))
            if text is None:
                raise
            traceback.clear_frames(error.__traceback__)  # whose tensors may fill the memory
            raise UserError(f'iteration {current_iter}: {text}') from error
        self.done, self._before = current_iter, None

    def save_last(self) -> bool:
        """After an error, undo what the current iteration has changed, and save the state of the last completed one.

        Returns:
            Whether it is saved. It is not if the optimizers have begun to change the weights.

        Raises:
            UserError: The weights are not finite.
        """
        if self.done is None:
            return False
        if self._before is not None:
            self._before.undo()
        return self.save(self.plan.epoch_of(self.done), self.done)

    def validation(self, dataloader: DataLoader, current_iter: int, tb_logger: Any, save_img: bool = False) -> None:
        """Validate. If that fails, log the error, save the state and continue, up to `MAX_FAILED_IN_A_ROW` times.

        After the last iteration, a failure never stops the training: the final weights are saved, and
        `require_last_validations` reports the error at the end.

        Raises:
            UserError: The validation of the dataset has failed too many times in a row.
        """
        dataset: Any = dataloader.dataset
        name = dataset.opt['name']
        count, last, _ = self.failed_validations.get(name, (0, -1, ''))
        if last == current_iter:  # BasicSR repeats the last validation at the end
            return
        try:
            with ExitStack() as stack:
                for net in networks_of(self):
                    stack.enter_context(keep_modes(net))
                super().validation(dataloader, current_iter, tb_logger, save_img)  # type: ignore[misc]
            self.failed_validations.pop(name, None)
        except Interrupted:
            raise
        except Exception as error:
            if is_lost_connection(error):
                raise
            self.failed_validations[name] = count + 1, current_iter, describe_error(error)
            text = (
                f'The validation of {name} at iteration {current_iter} failed ({count + 1} in a row, at most '
                f'{MAX_FAILED_IN_A_ROW}): {describe_error(error)}'
            )
            self.save(self.plan.epoch_of(current_iter), current_iter)
            continues = current_iter < self.plan.total
            if continues and count + 1 >= MAX_FAILED_IN_A_ROW:
                raise UserError(f'{text}. Fix the cause, or remove the dataset or the metric, then resume') from error
            text += '. Training continues.' if continues else '.'
            get_root_logger().error(text, exc_info=not isinstance(error, UserError))

    def require_last_validations(self) -> None:
        """Check that the last validation of every dataset succeeded.

        Raises:
            UserError: A validation failed. The training itself is complete, and its weights are saved.
        """
        failures = [
            f'the last validation of {name}, at iteration {iteration}, failed: {reason}'
            for name, (_, iteration, reason) in self.failed_validations.items()
        ]
        if failures:
            saved = f'Training is complete, and the weights are saved in {self.opt["path"]["models"]}'
            text = f'{"; ".join(failures)}. {saved}'
            get_root_logger().error(text)
            raise UserError(f'{text}. Fix the cause, then validate again with --auto_resume')


def report_as_process(error: Exception, opt: dict[str, Any]) -> None:
    """Raise or log an error of one of several processes with its rank and host. Does nothing in a single process.

    Raises:
        UserError: The error is one.
    """
    if not opt['dist'] or is_lost_connection(error):
        return
    if isinstance(error, UserError):
        raise UserError(f'{this_process()}: {error}') from error
    get_root_logger().error(f'{this_process()} failed: {describe_error(error)}')


def explain_step_error(error: Exception, net: nn.Module | None) -> str | None:
    """Return advice about an error of a training step, or None for an unknown error.

    Args:
        error: The error.
        net: The trained network.
    """
    if is_out_of_memory(error):
        return (
            f'there is not enough memory for a training step: {reason_of(error)}. Lower batch_size_per_gpu '
            '(train.accumulation keeps the effective batch) or gt_size of datasets.train or train.stages, or set '
            'train.bf16; then resume'
        )
    found = re.search(r'did not receive grad for rank \d+: ([\d ]+)', str(error))
    if isinstance(error, RuntimeError) and found and net is not None:
        names = [name for name, weight in net.named_parameters() if weight.requires_grad]
        unused = [names[int(number)].removeprefix('module.') for number in found[1].split()]
        shown = ', '.join(unused[:5]) + (f' and {len(unused) - 5} more' if len(unused) > 5 else '')
        return (
            f'the loss does not depend on {len(unused)} parameters of the network: {shown}. To train such a network '
            'with several processes, set find_unused_parameters: true in the option file'
        )
    return None
