"""Convert parameter names and shapes between the authors' checkpoints and `archs.DeepRFTv2`."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache

import torch
from torch import Tensor

from deeprftv2_plugin.utils.errors import UserError

OFFICIAL_PREFIX = 'global_model.'


class Shape(Enum):
    """Conversion of a parameter to and from its shape in the authors' checkpoints."""

    SAME = (lambda t: t, lambda t: t)
    CONVOLUTION = (lambda t: t[..., None, None], lambda t: t.flatten(1))
    """The authors have a 1x1 convolution, this package a matrix."""
    LEADING = (lambda t: t[None], lambda t: t.squeeze(0))
    """The authors have a leading dimension of size 1."""


# The functions below yield rows of the name in this package, the authors' name, and the shape conversion. '#' matches a
# number; both names have the same numbers in the same order.
Rows = Iterator[tuple[str, str, Shape]]


def _linear(ours: str, theirs: str, bias: bool = True) -> Rows:
    yield f'{ours}.weight', f'{theirs}.weight', Shape.CONVOLUTION
    if bias:
        yield f'{ours}.bias', f'{theirs}.bias', Shape.SAME


def _same(ours: str, theirs: str, parts: Sequence[str] = ('.weight', '.bias')) -> Rows:
    for part in parts:
        yield ours + part, theirs + part.replace('_', '.'), Shape.SAME


def _scan(ours: str, theirs: str, norm: str) -> Rows:
    yield from _same(f'{ours}.norm', norm, ('_weight', '_bias'))
    yield f'{ours}.in_weight', f'{theirs}.in_proj.weight', Shape.SAME
    yield from _same(f'{ours}.conv', f'{theirs}.conv2d', ('_weight', '_bias'))
    yield f'{ours}.coefficient_proj.weight', f'{theirs}.x_proj_weight', Shape.LEADING
    yield from _same(f'{ours}.coefficient_conv', f'{theirs}.x_conv')
    yield f'{ours}.step_weight', f'{theirs}.dt_projs_weight', Shape.LEADING
    yield f'{ours}.step_bias', f'{theirs}.dt_projs_bias', Shape.LEADING
    yield f'{ours}.log_decay', f'{theirs}.A_logs', Shape.SAME
    yield f'{ours}.skip', f'{theirs}.Ds', Shape.SAME
    yield from _same(f'{ours}.out_norm', f'{theirs}.out_norm', ('_weight', '_bias'))
    yield f'{ours}.out_weight', f'{theirs}.out_proj.weight', Shape.SAME


def _branch(ours: str, theirs: str, norm: str, expand: str) -> Rows:
    """Yield the normalization and the expansion of a branch."""
    yield from _same(f'{ours}.norm', f'{theirs}.{norm}', ('_weight', '_bias'))
    yield f'{ours}.expand_weight', f'{theirs}.{expand}.weight', Shape.CONVOLUTION
    yield f'{ours}.expand_bias', f'{theirs}.{expand}.bias', Shape.SAME


def _block(ours: str, theirs: str) -> Rows:
    yield from _branch(f'{ours}.convolution', theirs, 'norm1', 'conv1')
    yield from _same(f'{ours}.convolution', f'{theirs}.conv2')
    yield from _linear(f'{ours}.attention', f'{theirs}.sca.1')
    yield from _linear(f'{ours}.project', f'{theirs}.conv3')
    yield from _branch(f'{ours}.feed_forward', theirs, 'norm2', 'conv4')
    yield f'{ours}.feed_forward.project_weight', f'{theirs}.conv5.weight', Shape.CONVOLUTION
    yield f'{ours}.feed_forward.project_bias', f'{theirs}.conv5.bias', Shape.SAME
    names = {'scale': 'beta', 'feed_forward.scale': 'gamma'}
    names |= {'local_weight': 'lamb_l', 'scan_weight': 'lamb_g', 'scan_gain': 'alpha'}
    for name, official in names.items():
        yield f'{ours}.{name}', f'{theirs}.{official}', Shape.SAME
    yield from _scan(f'{ours}.scan', f'{theirs}.attn', f'{theirs}.norm_mamba')


def _estimator(ours: str, theirs: str) -> Rows:
    spectrum = f'{ours}.column.levels.0.before.first'
    yield from _linear(f'{spectrum}.project', f'{theirs}.feature_extract.intro_inp.0', bias=False)
    yield from _linear(f'{spectrum}.mix', f'{theirs}.intro.ending.0', bias=False)
    yield from _linear(f'{ours}.feature_proj', f'{theirs}.feature_extract.intro_deconv.0', bias=False)
    yield f'{ours}.column.alphas.#', f'{theirs}.subnets_ker.alpha#', Shape.SAME
    yield from _linear(f'{ours}.column.levels.#.before.join', f'{theirs}.subnets_ker.level#.fusion.down.0')
    block = f'{theirs}.subnets_ker.level#.blocks.#'
    yield from _scan(f'{ours}.column.levels.#.blocks.#', f'{block}.attn', f'{block}.norm1')
    yield from _same(f'{ours}.norm', f'{theirs}.end_ker1.norm')
    yield from _linear(f'{ours}.to_otf', f'{theirs}.end_ker1.ending.0')
    yield from _linear(f'{ours}.fuse', f'{theirs}.deblur_feature1.0', bias=False)
    yield from _same(f'{ours}.to_image', f'{theirs}.end_feature1.0')


def _encoder(ours: str, theirs: str, entry: str, embed: str, steps_down: str) -> Rows:
    """Yield the rows of an encoder.

    Args:
        ours: Name in this package.
        theirs: The authors' name.
        entry: Module that embeds the image at the first level.
        embed: The authors' name of `entry`.
        steps_down: Module that downsamples at the other levels.
    """
    yield from _same(f'{ours}.{entry}.first', f'{embed}s.#.proj', ('.weight',))
    yield from _linear(f'{ours}.{entry}.join', f'{embed}s2.#')
    yield f'{ours}.{steps_down}.weight', f'{theirs}.level#.fusion.down.0.body.0.weight', Shape.SAME


def _column(ours: str, theirs: str) -> Rows:
    yield f'{ours}.alphas.#', f'{theirs}.alpha#', Shape.SAME
    yield from _linear(f'{ours}.levels.#.after.0', f'{theirs}.level#.fusion.up.0.body.0', bias=False)
    yield from _block(f'{ours}.levels.#.blocks.#', f'{theirs}.level#.blocks.#')


def _table() -> Rows:
    """Yield the rows of all parameters. The first row that matches a name applies."""
    stage = 'stages.#'
    full, half = f'{stage}.full_encoder', f'{stage}.half_encoder'
    yield from _encoder(full, 'subnets_max.#', 'levels.0.before', 'patch_embed_max', 'levels.#.before.first')
    yield from _encoder(half, 'subnets_mid.#', 'levels.0.before.first', 'patch_embed_mid', 'levels.#.before.first')
    yield from _linear(f'{half}.levels.#.before.join', 'subnets_mid.#.level#.fusion.concat_conv.0')
    for level in range(3):
        yield from _same(f'{half}.levels.{level}.before.second', f'down_max{level + 1}.#.body.0', ('.weight',))
    yield from _same(f'{stage}.latent.first', 'down_mid2max.#.body.0', ('.weight',))
    yield from _linear(f'{stage}.latent.join', 'fusd_max_2.#')
    for scale, name, estimator in (('full', 'max', 'kernel_estimator'), ('half', 'mid', 'mid_kernel_estimator')):
        yield from _column(f'{stage}.{scale}_encoder', f'subnets_{name}.#')
        yield from _column(f'{stage}.{scale}_decoder', f'subdenets_{name}.#')
        yield from _same(f'{stage}.{scale}_head', f'output_{name}s.#')
        yield from _estimator(f'{stage}.{scale}_estimator', f'{estimator}.#')


def _translator(rows: Iterable[tuple[str, str, Callable]]) -> Callable[[str], tuple[str, Callable] | None]:
    """Return a function that maps a name to the other name and the shape conversion, or to None if unknown."""
    patterns = [
        (re.compile(re.escape(source).replace(r'\#', r'(\d+)')), target.split('#'), change)
        for source, target, change in rows
    ]

    def translate(key: str) -> tuple[str, Callable] | None:
        for pattern, pieces, change in patterns:
            if match := pattern.fullmatch(key):
                numbers = [*match.groups(), '']
                return ''.join(part for both in zip(pieces, numbers, strict=True) for part in both), change
        return None

    return cache(translate)


_to_official = _translator([(ours, theirs, change.value[0]) for ours, theirs, change in _table()])
_from_official = _translator([(theirs, ours, change.value[1]) for ours, theirs, change in _table()])


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict has the authors' parameter names."""
    return any(key.startswith(OFFICIAL_PREFIX) for key in state)


def from_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of the authors to one of `archs.DeepRFTv2`.

    Args:
        state: Parameters by the authors' names, which begin with 'global_model.'.

    Returns:
        Parameters by the names of `archs.DeepRFTv2`. Unused shortcut factors of the first stage, which has no earlier
        stage, are omitted.

    Raises:
        UserError: A name, or its number of dimensions, does not occur in the authors' GoPro, REDS, RealBlur or defocus
            networks.
    """
    ours = {}
    for key, value in state.items():
        found = _from_official(key.removeprefix(OFFICIAL_PREFIX)) if key.startswith(OFFICIAL_PREFIX) else None
        if found is None:
            raise UserError(f'{key!r} is not a parameter of a network that this package supports')
        name, change = found
        if not _is_unused(name):
            ours[name] = _reshaped(key, value, change)
    return ours


def to_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a state dict of `archs.DeepRFTv2` to the authors' names; the inverse of `from_official_state_dict`.

    The unused shortcut factors of the first stage, which the authors' network expects, are added with their initial
    value 0.5.

    Raises:
        UserError: A name is not a parameter of `archs.DeepRFTv2`.
    """
    theirs = {}
    for key, value in {**state, **_unused_alphas(state)}.items():
        found = _to_official(key)
        if found is None:
            raise UserError(f'{key!r} is not a parameter of DeepRFTv2')
        name, change = found
        theirs[OFFICIAL_PREFIX + name] = _reshaped(key, value, change)
    return theirs


def _reshaped(key: str, value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    try:
        return change(value)
    except (IndexError, RuntimeError) as error:
        raise UserError(f'{key!r} has shape {tuple(value.shape)}, which no supported network has') from error


def _is_unused(name: str) -> bool:
    """Return whether a parameter is a shortcut factor of the first stage, which has no input."""
    return (
        re.fullmatch(
            r'stages\.0\.(\w+_encoder\.alphas\.\d|\w+_decoder\.alphas\.2|\w+_estimator\.column\.alphas\.\d+)', name
        )
        is not None
    )


def _unused_alphas(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters that `_is_unused` matches, with the value 0.5."""
    unused: dict[str, Tensor] = {}
    for scale in ('full', 'half'):
        stage = f'stages.0.{scale}'
        head, kernel = f'{stage}_head.weight', f'{stage}_estimator.to_otf.weight'
        for name in (head, kernel):
            if name not in state or state[name].ndim < 2:
                raise UserError(f'not the parameters of a DeepRFTv2: {name} is missing or has too few dimensions')
        width = state[head].shape[1]
        channels = {f'{stage}_encoder.alphas.{i}': width << i for i in range(3)}
        channels[f'{stage}_decoder.alphas.2'] = width
        channels |= {f'{stage}_estimator.column.alphas.{i}': state[kernel].shape[1] for i in range(4)}
        unused |= {key: torch.full((1, c, 1, 1), 0.5) for key, c in channels.items()}
    return unused
