"""Check the keys and values of an option file before BasicSR reads it, which ignores a misspelt key."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

from deeprftv2_plugin.config import basicsr_schema, reading, schema
from deeprftv2_plugin.config.schema import Table
from deeprftv2_plugin.config.section import Section
from deeprftv2_plugin.config.signatures import TRANSPARENT
from deeprftv2_plugin.utils.errors import UserError

DATASETS = {**basicsr_schema.DATASETS, **schema.DATASETS}
MODELS = {**basicsr_schema.MODELS, **schema.MODELS}


def validate(opt: dict, path: str, is_train: bool, overrides: Sequence[str] = ()) -> None:
    """Check resolved options against the schema and against what is registered.

    A key that no schema declares, but that a class of another package may read, gets a warning.

    Args:
        opt: Resolved options.
        path: The option file, for the errors.
        is_train: Whether they are for training or for a test.
        overrides: Those that are in the options, so that their keys do not count as inherited.

    Raises:
        UserError: The first key that is unknown or missing, or whose value is wrong.
    """
    from basicsr.utils import registry

    own = reading.parse_file(path)
    for override in overrides:
        reading.apply_override(own, override)
    root = Section(opt, path, own=own if reading.BASE in own else None)
    root.demand('name', 'model_type', 'num_gpu', 'datasets')
    model = cast(type, root.registered(registry.MODEL_REGISTRY, 'model_type'))
    root.check({**schema.ROOT, **_of_model(model, 'root')}, open_to=_open(model))
    check_gpus(root)
    for network in [key for key in opt if key.startswith('network_')]:
        section = root.child(network)
        section.check_arguments(section.registered(registry.ARCH_REGISTRY))
    check_datasets(root.child('datasets'), is_train)
    check_path(root.child('path'), model)
    if is_train:
        check_train(root.child('train'), model)
        check_stages(root, model)
        check_logger(root.child('logger'))
    check_val(root.child('val'), model, is_train)
    root.child('dist_params').check(schema.DIST_PARAMS)


def _of_model(model: type, part: str) -> Table:
    """The options of a model class and its parents at the root or in a section."""
    found: Table = {}
    for cls in reversed(model.__mro__):
        if _is_known(cls):
            found |= MODELS.get(cls.__name__, {}).get(part, {})
    return found


def _of_dataset(kind: type) -> Table:
    """The options of a data set class and its parents."""
    found: Table = {}
    for cls in reversed(kind.__mro__):
        if _is_known(cls):
            found |= DATASETS.get(cls.__name__, {})
    return found


def _is_known(cls: Callable) -> bool:
    """Whether a class is BasicSR's or this package's, so that the schema declares all of its options."""
    return cls.__module__.partition('.')[0] in TRANSPARENT


def _open(cls: Callable) -> str:
    return '' if _is_known(cls) else cls.__name__


def check_gpus(root: Section) -> None:
    """Check that GPUs that are asked for exist."""
    import torch

    count = root.values['num_gpu']
    if count not in ('auto', 0) and not torch.cuda.is_available():
        root.fail(f'is {count}, but torch sees no GPU. Expected auto (all that are visible) or 0', 'num_gpu')


def check_datasets(datasets: Section, is_train: bool) -> None:
    """Check the phases, and in each of them the options of the data set class and of the loader."""
    datasets.demand(*(['train'] if is_train else []))
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
        check_dataset(section, {**schema.LOADER, **(schema.LOADER_TRAIN if phase == 'train' else {})})


def check_dataset(section: Section, further: Table) -> None:
    """Check the options of a data set class, those of a mixture included.

    Args:
        section: The data set.
        further: Options that others read.
    """
    from basicsr.utils.registry import DATASET_REGISTRY

    from deeprftv2_plugin.data.datasets.mixed import COMMON, MixedDataset

    kind = cast(type, section.registered(DATASET_REGISTRY))
    options = _of_dataset(kind)
    section.check({**options, **further}, open_to=_open(kind))
    if 'io_backend' in options:
        check_io_backend(section.child('io_backend'))
    if kind is MixedDataset:
        for part in section.items('parts'):
            for key in filter(part.values.__contains__, COMMON):
                part.fail('is set, but it is one for all parts: set it above them', key)
            check_dataset(part, schema.PART)


def check_io_backend(section: Section) -> None:
    """Check one of BasicSR's ways to read files; a data set itself adds the places."""
    from basicsr.utils import FileClient

    if section.values:
        section.check_arguments(section.look_up('type', FileClient._backends), given=('db_paths', 'client_keys'))


def check_path(section: Section, model: type) -> None:
    """Check the checkpoints. BasicSR makes a folder of any other key."""
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


def check_stages(root: Section, model: type) -> None:
    """Check the sizes of crops and batches, and the number of batches in a step."""
    from deeprftv2_plugin.models import DeepRFTv2Model
    from deeprftv2_plugin.training.stages import accumulation_of, stages_of

    train = root.child('train')
    for key in ('accumulation', 'recipe_gpus'):
        if train.values.get(key) not in (None, 1) and not issubclass(model, DeepRFTv2Model):
            train.fail(f'is for model_type DeepRFTv2Model; {model.__name__} takes one batch a step', key)
    try:
        stages_of(root.values)
        accumulation_of(root.values, gpus=1)
    except UserError as error:
        root.fail(str(error))


def check_optimizer(section: Section, model: type) -> None:
    """Check a class of torch.optim and its arguments."""
    from basicsr.models.base_model import BaseModel

    from deeprftv2_plugin.training.optimizers import OPTIMIZERS

    _check_factory(section, OPTIMIZERS, model, BaseModel.get_optimizer, ('Adam',), 'params')


def check_schedule(section: Section, model: type) -> None:
    """Check a class of torch.optim.lr_scheduler or BasicSR's and its arguments."""
    from basicsr.models.base_model import BaseModel

    from deeprftv2_plugin.training.optimizers import SCHEDULES

    few = ('MultiStepLR', 'MultiStepRestartLR', 'CosineAnnealingRestartLR')
    _check_factory(section, SCHEDULES, model, BaseModel.setup_schedulers, few, 'optimizer')


def _check_factory(
    section: Section, known: Mapping[str, type], model: type, inherited: Callable, few: Collection[str], given: str
) -> None:
    """Check a class that is named by its `type`.

    Args:
        section: `type` and the arguments.
        known: Classes by their names.
        model: The model class, which builds them. One of another package with its own method may know more classes.
        inherited: BasicSR's method to build them.
        few: The names that this method knows.
        given: The argument that is not an option.
    """
    name = section.values.get('type')
    if getattr(model, inherited.__name__, None) is inherited:
        if name in known and name not in few:
            section.fail(
                f'is {name}, but {model.__name__} takes only {", ".join(sorted(few))}. '
                'model_type DeepRFTv2Model takes any',
                'type',
            )
    elif name not in known and name is not None and not _is_known(model):
        return
    section.check_arguments(section.look_up('type', known), given=(given,), bounds=schema.BOUNDS)


def check_loss(section: Section) -> None:
    """Check a registered loss, and the losses that it is made of."""
    from basicsr.utils.registry import LOSS_REGISTRY

    section.check_arguments(section.registered(LOSS_REGISTRY))
    for key in section.values:
        for part in section.items(key):
            if 'type' in part.values:
                check_loss(part)


def check_val(section: Section, model: type, is_train: bool) -> None:
    """Check validation and its metrics."""
    from basicsr.utils.registry import METRIC_REGISTRY

    if not section.values and is_train:
        return
    if is_train:
        section.demand('val_freq')
    section.check({**schema.VAL, **_of_model(model, 'val')}, open_to=_open(model))
    for metric in section.child('metrics').children():
        target = metric.registered(METRIC_REGISTRY)
        metric.check({'better': schema.BETTER}, further=metric.values)
        metric.check_arguments(target, given=('img', 'img2', 'blurry'), further=('better',))


def check_logger(section: Section) -> None:
    """Check what BasicSR logs, and when."""
    section.check(schema.LOGGER)
    section.child('wandb').check(schema.WANDB)
