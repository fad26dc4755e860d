"""Check that the data, checkpoints and packages in the options exist."""

import glob
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from deeprftv2_plugin.config.section import SUFFIX, Section
from deeprftv2_plugin.data.layouts.download_hints import describe_missing
from deeprftv2_plugin.data.storage.lmdb_reader import META_INFO, check_length, is_lmdb
from deeprftv2_plugin.data.storage.text_files import read_lines
from deeprftv2_plugin.preflight.findings import Finding, error, ok, warning
from deeprftv2_plugin.training.run_folder import problem_with
from deeprftv2_plugin.utils.errors import UserError, shortened
from deeprftv2_plugin.utils.regular_files import ABSENT, why_absent

PAIRED = ('PairedDeblurDataset', 'PairedImageDataset')
"""Datasets whose pairs consist of two files."""


def check_roots(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Report every folder, database, pattern or list of the datasets that does not exist, in one message.

    Also report incomplete databases and lists that cannot be read, with which BasicSR's own datasets would crash or
    hang.
    """
    missing = {}
    found = Section(opt['datasets'], '', ('datasets',)).children()
    for dataset in found:
        found += dataset.items('parts')
        for key in [key for key in dataset.values if key.startswith(('dataroot', 'meta_info'))]:
            value = dataset.values[key]
            for root in value if isinstance(value, list) else [value]:
                place = '.'.join((*dataset.place, key))
                if root is not None and not _exists(str(root)):
                    reason = why_absent(os.path.expanduser(str(root)))
                    if reason == ABSENT:
                        missing[place] = str(root)
                    else:
                        yield error(f'{place} is {shortened(str(root))}, which {reason}')
                elif root is not None:
                    try:
                        _require_readable(key, os.path.expanduser(root))
                    except UserError as fault:
                        yield error(str(fault))
    if missing:
        yield error(describe_missing(missing))


def check_sources(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that blurry and sharp images of pairs are different files."""
    for phase, dataset in opt['datasets'].items():
        for part in dataset.get('parts') or [dataset]:
            roots = [root for key in ('dataroot_lq', 'dataroot_gt') if isinstance(root := part.get(key), str)]
            paired = part.get('type', '').removesuffix(SUFFIX) in PAIRED and part.get('filename_tmpl', '{}') == '{}'
            same = len({os.path.realpath(os.path.expanduser(root)) for root in roots}) < len(roots)
            if paired and same:
                text = f'{dataset["name"]} ({phase}): dataroot_lq and dataroot_gt are both {roots[0]}'
                yield error(f'{text}: the network would learn to change nothing') if phase == 'train' else warning(text)


def check_folders(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that the run can write to its folders and rename those of an earlier run."""
    if not opt['is_train']:
        folders = [opt['path']['results_root']]
    else:
        folders = [opt['path']['experiments_root']]
        if opt['logger'].get('use_tb_logger') and 'debug' not in opt['name']:
            folders.append(os.path.join(opt.get('root_path', ''), 'tb_logger', opt['name']))
    for folder in folders:
        problem = problem_with(folder, resume=opt['path'].get('resume_state') is not None)
        if problem is not None:
            yield error(problem)


def check_logging(opt: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that TensorBoard and wandb are installed if the options use them."""
    settings = opt['logger']
    board, project = settings.get('use_tb_logger'), (settings.get('wandb') or {}).get('project')
    if 'debug' in opt['name']:  # BasicSR does not log such runs to TensorBoard or wandb
        board = project = None
    if project is not None and not board:
        yield error('logger.wandb.project needs logger.use_tb_logger: true')
    wanted = {
        'use_tb_logger': 'tensorboard' if board else None,
        'wandb.project': 'wandb' if project is not None else None,
    }
    for key, package in wanted.items():
        if package and find_spec(package) is None:
            yield error(f'logger.{key} is set, but {package} is not installed: pip install {package}')
        elif package:
            yield ok(f'{package} is installed')


def _require_readable(key: str, root: str) -> None:
    """Check a list or database; folders and patterns are searched by the datasets."""
    if is_lmdb(root):
        check_length(root)
        root = os.path.join(root, META_INFO)
    elif not key.startswith('meta_info'):
        return
    if os.path.exists(root):
        read_lines(root, 'the list of images')


def _exists(root: str) -> bool:
    root = os.path.expanduser(root)
    pattern = '*'.join(map(glob.escape, root.split('*')))  # a star is the only special character
    return next(glob.iglob(pattern), None) is not None
