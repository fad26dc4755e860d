"""Helpers for every other subpackage: errors, atomic file writing, building objects by name."""
