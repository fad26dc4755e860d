import multiprocessing
import os
import signal
import time

import pytest

from deeprftv2_plugin.data.preparation.workers import Workers
from deeprftv2_plugin.utils.errors import UserError


def slowest_first(number):
    time.sleep(0.02 / (1 + number))
    return number


def test_results_are_ordered_and_few_items_are_in_flight():
    taken = []
    items = (taken.append(number) or number for number in range(20))
    with Workers() as workers:
        for expected, number in enumerate(workers.map(slowest_first, items)):
            assert number == expected
            assert len(taken) <= number + 2 * workers.count


def fail(number):
    raise UserError(f'{number} is damaged')


def end(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ('function', 'message'),
    [(fail, '^0 is damaged$'), pytest.param(end, 'a worker process was killed', marks=pytest.mark.posix)],
)
def test_failures_reach_the_caller(function, message):
    with Workers() as workers, pytest.raises(UserError, match=message):
        list(workers.map(function, range(5)))


def die_with_workers(witness):
    with Workers() as workers:
        next(workers.map(slowest_first, range(5)))
        witness.send('working')
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.posix
def test_workers_end_when_the_parent_is_killed():
    """All processes hold one end of a pipe. The other end reports when the last process has ended."""
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=die_with_workers, args=(theirs,))
    process.start()
    theirs.close()
    assert ours.recv() == 'working'
    assert ours.poll(120)
    with pytest.raises(EOFError):
        ours.recv()
    process.join()
    assert process.exitcode == -signal.SIGKILL
