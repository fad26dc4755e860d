"""Stages, optimizers, averages, signals, flags shared by processes, and saving."""
