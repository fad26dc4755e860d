"""What can be seen to be missing or not to fit, before BasicSR makes the first folder."""

import glob
import os

from deeprftv2_plugin import checkpoints
from deeprftv2_plugin.config.section import Section
from deeprftv2_plugin.data.layouts.download_hints import describe_missing
from deeprftv2_plugin.utils.errors import UserError


def check(opt: dict, path: str):
    """Looks for the data and the checkpoints of an option file, and builds its networks.

    Args:
        opt: Resolved options with valid keys.
        path: The option file, for the errors.

    Raises:
        UserError: data or a checkpoint is missing, a network cannot be built from its options, or a
            checkpoint is another network's.
    """
    root = Section(opt, path)
    check_roots(root.child('datasets'))
    check_resume_state(root.child('path'))
    for network in [key for key in opt if key.startswith('network_')]:
        net = check_network(root.child(network), root.child('path'))
        check_crop(root, net)


def check_roots(datasets: Section):
    """Every folder, database, pattern or list that a data set names has to be there."""
    missing, found = {}, datasets.children()
    for dataset in found:
        found += dataset.items('parts')
        for key in [key for key in dataset.values if key.startswith(('dataroot', 'meta_info_file'))]:
            value = dataset.values[key]
            for root in value if isinstance(value, list) else [value]:
                if root is not None and not _exists(str(root)):
                    missing['.'.join((*dataset.place, key))] = str(root)
    if missing:
        raise UserError(f'{datasets.file}: {describe_missing(missing)}')


def _exists(root):
    root = os.path.expanduser(root)
    pattern = '*'.join(map(glob.escape, root.split('*')))  # a star is the only special character
    return next(glob.iglob(pattern), None) is not None


def check_resume_state(section: Section):
    """The state to go on from has to be there."""
    _require_file(section, 'resume_state')


def _require_file(section, key):
    path = section.values.get(key)
    if path is not None and not os.path.isfile(os.path.expanduser(path)):
        section.fail(f'is {path}, which does not exist', key)


def check_crop(root: Section, net):
    """Crops have to be of a size that the network takes; a crop of another size is made larger by nobody."""
    multiple, train = getattr(net, 'size_multiple', 1), root.child('train')
    sections = [root.child('datasets').child('train')]
    for number, stage in enumerate(train.values.get('stages') or []):
        sections.append(Section(stage, root.file, ('train', 'stages', str(number))))
    for section in sections:
        size = section.values.get('gt_size')
        sides = size if isinstance(size, list) else [size]
        if any(isinstance(side, int) and side % multiple for side in sides):
            section.fail(f'is {size}, but {type(net).__name__} takes multiples of {multiple}', 'gt_size')


def check_network(section: Section, paths: Section):
    """The network; it has to be one that its class can build, and its checkpoint has to fit it."""
    from basicsr.utils.registry import ARCH_REGISTRY

    settings = dict(section.values)
    build = section.registered(ARCH_REGISTRY)
    settings.pop('type')
    try:
        net = build(**settings)
    except (TypeError, ValueError) as error:
        section.fail(f'{build.__name__} cannot be built: {error}')
    name = section.place[-1]
    label = name.removeprefix('network_')
    checkpoint = paths.values.get(f'pretrain_{name}')
    if checkpoint is not None and paths.values.get('resume_state') is None:
        _require_file(paths, f'pretrain_{name}')
        weights = checkpoints.read_weights(
            os.path.expanduser(checkpoint), paths.values.get(f'param_key_{label}', 'params')
        )
        checkpoints.load_into(net, weights, checkpoint, paths.values.get(f'strict_load_{label}', True))
    return net
