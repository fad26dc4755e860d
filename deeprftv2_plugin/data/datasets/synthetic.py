"""Sharp photographs that are blurred while they are read."""

import os

import numpy as np
import torch
from torch.utils.data import Dataset

from deeprftv2_plugin.data.blur.camera import blur_window
from deeprftv2_plugin.data.blur.kernels import BlurMixture, center_pad_or_crop, number_range
from deeprftv2_plugin.data.datasets.augmentation import Turn, crop_size, pad_to, random_window
from deeprftv2_plugin.data.layouts.pairs import find_images
from deeprftv2_plugin.data.storage.images import StoredImage, to_tensor
from deeprftv2_plugin.data.storage.photographs import HELD_OUT, TRAINING, photograph
from deeprftv2_plugin.utils.errors import UserError


class SyntheticBlurDataset(Dataset):
    """Any sharp pictures under camera shake, defocus and other blur, in linear light and with sensor noise.

    Every sample has its own crop, blur and noise, which the seed and the index decide and nothing else. In
    training a sample is a random crop, flipped and turned before it is blurred; in validation and test it is
    the whole picture. Pictures of 8 and of 16 bit keep their depth: both versions are rounded to it.

    A sample is that of `PairedDeblurDataset` with one more: `kernel`, (1, k, k) of float32 with sum one, where
    k is the same in all samples, the side of the largest kernel of `blurs`. Where the blur changes from place
    to place, it is the kernel in the middle of the crop. Its middle pixel, which is its centroid (of kernels
    from files, to half a pixel), is where a pixel of `gt` is in `lq`: the two are not shifted.

    Args:
        opt: The options of the data set, of which are read
            phase: 'train', 'val' or 'test'; BasicSR sets it.
            dataroot_gt: Sharp pictures: an LMDB, a folder or a pattern, as in `find_pairs`. When absent, the
                photographs of scikit-image: in validation and test those that training does not see.
            gt_size: Crop in training, in pixels or [height, width]. It is read for every sample and may change.
            samples_per_image: How often a picture counts, each time blurred anew; 100 in training and else 1
                when absent.
            seed: Decides crops, blurs and noise; 0 when absent.
            blurs: Kinds of blur to draw from, each with a type, its arguments and a weight: `CameraShake`,
                `Defocus`, `Gaussian`, `KernelFiles`; see `kernels.BlurMixture`. [{type: CameraShake}] when absent.
            saturation: Least and greatest intensity of lights that the photograph shows as white; see
                `blur.overexpose`. When absent, white is 1.
            shot_noise: Variance of the photon noise at full intensity; 1e-4 when absent.
            read_noise: Standard deviation of the read noise in linear light; 5e-4 when absent.
            use_flip, use_rot: As in `PairedDeblurDataset`.

    Raises:
        UserError: An option is wrong, or there are no pictures. On reading: a picture is damaged, or training
            has no gt_size.
    """

    def __init__(self, opt: dict):
        self.opt = opt  # BasicSR asks a data set for its name
        self.training = opt['phase'] == 'train'
        if self.training and 'gt_size' in opt:
            crop_size(opt['gt_size'])
        self.use_flip, self.use_rot = opt.get('use_flip', True), opt.get('use_rot', True)
        self.samples_per_image = opt.get('samples_per_image', 100 if self.training else 1)
        self.seed = opt.get('seed', 0)
        self.blurs = BlurMixture(opt.get('blurs', [{'type': 'CameraShake'}]))
        self.saturation = number_range('saturation', opt.get('saturation', [1, 1]), least=1)
        self.noise = {'shot': opt.get('shot_noise', 1e-4), 'read': opt.get('read_noise', 5e-4)}
        for kind, amount in self.noise.items():
            if type(amount) not in (int, float) or not 0 <= amount < 1:
                raise UserError(f'{kind}_noise is {amount!r}: give a number from 0 to 1')
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
        blur = self.blurs(rng)
        size = crop_size(self.opt.get('gt_size')) if self.training else sharp.shape[:2]
        if self.training:
            sharp = Turn(size[0] == size[1], self.use_flip, self.use_rot, rng)(sharp)
        window = random_window(sharp.shape, size, rng)
        gain = rng.uniform(*self.saturation) if self.saturation[1] > 1 else 1
        kernels = blur(sharp[window].shape[:2])
        pair = blur_window(sharp, window, kernels, rng, gain, **self.noise)
        blurry, sharp = (pad_to(image, size) for image in pair)
        middle = kernels[kernels.shape[0] // 2, kernels.shape[1] // 2] if kernels.ndim == 4 else kernels
        stem, suffix = os.path.splitext(name)
        return {
            'lq': to_tensor(blurry),
            'gt': to_tensor(sharp),
            'kernel': torch.from_numpy(center_pad_or_crop(middle, self.blurs.side))[None],
            'lq_path': f'{stem}_{repeat:03d}{suffix}',
            'gt_path': str(stored),
        }
