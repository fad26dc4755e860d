"""Option files: read with inheritance, checked key by key, and handed to BasicSR."""

from deeprftv2_plugin.config.reading import launcher, load, read_by_basicsr

__all__ = ['launcher', 'load', 'read_by_basicsr']
