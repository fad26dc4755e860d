"""Data sets: readers of pairs on disk, synthetic camera shake, and the writing of LMDBs."""

from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
from deeprftv2_plugin.data.datasets.synthetic import SyntheticBlurDataset

__all__ = ['PairedDeblurDataset', 'SyntheticBlurDataset']
