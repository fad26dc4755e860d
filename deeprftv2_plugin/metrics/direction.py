"""Whether higher or lower values of a metric are better."""

import importlib
from collections.abc import Mapping
from typing import Any

from deeprftv2_plugin.metrics.perceptual import TYPES, load_pyiqa
from deeprftv2_plugin.utils.errors import UserError

LOWER = ('mae', 'error_ratio', 'calculate_niqe')
"""Metrics of this package and of BasicSR of which lower values are better."""


def better_of(settings: Mapping[str, Any]) -> str:
    """Return which values of a metric are better, 'higher' or 'lower'.

    Args:
        settings: A section of `val.metrics`. If it does not have the key `better`, the metric determines the result.
            Metrics of other packages except pyiqa count as 'higher'.
    """
    if 'better' in settings:
        return settings['better']
    kind = settings.get('type')
    lower = kind in LOWER or (kind in TYPES.values() and _lower_in_pyiqa(str(settings.get('name'))))
    return 'lower' if lower else 'higher'


def _lower_in_pyiqa(name: str) -> bool:
    """Return whether lower values of a metric of pyiqa are better; False if pyiqa does not have the metric."""
    try:
        load_pyiqa(name)
    except UserError:  # raised again when the metric is computed
        return False
    known = importlib.import_module('pyiqa.default_model_configs').DEFAULT_CONFIGS
    return known.get(name, {}).get('lower_better', False)
