"""Add this package's classes and functions, and plugins of other packages, to BasicSR's registries."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from deeprftv2_plugin.basicsr_bridge import patches
from deeprftv2_plugin.utils.errors import UserError

GROUP = 'basicsr.plugins'
_registered = False


def parts() -> tuple[tuple[Any, tuple[Callable, ...]], ...]:
    """Return each of BasicSR's registries with the classes or functions to add to it."""
    from basicsr.utils import registry

    from deeprftv2_plugin.archs import AblatedDeepRFTv2, DeepRFTv2
    from deeprftv2_plugin.basicsr_bridge.archs import KernelHead
    from deeprftv2_plugin.basicsr_bridge.losses import MultiScaleLoss
    from deeprftv2_plugin.data.datasets.mixed import MixedDataset
    from deeprftv2_plugin.data.datasets.paired import PairedDeblurDataset
    from deeprftv2_plugin.data.datasets.synthetic import SyntheticBlurDataset
    from deeprftv2_plugin.layers import FourierKernelEstimator
    from deeprftv2_plugin.losses import FFTL1Loss, FocalFrequencyLoss, FourierLoss, PSNRLoss
    from deeprftv2_plugin.metrics import (
        aligned_psnr,
        aligned_ssim,
        error_ratio,
        mae,
        psnr,
        psnr_gain,
        pyiqa_full_reference,
        pyiqa_no_reference,
        shifted_psnr,
        shifted_ssim,
        ssim,
        ssim_3d,
        trajectory_mssim,
        trajectory_psnr,
    )
    from deeprftv2_plugin.models import DeepRFTv2Model

    return (
        (registry.ARCH_REGISTRY, (DeepRFTv2, AblatedDeepRFTv2, KernelHead, FourierKernelEstimator)),
        (registry.LOSS_REGISTRY, (FourierLoss, FFTL1Loss, FocalFrequencyLoss, PSNRLoss, MultiScaleLoss)),
        (registry.MODEL_REGISTRY, (DeepRFTv2Model,)),
        (registry.DATASET_REGISTRY, (PairedDeblurDataset, SyntheticBlurDataset, MixedDataset)),
        (
            registry.METRIC_REGISTRY,
            (
                *(psnr, psnr_gain, ssim, ssim_3d, mae, aligned_psnr, aligned_ssim),
                *(shifted_psnr, shifted_ssim, error_ratio, trajectory_psnr, trajectory_mssim),
                *(pyiqa_full_reference, pyiqa_no_reference),
            ),
        ),
    )


def register() -> None:
    """Patch BasicSR, add this package's classes to its registries, and load plugins. Further calls have no effect.

    Raises:
        UserError: BasicSR is missing or hidden, a name is already in use, or a plugin fails.
    """
    global _registered
    if _registered:
        return
    patches.apply()
    for registry, classes in parts():
        for cls in classes:
            add(registry, cls)
    load_plugins()
    _registered = True


def add(registry: Any, cls: Callable) -> None:
    """Add a class or function to a registry under its name.

    Raises:
        UserError: Another class or function is registered under the name.
    """
    present = dict(iter(registry)).get(cls.__name__)
    if present is None:
        registry.register(cls)
    elif present is not cls:
        raise UserError(
            f'{cls.__name__} of {cls.__module__} cannot be registered: {present.__module__} has registered '
            'the name. Rename one of the two.'
        )


def load_plugins() -> None:
    """Load the entry points of the group `basicsr.plugins`: modules that register on import, or functions to call.

    Raises:
        UserError: A plugin fails.
    """
    for entry in entry_points(group=GROUP):
        try:
            plugin = entry.load()
            if inspect.isroutine(plugin):  # a class is registered when its module is imported
                plugin()
        except Exception as error:
            raise UserError(
                f'plugin {entry.name} = {entry.value} (group {GROUP}) failed: {type(error).__name__}: '
                f'{error}. Fix or uninstall the package that declares it.'
            ) from error


def import_modules(names: Any) -> None:
    """Import the modules in an option file's `custom_imports`, also from the working directory.

    If there are any, the working directory is appended to the search path. A file in it never replaces an installed
    module.

    Args:
        names: List of dotted module names, one name, or mmengine's form `{imports: [...]}`.

    Raises:
        UserError: The value is not a list of names, or a module cannot be imported.
    """
    names = module_names(names)
    if names and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # a script without a guard may call sys.exit
            raise UserError(f'custom_imports: {name} failed: {type(error).__name__}: {error}') from error


def module_names(value: Any) -> list[str]:
    """Return the module names in a value of `custom_imports`; none if it is None.

    Raises:
        UserError: The value has none of the forms described in `import_modules`.
    """
    names = value.get('imports', []) if isinstance(value, dict) else value
    names = [names] if isinstance(names, str) else [] if names is None else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f'custom_imports: found {names!r}, expected a list of module names such as [my_archs]')
    return names
