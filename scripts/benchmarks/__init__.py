"""The parts of benchmark.py: what it measures, how, and what it makes of the figures."""
