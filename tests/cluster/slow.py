"""A dataset that takes its time, so that a training can be disturbed at a chosen step."""

import time

from basicsr.utils.registry import DATASET_REGISTRY

from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset


@DATASET_REGISTRY.register()
class SlowDataset(PairedDeblurDataset):
    """`PairedDeblurDataset` that reads a sample in `seconds`."""

    def __getitem__(self, index):
        time.sleep(self.opt['seconds'])
        return super().__getitem__(index)
