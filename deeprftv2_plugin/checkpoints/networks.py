"""Load weights into networks, and rebuild networks from checkpoints."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from deeprftv2_plugin.archs.deeprftv2 import DeepRFTv2
from deeprftv2_plugin.checkpoints.files import read_options, read_set, read_weights
from deeprftv2_plugin.utils.errors import UserError, first_line


class LoadedFile(NamedTuple):
    """The result of loading a file."""

    weights: str
    """The set of weights."""
    left_out: list[str]
    """Names that do not match."""


def load_into(net: nn.Module, weights: Mapping[str, Tensor], path: str | Path, strict: bool = True) -> list[str]:
    """Load weights into a network.

    Args:
        net: The network.
        weights: Weights by parameter name, from `read_weights`.
        path: Source of the weights, for error messages.
        strict: Require all names and shapes to match. Otherwise parameters that do not match are left unchanged.

    Returns:
        Sorted names that do not match; empty if `strict`.

    Raises:
        UserError: The weights do not match the network, or without `strict` less than half of them do; or they are
            integers or infinite where the network has other values. The message names the first differences.
    """
    own = net.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    reshaped = sorted(k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape)
    if strict and (missing or unexpected or reshaped):
        first = [f'missing {k}' for k in missing[:2]] + [f'unknown {k}' for k in unexpected[:2]]
        first += [f'{k} is {tuple(weights[k].shape)}, expected {tuple(own[k].shape)}' for k in reshaped[:2]]
        raise UserError(
            f'{path}: the weights do not match this {type(net).__name__}: {len(missing)} missing, '
            f'{len(unexpected)} unknown, {len(reshaped)} with another shape ({"; ".join(first)}). Use the options '
            'of the training run, or set strict_load to false to load the weights that match'
        )
    fitting = {k: v for k, v in weights.items() if k in own and k not in reshaped}
    if 2 * len(fitting) < len(own):
        raise UserError(
            f'{path}: only {len(fitting)} of the {len(own)} weights of this {type(net).__name__} match, and the others '
            'would remain random. Use the weights of such a network'
        )
    for name, value in fitting.items():
        _require_kind(name, value, own[name], path)
    net.load_state_dict(fitting, strict=strict)
    return sorted({*missing, *unexpected, *reshaped})


def _require_kind(name: str, value: Tensor, own: Tensor, path: str | Path) -> None:
    """Check that a weight can replace that of a network.

    Raises:
        UserError: One of them is floating-point and the other is not, or the weight becomes infinite.
    """
    if (value.is_floating_point(), value.is_complex()) != (own.is_floating_point(), own.is_complex()):
        raise UserError(f'{path}: {name} is of {value.dtype}, expected {own.dtype}')
    if value.is_floating_point() and value.to(own.dtype).isinf().any() and not own.isinf().any():
        raise UserError(f'{path}: {name} contains infinite values')


def load_file(net: nn.Module, path: str | Path, param_key: str | None = None, strict: bool = True) -> LoadedFile:
    """Load the weights of a file into a network.

    Args:
        net: The network.
        path: The file.
        param_key: Set of weights, as in `files.read_set`.
        strict: As in `load_into`.

    Raises:
        UserError: The file cannot be read, or the weights do not match.
    """
    weights = read_set(path, param_key)
    return LoadedFile(str(weights), load_into(net, weights.state, path, strict))


def load_network(path: str | os.PathLike, param_key: str | None = None) -> DeepRFTv2:
    """Rebuild a DeepRFTv2 from a checkpoint of this package or of the authors.

    A .safetensors file written during training or by `convert_file` with options stores the options. For other files
    the options are inferred from the weights, which do not determine window sizes: local pooling, scan windows and
    kernel windows are not rebuilt. Build such networks from their options and use `load_into`.

    Args:
        path: Checkpoint file.
        param_key: Set of weights, as in `read_weights`.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        UserError: The file cannot be read, or it contains another network.
    """
    return network_with_settings(path, param_key)[0]


def network_with_settings(path: str | os.PathLike, param_key: str | None = None) -> tuple[DeepRFTv2, dict]:
    """Return the network of a checkpoint, and its keyword arguments, see `load_network`."""
    path = Path(path)
    weights, options = read_weights(path, param_key), read_options(path)
    try:
        settings = options_of(options) if options else network_options(weights)
        if settings.get('stages', 1) > len(weights):
            raise ValueError(f'its options have {settings["stages"]} stages')
        with no_larger_than(weights):
            net = DeepRFTv2(**settings)
    except Exception as error:  # options and shapes of another network can make any layer fail
        raise UserError(f'{path}: not the weights of a DeepRFTv2 ({first_line(error)})') from error
    load_into(net, weights, path)
    return net.eval(), settings


@contextmanager
def no_larger_than(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Prevent the block from building a network with far more or larger parameters than these weights.

    The first excess parameter raises an error before its values are set. Sizes in an untrusted file can therefore not
    exhaust the memory or block this thread.

    Raises:
        ValueError: The network has more than twice as many parameters or elements, since layers build some of them
            twice.
    """
    thread, count, size = get_ident(), 2 * len(weights), 2 * sum(value.numel() for value in weights.values())

    def subtract(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count, size
        if parameter is not None and get_ident() == thread:
            count, size = count - 1, size - parameter.numel()
            if count < 0 or size < 0:
                raise ValueError('its options describe a larger network')

    hook = register_module_parameter_registration_hook(subtract)
    try:
        yield
    finally:
        hook.remove()


def options_of(options: Mapping) -> dict:
    """Return the keyword arguments of `archs.DeepRFTv2` from the options of a training run.

    Raises:
        ValueError: The options have another network.
    """
    settings = dict(options['network_g'])
    if settings.pop('type') != DeepRFTv2.__name__:
        raise ValueError(f'network_g.type is {options["network_g"]["type"]}')
    return settings


def network_options(weights: Mapping[str, Tensor]) -> dict:
    """Infer the keyword arguments of `archs.DeepRFTv2` from its weights, except for window sizes.

    Raises:
        KeyError: A parameter of DeepRFTv2 is missing.
    """

    def count(pattern: str) -> int:
        """Return the largest number that `pattern` captures in the names, plus one."""
        found = {int(match[1]) for key in weights if (match := re.match(pattern, key))}
        if found and max(found) >= len(found):
            raise KeyError(f'{pattern} is not numbered from 0')
        return len(found)

    def levels(column: str) -> list[list]:
        scans = [any(key.startswith(f'{column}.levels.{i}.blocks.0.scan.') for key in weights) for i in range(3)]
        return [
            ['NAFScan' if scan else 'NAF', count(rf'{re.escape(column)}\.levels\.{i}\.blocks\.(\d+)\.')]
            for i, scan in enumerate(scans)
        ]

    first, stages = 'stages.0', count(r'stages\.(\d+)\.')
    estimator = f'{first}.full_estimator'
    return {
        'stages': stages,
        'in_channels': weights[f'{first}.full_encoder.levels.0.before.first.weight'].shape[1],
        'out_channels': weights[f'{first}.full_head.weight'].shape[0],
        'width': [weights[f'{first}.{scale}_head.weight'].shape[1] for scale in ('full', 'half')],
        'kernel_width': [weights[f'{first}.{scale}_estimator.to_otf.weight'].shape[1] for scale in ('full', 'half')],
        'kernel_depths': [count(rf'{re.escape(estimator)}\.column\.levels\.{i}\.blocks\.(\d+)\.') for i in range(4)],
        'kernel_norm': f'{estimator}.norm.weight' in weights,
        **{
            part: [levels(f'stages.{j}.{part}') for j in range(stages)]
            for part in ('full_encoder', 'full_decoder', 'half_encoder', 'half_decoder')
        },
    }
