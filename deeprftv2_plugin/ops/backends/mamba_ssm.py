"""The selective scan of the package mamba-ssm, a CUDA kernel that is compiled for one version of PyTorch."""

from functools import cache

from deeprftv2_plugin.ops.precision import at_least_float32


@cache
def why_not():
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn  # noqa: F401
    except ImportError as error:
        return f'the package mamba-ssm cannot be imported ({error})'
    return None


def takes(x):
    return x.is_cuda and x.dtype.itemsize <= 4


def selective_scan(u, delta, A, B, C, D, delta_bias):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    inputs = (at_least_float32(t).contiguous() for t in (u, delta, A, B, C, D))
    return selective_scan_fn(*inputs, delta_bias=at_least_float32(delta_bias), delta_softplus=True)
