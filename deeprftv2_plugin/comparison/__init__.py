"""Comparisons of networks: size, operations, time, memory and quality, under equal conditions."""
