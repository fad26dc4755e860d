"""Data sets: readers of pairs on disk, synthetic camera shake, and the writing of LMDBs."""

from deeprftv2_plugin.data.paired_dataset import PairedDeblurDataset
from deeprftv2_plugin.data.synthetic_dataset import SyntheticBlurDataset

__all__ = ['PairedDeblurDataset', 'SyntheticBlurDataset']
