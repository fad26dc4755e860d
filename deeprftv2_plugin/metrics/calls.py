"""How BasicSR calls a metric."""

import functools
import inspect


def metric(function):
    """Lets BasicSR call a metric with all that it has, while a misspelt option stays an error.

    BasicSR hands on every key of the option file but `type`, so `better` too, which only its model reads, and
    a ground truth, `img2`, to metrics that judge a single picture. What the function does not take of these
    two is left out.
    """
    left_out = {'better', 'img2'}.difference(inspect.signature(function).parameters)

    @functools.wraps(function)
    def called(*pictures, **options):
        return function(*pictures, **{key: value for key, value in options.items() if key not in left_out})

    return called
