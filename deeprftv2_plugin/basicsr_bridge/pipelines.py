"""The common part of `train` and `test`: BasicSR's flags, and the calls of its pipelines."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator

from deeprftv2_plugin import config


def add_arguments(parser: argparse.ArgumentParser, is_train: bool) -> None:
    """Add BasicSR's flags for a training or a test."""
    add_options(parser)
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm'),
        default='none',
        help='launcher of several processes; torchrun is recognized without this flag',
    )
    if is_train:
        parser.add_argument(
            '--auto_resume', action='store_true', help='resume from the newest training state of the experiment'
        )
    effect = 'prefix the name with debug_, list the modules of networks'
    if is_train:
        effect += ', log every iteration, save and validate every 8 iterations'
    parser.add_argument('--debug', action='store_true', help=effect)
    add_local_rank(parser, default=argparse.SUPPRESS)  # keeps a value given before the subcommand


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the option file and its overrides."""
    parser.add_argument('-opt', '--opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument(
        '--force_yml',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY:KEY=VALUE',
        help='override options; values are YAML, for example train:total_iter=1000 network_g:variant=S',
    )


def add_local_rank(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the flag that ``python -m torch.distributed.launch`` puts before all other arguments."""
    parser.add_argument('--local_rank', '--local-rank', type=int, default=default, help=argparse.SUPPRESS)


def run(args: argparse.Namespace, is_train: bool, root: str | None = None) -> None:
    """Validate the options, then run BasicSR's pipeline.

    Args:
        args: The flags of `add_arguments`.
        is_train: Whether to train or to test.
        root: Folder of ``experiments`` and ``results``. Default: the working directory.

    Raises:
        UserError: The options are not valid, or the run fails in a way that the user can fix.
    """
    from deeprftv2_plugin.basicsr_bridge.distributed import (
        end_processes,
        errors_reported_once,
        lost_connections_explained,
    )

    if args.local_rank is not None:  # python -m torch.distributed.launch passes it, torchrun sets it
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    with errors_reported_once():
        opt = load(args, is_train)

    from basicsr.test import test_pipeline
    from basicsr.train import train_pipeline

    from deeprftv2_plugin.basicsr_bridge.evaluation_run import EvaluationRun
    from deeprftv2_plugin.basicsr_bridge.training_run import TrainingRun

    notes = restarts() if is_train else []
    resumes = is_train and (args.auto_resume or bool(notes))
    handed = handed_over(opt, args.opt, config.launcher(args.launcher), resumes, args.debug)
    with lost_connections_explained(), handed:
        if is_train:
            with TrainingRun(opt.get('manual_seed') is not None, notes, args.opt).in_basicsr():
                train_pipeline(root or os.getcwd())
        else:
            with EvaluationRun(args.opt, args.html).in_basicsr():
                test_pipeline(root or os.getcwd())
    end_processes()


def run_file(path: str, is_train: bool, root: str, html: str | None = None) -> None:
    """Run an option file in this process, without a launcher. A training resumes from its newest state.

    Args:
        path: The file.
        is_train: As in `run`.
        root: As in `run`.
        html: Folder for the page of a test; '' for the folder of the results; None for no page.

    Raises:
        UserError: As in `run`.
    """
    flags = {'opt': path, 'force_yml': [], 'launcher': 'none', 'auto_resume': True, 'debug': False, 'local_rank': None}
    run(argparse.Namespace(**flags, html=html), is_train, root)


@contextlib.contextmanager
def handed_over(opt: dict, path: str, launcher: str, auto_resume: bool, debug: bool) -> Iterator[None]:
    """Let BasicSR's pipelines use these options instead of parsing a command line, within the block.

    Args:
        opt: Resolved options.
        path: The option file. The resolved options are saved in the experiment under its name.
        launcher: 'none', 'pytorch' or 'slurm'.
        auto_resume: BasicSR's flag ``--auto_resume``.
        debug: BasicSR's flag ``--debug``.
    """
    from basicsr import test, train
    from basicsr.utils import get_root_logger
    from basicsr.utils.dist_util import master_only

    from deeprftv2_plugin.basicsr_bridge import agreement, loggers
    from deeprftv2_plugin.basicsr_bridge.replacement import replace
    from deeprftv2_plugin.basicsr_bridge.run_options import complete
    from deeprftv2_plugin.utils.atomic_io import write_whole

    def parse_options(root_path: str, is_train: bool = True) -> tuple[dict, argparse.Namespace]:
        completed = complete(opt, root_path, is_train, launcher, auto_resume, debug)
        agreement.require_same_options(opt, debug=debug)
        return completed, argparse.Namespace(opt=path)

    @master_only
    def copy_opt_file(opt_file: str, experiments_root: str) -> None:
        head = f'# GENERATE TIME: {time.asctime()}\n# CMD:\n# {" ".join(sys.argv)}\n\n'
        text = (head + config.reading.dump(opt)).encode(errors='backslashreplace')  # not always UTF-8
        path = os.path.join(experiments_root, os.path.basename(opt_file))
        try:
            write_whole(path, text)
        except OSError as error:
            get_root_logger().warning(
                f'The options cannot be saved to {path}: {error.strerror or error}. The run continues without it.'
            )

    reason = 'options with _base_ and overrides, checked before the run'
    with (
        replace(train, 'parse_options', parse_options, reason),
        replace(test, 'parse_options', parse_options, reason),
        replace(train, 'copy_opt_file', copy_opt_file, 'the resolved options are saved, without _base_'),
        loggers.tolerated_failures(train),
        loggers.tolerated_failures(test),
    ):
        yield


def restarts() -> list[str]:
    """Return a message for each launcher that has restarted this training."""
    launchers = {'TORCHELASTIC_RESTART_COUNT': 'torchrun', 'SLURM_RESTART_COUNT': 'SLURM'}
    counts = {launcher: int(os.environ.get(variable) or 0) for variable, launcher in launchers.items()}
    return [f'{launcher} has restarted this training: restart {count}.' for launcher, count in counts.items() if count]


def load(args: argparse.Namespace, is_train: bool | None = None) -> dict:
    """Read and validate the options, and register the classes that they use.

    Args:
        args: Contains `opt`, the option file, and `force_yml`, the overrides.
        is_train: Whether the options are for training; None to decide by whether they have a section `train`.

    Raises:
        UserError: The options are not valid.
    """
    # imported here since they import torch, which is not needed for --help
    from deeprftv2_plugin.basicsr_bridge import registration, spandrel_archs
    from deeprftv2_plugin.config import validation
    from deeprftv2_plugin.ops import backends

    opt = config.load(args.opt, args.force_yml)
    registration.register()
    spandrel_archs.register_for(opt)
    registration.import_modules(opt.get('custom_imports') or [])
    validation.validate(opt, args.opt, 'train' in opt if is_train is None else is_train, args.force_yml)
    backends.describe()  # raises if a forced backend cannot be used
    return opt
