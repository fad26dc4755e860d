"""A dataset that blurs sharp images on the fly."""

import os
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from deeprftv2_plugin.data.blur.camera import blur_window, compress
from deeprftv2_plugin.data.blur.kernels import BlurMixture, center_pad_or_crop, number_range
from deeprftv2_plugin.data.datasets.augmentation import FlipAndRotate, crop_size, pad_to, random_window
from deeprftv2_plugin.data.layouts.pairs import find_images
from deeprftv2_plugin.data.storage.images import StoredImage, to_tensor
from deeprftv2_plugin.data.storage.photographs import HELD_OUT, TRAINING, photograph
from deeprftv2_plugin.utils.errors import UserError


class SyntheticBlurDataset(Dataset):
    """Sharp images with camera shake, defocus or other blur, applied in linear light, sensor noise and JPEG artifacts.

    The crop, blur, noise and JPEG quality of a sample depend only on the seed and the index. In training, a sample is a
    random crop that is flipped and rotated before it is blurred. In validation and test, it is the whole image. Images
    keep their bit depth of 8 or 16: the blurry and the sharp version are rounded to it.

    A sample has the keys of `PairedDeblurDataset` and `kernel`, (1, k, k) of float32 with sum one. k is the same for
    all samples, the side of the largest kernel of `blurs`. If the blur varies across the image, `kernel` is the kernel
    at the center of the crop. The centroid of a kernel is its center pixel (within half a pixel for kernels from
    files), so that `lq` is not shifted relative to `gt`.

    Args:
        opt: The dataset options, with the keys
            phase: 'train', 'val' or 'test', set by BasicSR.
            dataroot_gt: Sharp images: an LMDB, a folder or a pattern, as in `find_pairs`. Default: the photographs of
                scikit-image, of which some are held out for validation and test.
            gt_size: Crop in training, in pixels or [height, width]. Read for every sample, so that it may change.
            samples_per_image: Number of samples per image, each with another blur. Default: 100 in training, else 1.
            seed: Seed of all random choices. Default: 0.
            blurs: Blur sources, each with its type, arguments and weight: `CameraShake`, `Motion`, `Defocus`,
                `Gaussian`, `KernelFiles`. See `kernels.BlurMixture`. Default: [{type: CameraShake}].
            saturation: Range [minimum, maximum] of the intensity of clipped highlights, see `camera.overexpose`.
                Default: [1, 1].
            shot_noise: Range of the variance of the photon noise at full intensity. Default: [1e-4, 1e-4].
            read_noise: Range of the standard deviation of the read noise in linear light. Default: [5e-4, 5e-4].
            jpeg_quality: Range of the quality, from 1 to 100, of the JPEG compression of blurry images. Default: None,
                no compression. In training, a crop may begin anywhere in a JPEG block, see `camera.compress`.
            jpeg_share: Fraction of the samples that are compressed. Default: 1.
            use_flip, use_rot: See `PairedDeblurDataset`.

    Raises:
        UserError: An option is invalid, or there are no images. When a sample is read: an image is damaged, or gt_size
            is missing in training.
    """

    def __init__(self, opt: dict[str, Any]):
        self.opt = opt  # BasicSR reads the name of a dataset from its options
        self.training = opt['phase'] == 'train'
        if self.training and opt.get('gt_size') is not None:
            crop_size(opt['gt_size'])
        self.use_flip, self.use_rot = opt.get('use_flip', True), opt.get('use_rot', True)
        self.samples_per_image = opt.get('samples_per_image') or (100 if self.training else 1)
        self.seed = opt.get('seed', 0)
        self.blurs = BlurMixture(opt.get('blurs', [{'type': 'CameraShake'}]))
        self.saturation = number_range('saturation', opt.get('saturation', [1, 1]), least=1)
        self.noise = {
            'shot': number_range('shot_noise', opt.get('shot_noise', [1e-4, 1e-4]), least=0, most=1),
            'read': number_range('read_noise', opt.get('read_noise', [5e-4, 5e-4]), least=0, most=1),
        }
        self.jpeg_quality = opt.get('jpeg_quality')
        if self.jpeg_quality is not None:
            self.jpeg_quality = number_range('jpeg_quality', self.jpeg_quality, least=1, most=100)
        self.jpeg_share = opt.get('jpeg_share', 1)
        if type(self.jpeg_share) not in (int, float) or not 0 <= self.jpeg_share <= 1:
            raise UserError(f'jpeg_share is {self.jpeg_share!r}, expected a number in [0, 1]')
        if opt.get('dataroot_gt'):
            images = find_images(opt['dataroot_gt'])
        else:
            names = TRAINING if self.training else HELD_OUT
            images = {name: StoredImage(str(photograph(name))) for name in names}
        self.images = list(images.items())

    def __len__(self) -> int:
        return len(self.images) * self.samples_per_image

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f'index {index} is out of range for {len(self)} samples')
        rng = np.random.default_rng([self.seed, index])
        repeat, number = divmod(index, len(self.images))
        name, stored = self.images[number]
        sharp = stored.read()
        blur = self.blurs(rng)
        size = crop_size(self.opt.get('gt_size')) if self.training else sharp.shape[:2]
        if self.training:
            sharp = FlipAndRotate(size[0] == size[1], self.use_flip, self.use_rot, rng)(sharp)
        window = random_window(sharp.shape, size, rng)
        gain = rng.uniform(*self.saturation) if self.saturation[1] > 1 else 1
        kernels = blur(sharp[window].shape[:2])
        noise = {kind: rng.uniform(*amounts) for kind, amounts in self.noise.items()}
        blurry, sharp = blur_window(sharp, window, kernels, rng, gain, **noise)
        if self.jpeg_quality and rng.random() < self.jpeg_share:
            quality = round(rng.uniform(*self.jpeg_quality))
            top, left = rng.integers(0, 16, 2).tolist() if self.training else (0, 0)
            blurry = compress(blurry, quality, (top, left))
        blurry, sharp = (pad_to(image, size) for image in (blurry, sharp))
        center = kernels[kernels.shape[0] // 2, kernels.shape[1] // 2] if kernels.ndim == 4 else kernels
        stem, suffix = os.path.splitext(name)
        return {
            'lq': to_tensor(blurry),
            'gt': to_tensor(sharp),
            'kernel': torch.from_numpy(center_pad_or_crop(center, self.blurs.side))[None],
            'lq_path': f'{stem}_{repeat:03d}{suffix}',
            'gt_path': str(stored),
        }
