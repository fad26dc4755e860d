"""Register the networks of the packages spandrel and spandrel_extra_arches with BasicSR."""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from deeprftv2_plugin.utils.errors import UserError

SUFFIX = '_spandrel'
"""Suffix of the registered names, as in NAFNet_spandrel. BasicSR appends a similar suffix to its own classes."""
REGISTRIES = {'spandrel': 'MAIN_REGISTRY', 'spandrel_extra_arches': 'EXTRA_REGISTRY'}
"""Name of the registry of each package."""
INSTALL = "pip install 'deeprftv2-plugin[compare]'"


def architectures() -> list[Any]:
    """Return the architectures of the installed packages, instances of spandrel's `Architecture`.

    Those that other packages add to a registry, such as `inference.spandrel_arch`, are left out.
    """
    found = []
    for package, registry in REGISTRIES.items():
        if importlib.util.find_spec(package) is not None:
            known = getattr(importlib.import_module(package), registry)
            found += [support.architecture for support in known.architectures()]
    return [each for each in found if type(each).__module__.split('.')[0] in REGISTRIES]


def register() -> None:
    """Add all networks to BasicSR's registry. Has no effect without the packages, or for registered networks."""
    from basicsr.utils.registry import ARCH_REGISTRY

    for architecture in architectures():
        for name, cls in networks_of(architecture).items():
            if f'{name}{SUFFIX}' not in ARCH_REGISTRY:
                ARCH_REGISTRY.register(adapted(architecture, cls, f'{name}{SUFFIX}'))


def register_for(opt: Mapping[str, Any]) -> None:
    """Add all networks to BasicSR's registry if a section `network_...` of an option file selects one.

    Raises:
        UserError: The packages are not installed.
    """
    networks = (value for key, value in opt.items() if key.startswith('network_') and isinstance(value, Mapping))
    types = [str(network.get('type')) for network in networks]
    named = next((name for name in types if name.endswith(SUFFIX)), None)
    if named is None:
        return
    if not architectures():
        raise UserError(f'{named} is a network of spandrel, which is not installed: {INSTALL}')
    register()


def networks_of(architecture: Any) -> dict[str, type[nn.Module]]:
    """Return the networks of an architecture by their exported names in spandrel."""
    module = sys.modules[type(architecture).__module__]
    exported = {name: getattr(module, name) for name in module.__all__}
    return {name: cls for name, cls in exported.items() if isinstance(cls, type) and issubclass(cls, nn.Module)}


def recognized(weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the type and the arguments of the network with these weights; None if spandrel does not recognize it.

    Networks whose parameters have other names in spandrel, such as BasicSR's RRDBNet, are not recognized.
    """
    for architecture in architectures():
        if architecture.detect(weights):
            try:
                net = architecture.load(dict(weights)).model
            except Exception:  # another network with some parameters of the same names
                continue
            if net.state_dict().keys() != weights.keys():
                continue
            name = next(name for name, cls in networks_of(architecture).items() if type(net) is cls)
            settings = {key: value for key, value in net.hyperparameters.items() if plain(value)}
            return {'type': f'{name}{SUFFIX}', **settings}  # other arguments, such as layer classes, are defaults
    return None


def plain(value: object) -> bool:
    """Return whether an argument can be written to an option file."""
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def adapted(architecture: Any, cls: type[nn.Module], name: str) -> type[nn.Module]:
    """Return a subclass of a network with a size multiple and, in evaluation mode, a single image as its output.

    Args:
        architecture: The architecture in spandrel's registry.
        cls: One of its networks.
        name: Name of the subclass.
    """

    class Network(cls):  # type: ignore[valid-type, misc]
        @functools.cached_property
        def size_multiple(self) -> int:
            """The number of which height and width must be multiples, which spandrel determines from the weights."""
            return architecture.load(self.state_dict()).size_requirements.multiple_of

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            if self.training or isinstance(output, Tensor):
                return output
            return output[0]  # networks with several stages return the result of the last stage first

    Network.__name__ = Network.__qualname__ = name
    Network.__module__, Network.__doc__ = cls.__module__, cls.__doc__
    return Network
