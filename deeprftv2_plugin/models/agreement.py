"""What the processes of a training tell each other after every step, without letting the CPU wait for the GPU."""

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


class Agreement:
    """Shares two flags a step among all processes.

    On a GPU they are read one step later, when they are there without waiting; every process reads those
    of the same step, so all act alike.

    Args:
        device: Where the network is.
        processes: How many take part.
    """

    def __init__(self, device: torch.device, processes: int = 1):
        self.device, self.processes = device, processes
        self._under_way = None

    def share(self, iteration: int, finite: Tensor, leave: bool) -> tuple[Tensor, News | None]:
        """Tell the others about a step.

        Args:
            iteration: The step.
            finite: Whether loss and gradient are finite here, a boolean tensor without dimensions.
            leave: Whether this process was asked to leave.

        Returns:
            Whether they are finite in all processes, a tensor on the device; and the news of the last step that
            has arrived, None where none has.
        """
        faults = torch.stack([~finite, torch.full((), leave, device=self.device)]).float()
        if self.processes > 1:
            torch.distributed.all_reduce(faults, torch.distributed.ReduceOp.MAX)
        arriving = self._send(iteration, faults)
        if self.device.type == 'cpu':
            arrived = arriving
        else:
            arrived, self._under_way = self._under_way, arriving
        return faults[0] == 0, arrived and self._read(*arrived)

    def _send(self, iteration, faults):
        if self.device.type == 'cpu':
            return iteration, faults, None
        host = torch.empty(2, pin_memory=True).copy_(faults, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return iteration, host, event

    @staticmethod
    def _read(iteration, faults, event):
        if event is not None:
            event.synchronize()
        fault, leave = faults.tolist()
        return News(iteration, finite=not fault, leave=bool(leave))
