"""A data set that makes trouble, for `custom_imports`."""

import os
import signal

from basicsr.utils.registry import DATASET_REGISTRY

from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset


@DATASET_REGISTRY.register()
class TroubledDataset(PairedDeblurDataset):
    """Pictures of which some are not numbers, and one sample is deadly for the second process at its first start."""

    def __init__(self, opt):
        super().__init__(opt)
        self.poisoned, self.deadly = opt.get('poisoned') or [], opt.get('deadly')
        self.made = 0

    def __getitem__(self, index):
        self.made += 1
        first_start = os.environ.get('TORCHELASTIC_RESTART_COUNT') == '0'
        if self.made == self.deadly and first_start and os.environ.get('RANK') == '1':
            os.kill(os.getpid(), signal.SIGKILL)
        sample = super().__getitem__(index)
        if index in self.poisoned:
            sample['lq'][0, 0, 0] = float('nan')
        return sample
