"""Pairs of a blurry and a sharp picture."""

from torch.utils.data import Dataset

from deeprftv2_plugin.data.crops import Turn, crop_size, pad_to, random_window
from deeprftv2_plugin.data.images import to_tensor
from deeprftv2_plugin.data.pairs import find_pairs
from deeprftv2_plugin.errors import UserError


class PairedDeblurDataset(Dataset):
    """Blurry and sharp pictures from LMDBs, folders, patterns or a list; `find_pairs` says how they pair.

    In training a sample is one random crop of both pictures, padded with zeros at the bottom and on the right
    where they are smaller, flipped and turned alike. In validation and test it is the whole picture.

    A sample has `lq` and `gt`, (3, H, W) of float32 in [0, 1], RGB; `lq_path`, the name of the pair, and
    `gt_path`. Where the sharp pictures are not known, `gt` and `gt_path` are absent.

    Args:
        opt: The options of the data set, of which are read
            phase: 'train', 'val' or 'test'; BasicSR sets it.
            dataroot_lq: Blurry pictures.
            dataroot_gt: Sharp pictures; may be absent in validation and test.
            meta_info_file: The list of pairs, for folders that are paired by one.
            gt_size: Crop in training, in pixels or [height, width].
            use_flip: Whether crops are flipped at random; true when absent.
            use_rot: Whether crops are turned at random, square ones by quarters; true when absent.

    Raises:
        UserError: An option is missing or wrong, a root or picture is missing, or a picture has no partner.
            On reading: a picture is damaged, or the two of a pair differ in size.
    """

    def __init__(self, opt: dict):
        self.opt = opt  # BasicSR asks a data set for its name
        self.training = opt['phase'] == 'train'
        root_lq, root_gt = opt.get('dataroot_lq'), opt.get('dataroot_gt')
        name = opt.get('name', type(self).__name__)
        if not root_lq:
            raise UserError(f'data set {name}: dataroot_lq, the place of the blurry pictures, is missing')
        if self.training and not root_gt:
            raise UserError(f'data set {name}: dataroot_gt, the place of the sharp pictures, is missing')
        self.crop = crop_size(opt.get('gt_size')) if self.training else None
        self.use_flip, self.use_rot = opt.get('use_flip', True), opt.get('use_rot', True)
        self.pairs = find_pairs(root_lq, root_gt, opt.get('meta_info_file'))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        pair = self.pairs[index]
        images = {'lq': pair.lq.read()}
        if pair.gt:
            images['gt'] = pair.gt.read()
            if images['lq'].shape != images['gt'].shape:
                sizes = ['{1}x{0}'.format(*image.shape) for image in images.values()]
                raise UserError(
                    f'the pictures of a pair differ in size: {pair.lq} has {sizes[0]} pixels, {pair.gt} has {sizes[1]}'
                )
        if self.training:
            window = random_window(images['lq'].shape, self.crop)
            turn = Turn(self.crop[0] == self.crop[1], self.use_flip, self.use_rot)
            images = {key: turn(pad_to(image[window], self.crop)) for key, image in images.items()}
        sample = {key: to_tensor(image) for key, image in images.items()}
        sample['lq_path'] = pair.name
        if pair.gt:
            sample['gt_path'] = str(pair.gt)
        return sample
