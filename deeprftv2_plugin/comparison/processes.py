"""Run a function in a process of its own."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from deeprftv2_plugin.inference.memory import is_out_of_memory, reason_of
from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, SAVED, Interrupted, describe_error

KILLED = 'the process was killed, most likely because memory ran out'


def in_new_process(run: Callable[..., dict | None], *args: Any, output: str | Path | None = None) -> dict:
    """Return what a function returns in a new process, or the reason for its failure under 'error'.

    Signals that ask to stop, such as SIGTERM, are passed on. If the function then raises `Interrupted`, its exit status
    is under 'status'.

    Args:
        run: A function of a module, which the new process imports.
        args: Its arguments, which must be picklable.
        output: File to which the process appends what it prints; None for the screen.

    Raises:
        Interrupted: A signal other than Ctrl-C ended the process.
        KeyboardInterrupt: Ctrl-C ended the process.
    """
    context = get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, output, run, args))
    with _passed_on(process) as signals:
        process.start()
        sender.close()
        found = _received(receiver, signals)
        process.join()
    if 'status' not in found and signals:
        if signals[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise Interrupted(SAVED, f'stopped by {signals[0].name}')
    return found


def _received(receiver: Connection, signals: list[signal.Signals]) -> dict:
    """Return what the process sends. After Ctrl-C, which it gets as well, it may send the status."""
    while True:
        try:
            return receiver.recv()
        except KeyboardInterrupt:
            signals.append(signal.SIGINT)
        except (EOFError, OSError):
            return {'error': KILLED}


@contextmanager
def _passed_on(process: SpawnProcess) -> Iterator[list[signal.Signals]]:
    """Within the block, pass signals on to a process. Yield the list of those that arrive."""
    arrived: list[signal.Signals] = []

    def pass_on(number: int, _: object) -> None:
        arrived.append(signal.Signals(number))
        if process.pid is not None:
            os.kill(process.pid, number)

    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield arrived
        return
    former = {each: signal.signal(each, pass_on) for each in LEAVE_SIGNALS if each != signal.SIGINT}
    try:
        yield arrived
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def _run(sender: Connection, output: str | Path | None, run: Callable[..., dict | None], args: tuple) -> None:
    if output is not None:
        with open(output, 'ab') as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
    try:
        found = run(*args) or {}
    except Interrupted as error:
        found = {'error': str(error), 'status': error.status}
    except Exception as error:  # networks of other packages raise what they like
        found = {'error': f'out of memory: {reason_of(error)}' if is_out_of_memory(error) else describe_error(error)}
    sender.send(found)
