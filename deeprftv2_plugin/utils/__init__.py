"""Helpers for all other subpackages: errors, atomic file writing, building objects by name."""
