"""Progress bar of a training run."""

from contextlib import ExitStack

from basicsr.utils import get_root_logger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class ProgressBar:
    """Show loss, learning rate and remaining time on a terminal. Nothing is written if stderr is not a terminal.

    Log lines of BasicSR appear above the bar.

    Args:
        total: Total number of iterations.
        done: Number of iterations completed by earlier runs.
        visible: Whether this process shows the progress. True in one process only.
    """

    def __init__(self, total: int, done: int = 0, visible: bool = True):
        self.total = total
        self._stack = ExitStack()
        hidden = None if visible else True  # None: hidden unless on a terminal
        bar = tqdm(total=total, initial=done, disable=hidden, dynamic_ncols=True)
        self._bar = self._stack.enter_context(bar)
        if not self._bar.disable:
            self._stack.enter_context(logging_redirect_tqdm([get_root_logger()]))

    def advance(self, current_iter: int, loss: float | None, learning_rate: float) -> None:
        """Show a completed iteration. The last iteration closes the bar.

        Args:
            current_iter: The completed iteration.
            loss: Last known loss, or None.
            learning_rate: Current learning rate.
        """
        if not self._bar.disable and (self._bar.update(current_iter - self._bar.n) or current_iter >= self.total):
            shown = '' if loss is None else f'loss {loss:.4f}, '
            self._bar.set_postfix_str(f'{shown}lr {learning_rate:.2e}')
        if current_iter >= self.total:
            self.close()

    def close(self) -> None:
        """Remove the bar and stop redirecting log lines."""
        self._stack.close()
