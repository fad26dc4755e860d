"""Restore images of any size with a network."""

from deeprftv2_plugin.inference.restoration import check_tiles, restore

__all__ = ['check_tiles', 'restore']
