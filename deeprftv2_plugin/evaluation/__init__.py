"""Distributed validation, test reports, protocols, worst images, and the metrics log."""
