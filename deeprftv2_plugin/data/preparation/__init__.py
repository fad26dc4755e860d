"""Prepare downloaded datasets for training, as LMDBs or folders of whole images or crops."""

from deeprftv2_plugin.data.preparation.archive import prepare_archive
from deeprftv2_plugin.data.preparation.quickstart import prepare_photographs
from deeprftv2_plugin.data.preparation.verification import verify

__all__ = ['prepare_archive', 'prepare_photographs', 'verify']
