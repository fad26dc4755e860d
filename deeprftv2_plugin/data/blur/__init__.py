"""Synthetic blur: kernels, convolution, and what a camera does to a picture."""
