"""The command `basicsr` (also `deeprftv2` and `python -m deeprftv2_plugin`)."""

import argparse
import atexit
import contextlib
import io
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Any, NoReturn

from deeprftv2_plugin import __version__
from deeprftv2_plugin.basicsr_bridge.pipelines import add_local_rank
from deeprftv2_plugin.cli import (
    check,
    compare,
    convert,
    deblur,
    demo,
    export,
    kernels,
    prepare,
    study,
    test,
    train,
)
from deeprftv2_plugin.utils.errors import STOPPED, DataWarning, Interrupted, UserError

COMMANDS = (train, test, check, prepare, deblur, demo, compare, kernels, study, convert, export)

_standard_format = warnings.formatwarning


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Command line without the program's name. Default: that of the process.

    Returns:
        int: Exit status: 0 on success; 1 after an error in the input, whose message is printed to stderr; 75 if
            SIGTERM, SIGHUP or SIGUSR1 stopped a training after its state was saved; 130 after Ctrl-C.

    Raises:
        SystemExit: The command line is not valid (status 2), or requests help or versions.
    """
    # Waiting threads that spin slow down other processes on the same cores.
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')  # must be set before PyTorch is imported
    if argv is None:  # the process runs only this command
        # Prevents child processes of Python from importing modules from the working directory, which may contain data.
        os.environ.setdefault('PYTHONSAFEPATH', '1')
    open_closed_streams()
    args = make_parser().parse_args(argv)
    warnings.formatwarning = format_warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # for file names that are not UTF-8, as stderr does
    status = run(args)
    if argv is None and 'RANK' in os.environ:
        exit_without_finalization(status)
    return status


def run(args: argparse.Namespace) -> int:
    """Run the command of parsed arguments, print its error and return the exit status."""
    try:
        args.run(args)
    except UserError as error:
        say(f'error: {message_of(error)}')
        return 1
    except Interrupted as signal:
        say(str(signal))
        return signal.status
    except KeyboardInterrupt:
        say('interrupted')
        return STOPPED
    return 0


def open_closed_streams() -> None:
    """Replace stdout and stderr if they are closed, since libraries write to them without checking that they exist."""
    for name in ('stdout', 'stderr'):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, 'w'))  # noqa: SIM115


def exit_without_finalization(status: int) -> NoReturn:
    """End one of several processes after the exit handlers.

    Threads of gloo outlive the process group. If one of them still holds a tensor while Python shuts down, the process
    aborts, and the launcher takes a finished or a stopped training for a failed one.
    """
    atexit._run_exitfuncs()
    flush()
    os._exit(status)


def say(text: str) -> None:
    """Print to stderr. Errors are ignored, since a closed terminal must not change the exit status."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)
    flush()


def flush() -> None:
    """Flush stdout and stderr. A stream that cannot be written is replaced."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # otherwise flushing at exit fails, too


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the program with all subcommands."""
    parser = argparse.ArgumentParser(
        prog='basicsr',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='BasicSR with the DeepRFTv2 plugin: train and test image deblurring networks with option files.',
        epilog='example:\n  basicsr train -opt options/train_gopro.yml\n\n'
        'Run basicsr COMMAND --help for details. The program is also available as deeprftv2 and, for torchrun,\n'
        'as python -m deeprftv2_plugin.',
    )
    parser.add_argument('--version', action=Version, help='print versions and the device')
    add_local_rank(parser)
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.__name__.rpartition('.')[2],
            help=command.HELP,
            description=f'{command.HELP[0].upper()}{command.HELP[1:]}.',
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


class Version(argparse.Action):
    """Print the versions to include in a bug report."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
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


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a warning. A `DataWarning` is shown without the line of code."""
    if issubclass(category, DataWarning):
        return f'warning: {message}\n'
    return _standard_format(message, category, filename, lineno, line)


def message_of(error: UserError) -> str:
    """Return the message of an error without the traceback that PyTorch adds in a data loader worker."""
    text = str(error)
    if text.startswith('Caught UserError in '):
        text = text.rpartition(f'{UserError.__module__}.{UserError.__name__}: ')[2]
    return text.strip()
