"""Names of the parameters in the authors' checkpoints and in ours."""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache

import torch
from torch import Tensor

from deeprftv2_plugin.utils.errors import UserError

OFFICIAL_PREFIX = 'global_model.'


class Shape(Enum):
    """How a parameter's shape in the authors' checkpoints follows from ours."""

    SAME = (lambda t: t, lambda t: t)
    CONVOLUTION = (lambda t: t[..., None, None], lambda t: t.flatten(1))
    """Theirs is a convolution of 1x1, ours a matrix."""
    LEADING = (lambda t: t[None], lambda t: t.squeeze(0))
    """Theirs has a leading dimension of one."""


# The functions below yield rows of names, ours and the authors', with the change of shape. '#' stands for a number, the
# same on both sides and in the same order.
def _linear(ours, theirs, bias=True):
    yield f'{ours}.weight', f'{theirs}.weight', Shape.CONVOLUTION
    if bias:
        yield f'{ours}.bias', f'{theirs}.bias', Shape.SAME


def _same(ours, theirs, parts=('.weight', '.bias')):
    for part in parts:
        yield ours + part, theirs + part.replace('_', '.'), Shape.SAME


def _scan(ours, theirs, norm):
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


def _branch(ours, theirs, norm, expand):
    """The normalization and the expansion that begin a branch."""
    yield from _same(f'{ours}.norm', f'{theirs}.{norm}', ('_weight', '_bias'))
    yield f'{ours}.expand_weight', f'{theirs}.{expand}.weight', Shape.CONVOLUTION
    yield f'{ours}.expand_bias', f'{theirs}.{expand}.bias', Shape.SAME


def _block(ours, theirs):
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


def _estimator(ours, theirs):
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


def _encoder(ours, theirs, entry, embed, steps_down):
    """`entry` is the first of the modules that the picture goes through, `steps_down` the one at the other levels."""
    yield from _same(f'{ours}.{entry}.first', f'{embed}s.#.proj', ('.weight',))
    yield from _linear(f'{ours}.{entry}.join', f'{embed}s2.#')
    yield f'{ours}.{steps_down}.weight', f'{theirs}.level#.fusion.down.0.body.0.weight', Shape.SAME


def _column(ours, theirs):
    yield f'{ours}.alphas.#', f'{theirs}.alpha#', Shape.SAME
    yield from _linear(f'{ours}.levels.#.after.0', f'{theirs}.level#.fusion.up.0.body.0', bias=False)
    yield from _block(f'{ours}.levels.#.blocks.#', f'{theirs}.level#.blocks.#')


def _table() -> Iterator[tuple[str, str, Shape]]:
    """Yield the rows of all parameters; of rows that fit a name the first counts."""
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


def _translator(rows):
    """Return a function from a name to its translation and the change of shape, or None for an unknown name."""
    patterns = [
        (re.compile(re.escape(source).replace(r'\#', r'(\d+)')), target.split('#'), change)
        for source, target, change in rows
    ]

    def translate(key):
        for pattern, pieces, change in patterns:
            if match := pattern.fullmatch(key):
                numbers = [*match.groups(), '']
                return ''.join(part for both in zip(pieces, numbers, strict=True) for part in both), change
        return None

    return cache(translate)


_to_official = _translator([(ours, theirs, change.value[0]) for ours, theirs, change in _table()])
_from_official = _translator([(theirs, ours, change.value[1]) for ours, theirs, change in _table()])


def is_official(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of the authors' release."""
    return any(key.startswith(OFFICIAL_PREFIX) for key in state)


def from_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of one of the authors' checkpoints to those of `archs.DeepRFTv2`.

    Args:
        state: Parameters by the authors' names, which begin with 'global_model.'.

    Returns:
        Parameters by our names. The factors of shortcuts that come from no earlier stage are left out: they multiply
        nothing, and our network does not have them.

    Raises:
        UserError: A name is none of the authors' GoPro, REDS, RealBlur or defocus networks'.
    """
    ours = {}
    for key, value in state.items():
        found = _from_official(key.removeprefix(OFFICIAL_PREFIX)) if key.startswith(OFFICIAL_PREFIX) else None
        if found is None:
            raise UserError(f'{key!r} is no parameter of a network that this package can build')
        name, change = found
        if not _is_dead(name):
            ours[name] = change(value)
    return ours


def to_official_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of `archs.DeepRFTv2` to those of the authors: the inverse of `from_official_state_dict`.

    Factors of shortcuts that come from no earlier stage, which the authors' network loads but which multiply nothing,
    are added with their initial value 0.5.

    Raises:
        UserError: A name is no parameter of `archs.DeepRFTv2`.
    """
    theirs = {}
    for key, value in {**state, **_dead_alphas(state)}.items():
        found = _to_official(key)
        if found is None:
            raise UserError(f'{key!r} is no parameter of DeepRFTv2')
        name, change = found
        theirs[OFFICIAL_PREFIX + name] = change(value)
    return theirs


def _is_dead(name):
    """Whether a factor stands in the first stage where no state comes from an earlier one."""
    return (
        re.fullmatch(
            r'stages\.0\.(\w+_encoder\.alphas\.\d|\w+_decoder\.alphas\.2|\w+_estimator\.column\.alphas\.\d+)', name
        )
        is not None
    )


def _dead_alphas(state):
    """The factors that `_is_dead` tells of, with the value 0.5."""
    dead = {}
    for scale in ('full', 'half'):
        stage = f'stages.0.{scale}'
        head = f'{stage}_head.weight'
        if head not in state:
            raise UserError(f'these are no parameters of DeepRFTv2: {head} is missing')
        width = state[head].shape[1]
        channels = {f'{stage}_encoder.alphas.{i}': width << i for i in range(3)}
        channels[f'{stage}_decoder.alphas.2'] = width
        channels |= {
            f'{stage}_estimator.column.alphas.{i}': state[f'{stage}_estimator.to_otf.weight'].shape[1] for i in range(4)
        }
        dead |= {key: torch.full((1, c, 1, 1), 0.5) for key, c in channels.items()}
    return dead
