"""Sharp photographs that are blurred while they are read."""

import os

import numpy as np
import torch
from torch.utils.data import Dataset

from deeprftv2_plugin.data.blur import blur_window
from deeprftv2_plugin.data.crops import Turn, crop_size, pad_to, random_window
from deeprftv2_plugin.data.images import StoredImage, to_tensor
from deeprftv2_plugin.data.pairs import find_images
from deeprftv2_plugin.data.photographs import HELD_OUT, TRAINING, photograph
from deeprftv2_plugin.data.trajectory import random_kernel
from deeprftv2_plugin.errors import UserError


class SyntheticBlurDataset(Dataset):
    """Any sharp pictures under random camera shake, in linear light and with sensor noise.

    Every sample has its own crop, kernel and noise, which the seed and the index decide and nothing else. In
    training a sample is a random crop, flipped and turned before it is blurred; in validation and test it is
    the whole picture.

    A sample is that of `PairedDeblurDataset` with one more: `kernel`, (1, k, k) of float32 with sum one and
    k = kernel_size(kernel_length[1]).

    Args:
        opt: The options of the data set, of which are read
            phase: 'train', 'val' or 'test'; BasicSR sets it.
            dataroot_gt: Sharp pictures: an LMDB, a folder or a pattern, as in `find_pairs`. When absent, the
                photographs of scikit-image: in validation and test those that training does not see.
            gt_size: Crop in training, in pixels or [height, width].
            samples_per_image: How often a picture counts, each time blurred anew; 100 in training and else 1
                when absent.
            seed: Decides crops, kernels and noise; 0 when absent.
            kernel_length: Least and greatest length of the camera's path in pixels; [4, 10] when absent.
            kernel_anxiety: Least and greatest anxiety of `camera_shake`; [0, 0.003] when absent.
            shot_noise: Variance of the photon noise at full intensity; 1e-4 when absent.
            read_noise: Standard deviation of the read noise in linear light; 5e-4 when absent.
            use_flip, use_rot: As in `PairedDeblurDataset`.

    Raises:
        UserError: An option is wrong, or there are no pictures. On reading: a picture is damaged.
    """

    def __init__(self, opt: dict):
        self.opt = opt  # BasicSR asks a data set for its name
        self.training = opt['phase'] == 'train'
        self.crop = crop_size(opt.get('gt_size')) if self.training else None
        self.use_flip, self.use_rot = opt.get('use_flip', True), opt.get('use_rot', True)
        self.samples_per_image = opt.get('samples_per_image', 100 if self.training else 1)
        self.seed = opt.get('seed', 0)
        self.length = _range('kernel_length', opt.get('kernel_length', [4, 10]), least=1)
        self.anxiety = _range('kernel_anxiety', opt.get('kernel_anxiety', [0, 0.003]), least=0)
        self.noise = {'shot': opt.get('shot_noise', 1e-4), 'read': opt.get('read_noise', 5e-4)}
        if opt.get('dataroot_gt'):
            images = find_images(opt['dataroot_gt'])
        else:
            names = TRAINING if self.training else HELD_OUT
            images = {name: StoredImage(str(photograph(name))) for name in names}
        self.images = list(images.items())

    def __len__(self) -> int:
        return len(self.images) * self.samples_per_image

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f'sample {index} of {len(self)}')
        rng = np.random.default_rng([self.seed, index])
        repeat, number = divmod(index, len(self.images))
        name, stored = self.images[number]
        sharp = stored.read()
        if sharp.dtype != np.uint8:
            sharp = np.rint(sharp / 257).astype(np.uint8)
        kernel = random_kernel(rng, self.length, self.anxiety)
        size = self.crop or sharp.shape[:2]
        if self.training:
            sharp = Turn(size[0] == size[1], self.use_flip, self.use_rot, rng)(sharp)
        window = random_window(sharp.shape, size, rng)
        pair = blur_window(sharp, window, kernel, rng, **self.noise)
        blurry, sharp = (pad_to(image, size) for image in pair)
        stem, suffix = os.path.splitext(name)
        return {
            'lq': to_tensor(blurry),
            'gt': to_tensor(sharp),
            'kernel': torch.from_numpy(kernel)[None],
            'lq_path': f'{stem}_{repeat:03d}{suffix}',
            'gt_path': str(stored),
        }


def _range(key: str, value: object, least: float) -> tuple[float, float]:
    numbers = isinstance(value, list | tuple) and all(type(n) in (int, float) for n in value)
    if not numbers or len(value) != 2 or not least <= value[0] <= value[1]:
        raise UserError(f'{key} is {value!r}: give [least, greatest], two numbers from {least} up')
    return tuple(value)
