"""Networks to compare, and how the command line names them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from deeprftv2_plugin import config
from deeprftv2_plugin.archs.variants import VARIANTS
from deeprftv2_plugin.basicsr_bridge import registration, spandrel_archs
from deeprftv2_plugin.checkpoints.files import read_options, read_weights
from deeprftv2_plugin.checkpoints.networks import network_options
from deeprftv2_plugin.checkpoints.sources import HUB_FILE, SHIPPED, SUFFIXES, find_weights
from deeprftv2_plugin.comparison.published import PUBLISHED
from deeprftv2_plugin.config.reading import EXTENSIONS
from deeprftv2_plugin.utils.build import build
from deeprftv2_plugin.utils.errors import UserError, nearest

OWN = 'DeepRFTv2'
HIDDEN = ('_basicsr', spandrel_archs.SUFFIX)
"""Suffixes of registered names that can be omitted."""


@dataclass(frozen=True)
class Candidate:
    """A network to compare."""

    name: str
    """Name in the table."""
    network: dict[str, Any]
    """The section `network_g` of an option file: type and arguments."""
    weights: str | None = None
    """Checkpoint; None for random weights."""
    imports: tuple[str, ...] = ()
    """Modules that register its class."""
    loading: dict[str, Any] = field(default_factory=dict)
    """Keys of the section `path` that determine how the checkpoint is loaded."""

    def build(self) -> nn.Module:
        """Return the network with random weights, on the CPU.

        Raises:
            UserError: The class is unknown or does not take the arguments.
        """
        return build_network(self.network, self.imports)


def build_network(network: Mapping[str, Any], imports: Sequence[str] = ()) -> nn.Module:
    """Build a network of BasicSR's registry, of a plugin or of spandrel.

    Args:
        network: Its type and arguments, as in the section `network_g` of an option file.
        imports: Modules that register classes.

    Raises:
        UserError: The type is unknown, or does not take the arguments.
    """
    return build('network_g', network, known_networks(imports))


def known_networks(imports: Sequence[str] = ()) -> dict[str, Callable[..., nn.Module]]:
    """Return the registered networks by name.

    A network whose name ends with a suffix of BasicSR or spandrel is also listed without it, unless another network has
    the shorter name.
    """
    registration.register()
    registration.import_modules(list(imports))
    spandrel_archs.register()
    from basicsr.utils.registry import ARCH_REGISTRY

    registered = dict(iter(ARCH_REGISTRY))
    short = {name.removesuffix(suffix): cls for suffix in HIDDEN[::-1] for name, cls in registered.items()}
    return {**short, **registered}


def candidates_of(texts: Sequence[str], imports: Sequence[str] = ()) -> list[Candidate]:
    """Return the networks named by command-line arguments.

    Raises:
        UserError: An argument names no network, or two networks have the same name.
    """
    found = [candidate_of(text, imports) for text in texts]
    names = [candidate.name for candidate in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'two networks are named {name}: remove one, or give option files different names')
    return found


def candidate_of(text: str, imports: Sequence[str] = ()) -> Candidate:
    """Return the network named by a command-line argument.

    Args:
        text: An option file; a checkpoint, a folder with one, or the name of the weights that come with the package; or
            a registered name, alone or followed by arguments: `NAFNet:width=64`. `DeepRFTv2:T` or `T` names a variant
            of DeepRFTv2.
        imports: Modules that register classes.

    Raises:
        UserError: It names no network.
    """
    if text.endswith(EXTENSIONS):
        options = config.load(text)
        path, more = options.get('path') or {}, registration.module_names(options.get('custom_imports'))
        if not isinstance(path, dict):
            raise UserError(f'{text}: path is {path!r}, expected a section such as path: {{pretrain_network_g: w.pth}}')
        if not isinstance(options.get('network_g'), dict):
            raise UserError(f'{text} has no network_g, expected the option file of a training or a test')
        name = str(options.get('name', text))
        loading = {key: path[key] for key in ('param_key_g', 'strict_load_g') if path.get(key) is not None}
        return Candidate(name, options['network_g'], path.get('pretrain_network_g'), (*imports, *more), loading)
    if text == SHIPPED or text.endswith(SUFFIXES):
        return _from_checkpoint(text, imports)
    name, settings = parse_architecture(text)
    if name in VARIANTS:
        name, settings = OWN, {'variant': name, **settings}
    known = known_networks(imports)
    if name not in known:
        if (Path(text) / HUB_FILE).is_file():
            return _from_checkpoint(text, imports)
        advice = '' if spandrel_archs.architectures() else f' For networks of spandrel: {spandrel_archs.INSTALL}.'
        raise UserError(f'there is no network, option file or checkpoint {name!r}. {nearest(name, known)}{advice}')
    registered = next(each for each in (name, *(f'{name}{suffix}' for suffix in HIDDEN)) if _registered(each))
    label = text if name != OWN or len(settings) > 1 else f'{OWN}-{settings.get("variant", "B")}'
    published = PUBLISHED.get(registered.removesuffix(HIDDEN[0]), {})
    return Candidate(label, {'type': registered, **published, **settings}, imports=tuple(imports))


def _registered(name: str) -> bool:
    from basicsr.utils.registry import ARCH_REGISTRY

    return name in ARCH_REGISTRY


def _from_checkpoint(text: str, imports: Sequence[str]) -> Candidate:
    """Return the network of a checkpoint: that of its options, a DeepRFTv2, or a network that spandrel recognizes.

    Raises:
        UserError: There is no such file, or its network is not recognized.
    """
    path = find_weights(text)
    options = read_options(path)
    if options and isinstance(options.get('network_g'), dict):
        names = registration.module_names(options.get('custom_imports'))
        return Candidate(text, options['network_g'], str(path), (*imports, *names))
    weights = read_weights(path)
    try:
        return Candidate(text, {'type': OWN, **network_options(weights)}, str(path), tuple(imports))
    except (KeyError, IndexError):
        pass
    known_networks()
    network = spandrel_archs.recognized(weights)
    if network is None:
        raise UserError(
            f'{path}: not the weights of a DeepRFTv2 or of a network that spandrel recognizes. Pass an option file '
            'with network_g and path.pretrain_network_g instead'
        )
    return Candidate(text, network, str(path), tuple(imports))


def parse_architecture(text: str) -> tuple[str, dict[str, Any]]:
    """Parse `Name`, `DeepRFTv2:Variant` or `Name:key=value,key=value`, with values in YAML, to a name and arguments.

    Raises:
        UserError: The text has a different form.
    """
    name, _, rest = text.partition(':')
    if name == OWN and rest in VARIANTS:
        return name, {'variant': rest}
    try:
        settings = yaml.safe_load('{' + re.sub(r'(^|,)\s*(\w+)=', r'\1\2: ', rest) + '}')
    except (yaml.YAMLError, ValueError):  # PyYAML does not wrap the errors of dates
        settings = {rest: None}
    for key in settings:
        if f'{key}=' not in rest:
            raise UserError(f"{text}: found '{key}', expected key=value with a value in YAML")
    return name, settings
