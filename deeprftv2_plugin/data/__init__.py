"""Datasets: image pairs on disk, synthetic blur, mixtures of both, and the preparation of downloaded archives."""

from deeprftv2_plugin.data.datasets.mixed import MixedDataset
from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
from deeprftv2_plugin.data.datasets.synthetic import SyntheticBlurDataset

__all__ = ['MixedDataset', 'PairedDeblurDataset', 'SyntheticBlurDataset']
