"""A slow dataset, so that a training can be disturbed at a chosen step."""

import time

from basicsr.utils.registry import DATASET_REGISTRY

from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset


@DATASET_REGISTRY.register()
class SlowDataset(PairedDeblurDataset):
    """A `PairedDeblurDataset` that takes `seconds` for each sample."""

    def __getitem__(self, index):
        time.sleep(self.opt['seconds'])
        return super().__getitem__(index)
