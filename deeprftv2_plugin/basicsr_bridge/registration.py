"""The one list of what is added to BasicSR's registries."""

import importlib
import inspect
import os
import sys
from importlib.metadata import entry_points

from deeprftv2_plugin.basicsr_bridge import patches as compat
from deeprftv2_plugin.utils.errors import UserError

GROUP = 'basicsr.plugins'
_registered = False


def parts():
    """What goes into which of BasicSR's registries: pairs of a registry and the classes or functions for it."""
    from basicsr.utils import registry

    from deeprftv2_plugin.archs import DeepRFTv2
    from deeprftv2_plugin.basicsr_bridge.losses import MultiScaleLoss
    from deeprftv2_plugin.data.datasets.mixed import MixedDataset
    from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
    from deeprftv2_plugin.data.datasets.synthetic import SyntheticBlurDataset
    from deeprftv2_plugin.layers import FourierKernelEstimator
    from deeprftv2_plugin.losses import FFTL1Loss, FocalFrequencyLoss, FourierLoss
    from deeprftv2_plugin.metrics import (
        aligned_psnr,
        aligned_ssim,
        mae,
        psnr,
        pyiqa_full_reference,
        pyiqa_no_reference,
        ssim,
        ssim_3d,
    )
    from deeprftv2_plugin.models import DeepRFTv2Model

    return (
        (registry.ARCH_REGISTRY, (DeepRFTv2, FourierKernelEstimator)),
        (registry.LOSS_REGISTRY, (FourierLoss, FFTL1Loss, FocalFrequencyLoss, MultiScaleLoss)),
        (registry.MODEL_REGISTRY, (DeepRFTv2Model,)),
        (registry.DATASET_REGISTRY, (PairedDeblurDataset, SyntheticBlurDataset, MixedDataset)),
        (
            registry.METRIC_REGISTRY,
            (psnr, ssim, ssim_3d, aligned_psnr, aligned_ssim, mae, pyiqa_full_reference, pyiqa_no_reference),
        ),
    )


def register():
    """Mends BasicSR, adds what is here to its registries, and loads other packages' plugins; does so once.

    Raises:
        UserError: BasicSR is missing or hidden, a name is taken, or a plugin fails.
    """
    global _registered
    if _registered:
        return
    compat.apply()
    for registry, classes in parts():
        for cls in classes:
            add(registry, cls)
    load_plugins()
    _registered = True


def add(registry, cls):
    """Adds a class or function under its name, unless it is there already; UserError where the name is another's."""
    taken = dict(iter(registry)).get(cls.__name__)
    if taken is None:
        registry.register(cls)
    elif taken is not cls:
        raise UserError(
            f'{cls.__name__} of {cls.__module__} cannot be registered: {taken.__module__} has taken '
            'the name. Rename one of the two.'
        )


def load_plugins():
    """Loads the entry points of `basicsr.plugins`: modules that register on import, or functions to call."""
    for entry in entry_points(group=GROUP):
        try:
            plugin = entry.load()
            if inspect.isroutine(plugin):  # a class is registered by its module's import
                plugin()
        except Exception as error:
            raise UserError(
                f'plugin {entry.name} = {entry.value} (group {GROUP}) failed: {type(error).__name__}: '
                f'{error}. Mend or uninstall the package that declares it.'
            ) from error


def import_modules(names):
    """Imports the modules of an option file's `custom_imports`, looked for in the working directory as well.

    Args:
        names: List of dotted module names (mmengine's form `{imports: [...]}` is taken too).

    Raises:
        UserError: the value is not a list of names, or a module fails to import.
    """
    if isinstance(names, dict):
        names = names.get('imports', [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f'custom_imports: found {names!r}, expected a list of module names such as [my_archs]')
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise UserError(f'custom_imports: {name} failed: {type(error).__name__}: {error}') from error
