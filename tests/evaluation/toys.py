"""A small dataset, and a model that tests on it."""

import csv
import json

import torch
from torch.utils.data import DataLoader, Dataset

from tests.models.toys import make_model, options

METRICS = {'psnr': {'type': 'psnr', 'better': 'higher'}, 'mae': {'type': 'mae', 'better': 'lower'}}


class Frames(Dataset):
    """Frames whose noise increases with the index."""

    def __init__(self, names, with_gt=True, size=16):
        self.opt, self.names, self.with_gt, self.size = {'name': 'frames'}, names, with_gt, size

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        gt = torch.rand(3, self.size, self.size, generator=generator)
        lq = gt + 0.01 * (1 + index) * torch.randn(gt.shape, generator=generator)
        return {'lq': lq, 'lq_path': self.names[index], **({'gt': gt} if self.with_gt else {})}


def make_test_model(folder, metrics=METRICS, **val):
    opt = options('TwoScales')
    opt['path'].update(results_root=str(folder / 'results'), visualization=str(folder / 'results/visualization'))
    del opt['train']
    opt.update(is_train=False, val={'metrics': metrics, 'pbar': False, **val})
    return make_model(opt=opt)


def run(folder, dataset, metrics=METRICS, **val):
    """Test on a dataset and return the folder of the reports."""
    make_test_model(folder, metrics, **val).validation(DataLoader(dataset), 'test', None, val.get('save_img', False))
    return folder / 'results'


def read(results, name='frames'):
    with open(results / f'{name}.csv', newline='') as file:
        return list(csv.DictReader(file)), json.loads((results / f'{name}.json').read_text())


NAMES = ['A_0001', 'A_0002', 'B_0001', 'B_0002', 'B_0003']


class Greedy(torch.nn.Module):
    """A network that runs out of memory above a number of pixels."""

    def __init__(self, pixels):
        super().__init__()
        self.pixels = pixels

    def forward(self, x):
        if x.shape[-2] * x.shape[-1] > self.pixels:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.\nMore about it')
        return x
