"""Kernels and the autograd functions around them. Only the backend `triton` imports these modules: they need triton."""
