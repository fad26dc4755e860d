"""Checks before a run. `basicsr check` prints their results."""
