"""Options and data of a small BasicSR run."""

import copy

import cv2
import numpy as np
import yaml

OPTIONS = {
    'name': 'small',
    'model_type': 'SRModel',
    'scale': 1,
    'num_gpu': 'auto',
    'manual_seed': 1,
    'datasets': {
        'train': {
            'name': 'noise',
            'type': 'PairedImageDataset',
            'dataroot_lq': 'lq',
            'dataroot_gt': 'gt',
            'io_backend': {'type': 'disk'},
            'gt_size': 16,
            'use_hflip': True,
            'use_rot': True,
            'batch_size_per_gpu': 1,
            'num_worker_per_gpu': 0,
        },
        'val': {
            'name': 'more-noise',
            'type': 'PairedImageDataset',
            'dataroot_lq': 'lq',
            'dataroot_gt': 'gt',
            'io_backend': {'type': 'disk'},
        },
    },
    'network_g': {'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 1},
    'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
    'train': {
        'optim_g': {'type': 'Adam', 'lr': 1e-3},
        'scheduler': {'type': 'MultiStepLR', 'milestones': [2]},
        'total_iter': 4,
        'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0},
    },
    'val': {
        'val_freq': 4,
        'save_img': False,
        'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}},
    },
    'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
}


def options():
    """Return a copy of the options of a training run with BasicSR's own classes."""
    return copy.deepcopy(OPTIONS)


def test_options():
    """Return the options of a test of the same network."""
    opt = options()
    opt['datasets'] = {'test': opt['datasets']['val']}
    del opt['train'], opt['logger'], opt['val']['val_freq']
    opt['val']['suffix'] = None
    return opt


test_options.__test__ = False  # otherwise pytest would collect it because of its name


def write(folder, opt, name='small.yml'):
    """Write an option file and return its path relative to the folder."""
    (folder / name).write_text(yaml.safe_dump(opt, sort_keys=False))
    return name


def write_images(folder, count=4, size=(24, 28)):
    """Write noise images to the folders lq and gt."""
    random = np.random.default_rng(0)
    for part in ('lq', 'gt'):
        (folder / part).mkdir()
        for number in range(count):
            cv2.imwrite(str(folder / part / f'{number}.png'), random.integers(0, 256, (*size, 3), np.uint8))
