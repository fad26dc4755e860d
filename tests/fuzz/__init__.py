"""Generated wrong inputs must lead to an error message or to the correct result.

The suite runs a few seeded trials of each kind. `DEEPRFTV2_FUZZ=N pytest -s tests/fuzz` runs N of each and prints their
outcomes.
"""

import multiprocessing
import os
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from deeprftv2_plugin.utils.errors import UserError

if not hasattr(os, 'fork'):
    pytest.skip('no fork on this system', allow_module_level=True)

SECONDS = 300
"""Time after which a trial counts as hanging."""
MEMORY = 2**35
"""Address space of a trial in bytes, beyond which allocations fail."""


def trials(short: int) -> int:
    """Return the number of trials: `short`, or DEEPRFTV2_FUZZ."""
    return int(os.environ.get('DEEPRFTV2_FUZZ') or short)


def damaged(data: bytes, random: Random) -> bytes:
    """Truncate data, flip some of its bits, or overwrite, remove or repeat a part."""
    start = random.randrange(len(data))
    end = start + random.randint(1, 64)
    kind = random.choice(['cut', 'flip', 'flip', 'flips', 'noise', 'remove', 'repeat', 'zero'])
    if kind == 'cut':
        return data[:start]
    if kind in ('flip', 'flips'):
        changed = bytearray(data)
        for _ in range(1 if kind == 'flip' else random.randint(2, 8)):
            changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
        return bytes(changed)
    part = data[start:end]
    part = {'noise': random.randbytes(len(part)), 'remove': b'', 'repeat': part * 2, 'zero': bytes(len(part))}[kind]
    return data[:start] + part + data[end:]


def check(name: str, trial: Callable[[Random], bool], short: int) -> Counter[str]:
    """Run seeded trials in child processes and count their outcomes.

    Args:
        name: Name of the trials in the output.
        trial: Creates a wrong input and uses it. Returns whether the result is correct, or raises a UserError.
        short: Number of trials in the suite.

    Returns:
        Counts of: fine, clear (a UserError), silent (a wrong result), traceback, crash, hang.
    """
    counts: Counter[str] = Counter()
    failures, seed, count = [], 0, trials(short)
    while seed < count:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context('fork').Process(target=_run, args=(trial, range(seed, count), sender))
        child.start()
        sender.close()
        outcome, text = '', ''
        while seed < count:
            try:
                outcome, text = receiver.recv() if receiver.poll(SECONDS) else ('hang', '')
            except EOFError:
                child.join()
                outcome, text = 'crash', f'exit status {child.exitcode}'
            counts[outcome] += 1
            if outcome not in ('fine', 'clear'):
                failures.append(f'{name}, seed {seed}: {outcome} {text}')
            seed += 1
            if outcome in ('hang', 'crash'):
                break
        child.kill()
        child.join()
    print(f'\n{name}: {count} tried, {", ".join(f"{counts[key]} {key}" for key in sorted(counts))}')
    assert not failures, '\n'.join(failures[:10])
    return counts


def _run(trial, seeds, sender):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter('ignore')
    for seed in seeds:
        try:
            sender.send(('fine' if trial(Random(seed)) else 'silent', ''))
        except UserError:
            sender.send(('clear', ''))
        except BaseException:
            sender.send(('traceback', traceback.format_exc()))
    os._exit(0)
