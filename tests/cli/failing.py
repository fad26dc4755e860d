"""A metric that fails, for `custom_imports`."""

from basicsr.utils.registry import METRIC_REGISTRY

calls = [0]


@METRIC_REGISTRY.register()
def sometimes(img, img2, failing):
    """Return 1, but fail in the calls with the given numbers. The checks before a run make the call number 0."""
    number, calls[0] = calls[0], calls[0] + 2
    if number in failing:
        raise LookupError('no such thing')
    return 1.0
