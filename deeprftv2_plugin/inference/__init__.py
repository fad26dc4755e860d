"""Restore images of any size with a network."""

from deeprftv2_plugin.inference.restoration import check_tiles, restore
from deeprftv2_plugin.inference.restorer import Restorer, load

__all__ = ['Restorer', 'check_tiles', 'load', 'restore']
