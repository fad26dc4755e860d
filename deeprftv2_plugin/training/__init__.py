"""Stages, optimizers, weight averages, signals, distributed flags, and saving."""
