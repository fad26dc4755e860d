"""What `train` and `test` share: BasicSR's flags, and the calls of BasicSR's pipelines."""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator

from deeprftv2_plugin import config
from deeprftv2_plugin.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add BasicSR's own flags."""
    parser.add_argument('-opt', '--opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm'),
        default='none',
        help='launcher of several processes; torchrun is recognized without this flag',
    )
    parser.add_argument(
        '--auto_resume', action='store_true', help='resume from the newest training state of the experiment'
    )
    parser.add_argument(
        '--debug',
        action='store_true',
        help='prefix the name with debug_, log every iteration, save and validate every 8 iterations',
    )
    parser.add_argument(
        '--force_yml',
        nargs='+',
        default=[],
        metavar='KEY:KEY=VALUE',
        help='override options; values are YAML, for example train:total_iter=1000 network_g:variant=S',
    )
    add_local_rank(parser, default=argparse.SUPPRESS)  # keeps a value given before the subcommand


def add_local_rank(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the flag that ``python -m torch.distributed.launch`` puts before all other arguments."""
    parser.add_argument('--local_rank', '--local-rank', type=int, default=default, help=argparse.SUPPRESS)


def run(args: argparse.Namespace, is_train: bool) -> None:
    """Check the options, then run BasicSR's pipeline with the working directory as root.

    Raises:
        UserError: Something is wrong that can be found before BasicSR creates a folder.
    """
    if args.local_rank is not None:  # python -m torch.distributed.launch passes it, torchrun sets it
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    opt = prepare(args, is_train)
    forget_logger()

    from basicsr.test import test_pipeline
    from basicsr.train import train_pipeline

    from deeprftv2_plugin.basicsr_bridge.distributed import end_processes
    from deeprftv2_plugin.basicsr_bridge.training_run import TrainingRun

    notes = restarts() if is_train else []
    launcher = config.launcher(args.launcher)
    with handed_over(opt, args.opt, launcher, args.auto_resume or bool(notes), args.debug):
        if is_train:
            with TrainingRun(opt.get('manual_seed') is not None, notes).in_basicsr():
                train_pipeline(os.getcwd())
        else:
            test_pipeline(os.getcwd())
    end_processes()


@contextlib.contextmanager
def handed_over(opt: dict, path: str, launcher: str, auto_resume: bool, debug: bool) -> Iterator[None]:
    """Within the block, BasicSR's pipelines use these options instead of parsing a command line.

    Args:
        opt: Resolved options.
        path: The user's option file. The resolved options are saved in the experiment under its name.
        launcher: 'none', 'pytorch' or 'slurm'.
        auto_resume: BasicSR's flag ``--auto_resume``.
        debug: BasicSR's flag ``--debug``.
    """
    from basicsr import test, train
    from basicsr.utils.dist_util import master_only

    from deeprftv2_plugin.basicsr_bridge import agreement, loggers
    from deeprftv2_plugin.basicsr_bridge.replacement import replace
    from deeprftv2_plugin.basicsr_bridge.run_options import complete

    def parse_options(root_path: str, is_train: bool = True) -> tuple[dict, argparse.Namespace]:
        completed = complete(opt, root_path, is_train, launcher, auto_resume, debug)
        agreement.require_same_options(opt, debug=debug)
        return completed, argparse.Namespace(opt=path)

    @master_only
    def copy_opt_file(opt_file: str, experiments_root: str) -> None:
        with open(os.path.join(experiments_root, os.path.basename(opt_file)), 'w', encoding='utf-8') as file:
            file.write(f'# GENERATE TIME: {time.asctime()}\n# CMD:\n# {" ".join(sys.argv)}\n\n')
            file.write(config.reading.dump(opt))

    reason = 'options with _base_ and overrides, checked before the run'
    with (
        replace(train, 'parse_options', parse_options, reason),
        replace(test, 'parse_options', parse_options, reason),
        replace(train, 'copy_opt_file', copy_opt_file, 'the resolved options are saved, without _base_'),
        replace(test, 'build_dataset', agreement.build_dataset, 'all processes must see the same data'),
        loggers.tolerated_failures(train),
        loggers.tolerated_failures(test),
    ):
        yield


def restarts() -> list[str]:
    """Return a sentence for each launcher that has restarted this training."""
    launchers = {'TORCHELASTIC_RESTART_COUNT': 'torchrun', 'SLURM_RESTART_COUNT': 'SLURM'}
    counts = {launcher: int(os.environ.get(variable) or 0) for variable, launcher in launchers.items()}
    return [f'{launcher} has restarted this training: restart {count}.' for launcher, count in counts.items() if count]


def prepare(args: argparse.Namespace, is_train: bool) -> dict:
    """Read and check the options, and run the preflight checks.

    All processes of a node find the same errors, so the first one reports them. It alone runs the preflight checks;
    meanwhile the others wait for it in the initialization of torch.distributed.

    Raises:
        UserError: The options are wrong, or the run would fail.
    """
    first = os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) == '0'
    try:
        opt = load(args, is_train)
    except UserError:
        if not first:
            time.sleep(10)  # the first process exits with the message, and the launcher ends this one
        raise
    if first:
        from deeprftv2_plugin.basicsr_bridge.run_options import complete
        from deeprftv2_plugin.preflight.report import require

        require(complete(opt, os.getcwd(), is_train, debug=args.debug), args.opt)
    return opt


def load(args: argparse.Namespace, is_train: bool | None = None) -> dict:
    """Read and validate the options, and register what they need.

    Args:
        args: With `opt`, the option file, and `force_yml`, the overrides.
        is_train: Whether they are for training; None if the section `train` decides.

    Raises:
        UserError: The options are wrong.
    """
    from deeprftv2_plugin.basicsr_bridge import registration  # here, because --help should not wait for torch
    from deeprftv2_plugin.config import validation
    from deeprftv2_plugin.ops import backends

    opt = config.load(args.opt, args.force_yml)
    registration.register()
    registration.import_modules(opt.get('custom_imports') or [])
    validation.validate(opt, args.opt, 'train' in opt if is_train is None else is_train, args.force_yml)
    backends.describe()  # raises if a backend is forced that cannot be used
    return opt


def forget_logger() -> None:
    """Let BasicSR open a new log file. It does so only if its logger was not requested before."""
    from basicsr.utils import logger

    logger.initialized_logger.pop('basicsr', None)
    handlers = logging.getLogger('basicsr').handlers
    while handlers:
        handlers.pop().close()
