"""Complete the options of a file like BasicSR's option parser.

``basicsr.utils.options.parse_options`` accepts only a command line and a YAML file that it reads itself. `complete`
takes options that have already been read. A test compares both.
"""

import copy
import os
import random
from typing import Any

import torch
from basicsr.utils import set_random_seed
from basicsr.utils.dist_util import get_dist_info

from deeprftv2_plugin.basicsr_bridge.distributed import init_dist

DEBUG_INTERVALS = {'val': {'val_freq': 8}, 'logger': {'print_freq': 1, 'save_checkpoint_freq': 8}}


def complete(
    options: dict,
    root: str,
    is_train: bool,
    launcher: str = 'none',
    auto_resume: bool = False,
    debug: bool = False,
) -> dict[str, Any]:
    """Return the options for BasicSR's pipelines, and seed the random number generators.

    Args:
        options: Resolved options of a file. They are not changed.
        root: Folder of ``experiments`` and ``results``.
        is_train: Whether the options are for training.
        launcher: 'none', 'pytorch' or 'slurm'. The last two initialize torch.distributed.
        auto_resume: BasicSR's flag ``--auto_resume``.
        debug: BasicSR's flag ``--debug``.

    Raises:
        UserError: torch.distributed cannot be initialized.
    """
    opt = copy.deepcopy(options)
    opt['dist'] = launcher != 'none'
    if opt['dist']:
        init_dist(launcher, **{'use_gpu': opt['num_gpu'] != 0, **(opt.get('dist_params') or {})})
    opt['rank'], opt['world_size'] = get_dist_info()
    if opt.get('manual_seed') is None:
        opt['manual_seed'] = random.randint(1, 10000)
    set_random_seed(opt['manual_seed'] + opt['rank'])
    opt['auto_resume'], opt['is_train'] = auto_resume, is_train
    if debug and not opt['name'].startswith('debug'):
        opt['name'] = f'debug_{opt["name"]}'
    if opt['num_gpu'] == 'auto':
        opt['num_gpu'] = torch.cuda.device_count()
    for phase, dataset in opt['datasets'].items():
        _complete_dataset(dataset, phase, opt)
    _complete_paths(opt, root)
    if is_train and 'debug' in opt['name']:
        for section, intervals in DEBUG_INTERVALS.items():
            if opt.get(section) is not None:
                opt[section].update(intervals)
    return opt


def _complete_dataset(dataset: dict, phase: str, opt: dict) -> None:
    dataset['phase'] = phase.split('_')[0]  # val_2 is a second dataset for val
    if 'scale' in opt:
        dataset['scale'] = opt['scale']
    for key in ('dataroot_gt', 'dataroot_lq'):
        if isinstance(dataset.get(key), str):
            dataset[key] = os.path.expanduser(dataset[key])


def _complete_paths(opt: dict, root: str) -> None:
    if opt.get('path') is None:
        opt['path'] = {}
    paths = opt['path']
    for key, value in paths.items():
        if value is not None and ('resume_state' in key or 'pretrain_network' in key):
            paths[key] = os.path.expanduser(value)
    for key in [key for key in opt if key.startswith('network_')]:
        # BasicSR's models read 'params' if this is absent; None reads the average if there is one
        paths.setdefault(key.replace('network', 'param_key', 1), None)
    if opt['is_train']:
        folder = paths['experiments_root'] = os.path.join(root, 'experiments', opt['name'])
        paths.update({key: os.path.join(folder, key) for key in ('models', 'training_states')})
    else:
        folder = paths['results_root'] = os.path.join(root, 'results', opt['name'])
    paths.update(log=folder, visualization=os.path.join(folder, 'visualization'))
