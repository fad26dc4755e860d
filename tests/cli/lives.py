"""Runs of the command in processes of their own, which start quickly and can be killed."""

import faulthandler
import multiprocessing
import os
import signal
import sys

import pytest

from deeprftv2_plugin import cli

if not hasattr(os, 'fork'):
    pytest.skip('no fork on this system', allow_module_level=True)  # for the modules that import this one

_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(['tests.cli.preloaded'])
WRITES = ('fsync', 'replace')
PATIENCE = 60


def start(folder, *argv, name='life', die_at_write=None, file_size=None):
    """Start `basicsr ARGV` in a folder; what it says goes to NAME.txt there.

    Args:
        folder: The working directory.
        argv: The command line.
        name: Of the file.
        die_at_write: The number of the synchronised or renamed file at which it kills itself, as SIGKILL does.
        file_size: Limit for the size of files in bytes, beyond which a write fails as on a full disk.
    """
    process = _context.Process(target=_live, args=(str(folder), argv, name, die_at_write, file_size))
    process.start()
    return process


def run(folder, *argv, **settings):
    """`start`, and wait for the end; gives the exit status, and what was said."""
    process = start(folder, *argv, **settings)
    process.join()
    text = (folder / f'{settings.get("name", "life")}.txt').read_text()
    assert 'Timeout (' not in text, text
    return process.exitcode, text


def _live(folder, argv, name, die_at_write, file_size):
    os.setpgrp()
    os.chdir(folder)
    output = os.open(f'{name}.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)  # a run that hangs says where
    if die_at_write is not None:
        _die_at_write(die_at_write)
    if file_size is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.exit(cli.main(list(argv)))


def _die_at_write(number):
    left = [number]

    def dying(original):
        def write(*args):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        return write

    for each in WRITES:
        setattr(os, each, dying(getattr(os, each)))
