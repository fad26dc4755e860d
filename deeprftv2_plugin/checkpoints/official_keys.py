"""Names of the parameters in the authors' checkpoints and in ours."""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from deeprftv2_plugin.errors import UserError

OFFICIAL_PREFIX = 'global_model.'

# Beginnings of names, ours and the authors'; '#' stands for a number, the same on both sides and in the same order.
_ESTIMATOR = (
    ('kernel_proj', 'feature_extract.intro_inp.0'),
    ('feature_proj', 'feature_extract.intro_deconv.0'),
    ('intro', 'intro.ending.0'),
    ('column.alphas.#', 'subnets_ker.alpha#'),
    ('column.levels.#.merge', 'subnets_ker.level#.fusion.down.0'),
    ('column.levels.#.blocks.#.norm', 'subnets_ker.level#.blocks.#.norm1'),
    ('column.levels.#.blocks.#.mixer', 'subnets_ker.level#.blocks.#.attn'),
    ('norm', 'end_ker1.norm'),
    ('to_otf', 'end_ker1.ending.0'),
    ('fuse', 'deblur_feature1.0'),
    ('to_image', 'end_feature1.0'),
)
_COLUMN = (
    ('alphas.#', 'alpha#'),
    ('levels.#.before', 'level#.fusion.down.0.body.0'),
    ('levels.#.after.0', 'level#.fusion.up.0.body.0'),
    ('levels.#.merge', 'level#.fusion.concat_conv.0'),
    ('levels.#.blocks.#.attention', 'level#.blocks.#.sca.1'),
    ('levels.#.blocks.#.norm_scan', 'level#.blocks.#.norm_mamba'),
    ('levels.#.blocks.#.local_weight', 'level#.blocks.#.lamb_l'),
    ('levels.#.blocks.#.scan_weight', 'level#.blocks.#.lamb_g'),
    ('levels.#.blocks.#.scan_gain', 'level#.blocks.#.alpha'),
    ('levels.#.blocks.#.scan', 'level#.blocks.#.attn'),
    ('levels.#.blocks.#', 'level#.blocks.#'),
)
_STAGE = (
    ('full_to_half.0', 'down_max1.#.body.0'),
    ('full_to_half.1', 'down_max2.#.body.0'),
    ('full_to_half.2', 'down_max3.#.body.0'),
    ('half_to_latent', 'down_mid2max.#.body.0'),
    ('latent_join', 'fusd_max_2.#'),
)
_SCALE = (
    ('embed', 'patch_embed_{}s.#.proj'),
    ('join', 'patch_embed_{}s2.#'),
    ('head', 'output_{}s.#'),
)
# Ends of the names inside a scan, ours and the authors', with the shapes that differ: ours to theirs and back.
_SCAN_PARAMETERS = (
    ('in_proj.weight', 'in_proj.weight', lambda t: t.flatten(1), lambda t: t[..., None, None]),
    ('out_proj.weight', 'out_proj.weight', lambda t: t.flatten(1), lambda t: t[..., None, None]),
    ('coefficient_proj.weight', 'x_proj_weight', lambda t: t[None], lambda t: t.squeeze(0)),
    ('step_proj.weight', 'dt_projs_weight', lambda t: t[None], lambda t: t.squeeze(0)),
    ('step_proj.bias', 'dt_projs_bias', lambda t: t[None], lambda t: t.squeeze(0)),
    ('coefficient_conv.weight', 'x_conv.weight', None, None),
    ('coefficient_conv.bias', 'x_conv.bias', None, None),
    ('depthwise.weight', 'conv2d.weight', None, None),
    ('depthwise.bias', 'conv2d.bias', None, None),
    ('log_decay', 'A_logs', None, None),
    ('skip', 'Ds', None, None),
    ('norm.weight', 'out_norm.weight', None, None),
    ('norm.bias', 'out_norm.bias', None, None),
)


def _table() -> Iterator[tuple[str, str]]:
    """All beginnings of names, with what stands below a longer one before what stands below a shorter one."""
    for ours, theirs in _STAGE:
        yield f'stages.#.{ours}', theirs
    for scale, name, estimator in (('full', 'max', 'kernel_estimator'), ('half', 'mid', 'mid_kernel_estimator')):
        for ours, theirs in _SCALE:
            yield f'stages.#.{scale}_{ours}', theirs.format(name)
        for part, column in (('encoder', 'subnets'), ('decoder', 'subdenets')):
            for ours, theirs in _COLUMN:
                yield f'stages.#.{scale}_{part}.{ours}', f'{column}_{name}.#.{theirs}'
        for ours, theirs in _ESTIMATOR:
            yield f'stages.#.{scale}_estimator.{ours}', f'{estimator}.#.{theirs}'


def _translator(pairs):
    """A function from a name to its translation, or None for a name that begins like none of `pairs`."""
    rows = [(re.compile(re.escape(source).replace(r'\#', r'(\d+)') + r'(?![^.])'), target) for source, target in pairs]

    def translate(key):
        for pattern, target in rows:
            if match := pattern.match(key):
                numbers = iter(match.groups())
                return re.sub('#', lambda _, numbers=numbers: next(numbers), target) + key[match.end() :]
        return None

    return translate


_to_official = _translator(list(_table()))
_from_official = _translator([(theirs, ours) for ours, theirs in _table()])


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
        name = _from_official(key.removeprefix(OFFICIAL_PREFIX)) if key.startswith(OFFICIAL_PREFIX) else None
        if name is None:
            raise UserError(f'{key!r} is no parameter of a network that this package can build')
        if '.scan.' in name or '.mixer.' in name:
            name, value = _rename_scan(name, value, 1, 0, 3)
        if not _is_dead(name):
            ours[name] = value
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
        if '.scan.' in key or '.mixer.' in key:
            key, value = _rename_scan(key, value, 0, 1, 2)
        name = _to_official(key)
        if name is None:
            raise UserError(f'{key!r} is no parameter of DeepRFTv2')
        theirs[OFFICIAL_PREFIX + name] = value
    return theirs


def _rename_scan(key, value, source, target, reshape):
    """Rename and reshape a parameter inside a scan by the columns of `_SCAN_PARAMETERS`."""
    for row in _SCAN_PARAMETERS:
        if key.endswith('.' + row[source]):
            value = value if row[reshape] is None else row[reshape](value)
            return key.removesuffix(row[source]) + row[target], value
    raise UserError(f'{key!r} is no parameter of a scan')


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
        if f'{stage}_embed.weight' not in state:
            raise UserError(f'these are no parameters of DeepRFTv2: {stage}_embed.weight is missing')
        width = len(state[f'{stage}_embed.weight'])
        channels = {f'{stage}_encoder.alphas.{i}': width << i for i in range(3)}
        channels[f'{stage}_decoder.alphas.2'] = width
        channels |= {
            f'{stage}_estimator.column.alphas.{i}': len(state[f'{stage}_estimator.kernel_proj.weight'])
            for i in range(4)
        }
        dead |= {key: torch.full((1, c, 1, 1), 0.5) for key, c in channels.items()}
    return dead
