"""What the processes of a training tell each other after every step, without letting the GPU run out of work."""

from typing import NamedTuple

import torch
from torch import Tensor


class News(NamedTuple):
    """What became known about a step, the same in all processes."""

    iteration: int
    finite: bool
    """Whether loss and gradient were finite everywhere."""
    leave: bool
    """Whether any process was asked to leave."""
    loss: float
    """The mean over all processes."""


class Agreement:
    """Shares two flags and the loss of each step among all processes.

    On a GPU they are read one step later. By then the work of the current step is queued, so the GPU stays busy, and
    reading keeps the CPU from running further ahead than that. Every process reads the values of the same step, so
    all act alike.

    Args:
        device: Where the network is.
        processes: How many take part.

    Attributes:
        late: Whether the values of a step are read one step later.
    """

    def __init__(self, device: torch.device, processes: int = 1):
        self.device, self.processes = device, processes
        self.late = device.type != 'cpu'
        self._under_way = None

    def share(self, iteration: int, finite: Tensor, loss: Tensor, leave: bool) -> tuple[Tensor, News | None]:
        """Tell the others about a step.

        Args:
            iteration: The step.
            finite: Whether loss and gradient are finite here, a boolean tensor without dimensions.
            loss: The loss here, a tensor without dimensions.
            leave: Whether this process was asked to leave.

        Returns:
            Whether loss and gradient are finite in all processes, a tensor on the device; and the news of the last
            step that has arrived, None where none has.
        """
        told = torch.stack([(~finite).float(), torch.full((), float(leave), device=self.device), loss.float()])
        if self.processes > 1:
            torch.distributed.all_reduce(told)
        arriving = self._send(iteration, told)
        if self.late:
            arriving, self._under_way = self._under_way, arriving
        return told[0] == 0, arriving and self._read(*arriving)

    def settle(self) -> News | None:
        """Wait for the news that is still under way; None where all has arrived."""
        arriving, self._under_way = self._under_way, None
        return arriving and self._read(*arriving)

    def _send(self, iteration, told):
        if self.device.type == 'cpu':
            return iteration, told, None
        host = torch.empty(len(told), pin_memory=True).copy_(told, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return iteration, host, event

    def _read(self, iteration, told, event):
        if event is not None:
            event.synchronize()
        faults, leave, loss = told.tolist()
        return News(iteration, finite=not faults, leave=bool(leave), loss=loss / self.processes)
