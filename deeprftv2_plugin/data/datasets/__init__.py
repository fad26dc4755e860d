"""Data sets that BasicSR builds by their names."""
