"""Triton kernels and the functions that launch them. Import these modules only where triton is installed."""
