"""What is seen of a training while it runs."""

from contextlib import ExitStack

from basicsr.utils import get_root_logger
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class ProgressBar:
    """A bar with loss, learning rate and time left, at the foot of a terminal; elsewhere nothing is written.

    While it stands, BasicSR's log lines go above it instead of through it.

    Args:
        total: The number of iterations of the whole training.
        done: How many of them an earlier run has done.
        visible: False in all processes but one.
    """

    def __init__(self, total: int, done: int = 0, visible: bool = True):
        self.total = total
        self._opened = ExitStack()
        hidden = None if visible else True  # None: hidden unless on a terminal
        bar = tqdm(total=total, initial=done, disable=hidden, dynamic_ncols=True)
        self._bar = self._opened.enter_context(bar)
        if not self._bar.disable:
            self._opened.enter_context(logging_redirect_tqdm([get_root_logger()]))

    def advance(self, current_iter: int, loss: float | None, learning_rate: float) -> None:
        """Show the iteration that has just ended; the last one closes the bar.

        Args:
            current_iter: The iteration.
            loss: The last one known; None before any is.
            learning_rate: The current one.
        """
        if not self._bar.disable and (self._bar.update(current_iter - self._bar.n) or current_iter >= self.total):
            shown = '' if loss is None else f'loss {loss:.4f}, '
            self._bar.set_postfix_str(f'{shown}lr {learning_rate:.2e}')
        if current_iter >= self.total:
            self.close()

    def close(self) -> None:
        self._opened.close()
