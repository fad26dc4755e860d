"""Finds what is wrong in an option file before BasicSR reads it, which ignores a misspelt key."""

from collections.abc import Sequence

from deeprftv2_plugin.config import reading as files
from deeprftv2_plugin.config.keys import reads
from deeprftv2_plugin.config.section import Section
from deeprftv2_plugin.utils.errors import UserError

# What BasicSR writes into the options itself
DERIVED = {'dist', 'rank', 'world_size', 'is_train', 'root_path', 'auto_resume'}
FOLDERS = {'models', 'training_states', 'log', 'visualization'}
# Keys in BasicSR's own option files that it has ceased to read
OBSOLETE = {'use_shuffle'}


def validate(opt: dict, path: str, is_train: bool, overrides: Sequence[str] = ()):
    """Checks the keys of resolved options, and the names they give, against what is registered.

    Args:
        opt: Resolved options.
        path: The option file, for the errors.
        is_train: Whether they are for training or for a test.
        overrides: Those that are in the options, so that their keys are not taken for inherited ones.

    Raises:
        UserError: for the first key or name that nothing knows, or that is needed and missing.
    """
    from basicsr.utils import registry

    own = files.parse_file(path)
    for override in overrides:
        files.apply_override(own, override)
    root = Section(opt, path, own=own if files.BASE in own else None)
    check_head(root)
    model = root.registered(registry.MODEL_REGISTRY, 'model_type')
    read = reads(model)
    sections = {'datasets', 'path', 'train', 'val', 'logger', 'dist_params', 'custom_imports', 'model_type'}
    root.admit((sections | read.of() | _pipelines().of()) - DERIVED, read)
    root.demand(*({'network_g'} & read.of()))
    for network in [key for key in opt if key.startswith('network_')]:
        section = root.child(network)
        section.arguments(section.registered(registry.ARCH_REGISTRY))
    check_datasets(root.child('datasets'), is_train)
    check_path(root.child('path'), read)
    if is_train:
        check_train(root.child('train'), model)
        check_stages(root, model)
        check_logger(root.child('logger'))
    check_val(root.child('val'), read, is_train)
    root.child('dist_params').admit({'backend', 'port'})


def check_head(root):
    """Name and number of GPUs."""
    import torch

    root.demand('name', 'model_type', 'num_gpu', 'datasets')
    if not isinstance(root.values['name'], str):
        root.fail(f'is {root.values["name"]!r}, expected text (in quotes, if it looks like a number)', 'name')
    count = root.values['num_gpu']
    if count != 'auto' and (not isinstance(count, int) or count < 0):
        root.fail(f'is {count!r}, expected auto or a number', 'num_gpu')
    if count not in ('auto', 0) and not torch.cuda.is_available():
        root.fail(f'is {count}, but torch sees no GPU. Expected auto (what is there) or 0', 'num_gpu')


def check_datasets(datasets, is_train):
    """Phases, and in each of them what the dataset class and BasicSR's loader read."""
    from basicsr import data, train

    loader = reads(data.build_dataset, data.build_dataloader, train.create_train_val_dataloader, root='dataset_opt')
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
        check_dataset(section, loader.of() | _pipelines().of('datasets', phase) | OBSOLETE)


def check_dataset(section, further):
    """What a dataset class reads, those of a mixture included; `further` are keys that others read."""
    from basicsr.utils.registry import DATASET_REGISTRY

    from deeprftv2_plugin.data.datasets.mixed import COMMON, MixedDataset

    kind = section.registered(DATASET_REGISTRY)
    read = reads(kind)
    section.admit(read.of() | further, read)
    check_nested(section, read, 'io_backend')
    check_io_backend(section.child('io_backend'))
    if kind is MixedDataset:
        section.demand('parts')
        for part in parts_of(section):
            for key in filter(part.values.__contains__, COMMON):
                part.fail('is set, but it is one for all parts: set it above them', key)
            check_dataset(part, {'type', 'name', 'weight'})


def parts_of(section):
    """The data sets of which one is mixed, each with a place of its own; none where it is no mixture."""
    parts = section.values.get('parts')
    place = (*section.place, 'parts')
    numbered = enumerate(parts if isinstance(parts, list) else [])
    return [Section(part, section.file, (*place, str(number))) for number, part in numbered if isinstance(part, dict)]


def check_io_backend(section):
    """BasicSR's ways to read files; what they need to know of the data set they are told by the dataset."""
    from basicsr.utils import FileClient

    if section.values:
        section.arguments(section.look_up('type', FileClient._backends), given=('db_paths', 'client_keys'))


def check_nested(section, read, *skip):
    """Sections below of which it is known what is read from them."""
    for child in section.children(*skip):
        if read.of(*child.place[2:]):
            child.admit(read.of(*child.place[2:]), read)


def check_path(section, read):
    """Checkpoints. BasicSR makes a folder of any other key."""
    from basicsr.utils.options import parse_options

    networks = [key.removeprefix('network_') for key in read.of() if key.startswith('network_')]
    patterns = ('pretrain_network_{}', 'strict_load_{}', 'param_key_{}')
    known = {pattern.format(network) for network in networks for pattern in patterns}
    known |= {'resume_state', 'ignore_resume_networks'} | read.of('path') | reads(parse_options).of('path')
    section.admit(known - FOLDERS)


def check_train(section, model):
    """Losses, optimisers and the schedule."""
    read = reads(model)
    section.demand('total_iter', *({'optim_g'} & read.of('train')))
    section.admit(read.of('train') | _pipelines().of('train'), read)
    for child in section.children():
        key = child.place[-1]
        if key.startswith('optim_'):
            check_optimiser(child, model)
        elif key == 'scheduler':
            check_schedule(child, model)
        elif 'type' in child.values:
            check_loss(child)


def check_stages(root, model):
    """Sizes of crops and batches, and the number of batches in a step."""
    from deeprftv2_plugin.models import DeepRFTv2Model
    from deeprftv2_plugin.training.stages import accumulation_of, stages_of

    for key in ('accumulation', 'recipe_gpus'):
        if root.values['train'].get(key) not in (None, 1) and not issubclass(model, DeepRFTv2Model):
            root.child('train').fail(f'is for model_type DeepRFTv2Model; {model.__name__} takes one batch a step', key)
    try:
        stages_of(root.values)
        accumulation_of(root.values, gpus=1)
    except UserError as error:
        root.fail(str(error))


def check_optimiser(section, model):
    """A class of torch.optim."""
    from basicsr.models.base_model import BaseModel

    from deeprftv2_plugin.training.optimizers import OPTIMIZERS

    check_factory(section, OPTIMIZERS, model, BaseModel.get_optimizer, 'params')


def check_schedule(section, model):
    """A class of torch.optim.lr_scheduler or BasicSR's."""
    from basicsr.models.base_model import BaseModel

    from deeprftv2_plugin.training.optimizers import SCHEDULES

    check_factory(section, SCHEDULES, model, BaseModel.setup_schedulers, 'optimizer')


def check_factory(section, known, model, of_basicsr, given):
    """A class by name. A model that has only BasicSR's method to build it takes the few that are named there;
    one with a method of its own may know more than are known here.
    """
    name = section.values.get('type')
    if getattr(model, of_basicsr.__name__) is of_basicsr:
        few = sorted(reads(of_basicsr).words & known.keys())
        if name in known and name not in few:
            found = f'is {name}, but {model.__name__} takes only {", ".join(few)}'
            section.fail(f'{found}. model_type DeepRFTv2Model takes any', 'type')
    elif name is not None and name not in known and reads(model).admit(name):
        return
    section.arguments(section.look_up('type', known), given=(given,))


def check_loss(section):
    """A registered loss, and the losses that it is made of."""
    from basicsr.utils.registry import LOSS_REGISTRY

    section.arguments(section.registered(LOSS_REGISTRY))
    for key, values in section.values.items():
        for number, part in enumerate(values if isinstance(values, list) else []):
            if isinstance(part, dict) and 'type' in part:
                check_loss(Section(part, section.file, (*section.place, key, str(number))))


def check_val(section, read, is_train):
    """Validation and its metrics."""
    from basicsr.utils.registry import METRIC_REGISTRY

    if section.values or not is_train:
        section.demand('save_img', *(['val_freq'] if is_train else []))
    section.admit(read.of('val') | _pipelines().of('val'), read)
    metrics = section.child('metrics')
    for metric in map(metrics.child, metrics.values):
        metric.arguments(metric.registered(METRIC_REGISTRY), given=('img', 'img2'), further=('better',))


def check_logger(section):
    """What BasicSR logs, and when."""
    section.demand('print_freq', 'save_checkpoint_freq', 'use_tb_logger')
    section.admit(_pipelines().of('logger'))
    section.child('wandb').admit(_pipelines().of('logger', 'wandb'))


def _pipelines():
    """What BasicSR's pipelines themselves read."""
    from basicsr import test, train
    from basicsr.utils.logger import MessageLogger, init_wandb_logger
    from basicsr.utils.options import parse_options

    from deeprftv2_plugin.basicsr_bridge import training_run as run
    from deeprftv2_plugin.training import saving, stages

    return reads(
        run.Run,
        stages.stages_of,
        stages.accumulation_of,
        saving.save_or_log,
        train.train_pipeline,
        train.init_tb_loggers,
        train.create_train_val_dataloader,
        test.test_pipeline,
        parse_options,
        MessageLogger,
        init_wandb_logger,
    )
