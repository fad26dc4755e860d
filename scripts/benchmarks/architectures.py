"""Any architecture that BasicSR knows, in the same run."""

import re

import torch
import torch.nn.functional as F

from benchmarks.counting import work_of
from benchmarks.measure import figures
from benchmarks.network import TrainingStep, flat
from benchmarks.plan import Case, Setting
from deeprftv2_plugin.utils.errors import UserError, nearest

USUAL = (
    'DeepRFTv2:variant=B',
    'RRDBNet:num_in_ch=3,num_out_ch=3,scale=1',
    'EDSR:num_in_ch=3,num_out_ch=3,upscale=1',
)


def cases(setting: Setting) -> list[Case]:
    names = setting.architectures or (('DeepRFTv2:variant=T',) if setting.quick else USUAL)
    return [
        Case('basicsr', run, {'arch': arch, 'size': size, 'training': training})
        for arch in names
        for size in setting.sizes_or(128)
        for training in (False, True)
    ]


def parse(text: str) -> tuple[str, dict]:
    """Name and settings from `Name:key=value,key=value`, with values in YAML.

    Raises:
        UserError: It is not of that form.
    """
    import yaml

    name, _, rest = text.partition(':')
    settings = {}
    for part in re.split(r',(?=\s*\w+=)', rest) if rest else []:
        key, equals, value = part.partition('=')
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ''
        if not equals or not key.strip().isidentifier():
            raise UserError(f'--arch {text}: found {part!r}, expected key=value with a value in YAML, as in {USUAL[0]}')
    return name, settings


def run(setting: Setting, arch: str, size: int, training: bool) -> dict:
    """One picture through an architecture, or a step of training on its pictures' absolute error."""
    name, settings = parse(arch)
    network = _build(name, settings).to(setting.device).train(training)
    x = torch.rand(1, 3, size, size, device=setting.device)
    work = _work(name, settings, tuple(x.shape), training)
    if training:
        heights = {picture.shape[-2] for picture in flat(network(x))}
        sharp = torch.rand_like(x)
        step = TrainingStep(network, x, {height: F.interpolate(sharp, (height, height)) for height in heights})
        return figures(setting, step, work)
    with torch.no_grad():
        return figures(setting, lambda: network(x), work)


def _build(name, settings):
    from deeprftv2_plugin.basicsr_bridge.registration import register

    register()
    from basicsr.utils.registry import ARCH_REGISTRY

    known = dict(iter(ARCH_REGISTRY))
    if name not in known:
        raise UserError(f'--arch: BasicSR knows no architecture {name!r}. {nearest(name, known)}')
    try:
        return known[name](**settings)
    except TypeError as error:
        raise UserError(f'--arch {name}: {error}') from error


def _work(name, settings, shape, training):
    """Nothing where an architecture cannot be run without numbers; its row has no floor then."""
    try:
        return work_of(lambda: _build(name, settings), shape, training=training)
    except Exception:
        return []
