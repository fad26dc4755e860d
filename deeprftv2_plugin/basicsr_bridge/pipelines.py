"""What `train` and `test` share: BasicSR's flags, and the way to BasicSR's pipelines."""

import argparse
import contextlib
import logging
import os
import time

from deeprftv2_plugin import config as options
from deeprftv2_plugin.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser):
    """BasicSR's own flags with their meaning."""
    parser.add_argument('-opt', '--opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm'),
        default='none',
        help='what started several processes; torchrun is recognised without it',
    )
    parser.add_argument(
        '--auto_resume', action='store_true', help='go on from the newest training state of the experiment'
    )
    parser.add_argument(
        '--debug',
        action='store_true',
        help='prefix the name with debug_, log every iteration, save and validate every 8th',
    )
    parser.add_argument(
        '--force_yml',
        nargs='+',
        default=[],
        metavar='KEY:KEY=VALUE',
        help='override options; values are YAML, as in train:total_iter=1000 network_g:variant=S',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)


def run(args: argparse.Namespace, is_train: bool):
    """Checks the options, then runs BasicSR's pipeline on them with the working directory as root.

    Raises:
        UserError: anything that can be seen to be wrong before BasicSR makes a folder.
    """
    if args.local_rank is not None:  # python -m torch.distributed.launch passes it, torchrun sets it
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    started_by = options.launcher(args.launcher)
    opt = prepare(args, is_train)
    if is_train and not args.debug:
        require_logs(opt)
    flags = [f'--{flag}' for flag in ('auto_resume', 'debug') if getattr(args, flag)]
    forget_logger()
    with contextlib.ExitStack() as stack:
        if is_train:
            from deeprftv2_plugin.basicsr_bridge.training_run import Run

            notes = restarts()
            if notes and not args.auto_resume:
                flags.append('--auto_resume')
            stack.enter_context(Run(opt.get('manual_seed') is not None, notes).in_basicsr())
        stack.enter_context(options.read_by_basicsr(opt, args.opt, started_by, flags))
        pipeline_of(is_train)(os.getcwd())
    end_processes()


def require_logs(opt):
    """Raises the UserError for a package that is missing where a training is to be logged with it."""
    from deeprftv2_plugin.preflight.findings import Mark
    from deeprftv2_plugin.preflight.logs import check_logs

    for finding in check_logs(opt):
        if finding.mark is Mark.ERROR:
            raise UserError(finding.text)


def pipeline_of(is_train):
    """BasicSR's, for training or for a test."""
    from basicsr.test import test_pipeline
    from basicsr.train import train_pipeline

    return train_pipeline if is_train else test_pipeline


def restarts() -> list[str]:
    """A sentence for each launcher that has started this training before, so that it is to be gone on with."""
    launchers = {'TORCHELASTIC_RESTART_COUNT': 'torchrun', 'SLURM_RESTART_COUNT': 'SLURM'}
    counts = {launcher: int(os.environ.get(variable) or 0) for variable, launcher in launchers.items()}
    return [f'{launcher} has restarted this training: restart {count}.' for launcher, count in counts.items() if count]


def prepare(args, is_train):
    """Reads and checks the options. All processes of a node find the same, so the first one says it."""
    from deeprftv2_plugin.basicsr_bridge import registration  # here, so that --help need not wait for them
    from deeprftv2_plugin.config import validation as checks
    from deeprftv2_plugin.ops import backends
    from deeprftv2_plugin.preflight import options as preflight

    try:
        opt = options.load(args.opt, args.force_yml)
        registration.register()
        registration.import_modules(opt.get('custom_imports') or [])
        checks.validate(opt, args.opt, is_train, args.force_yml)
        preflight.check(opt, args.opt)
        backends.describe()  # raises where one is forced that cannot be used
    except UserError:
        if os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0')) != '0':
            time.sleep(10)  # the first process ends with the sentence, and the launcher ends this one
        raise
    return opt


def forget_logger():
    """BasicSR opens its log file only where nothing has asked for its logger before."""
    from basicsr.utils import logger

    logger.initialized_logger.pop('basicsr', None)
    handlers = logging.getLogger('basicsr').handlers
    while handlers:
        handlers.pop().close()


def end_processes():
    """Takes leave of the other processes, which wait in vain otherwise."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
