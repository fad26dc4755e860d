"""Run the command line in subprocesses that start quickly and can be killed."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from deeprftv2_plugin import cli

if not hasattr(os, 'fork'):
    pytest.skip('no fork on this system', allow_module_level=True)  # for the modules that import this one

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(['tests.cli.preloaded'])
ROOT = str(Path(__file__).parents[2])
WRITES = ('fsync', 'replace')
HANG_TIMEOUT = 300
"""Seconds after which a run prints its stack and exits."""
ENDLESS = ('--force_yml', 'train:total_iter=1000000', 'logger:save_checkpoint_freq=1000000')
"""Arguments of a training that only a signal ends."""


def start(
    folder, *argv, name='life', die_at_write=None, file_size=None, launched=False, environment=None, terminal=None
):
    """Start `basicsr ARGV` in a folder and write its output to NAME.txt there.

    Args:
        folder: Working directory.
        argv: Command line.
        name: Name of the output file.
        die_at_write: Kill the process with SIGKILL at this call of `os.fsync` or `os.replace`.
        file_size: Maximum size of a file in bytes. Larger writes fail as on a full disk.
        launched: Run the command in a child of the returned process, as torchrun does.
        environment: Variables to set.
        terminal: Path of a terminal that the process controls and writes to, instead of the file.
    """
    arguments = str(folder), argv, name, die_at_write, file_size, launched, environment or {}, terminal
    process = _context.Process(target=_run_command, args=arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', ROOT, prepend=os.pathsep)  # the server ignores modules that it cannot find
        process.start()
    return process


def run(folder, *argv, **settings):
    """Call `start`, wait for the process, and return its exit status and output."""
    process = start(folder, *argv, **settings)
    process.join()
    text = (folder / f'{settings.get("name", "life")}.txt').read_text()
    assert 'Timeout (' not in text, text
    return process.exitcode, text


def wait_for(condition, output, process=None):
    """Wait until a condition holds, and while a process is running if one is given."""
    deadline = time.monotonic() + HANG_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline and (process is None or process.is_alive()), output.read_text()
        time.sleep(0.02)


def run_together(folder, *commands):
    """Run commands as the processes of one run, each on its own node. Return their exit statuses and outputs."""
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)  # held here, as torchrun does
    common = {'WORLD_SIZE': str(len(commands)), 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(store.port)}
    common.update(TORCHELASTIC_RESTART_COUNT='0', TORCHELASTIC_USE_AGENT_STORE='True')
    processes = [
        start(folder, *argv, name=f'process{rank}', environment={**common, 'RANK': str(rank), 'LOCAL_RANK': '0'})
        for rank, argv in enumerate(commands)
    ]
    for process in processes:
        process.join()
    outputs = [(folder / f'process{rank}.txt').read_text() for rank in range(len(commands))]
    assert not any('Timeout (' in text for text in outputs), outputs
    return [process.exitcode for process in processes], outputs


def _run_command(folder, argv, name, die_at_write, file_size, launched, environment, terminal):
    os.setpgrp() if terminal is None else os.setsid()
    os.environ.update(environment)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests run under nohup
    os.chdir(folder)
    # the first terminal that the leader of a session opens for reading and writing controls the session
    output = os.open(terminal or f'{name}.txt', os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if terminal is not None:  # the streams of a file would seek
        sys.stdout, sys.stderr = (os.fdopen(number, 'w', 1, closefd=False) for number in (1, 2))
    if launched:
        os.environ.update(TORCHELASTIC_RUN_ID='1', RANK='0', LOCAL_RANK='0', WORLD_SIZE='1')
        os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT='0')  # any free port
        child = os.fork()
        if child:
            sys.exit(os.waitpid(child, 0)[1])
    faulthandler.dump_traceback_later(HANG_TIMEOUT, exit=True)
    if die_at_write is not None:
        _die_at_write(die_at_write)
    if file_size is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.exit(cli.main(list(argv)))


def _die_at_write(number):
    left = [number]

    def count_down(original):
        def write(*args):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        return write

    for each in WRITES:
        setattr(os, each, count_down(getattr(os, each)))
