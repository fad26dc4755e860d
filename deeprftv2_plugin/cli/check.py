"""`basicsr check`: what can be known to be wrong before an iteration is spent."""

import contextlib
import io
import logging
import os
import sys
import warnings

from deeprftv2_plugin.utils.errors import UserError

HELP = 'tell what is wrong with an option file before a run begins'
EXAMPLES = """examples:
  basicsr check -opt options/train_gopro.yml
  basicsr check -opt options/train_gopro.yml --force_yml train:stages=~ datasets:train:gt_size=256
  WORLD_SIZE=8 basicsr check -opt options/train_gopro.yml

Checks options, data, checkpoints, schedule, effective batch, memory and disk of a training, or of a test where the file
has no section train, and makes no folder. The status is 1 where something must fail. WORLD_SIZE says on how many GPUs
the training will run, where that is not here."""


def add_arguments(parser):
    parser.add_argument('-opt', '--opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument(
        '--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help='override options, as in basicsr train'
    )


def run(args):
    """Prints the report while it comes in.

    Raises:
        UserError: The run would fail.
    """
    from deeprftv2_plugin.basicsr_bridge import registration

    registration.register()  # mends BasicSR, which what follows imports
    from deeprftv2_plugin.preflight.findings import Mark

    marks = []
    with alone_on_screen() as screen:
        for subject, finding in findings(args):
            marks.append(finding.mark)
            first, *further = finding.text.splitlines()
            print(f'{subject:<11} {finding.mark.value:<8} {first}', file=screen)
            print(*(f'{"":<20} {line}'.rstrip() + '\n' for line in further), sep='', end='', file=screen, flush=True)
    errors, doubts = marks.count(Mark.ERROR), marks.count(Mark.WARNING)
    if errors:
        raise UserError(f'{args.opt}: the run would fail ({errors} errors, {doubts} warnings)')


def findings(args):
    """Subjects and findings; where the options themselves are wrong, that alone."""
    from deeprftv2_plugin import config as options
    from deeprftv2_plugin.basicsr_bridge import pipelines as pipeline
    from deeprftv2_plugin.preflight.findings import error, ok
    from deeprftv2_plugin.preflight.report import report

    try:
        is_train = 'train' in options.load(args.opt, args.force_yml)
        opt = pipeline.prepare(args, is_train)
    except UserError as fault:
        yield 'options', error(str(fault))
        return
    bases = options.reading.parse_file(args.opt).get(options.reading.BASE) or []
    text = f'{os.path.basename(args.opt)}, a {"training" if is_train else "test"} of {opt["model_type"]}'
    if bases:
        text += f', on {", ".join([bases] if isinstance(bases, str) else bases)}'
    if args.force_yml:
        text += f', with {" ".join(args.force_yml)}'
    yield 'options', ok(text)
    yield from report(as_parsed(opt, is_train))


def as_parsed(opt, is_train):
    """The options with what BasicSR's parser adds to them."""
    from deeprftv2_plugin.basicsr_bridge.run_options import complete

    return complete(opt, os.getcwd(), is_train)


@contextlib.contextmanager
def alone_on_screen():
    """The screen, with whatever else writes to it silenced: BasicSR's log, and what networks and data sets print."""
    screen = sys.stdout
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield screen
    finally:
        logging.disable(logging.NOTSET)
