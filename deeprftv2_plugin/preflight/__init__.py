"""Checks of a run before it begins. `basicsr check` prints their results."""
