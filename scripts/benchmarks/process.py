"""A fresh process for every case, so that its peak memory is its own and its failure is nobody else's."""

import multiprocessing

from benchmarks.plan import Case, Setting, Skip
from deeprftv2_plugin.utils.errors import UserError


def measure(case: Case, setting: Setting) -> dict:
    """The row of a case: its figures, or under 'skipped' or 'error' the reason why there are none."""
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, case, setting))
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        process.join()
        found = {'error': f'the process ended with status {process.exitcode}; -9 is what happens without free memory'}
    process.join()
    return {'benchmark': case.benchmark, 'label': case.label, 'case': case.key, **found}


def _work(sender, case, setting):
    import torch

    torch.manual_seed(0)
    try:
        found = case.run(setting, **case.key)
    except Skip as reason:
        found = {'skipped': str(reason)}
    except UserError as error:
        found = {'error': str(error)}
    except Exception as error:  # whatever it is: the other cases can still be measured
        found = {'error': f'{type(error).__name__}: {str(error).partition(chr(10))[0]}'}
    sender.send(found)
