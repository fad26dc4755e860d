"""A dataset with faults, for `custom_imports`."""

import os
import signal
import time
from pathlib import Path

from basicsr.utils.registry import DATASET_REGISTRY

from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset


@DATASET_REGISTRY.register()
class TroubledDataset(PairedDeblurDataset):
    """Dataset with NaN samples, a fatal sample and a sample that blocks.

    Options:
        poisoned: Indices of samples with a NaN.
        deadly: Number of the sample at which the process of rank 1 kills itself, unless torchrun has restarted it.
        misshapen: Number of the sample whose blurry image is narrower than the sharp one, which no loss takes.
        unreadable: Number of the sample that cannot be read.
        troubled_rank: Rank of the process with such samples.
        blocking: Number of the sample that creates the file `blocked` and then waits for ten minutes.
    """

    def __init__(self, opt):
        super().__init__(opt)
        self.poisoned, self.deadly = opt.get('poisoned') or [], opt.get('deadly')
        self.misshapen, self.unreadable = opt.get('misshapen'), opt.get('unreadable')
        self.troubled = os.environ.get('RANK', '0') == str(opt.get('troubled_rank', 0))
        self.blocking = opt.get('blocking')
        self.made = 0

    def __getitem__(self, index):
        self.made += 1
        first_start = os.environ.get('TORCHELASTIC_RESTART_COUNT') == '0'
        if self.made == self.deadly and first_start and os.environ.get('RANK') == '1':
            os.kill(os.getpid(), signal.SIGKILL)
        if self.made == self.blocking:
            Path('blocked').touch()
            time.sleep(600)
        if self.made == self.unreadable and self.troubled:
            raise OSError('it is on fire')
        sample = super().__getitem__(index)
        if self.made == self.misshapen and self.troubled:
            sample['lq'] = sample['lq'][..., 1:]
        if index in self.poisoned:
            sample['lq'][0, 0, 0] = float('nan')
        return sample
