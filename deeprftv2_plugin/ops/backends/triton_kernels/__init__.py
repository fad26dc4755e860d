"""Triton kernels and the functions that launch them. Import these modules only if triton is installed."""
