"""Synthetic blur: kernels, convolution and a camera model."""
