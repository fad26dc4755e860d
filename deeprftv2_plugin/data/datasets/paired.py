"""A dataset of blurry and sharp image pairs."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from deeprftv2_plugin.data.blur.kernel_files import read_kernels
from deeprftv2_plugin.data.datasets.augmentation import FlipAndRotate, crop_size, pad_to, random_window
from deeprftv2_plugin.data.layouts.known import recognize
from deeprftv2_plugin.data.layouts.pairs import KernelFile, Pair, check_equal_size, find_pairs, warn_of_transparency
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.utils.errors import UserError


class PairedDeblurDataset(Dataset):
    """Blurry and sharp images from an unpacked dataset, or from LMDBs, folders, patterns or a list.

    `dataroot` is the folder of a dataset with a known layout (see `layouts.known.recognize`). Otherwise, `dataroot_lq`
    and `dataroot_gt` are the roots of the blurry and the sharp images, paired as described in `find_pairs`.

    In training, a sample is a random crop of both images with the same random flip and rotation. Images smaller than
    the crop are padded with zeros at the bottom and right. In validation and test, a sample is the whole image.

    A sample has `lq` and `gt`, tensors (3, H, W) of float32 in [0, 1], RGB; `lq_path`, the name of the pair; and
    `gt_path`. Without sharp images, `gt` and `gt_path` are missing. Whole 16-bit images have `depth`, 16, so that the
    result is saved with the bit depth of the sharp image, or of the blurry one if there is no sharp image. If the
    dataset has them, whole images also have `kernel`, the true kernel (k, k) of float32, and `trajectory`, the paths of
    all sharp images along the trajectory of the camera, both for metrics.

    Args:
        opt: The dataset options, with the keys
            phase: 'train', 'val' or 'test', set by BasicSR.
            dataroot: Folder of an unpacked dataset.
            split: Part of the dataset, such as 'train', 'test' or 'val_300'. Default: the name of the phase.
            dataroot_lq: Blurry images.
            dataroot_gt: Sharp images, optional in validation and test.
            meta_info_file: List of pairs, for folders that need one.
            gt_size: Crop in training, in pixels or [height, width]. Read for every sample, so that training stages can
                change it. It may be missing until the first sample.
            use_flip: Whether to flip crops at random. Default: true.
            use_rot: Whether to rotate crops at random, square ones by multiples of 90 degrees. Default: true.

    Raises:
        UserError: An option is missing or invalid, a root or image is missing, or an image has no partner. When a
            sample is read: an image is damaged, or the images of a pair differ in size.
    """

    def __init__(self, opt: dict[str, Any]):
        self.opt = opt  # BasicSR reads the name of a dataset from its options
        self.training = opt['phase'] == 'train'
        if self.training and opt.get('gt_size') is not None:
            crop_size(opt['gt_size'])
        self.use_flip, self.use_rot = opt.get('use_flip', True), opt.get('use_rot', True)
        self.pairs = self._find_pairs()
        warn_of_transparency(self.pairs)

    def _find_pairs(self) -> list[Pair]:
        root, root_lq, root_gt = self.opt.get('dataroot'), self.opt.get('dataroot_lq'), self.opt.get('dataroot_gt')
        split, list_file = self.opt.get('split'), self.opt.get('meta_info_file')
        label = f'dataset {self.opt.get("name", type(self).__name__)}'
        if root:
            if root_lq or root_gt or list_file:
                raise UserError(
                    f'{label}: dataroot cannot be combined with dataroot_lq, dataroot_gt or meta_info_file. Set '
                    'either the folder of a whole dataset or the folders of its blurry and sharp images'
                )
            dataset = recognize(root)
            return dataset.pairs(split or dataset.default_split(self.opt['phase']))
        if split:
            raise UserError(f'{label}: split is {split!r}, which needs dataroot, but dataroot is missing')
        if not root_lq:
            raise UserError(
                f'{label}: dataroot and dataroot_lq are missing. Set dataroot, the folder of an unpacked dataset, or '
                'dataroot_lq, the folder of the blurry images'
            )
        if self.training and not root_gt:
            raise UserError(f'{label}: dataroot_gt is missing. Training needs sharp images')
        return find_pairs(root_lq, root_gt, list_file)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.pairs[index]
        images = {'lq': pair.lq.read()}
        if pair.gt:
            images['gt'] = pair.gt.read()
            check_equal_size(pair, **images)
        if self.training:
            size = crop_size(self.opt.get('gt_size'))
            window = random_window(images['lq'].shape, size)
            augment = FlipAndRotate(size[0] == size[1], self.use_flip, self.use_rot)
            images = {key: augment(pad_to(image[window], size)) for key, image in images.items()}
        sample: dict[str, Any] = {key: to_tensor(image) for key, image in images.items()}
        if not self.training and images.get('gt', images['lq']).dtype == np.uint16:
            sample['depth'] = 16
        sample['lq_path'] = pair.name
        if pair.gt:
            sample['gt_path'] = str(pair.gt)
        if not self.training and pair.kernel:
            sample['kernel'] = torch.from_numpy(read_kernel(pair.kernel))
        if not self.training and pair.trajectory:
            sample['trajectory'] = [image.path for image in pair.trajectory]
        return sample


def read_kernel(file: KernelFile) -> np.ndarray:
    """Return a kernel (k, k) of float32, normalized as in `read_kernels`.

    The blurry image is the convolution of the sharp image with it.

    Raises:
        UserError: The file cannot be read or contains several kernels.
    """
    kernels = read_kernels(file.path, file.variable)
    if len(kernels) != 1:
        raise UserError(f'{file.path} has {len(kernels)} kernels, expected one')
    return np.ascontiguousarray(kernels[0][::-1, ::-1]) if file.turned else kernels[0]
