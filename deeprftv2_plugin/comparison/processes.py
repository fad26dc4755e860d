"""Run a function in a new process."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from deeprftv2_plugin.inference.memory import is_out_of_memory, reason_of
from deeprftv2_plugin.utils.errors import LEAVE_SIGNALS, SAVED, Interrupted, describe_error

KILLED = 'the process was killed, most likely because memory ran out'


def in_new_process(run: Callable[..., dict | None], *args: Any, output: str | Path | None = None) -> dict:
    """Run a function in a new process.

    Signals that request a stop, such as SIGTERM, are forwarded to the process.

    Args:
        run: A function at module level, which the new process imports.
        args: Its arguments, which must be picklable.
        output: File to which the output of the process is appended; None for the terminal.

    Returns:
        The result of the function. If it fails, the reason under 'error', and if it raises `Interrupted`, also the exit
        status under 'status'.

    Raises:
        Interrupted: A signal other than Ctrl-C ended the process.
        KeyboardInterrupt: Ctrl-C ended the process.
    """
    context = get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, output, run, args))
    with _passed_on(process) as signals:
        process.start()
        for number in list(signals):  # which arrived before the process had a number
            _forward(process.pid, number)
        sender.close()
        found = _received(receiver, signals)
        process.join()
    if found is None:
        found = {'error': _reason(process.exitcode)}
    if 'status' not in found and signals:
        if signals[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise Interrupted(SAVED, f'stopped by {signals[0].name}')
    return found


def _reason(status: int | None) -> str:
    """Return why a process ended without a result."""
    if status == -getattr(signal, 'SIGKILL', 9):
        return KILLED
    return (
        f'the process ended with exit status {status}; a script must call this function within '
        "if __name__ == '__main__'"
    )


def _received(receiver: Connection, signals: list[signal.Signals]) -> dict | None:
    """Return what the process sends, or None if it ends without a result.

    Ctrl-C also reaches the process, which may then still send the status.
    """
    while True:
        try:
            return receiver.recv()
        except KeyboardInterrupt:
            signals.append(signal.SIGINT)
        except (EOFError, OSError):
            return None


@contextmanager
def _passed_on(process: SpawnProcess) -> Iterator[list[signal.Signals]]:
    """Forward signals to a process within the block. Yield the list of received signals."""
    arrived: list[signal.Signals] = []

    def pass_on(number: int, _: object) -> None:
        arrived.append(signal.Signals(number))
        _forward(process.pid, number)

    if threading.current_thread() is not threading.main_thread():  # only the main thread can set handlers
        yield arrived
        return
    former = {each: signal.signal(each, pass_on) for each in LEAVE_SIGNALS if each != signal.SIGINT}
    try:
        yield arrived
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def _forward(pid: int | None, number: int) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):  # it may have ended
            os.kill(pid, number)


def _run(sender: Connection, output: str | Path | None, run: Callable[..., dict | None], args: tuple) -> None:
    if output is not None:
        with open(output, 'ab') as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
    try:
        found = run(*args) or {}
    except Interrupted as error:
        found = {'error': str(error), 'status': error.status}
    except SystemExit as error:
        found = {'error': f'the process ended with exit status {error.code}'}
    except Exception as error:  # networks of other packages can raise any exception
        found = {'error': f'out of memory: {reason_of(error)}' if is_out_of_memory(error) else describe_error(error)}
    sender.send(found)
