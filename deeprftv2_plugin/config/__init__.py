"""Option files: reading with inheritance, the schema of all options, and validation against it."""

from deeprftv2_plugin.config.reading import launcher, load

__all__ = ['launcher', 'load']
