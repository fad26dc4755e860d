"""Option files: read with inheritance, and checked key by key."""

from deeprftv2_plugin.config.reading import launcher, load

__all__ = ['launcher', 'load']
