"""Validate the keys and values of an option file. BasicSR ignores misspelled keys."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from deeprftv2_plugin.config import basicsr_schema, reading, schema
from deeprftv2_plugin.config.schema import BOUNDS, LARGEST_ARGUMENT, Table
from deeprftv2_plugin.config.section import Section, shown
from deeprftv2_plugin.config.signatures import TRANSPARENT
from deeprftv2_plugin.metrics.direction import better_of
from deeprftv2_plugin.utils.errors import UserError
from deeprftv2_plugin.utils.plain_yaml import TextLoader, parse

DATASETS = {**basicsr_schema.DATASETS, **schema.DATASETS}
MODELS = {**basicsr_schema.MODELS, **schema.MODELS}


def validate(opt: dict, path: str, is_train: bool, overrides: Sequence[str] = ()) -> None:
    """Validate resolved options against the schema and BasicSR's registries.

    An undeclared key that a class of another package may read causes a warning. Where the schema declares text, numbers
    in the options are replaced by their text in the file, as for `name: 2024_01`.

    Args:
        opt: Resolved options.
        path: The option file, for error messages.
        is_train: Whether the options are for training.
        overrides: Overrides that the options contain. Their keys do not count as inherited.

    Raises:
        UserError: A key is unknown or missing, or a value is wrong. The message names the first one.
    """
    own = reading.parse_file(path)
    for override in overrides:
        reading.apply_override(own, override)
    written = reading.load(path, overrides, TextLoader)
    check_root(Section(opt, path, own=own if reading.BASE in own else None, written=written), is_train)


def section_of(options: Mapping[str, Any], place: str) -> Section:
    """Return a copy of all options, which are not those of one file, for the checks of this module.

    Args:
        options: The options.
        place: Where they are defined, for error messages.
    """
    written = parse(reading.dump(dict(options)), place, TextLoader)
    return Section(copy.deepcopy(dict(options)), place, written=written)


def check_root(root: Section, is_train: bool) -> None:
    """Check all options, see `validate`."""
    from basicsr.utils import registry

    opt = root.values
    root.demand('name', 'model_type', 'num_gpu', 'datasets')
    model = cast(type, root.registered(registry.MODEL_REGISTRY, 'model_type'))
    root.check({**schema.ROOT, **_of_model(model, 'root')}, open_to=_open(model))
    check_gpus(root)
    for network in [key for key in opt if key.startswith('network_')]:
        check_network(root.child(network))
    check_datasets(root.child('datasets'), is_train)
    check_path(root.child('path'), model)
    if is_train:
        check_prefetching(root)
        check_train(root.child('train'), model)
        check_stages(root, model)
        check_logger(root.child('logger'))
    if opt.get('val') is not None or not is_train:
        check_val(root.child('val'), model, is_train)
    root.child('dist_params').check(schema.DIST_PARAMS)


def _of_model(model: type, part: str) -> Table:
    """Return the options of a model class and its parents at the root or in a section."""
    found: Table = {}
    for cls in reversed(model.__mro__):
        if _is_known(cls):
            found |= MODELS.get(cls.__name__, {}).get(part, {})
    return found


def _of_dataset(kind: type) -> Table:
    """Return the options of a dataset class and its parents."""
    found: Table = {}
    for cls in reversed(kind.__mro__):
        if _is_known(cls):
            found |= DATASETS.get(cls.__name__, {})
    return found


def _is_known(cls: Callable) -> bool:
    """Return whether a class belongs to BasicSR or this package, so that the schema declares all of its options."""
    return cls.__module__.partition('.')[0] in TRANSPARENT


def _open(cls: Callable) -> str:
    return '' if _is_known(cls) else cls.__name__


def check_gpus(root: Section) -> None:
    """Check that the requested GPUs exist."""
    import torch

    count, visible = root.values['num_gpu'], torch.cuda.device_count()
    if count != 'auto' and count > visible:
        found = f'only {visible} GPUs' if visible else 'no GPU'
        root.fail(f'is {count}, but PyTorch finds {found}. Expected auto (all visible GPUs) or 0', 'num_gpu')


def check_network(section: Section) -> None:
    """Check a registered network and its arguments, including the section of a backbone."""
    from basicsr.utils import registry

    network = section.registered(registry.ARCH_REGISTRY)
    section.check_arguments(network, bounds=BOUNDS['network'])
    if _is_known(network):
        for key, value in section.values.items():
            if any(abs(number) > LARGEST_ARGUMENT for number in _numbers(value)):
                section.fail(f'is {shown(value)}, expected numbers up to {LARGEST_ARGUMENT:,}', key)
        if 'backbone' in section.values:
            check_network(section.child('backbone'))


def _numbers(value: object) -> Iterator[float]:
    """Yield the numbers in nested lists and sections."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)


def check_datasets(datasets: Section, is_train: bool) -> None:
    """Check the phases, and in each of them the options of the dataset class and of the loader."""
    datasets.demand(*(['train'] if is_train else []))
    if not datasets.values:
        datasets.fail('is empty. Expected at least one dataset, such as datasets.test')
    named: dict[object, str] = {}
    for phase in datasets.values:
        kind = phase.split('_')[0]
        if is_train and phase != 'train' and kind != 'val':
            datasets.fail('is unknown. Expected train, val, val_2, ... for basicsr train', phase)
        if not is_train and kind not in ('val', 'test'):
            datasets.fail('is unknown. Expected test, test_2, ... or val, val_2, ... for basicsr test', phase)
        section = datasets.child(phase)
        section.demand('name')
        if phase == 'train':
            section.demand('num_worker_per_gpu')
        elif section.values.get('persistent_workers'):
            section.fail('is true, but only training data is loaded by workers: remove it', 'persistent_workers')
        check_dataset(section, {**schema.LOADER, **(schema.LOADER_TRAIN if phase == 'train' else {})})
        name = section.values['name']
        if phase != 'train' and named.setdefault(name, phase) != phase:
            used = f'is {name}, as in datasets.{named[name]}. Results are stored under the name: use another one'
            section.fail(used, 'name')


def check_dataset(section: Section, further: Table) -> None:
    """Check the options of a dataset class, including the parts of a mixture.

    Args:
        section: Section of the dataset.
        further: Options that the class does not read itself.
    """
    from basicsr.utils.registry import DATASET_REGISTRY

    from deeprftv2_plugin.data.blur.kernels import SOURCES
    from deeprftv2_plugin.data.datasets.mixed import COMMON, MixedDataset
    from deeprftv2_plugin.data.datasets.synthetic import SyntheticBlurDataset

    kind = cast(type, section.registered(DATASET_REGISTRY))
    options = _of_dataset(kind)
    section.check({**options, **further}, open_to=_open(kind))
    if 'io_backend' in options:
        check_io_backend(section.child('io_backend'))
    for blur in section.items('blurs') if kind is SyntheticBlurDataset else []:
        blur.check({'weight': schema.PART['weight']}, further=blur.values)
        blur.check_arguments(blur.look_up('type', SOURCES), further=('weight',))
    if kind is MixedDataset:
        for part in section.items('parts'):
            for key in filter(part.values.__contains__, COMMON):
                part.fail('is set for a part, but all parts share it: set it for the whole dataset', key)
            check_dataset(part, schema.PART)


def check_io_backend(section: Section) -> None:
    """Check the type of BasicSR's file client and its arguments, except those that the dataset adds itself."""
    from basicsr.utils import FileClient

    section.check_arguments(section.look_up('type', FileClient._backends), given=('db_paths', 'client_keys'))


def check_prefetching(root: Section) -> None:
    """Check that the training data can be prefetched with the given `prefetch_mode`."""
    section = root.child('datasets').child('train')
    mode = section.values.get('prefetch_mode')
    if mode == 'cpu' and not section.values['num_worker_per_gpu']:
        # a prefetching thread would change the random number generators of the training
        section.fail('is cpu, which requires worker processes. Set num_worker_per_gpu to at least 1', 'prefetch_mode')
    if mode == 'cuda':
        import torch

        if root.values['num_gpu'] == 0 or not torch.cuda.is_available():
            section.fail('is cuda, but the training uses no GPU: remove it', 'prefetch_mode')
        if section.values.get('pin_memory') is False:
            section.fail('is false, but prefetch_mode cuda needs pinned memory: remove it', 'pin_memory')


def check_path(section: Section, model: type) -> None:
    """Check the section `path`. BasicSR would create a folder for an unknown key."""
    labels = [key.removeprefix('network_') for key in _of_model(model, 'root') if key.startswith('network_')]
    networks = {key.format(label): option for label in labels for key, option in schema.PATH_OF_NETWORK.items()}
    section.check({**schema.PATH, **networks}, open_to=_open(model))


def check_train(section: Section, model: type) -> None:
    """Check losses, optimizers and the schedule."""
    section.check({**schema.TRAIN, **_of_model(model, 'train')}, open_to=_open(model))
    for stage in section.items('stages'):
        stage.check(schema.STAGE)
    for child in section.children():
        key = child.place[-1]
        if key.startswith('optim_'):
            check_optimizer(child, model)
        elif key == 'scheduler':
            check_schedule(child, model)
        elif child.values and key.endswith('_opt'):
            check_loss(child)
    if _inherits(model, 'setup_schedulers'):  # required by BasicSR's method
        section.demand('scheduler')


def check_stages(root: Section, model: type) -> None:
    """Check the sizes of crops and batches, and the number of batches per step."""
    from deeprftv2_plugin.models import DeepRFTv2Model
    from deeprftv2_plugin.training.stages import accumulation_of, stages_of

    train = root.child('train')
    for key in ('accumulation', 'recipe_gpus'):
        if train.values.get(key) not in (None, 1) and not issubclass(model, DeepRFTv2Model):
            train.fail(f'is for model_type DeepRFTv2Model; {model.__name__} takes one batch per step', key)
    try:
        stages_of(root.values)
        accumulation_of(root.values, gpus=1)
    except UserError as error:
        root.fail(str(error))


def check_optimizer(section: Section, model: type) -> None:
    """Check a class of torch.optim or of another package and its arguments."""
    from deeprftv2_plugin.training.optimizers import optimizers_for

    try:
        known = optimizers_for(section.values.get('type'))
    except UserError as error:
        section.fail(f'is {error}', 'type')
        return
    found = _class_of(section, known, model, 'get_optimizer', ('Adam',))
    if found:
        section.check_arguments(found, given=('params',), bounds=BOUNDS['optimizer'])


def check_schedule(section: Section, model: type) -> None:
    """Check a class of torch.optim.lr_scheduler or BasicSR's and its arguments."""
    from deeprftv2_plugin.training.optimizers import SCHEDULES

    few = ('MultiStepLR', 'MultiStepRestartLR', 'CosineAnnealingRestartLR')
    found = _class_of(section, SCHEDULES, model, 'setup_schedulers', few)
    if found:
        section.check_arguments(found, given=('optimizer',), bounds=BOUNDS['schedule'])
    for inner in section.items('schedulers'):
        check_schedule(inner, model)


def _inherits(model: type, method: str) -> bool:
    """Return whether a model class inherits a method of BasicSR's BaseModel unchanged."""
    from basicsr.models.base_model import BaseModel

    return getattr(model, method, None) is getattr(BaseModel, method)


def _class_of(
    section: Section, known: Mapping[str, type], model: type, method: str, few: Collection[str]
) -> type | None:
    """Return the class selected by `type`, or None if only a model of another package may know it.

    Args:
        section: `type` and the arguments.
        known: Classes by name.
        model: The model class. A model of another package may know more classes if it overrides the method.
        method: Name of the model's method that builds the objects.
        few: Names that BasicSR's own method knows.
    """
    name = str(section.values.get('type'))
    if _inherits(model, method):
        if name in known and name not in few:
            section.fail(
                f'is {name}, but {model.__name__} takes only {", ".join(sorted(few))}. '
                'model_type DeepRFTv2Model takes any',
                'type',
            )
    elif name not in known and 'type' in section.values and not _is_known(model):
        return None
    return section.look_up('type', known)


def check_loss(section: Section) -> None:
    """Check a registered loss, and the losses that it contains."""
    from basicsr.utils.registry import LOSS_REGISTRY

    section.check_arguments(section.registered(LOSS_REGISTRY), bounds=BOUNDS['loss'])
    for key in section.values:
        for part in section.items(key):
            check_loss(part)


def check_val(section: Section, model: type, is_train: bool) -> None:
    """Check validation and its metrics, and set `better` for metrics of which lower values are better."""
    from basicsr.utils.registry import METRIC_REGISTRY

    if is_train:
        section.demand('val_freq')
    section.check({**schema.VAL, **_of_model(model, 'val')}, open_to=_open(model))
    if not is_train:
        section.values.setdefault('suffix', None)  # BasicSR's models read it without a default
    for metric in section.child('metrics').children():
        target = metric.registered(METRIC_REGISTRY)
        metric.check({'better': schema.BETTER}, further=metric.values)
        metric.check_arguments(target, schema.METRIC_INPUTS, further=('better',), bounds=BOUNDS['metric'])
        if better_of(metric.values) == 'lower':  # BasicSR's default is higher
            metric.values['better'] = 'lower'


def check_logger(section: Section) -> None:
    """Check what BasicSR logs, and when."""
    section.check(schema.LOGGER)
    section.child('wandb').check(schema.WANDB)
