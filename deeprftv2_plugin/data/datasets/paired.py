"""Pairs of a blurry and a sharp picture."""

import numpy as np
from torch.utils.data import Dataset

from deeprftv2_plugin.data.datasets.augmentation import Turn, crop_size, pad_to, random_window
from deeprftv2_plugin.data.layouts.known import recognize
from deeprftv2_plugin.data.layouts.pairs import Pair, check_equal_size, find_pairs
from deeprftv2_plugin.data.storage.images import to_tensor
from deeprftv2_plugin.utils.errors import UserError


class PairedDeblurDataset(Dataset):
    """Blurry and sharp pictures of a data set as it was unpacked, or from LMDBs, folders, patterns or a list.

    A data set is named as a whole, by `dataroot`, where `layouts.recognize` knows its layout; otherwise its two
    sides are, by `dataroot_lq` and `dataroot_gt`, and `find_pairs` says how they pair.

    In training a sample is one random crop of both pictures, padded with zeros at the bottom and on the right
    where they are smaller, flipped and turned alike. In validation and test it is the whole picture.

    A sample has `lq` and `gt`, (3, H, W) of float32 in [0, 1], RGB; `lq_path`, the name of the pair, and
    `gt_path`. Where the sharp pictures are not known, `gt` and `gt_path` are absent. A whole picture of 16 bit has
    `depth`, 16, which is that of the sharp one, if it is known: the result is to be rounded to as much.

    Args:
        opt: The options of the data set, of which are read
            phase: 'train', 'val' or 'test'; BasicSR sets it.
            dataroot: The folder of a data set as it was unpacked.
            split: Which part of it, such as 'train', 'test' or 'val_300'; that of the phase's name when absent.
            dataroot_lq: Blurry pictures.
            dataroot_gt: Sharp pictures; may be absent in validation and test.
            meta_info_file: The list of pairs, for folders that are paired by one.
            gt_size: Crop in training, in pixels or [height, width]. It is looked up whenever a sample is made, so
                that a training in stages can change it; before the first sample it may be absent.
            use_flip: Whether crops are flipped at random; true when absent.
            use_rot: Whether crops are turned at random, square ones by quarters; true when absent.

    Raises:
        UserError: An option is missing or wrong, a root or picture is missing, or a picture has no partner.
            On reading: a picture is damaged, or the two of a pair differ in size.
    """

    def __init__(self, opt: dict):
        self.opt = opt  # BasicSR asks a data set for its name
        self.training = opt['phase'] == 'train'
        if self.training and opt.get('gt_size') is not None:
            crop_size(opt['gt_size'])
        self.use_flip, self.use_rot = opt.get('use_flip', True), opt.get('use_rot', True)
        self.pairs = self._find_pairs()

    def _find_pairs(self) -> list[Pair]:
        root, root_lq, root_gt = self.opt.get('dataroot'), self.opt.get('dataroot_lq'), self.opt.get('dataroot_gt')
        split, list_file = self.opt.get('split'), self.opt.get('meta_info_file')
        place = f'data set {self.opt.get("name", type(self).__name__)}'
        if root:
            if root_lq or root_gt or list_file:
                raise UserError(
                    f'{place}: dataroot names a whole data set, dataroot_lq, dataroot_gt and meta_info_file name the '
                    'sides of one: give either the first or the others'
                )
            layout = recognize(root)
            return layout.pairs(split or layout.default_split(self.opt['phase']))
        if split:
            raise UserError(f'{place}: split is {split!r}, a part of what dataroot names, but dataroot is missing')
        if not root_lq:
            raise UserError(
                f'{place}: dataroot, the folder of a data set as it was unpacked, is missing, and so is dataroot_lq, '
                'the place of blurry pictures: give one of them'
            )
        if self.training and not root_gt:
            raise UserError(f'{place}: dataroot_gt, the place of the sharp pictures, is missing')
        return find_pairs(root_lq, root_gt, list_file)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        pair = self.pairs[index]
        images = {'lq': pair.lq.read()}
        if pair.gt:
            images['gt'] = pair.gt.read()
            check_equal_size(pair, **images)
        if self.training:
            size = crop_size(self.opt.get('gt_size'))
            window = random_window(images['lq'].shape, size)
            turn = Turn(size[0] == size[1], self.use_flip, self.use_rot)
            images = {key: turn(pad_to(image[window], size)) for key, image in images.items()}
        sample = {key: to_tensor(image) for key, image in images.items()}
        if not self.training and images.get('gt', images['lq']).dtype == np.uint16:
            sample['depth'] = 16
        sample['lq_path'] = pair.name
        if pair.gt:
            sample['gt_path'] = str(pair.gt)
        return sample
