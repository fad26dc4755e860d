"""The command `basicsr` (also `deeprftv2` and `python -m deeprftv2_plugin`)."""

import argparse
import os
import platform
import sys
from importlib import metadata

from deeprftv2_plugin import __version__
from deeprftv2_plugin.cli import check, convert, prepare, test, train
from deeprftv2_plugin.utils.errors import STOPPED, Interrupted, UserError

COMMANDS = (train, test, check, prepare, convert)


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The words after the program's name; those of the process by default.

    Returns:
        int: Exit status: 0; 1 after wrong input (its sentence on stderr); 75 where SIGTERM or SIGUSR1 ended a training,
            whose state is saved; 130 after Ctrl-C. A wrong command line exits with 2 by itself.
    """
    # Threads that spin while they wait take the cores from those they wait for, where others compute here too.
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')  # read when PyTorch is imported, which is still to come
    args = make_parser().parse_args(argv)
    try:
        args.run(args)
    except UserError as error:
        print(f'error: {sentence(error)}', file=sys.stderr)
        return 1
    except Interrupted as signal:
        print(signal, file=sys.stderr)
        return signal.status
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return STOPPED
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line of the program and of every subcommand."""
    parser = argparse.ArgumentParser(
        prog='basicsr',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='BasicSR with the plugin DeepRFTv2: trains and tests image deblurring by an option file.',
        epilog='example:\n  basicsr train -opt options/train_gopro.yml\n\n'
        'basicsr COMMAND --help says more about a command. The program is also called deeprftv2, and\n'
        'python -m deeprftv2_plugin (for torchrun).',
    )
    parser.add_argument('--version', action=Version, help='print the versions of everything involved and the device')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.__name__.rpartition('.')[2],
            help=command.HELP,
            description=command.HELP.capitalize() + '.',
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


class Version(argparse.Action):
    """Prints the versions that a report of a fault needs."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, nargs=0, **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        import torch

        from deeprftv2_plugin.ops import backends

        try:
            basicsr = metadata.version('basicsr')
        except metadata.PackageNotFoundError:
            basicsr = 'not installed'
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
        print(
            f'deeprftv2-plugin {__version__}\nBasicSR {basicsr}\ntorch {torch.__version__}\n'
            f'Python {platform.python_version()}\ndevice {device}\nbackends {backends.describe()}'
        )
        parser.exit()


def sentence(error: UserError) -> str:
    """The message alone, where torch has wrapped the error of a data loader's worker in a traceback."""
    text = str(error)
    if text.startswith('Caught UserError in '):
        text = text.rpartition(f'{UserError.__module__}.{UserError.__name__}: ')[2]
    return text.strip()
