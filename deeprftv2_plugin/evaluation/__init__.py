"""Validation over processes, reports, protocol, the worst images, and the log of metrics."""
