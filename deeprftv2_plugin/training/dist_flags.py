"""Flags and losses that all training processes share. Flags do not stall the GPU."""

from typing import NamedTuple

import torch
from torch import Tensor


class StepResult(NamedTuple):
    """The outcome of a step, identical in all processes."""

    iteration: int
    finite: bool
    """Whether the loss and the gradient are finite in all processes."""
    leave: bool
    """Whether any process was asked to stop."""
    loss: float
    """Mean loss over all processes."""


class SharedFlags:
    """Share two flags and the loss of each step among all processes.

    On a GPU, the values are read one step later. The work of the current step is queued by then, so the GPU stays busy,
    and reading keeps the CPU from running further ahead. All processes read the values of the same step and therefore
    make the same decisions.

    Args:
        device: Device of the network.
        processes: Number of processes.

    Attributes:
        late: Whether the values of a step are read one step later.
    """

    def __init__(self, device: torch.device, processes: int = 1):
        self.device, self.processes = device, processes
        self.late = device.type != 'cpu'
        self._pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None

    def share(
        self, iteration: int, finite: Tensor, loss: Tensor, leave: bool
    ) -> tuple[Tensor, Tensor, StepResult | None]:
        """Share the values of a step.

        Args:
            iteration: The current iteration.
            finite: Boolean scalar tensor, whether the loss and the gradient of this process are finite.
            loss: Scalar tensor, the loss of this process.
            leave: Whether this process was asked to stop.

        Returns:
            Two scalar tensors on the device, whether the loss and the gradient are finite in all processes and the mean
            loss, and the result of the last step that has been read, or None.
        """
        values = torch.stack([(~finite).float(), torch.full((), float(leave), device=self.device), loss.float()])
        if self.processes > 1:
            torch.distributed.all_reduce(values)
        ready: tuple[int, Tensor, torch.cuda.Event | None] | None = self._copy_to_host(iteration, values)
        if self.late:
            ready, self._pending = self._pending, ready
        return values[0] == 0, values[2] / self.processes, ready and self._read(*ready)

    def mean(self, loss: Tensor) -> Tensor:
        """Return the mean of a further loss of the step over all processes."""
        if self.processes == 1:
            return loss
        total = loss.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.processes

    def settle(self) -> StepResult | None:
        """Wait for the pending result and return it; None if there is none."""
        ready, self._pending = self._pending, None
        return ready and self._read(*ready)

    def _copy_to_host(self, iteration: int, values: Tensor) -> tuple[int, Tensor, torch.cuda.Event | None]:
        if self.device.type == 'cpu':
            return iteration, values, None
        host = torch.empty(len(values), pin_memory=True).copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return iteration, host, event

    def _read(self, iteration: int, values: Tensor, event: torch.cuda.Event | None) -> StepResult:
        if event is not None:
            event.synchronize()
        faults, leave, loss = values.tolist()
        return StepResult(iteration, finite=not faults, leave=bool(leave), loss=loss / self.processes)
