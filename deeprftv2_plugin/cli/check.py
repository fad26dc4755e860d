"""`basicsr check`: validate the configuration before training."""

import argparse
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deeprftv2_plugin.basicsr_bridge import pipelines
from deeprftv2_plugin.utils.errors import SlowdownWarning, UserError

if TYPE_CHECKING:
    from deeprftv2_plugin.preflight.findings import Finding

HELP = 'validate an option file, its data and its checkpoints before a run'
EXAMPLES = """examples:
  basicsr check -opt options/train_gopro.yml
  basicsr check -opt options/train_gopro.yml --force_yml train:stages=~ datasets:train:gt_size=256
  WORLD_SIZE=8 basicsr check -opt options/train_gopro.yml

Checks the options, data, checkpoints, schedule, effective batch size, memory and disk space of a training, or of a test
if the file has no section train, and runs network, losses and metrics on a small input. Creates no folder. The exit
status is 1 if the run would fail. Set WORLD_SIZE to the number of GPUs if the training will run on another machine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags shared with `basicsr train`."""
    pipelines.add_options(parser)


def run(args: argparse.Namespace) -> None:
    """Print each finding as soon as it is known.

    Raises:
        UserError: The run would fail.
    """
    from deeprftv2_plugin.basicsr_bridge import registration

    registration.register()  # patches BasicSR for the following imports
    from deeprftv2_plugin.preflight.findings import Mark
    from deeprftv2_plugin.preflight.report import quiet

    marks = []
    with quiet() as screen:
        for subject, finding in findings(args):
            marks.append(finding.mark)
            first, *further = finding.text.splitlines()
            print(f'{subject:<11} {finding.mark.value:<8} {first}', file=screen)
            print(*(f'{"":<20} {line}'.rstrip() + '\n' for line in further), sep='', end='', file=screen, flush=True)
    errors, doubts = marks.count(Mark.ERROR), marks.count(Mark.WARNING)
    if errors:
        raise UserError(f'{args.opt}: the run would fail (errors: {errors}, warnings: {doubts})')


def findings(args: argparse.Namespace) -> Iterator[tuple[str, 'Finding']]:
    """Yield the subject and the finding of each check, or only an error if the options are not valid."""
    from deeprftv2_plugin.basicsr_bridge.run_options import complete
    from deeprftv2_plugin.config import reading
    from deeprftv2_plugin.preflight.findings import error, ok, warning
    from deeprftv2_plugin.preflight.report import report

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always', UserWarning)
            opt = pipelines.load(args)
    except UserError as fault:
        yield 'options', error(str(fault))
        return
    is_train = 'train' in opt
    bases = reading.bases_of(reading.parse_file(args.opt), args.opt)
    text = f'{os.path.basename(args.opt)}, a {"training" if is_train else "test"} of {opt["model_type"]}'
    if bases:
        text += f', on {", ".join(bases)}'
    if args.force_yml:
        text += f', with {" ".join(args.force_yml)}'
    yield 'options', ok(text)
    for each in caught:
        if issubclass(each.category, SlowdownWarning):
            yield 'backend', warning(str(each.message))
        elif issubclass(each.category, UserWarning) and args.opt in str(each.message):
            yield 'options', warning(str(each.message))
    yield from report(complete(opt, os.getcwd(), is_train), thorough=True)
